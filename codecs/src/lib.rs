//! Codecs: fewer bytes for the same numbers, or for numbers within a stated bound of them.
//!
//! Pure functions over slices: no I/O, no threads, no knowledge of ranks or networks, and no
//! allocation in encode, decode and add except where a function says so. Everything that decodes
//! takes bytes from anyone: what is wrong with them is a [`error::DecodeError`].

pub mod block;
pub mod bounded;
pub mod cast;
pub mod descriptor;
pub mod error;
pub mod feedback;
pub mod filter;
pub mod float;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod lanes;
mod level;
pub mod lossless;
pub mod philox;
mod rans;
pub mod sparse;
pub mod statistics;
#[cfg(test)]
mod testing;
