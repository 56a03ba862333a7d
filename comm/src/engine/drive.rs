//! Arming, sleeping on, and disarming the transports of one engine.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags};

use super::executor::Engine;
use super::wait::{PollFds, WakeOn};
use crate::transport::Sleep;

impl Engine {
    /// How this engine can sleep, given that `alone` nothing else must wake the sleeper.
    pub(super) fn sleep_kind(&self, alone: bool) -> Sleep {
        match self.transports() {
            [only] if alone && only.futex().is_some() => Sleep::Futex,
            _ => Sleep::Poll,
        }
    }

    /// Announces a sleep to every transport.
    pub(super) fn arm(&mut self, how: Sleep) {
        self.leave_express();
        self.recorder.count_sleep();
        for transport in self.transports_mut() {
            transport.arm(how);
        }
    }

    /// Ends what [`Self::arm`] announced.
    pub(super) fn disarm(&mut self) {
        for transport in self.transports_mut() {
            transport.disarm();
        }
    }

    /// Appends the descriptors that end a sleep.
    pub(super) fn poll_fds<'a>(&'a self, fds: &mut PollFds<'a>) {
        for transport in self.transports() {
            fds.extend(transport.poll_fds().into_iter().map(readable));
        }
    }

    /// What ends a sleep of kind `how`; `bell` too, where there is one.
    pub(super) fn wake_on<'a>(&'a self, how: Sleep, bell: Option<BorrowedFd<'a>>) -> WakeOn<'a> {
        if how == Sleep::Futex
            && let [only] = self.transports()
            && let Some((word, value)) = only.futex()
        {
            return WakeOn::Shared { word, value };
        }
        let mut fds: PollFds<'_> = bell.map(readable).into_iter().collect();
        self.poll_fds(&mut fds);
        WakeOn::Fds(fds)
    }
}

pub(super) fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::from_borrowed_fd(fd, PollFlags::IN)
}
