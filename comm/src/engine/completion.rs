//! The end of one operation, as seen by whoever did not drive it there.

use std::any::Any;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::primitive::{self, AtomicBool, AtomicU32, Mutex, MutexGuard, fence};
use crate::error::Result;

/// Where threads wait that use an engine somebody else drives.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Changes whenever the engine is let go, or an operation ends that has a completion.
    turn: AtomicU32,
    /// Threads that sleep on `turn`, or are about to.
    sleepers: AtomicU32,
    /// Operations with a completion that have not ended.
    pending: AtomicU32,
}

impl Gate {
    /// The word to sleep on.
    pub(super) const fn word(&self) -> &AtomicU32 {
        &self.turn
    }

    /// Whether an operation is under way that its starter may not be driving.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::SeqCst) > 0
    }

    /// Announces a sleep; answers the value to sleep on.
    pub(super) fn arm(&self) -> u32 {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // Before the last look at what is waited for. A read-modify-write alone does not keep a
        // later load behind it on every machine (AArch64).
        fence(Ordering::SeqCst);
        self.turn.load(Ordering::SeqCst)
    }

    /// Ends what `arm` announced.
    pub(super) fn disarm(&self) {
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes everybody who sleeps here. The change they look for must have been made.
    pub(super) fn signal(&self) {
        // Either a sleeper's announcement is seen here, or its last look sees the change.
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.turn.fetch_add(1, Ordering::SeqCst);
            primitive::wake(&self.turn);
        }
    }
}

/// Set once, when the operation has ended.
#[derive(Debug)]
pub(super) struct Completion {
    gate: Arc<Gate>,
    ended: AtomicBool,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    result: Result<()>,
    /// What must live until the operation has ended: the buffers it uses.
    keep: Option<Box<dyn Any + Send>>,
}

impl Completion {
    pub(super) fn new(gate: &Arc<Gate>, keep: Option<Box<dyn Any + Send>>) -> Self {
        gate.pending.fetch_add(1, Ordering::SeqCst);
        let inside = Mutex::new(Inside { result: Ok(()), keep });
        Self { gate: Arc::clone(gate), ended: AtomicBool::new(false), inside }
    }

    /// As a new one, for another operation of the same engine. The last one has ended.
    pub(super) fn renew(&mut self, keep: Option<Box<dyn Any + Send>>) {
        self.gate.pending.fetch_add(1, Ordering::SeqCst);
        self.ended.store(false, Ordering::Release);
        *self.inside() = Inside { result: Ok(()), keep };
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Never held while anything can wait: contended for a few instructions at most.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the operation has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The result; `None` until the operation has ended.
    pub(super) fn result(&self) -> Option<Result<()>> {
        self.has_ended().then(|| self.inside().result.clone())
    }

    /// What was kept alive for the operation; `None` until it has ended, and after the first
    /// time.
    pub(super) fn take_kept(&self) -> Option<Box<dyn Any + Send>> {
        if self.has_ended() { self.inside().keep.take() } else { None }
    }

    /// Records the end, and wakes whoever waits for it.
    pub(super) fn end(&self, result: Result<()>) {
        self.inside().result = result;
        self.ended.store(true, Ordering::Release);
        self.gate.pending.fetch_sub(1, Ordering::SeqCst);
        self.gate.signal();
    }
}
