//! A wake-up for a thread that sleeps in `poll(2)`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, eventfd};

/// An event descriptor, made at its first use. Where the system has none to give, sleepers are
/// left to their bounded sleeps.
#[derive(Debug)]
pub(super) struct Bell(OnceLock<Option<OwnedFd>>);

impl Bell {
    pub(super) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Ends the current or the next sleep on [`Self::fd`].
    pub(super) fn ring(&self) {
        if let Some(fd) = self.make() {
            // Fails only when it has rung 2^64 times unheard, and then it is readable already.
            let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
        }
    }

    /// Has a descriptor from now on.
    pub(super) fn prepare(&self) {
        self.make();
    }

    fn make(&self) -> Option<&OwnedFd> {
        let make = || eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).ok();
        self.0.get_or_init(make).as_ref()
    }

    /// What to sleep on; `None` until it was prepared or rung.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.get()?.as_ref().map(AsFd::as_fd)
    }

    /// Makes the next sleep last.
    pub(super) fn silence(&self) {
        if let Some(fd) = self.fd() {
            // Would block when it has not rung: nothing to silence.
            let _ = rustix::io::read(fd, &mut [0_u8; 8]);
        }
    }
}
