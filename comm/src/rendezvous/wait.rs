//! How the rendezvous waits: through a function that it is given.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::error::Result;

/// Sleeps until one of the descriptors is readable or the time has come; an error from it, such
/// as an abort, ends the rendezvous. It may return early.
pub type Wait<'a> = &'a mut dyn FnMut(&[BorrowedFd<'_>], Instant) -> Result<()>;
