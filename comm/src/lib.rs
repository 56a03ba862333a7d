//! Syncline: topology-aware collective communication.
//!
//! ```no_run
//! use syncline::communicator::{Communicator, Options, Rendezvous};
//! use syncline::reduce::ReduceOp;
//!
//! # fn main() -> syncline::Result<()> {
//! // In every process of the job, with its own rank; rank 0 publishes its address in the file.
//! let (rank, ranks) = (0, 4);
//! let job = Rendezvous::File("job.id".into());
//! let comm = Communicator::init(&job, rank, ranks, Options::default())?;
//! let mut gradient = vec![1.0f32; 1 << 20];
//! comm.all_reduce(&mut gradient, ReduceOp::Avg)?;
//! # Ok(())
//! # }
//! ```
//!
//! Users start at [`communicator`]. The rooms, from the ground up, and what each may know:
//! [`error`], [`reduce`], [`memory`], [`rendezvous`], [`transport`], [`schedule`], [`engine`],
//! [`collective`], [`communicator`], [`campaign`]. Each uses what stands before it in this list,
//! never what comes after it. `docs/ARCHITECTURE.md` says more.

pub mod campaign;
pub mod collective;
pub mod communicator;
pub mod control;
pub mod engine;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod memory;
pub mod reduce;
pub mod rendezvous;
pub mod schedule;
pub mod transport;

pub use error::{Error, ErrorKind, Result};
