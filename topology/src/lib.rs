//! What the machine is, and what a plan would cost on it.
//!
//! * [`Host`] reads this machine from `/sys` and `/proc`: NUMA nodes, the CPUs this process may
//!   use, control group limits, caches, network interfaces, and an identity that processes on
//!   one machine share.
//! * [`Topology`] says which ranks of a job share a host and a NUMA node.
//! * [`Constants`] are latencies and rates: defaults, read from and written to TOML, or measured
//!   in passing ([`Measured`]).
//! * [`predict`] prices a candidate, [`choose`] picks one. Both are pure functions, so that
//!   ranks with the same inputs decide alike.
//!
//! This crate knows nothing of schedules and talks to no peer: candidates are plain numbers.
#![forbid(unsafe_code)]

mod cgroup;
mod choose;
mod constants;
mod cost;
mod cpus;
mod error;
mod files;
mod host;
mod job;
mod measure;
mod nic;

pub use cgroup::Limits;
pub use choose::{Choice, Decision, choose};
pub use constants::{Constants, LinkClass, LinkConstants, Links};
pub use cost::{Candidate, Level, Prediction, Together, Work, predict};
pub use cpus::CpuSet;
pub use error::Error;
pub use host::{Cache, Host, NumaNode};
pub use job::{Grouping, Member, Topology};
pub use measure::Measured;
pub use nic::Nic;
