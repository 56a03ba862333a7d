//! What the application's threads ask of the control thread.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::thread::futex;

use super::core::{Agreed, CommId, Excluded, Progress};
use super::fate::Fate;
use crate::engine::{Bell, Polled, Source, Trouble, WakeOn};

/// Something to be done by the control thread.
pub(super) enum Request {
    /// This rank has a new communicator.
    Open(Arc<Fate>),
    /// This rank leaves a communicator in good order.
    Close(CommId),
    /// An engine cannot go on.
    Investigate(CommId, Trouble),
    /// An engine has told where it is.
    Inspected(u64, Progress),
    /// Ends a communicator for everybody.
    Revoke(CommId, String),
    /// This rank gives up.
    Abort(CommId, String),
    /// Takes part in the next agreement, for at most this long.
    Agree(CommId, u64, Duration, Arc<Reply>),
    /// This rank leaves the job in good order.
    Leave,
}

/// The control thread's queue. Whoever puts something in does not wait.
pub(crate) struct Requests {
    queue: Mutex<Vec<Request>>,
    bell: Bell,
    /// A child by fork shares the bell and has no control thread.
    process: u32,
}

impl Requests {
    pub(super) fn new() -> Arc<Self> {
        let bell = Bell::new();
        bell.prepare();
        Arc::new(Self { queue: Mutex::default(), bell, process: std::process::id() })
    }

    /// Whether this is a child, by fork, of the process that has the control thread.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.process != std::process::id()
    }

    pub(super) fn push(&self, request: Request) {
        if !self.is_elsewhere() {
            self.queue().push(request);
            self.bell.ring();
        }
    }

    pub(super) fn take(&self) -> Vec<Request> {
        self.bell.silence();
        std::mem::take(&mut *self.queue())
    }

    /// Readable when there is something to [`take`](Self::take).
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.bell.fd()
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Request>> {
        // Held for a push or a swap only.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the outcome of an agreement arrives.
#[derive(Debug, Default)]
pub(super) struct Reply {
    outcome: Mutex<Option<Result<Agreed, Excluded>>>,
    /// Changes when it has.
    arrived: AtomicU32,
}

impl Reply {
    pub(super) fn give(&self, outcome: Result<Agreed, Excluded>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.arrived.store(1, Ordering::Release);
        // A wake that fails leaves the waiter to its bounded sleeps.
        let _ = futex::wake(&self.arrived, futex::Flags::empty(), 1);
    }

    pub(super) fn take(&self) -> Option<Result<Agreed, Excluded>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Waits for a [`Reply`].
pub(super) struct Awaiting<'a>(pub(super) &'a Reply);

impl Source for Awaiting<'_> {
    fn poll(&mut self) -> Polled {
        match self.0.arrived.load(Ordering::Acquire) {
            0 => Polled::Idle,
            _ => Polled::Done,
        }
    }

    fn wake_on(&self) -> WakeOn<'_> {
        WakeOn::Shared { word: &self.0.arrived, value: 0 }
    }
}
