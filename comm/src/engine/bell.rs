//! A wake-up for a thread that sleeps in `poll(2)`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

use super::primitive::{self, OnceLock};

/// An event descriptor, made at its first use. Where the system has none to give, sleepers are
/// left to their bounded sleeps.
#[derive(Debug)]
pub(crate) struct Bell(OnceLock<Option<OwnedFd>>);

impl Bell {
    #[cfg(not(all(test, syncline_loom)))]
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Loom's cannot be made in constants.
    #[cfg(all(test, syncline_loom))]
    pub(crate) fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Ends the current or the next sleep on [`Self::fd`].
    pub(crate) fn ring(&self) {
        if let Some(fd) = self.make() {
            primitive::ring(fd.as_fd());
        }
    }

    /// Has a descriptor from now on.
    pub(crate) fn prepare(&self) {
        self.make();
    }

    fn make(&self) -> Option<&OwnedFd> {
        let make = || eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).ok();
        self.0.get_or_init(make).as_ref()
    }

    /// What to sleep on; `None` until it was prepared or rung.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.get()?.as_ref().map(AsFd::as_fd)
    }

    /// Makes the next sleep last.
    pub(crate) fn silence(&self) {
        if let Some(fd) = self.fd() {
            primitive::silence(fd);
        }
    }
}
