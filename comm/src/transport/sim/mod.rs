//! The `sim` transport: a network on a virtual clock.
//!
//! All ranks live in one process and usually in one thread. Frames take the time that latency,
//! bandwidth and a seeded jitter say; links can be cut or slow, ranks can crash or stop. Nothing
//! waits and no real time passes: [`World`] polls the ranks that have something to do, and moves
//! the clock to the next event when none has. The same seed and program give the same events, which
//! [`SimNet::trace`] condenses to one number.

mod end;
mod events;
mod net;
mod state;
#[cfg(test)]
mod tests;
mod world;

pub use end::SimEnd;
pub use net::{LinkClass, Noticed, SimConfig, SimNet};
pub use world::{Ended, Pollable, Report, World};
