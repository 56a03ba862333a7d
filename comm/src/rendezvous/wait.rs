//! How the rendezvous waits: through a function that it is given.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Sleeps until one of the descriptors is readable or the time has come; an error from it, such
/// as an abort, ends the rendezvous. It may return early.
pub type Wait<'a> = &'a mut dyn FnMut(&[BorrowedFd<'_>], Instant) -> Result<()>;

/// The place where a rendezvous blocks when its caller brings no wait loop of its own: sleeps
/// in `poll(2)` until a descriptor is readable or `until` has come.
pub fn block_on_fds(fds: &[BorrowedFd<'_>], until: Instant) -> Result<()> {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    };
    match rustix::event::poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Error::System {
            what: "waiting for the other ranks".to_owned(),
            source_text: errno.to_string(),
            hint: "check the limits on memory and descriptors (ulimit -a)".to_owned(),
        }),
    }
}
