//! The C interface of Syncline: `libsyncline.so` and `syncline.h`.
//!
//! Thin on purpose: every function checks what only C can get wrong (null pointers, numbers that
//! are no enum value, sizes of structs, handles that are gone), calls `comm`, and turns the
//! outcome into a status and a text. Nothing unwinds across the boundary ([`boundary`]), and
//! handles are looked up, never dereferenced ([`handles`]).
//!
//! `syncline.h` is generated from this crate: the documentation of what is exported is written
//! for readers of the header. `docs/c-api.md` is the guide.
#![expect(non_camel_case_types, reason = "exported types are named as C names them")]
#![expect(clippy::missing_safety_doc, reason = "the header's documentation is the contract")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a call and the reading of its arguments share one contract, the header's"
)]

pub mod boundary;
mod call;
pub mod communicator;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handles;
pub mod host;
pub mod inspect;
pub mod job;
pub mod log;
pub mod message;
pub mod movement;
pub mod options;
pub mod recovery;
pub mod reduction;
mod sized;
pub mod status;
pub mod text;
pub mod types;
pub mod work;
