//! Executes schedules.
//!
//! A [`Schedule`](crate::schedule::Schedule) is compiled for one call's sizes into a
//! [`Program`]. An [`Engine`] runs programs over the transports of one communicator: poll by
//! poll, without blocking, without a thread, without a clock. [`wait()`] is the one place in the
//! library that blocks: it polls engines until something is true, spins a little, and then
//! sleeps until a transport wakes it. An [`EngineCell`] lets several threads and the process's
//! one progress thread share an engine.

mod advance;
mod bell;
mod cell;
mod completion;
mod description;
mod drive;
mod executor;
mod express;
mod failure;
#[cfg(all(test, syncline_loom))]
mod model;
#[cfg(any(test, feature = "bench"))]
#[doc(hidden)]
pub mod pair;
pub(crate) mod primitive;
mod program;
mod progress;
mod recorder;
mod registry;
mod report;
mod selfloop;
mod task;
#[cfg(test)]
mod tests;
mod wait;
mod waiting;
mod wires;

pub(crate) use bell::Bell;
pub(crate) use cell::Mourner;
pub use cell::{EngineCell, Work};
pub(crate) use description::words;
pub use description::{AlgorithmName, Counted, Description, Operation};
pub use executor::{Buffers, Engine, EngineConfig, OpMeta, TaskId};
pub use failure::{Judge, Trouble, TroubleKind};
pub use program::{Compile, Lengths, Placement, Program, Sizes};
pub use recorder::{Entered, OpKey, OpRecord, OpReport, OpState, Snapshot, Transfer, Unfinished};
pub use wait::{
    Clock, Courtesy, MonotonicClock, Outcome, Patience, PollFds, Polled, Source, WakeOn, wait,
    wait_fds, wait_fds_until, wait_until_readable,
};
