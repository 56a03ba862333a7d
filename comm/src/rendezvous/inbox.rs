//! Where proven connections wait for the communicator they belong to.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::handshake::{Hello, Purpose};
use super::listener::Listener;
use super::noise::Session;

/// A connection that has proved that it belongs to the job; non-blocking.
#[derive(Debug)]
pub struct Accepted {
    /// What it is for. The ranks in it are proven by nothing but the sender's word.
    pub hello: Hello,
    /// The socket; nothing behind the hello has been read from it.
    pub fd: OwnedFd,
    /// The keys, if it is encrypted.
    pub session: Option<Session>,
}

/// The listener's side of an [`Inbox`].
pub(crate) struct Mailbox {
    queue: Mutex<VecDeque<Accepted>>,
    waiting: AtomicBool,
    wake: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { queue: Mutex::default(), waiting: AtomicBool::new(false), wake })
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Accepted>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, accepted: Accepted) {
        let mut queue = self.queue();
        queue.push_back(accepted);
        self.waiting.store(true, Ordering::Release);
        // The counter cannot overflow: it is reset whenever the queue runs empty.
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).ok();
    }
}

/// Receives the connections for one communicator and purpose.
pub struct Inbox {
    listener: Arc<Listener>,
    key: (u64, Purpose),
    mailbox: Arc<Mailbox>,
}

impl Inbox {
    pub(crate) fn new(listener: Arc<Listener>, key: (u64, Purpose), mailbox: Arc<Mailbox>) -> Self {
        Self { listener, key, mailbox }
    }

    /// The next connection, if one has come. Costs one load when none has.
    pub fn take(&self) -> Option<Accepted> {
        if !self.mailbox.waiting.load(Ordering::Acquire) {
            return None;
        }
        let mut queue = self.mailbox.queue();
        let accepted = queue.pop_front();
        if queue.is_empty() {
            self.mailbox.waiting.store(false, Ordering::Release);
            let mut counter = [0; 8];
            // Nothing to read means nothing to reset.
            rustix::io::read(&self.mailbox.wake, &mut counter).ok();
        }
        accepted
    }

    /// The listener that feeds this inbox.
    pub fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// Readable while connections wait.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.mailbox.wake.as_fd()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.listener.retire(self.key);
    }
}
