//! What becomes of one communicator: the control thread's hold on it.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::core::{Cause, CommId, Operation, Progress};
use super::requests::{Request, Requests};
use super::seats::Seats;
use crate::engine::primitive::{OnceLock, fence};
use crate::engine::{Bell, Engine, EngineCell, Judge, Trouble};
use crate::error::{Call, Error, Peer, Rank};

/// One communicator of this rank, as control sees it. It outlives the engine by a little.
pub(crate) struct Fate {
    pub(super) seats: Arc<Seats>,
    cell: OnceLock<Weak<EngineCell>>,
    verdict: OnceLock<Error>,
    /// Rings with the verdict: for waits that are not the engine's.
    bell: Bell,
    pulse: Arc<Pulse>,
}

/// Whether operations still move, as the last looks at the engine found.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    pub(super) looks: AtomicU32,
    pub(super) mark: AtomicU64,
    pub(super) idle: AtomicBool,
}

impl Fate {
    /// `peers` are the members, `jobs` their ranks in the job, both by rank.
    pub(crate) fn new(comm: CommId, me: Rank, peers: Arc<[Peer]>, jobs: Arc<[Rank]>) -> Arc<Self> {
        let bell = Bell::new();
        Arc::new(Self {
            seats: Arc::new(Seats { comm, me, peers, jobs }),
            cell: OnceLock::new(),
            verdict: OnceLock::new(),
            bell,
            pulse: Arc::default(),
        })
    }

    /// From now on the fate is the engine's too.
    pub(crate) fn attach(&self, cell: &Arc<EngineCell>) {
        self.cell.get_or_init(|| Arc::downgrade(cell));
        // Either the verdict is seen here, or whoever decides sees the cell.
        fence(Ordering::SeqCst);
        if let Some(error) = self.verdict.get() {
            cell.condemn(error);
        }
    }

    /// Why the communicator takes no more calls.
    pub(crate) fn failure(&self, operation: &'static str, sequence: u64) -> Option<Error> {
        Some(self.verdict.get()?.at(self.call(operation, sequence)))
    }

    /// This rank in an error's call.
    pub(crate) fn call(&self, operation: &'static str, sequence: u64) -> Box<Call> {
        self.seats.call(operation, sequence)
    }

    /// Readable once the communicator has failed.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.bell.prepare();
        // Either the verdict is seen here, or whoever decides sees the bell.
        fence(Ordering::SeqCst);
        if self.verdict.get().is_some() {
            self.bell.ring();
        }
        self.bell.fd()
    }

    /// Ends the communicator's calls at once. The first cause counts.
    pub(crate) fn condemn(&self, cause: &Cause) {
        let error = self.decide(cause);
        if let Some(cell) = self.cell() {
            cell.condemn(&error);
        }
    }

    /// Takes no more calls, and lets those that run go on as long as they can.
    pub(super) fn doom(&self, cause: &Cause) {
        let error = self.decide(cause);
        if let Some(cell) = self.cell() {
            cell.doom(&error);
        }
    }

    /// Ends what [`Self::doom`] let go on.
    pub(super) fn carry_out(&self) {
        if let (Some(cell), Some(error)) = (self.cell(), self.verdict.get()) {
            cell.condemn(error);
        }
    }

    /// Looks whether operations move; [`Self::pulse`] shows the result.
    pub(super) fn look(&self) {
        let pulse = Arc::clone(&self.pulse);
        let look = move |engine: &mut Engine| {
            pulse.mark.store(engine.mark(), Ordering::Relaxed);
            pulse.idle.store(engine.is_idle(), Ordering::Relaxed);
            pulse.looks.fetch_add(1, Ordering::Release);
        };
        match self.cell() {
            Some(cell) => cell.visit(Box::new(look)),
            None => self.pulse.idle.store(true, Ordering::Relaxed),
        }
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Has the engine tell where it is in `operation`.
    pub(super) fn inspect(&self, query: u64, operation: Operation, requests: &Arc<Requests>) {
        let Some(cell) = self.cell() else {
            return requests.push(Request::Inspected(query, Progress::Unknown));
        };
        let (requests, seats) = (Arc::clone(requests), Arc::clone(&self.seats));
        cell.visit(Box::new(move |engine| {
            requests.push(Request::Inspected(query, seats.progress(engine, operation)));
        }));
    }

    fn cell(&self) -> Option<Arc<EngineCell>> {
        self.cell.get()?.upgrade()
    }

    fn decide(&self, cause: &Cause) -> Error {
        let error = self.verdict.get_or_init(|| self.seats.error(cause)).clone();
        // Between saying so and looking for a bell, and for a cell to tell.
        fence(Ordering::SeqCst);
        if self.bell.fd().is_some() {
            self.bell.ring();
        }
        error
    }
}

/// Hands what an engine ran into to the control thread.
pub(crate) struct Reporter {
    pub(super) comm: CommId,
    pub(super) requests: Arc<Requests>,
}

impl Judge for Reporter {
    fn investigate(&self, trouble: Trouble) {
        self.requests.push(Request::Investigate(self.comm, trouble));
    }
}
