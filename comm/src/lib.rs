//! Syncline: topology-aware collective communication.
//!
//! Users start at [`communicator`]. The rooms, from the ground up, and what each may know:
//! `error`, `reduce`, `memory`, `rendezvous`, `transport`, `schedule`, `engine`, `collective`,
//! `communicator`. Each uses what stands before it in this list, never what comes after it.

pub mod collective;
pub mod engine;
pub mod error;
pub mod memory;
pub mod reduce;
pub mod rendezvous;
pub mod schedule;
pub mod transport;

pub use error::{Error, Result};
