//! What becomes of one communicator: the control thread's hold on it.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use super::core::{Absence, Cause, CommId, Operation, Progress, Unfinished};
use super::requests::{Request, Requests};
use crate::engine::{Bell, Engine, EngineCell, Judge, OpKey, OpMeta, OpReport, Trouble, words};
use crate::error::{Call, Called, Error, Missing, Peer, Rank};

/// One communicator of this rank, as control sees it. It outlives the engine by a little.
pub(crate) struct Fate {
    pub(super) comm: CommId,
    me: Rank,
    peers: Arc<[Peer]>,
    /// The job's rank of every rank.
    pub(super) jobs: Arc<[Rank]>,
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
            comm,
            me,
            peers,
            jobs,
            cell: OnceLock::new(),
            verdict: OnceLock::new(),
            bell,
            pulse: Arc::default(),
        })
    }

    /// From now on the fate is the engine's too.
    pub(crate) fn attach(&self, cell: &Arc<EngineCell>) {
        self.cell.get_or_init(|| Arc::downgrade(cell));
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
        Box::new(Call { me: self.peer(self.me), operation, sequence })
    }

    /// Readable once the communicator has failed.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.bell.prepare();
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
        let (Some(cell), Some(key)) = (self.cell(), self.key(operation)) else {
            return requests.push(Request::Inspected(query, Progress::Unknown));
        };
        let (requests, jobs) = (Arc::clone(requests), Arc::clone(&self.jobs));
        let me = self.me;
        cell.visit(Box::new(move |engine| {
            let progress = progress(engine, key, &jobs, me);
            requests.push(Request::Inspected(query, progress));
        }));
    }

    /// The engine's name of an operation of this rank; `None` for messages between others.
    fn key(&self, operation: Operation) -> Option<OpKey> {
        match operation {
            Operation::Collective(sequence) => Some(OpKey::Collective(sequence)),
            Operation::Message { from, to, number } => {
                let mine = self.job(self.me);
                let other = |job| self.jobs.iter().position(|&known| known == job);
                let peer = |job| other(job).and_then(|at| Rank::try_from(at).ok());
                let sequence = number;
                match (from == mine, to == mine) {
                    (true, _) => Some(OpKey::Send { peer: peer(to)?, sequence }),
                    (_, true) => Some(OpKey::Recv { peer: peer(from)?, sequence }),
                    _ => None,
                }
            }
        }
    }

    /// The protocol's name of an operation of this rank.
    pub(super) fn operation(&self, meta: &OpMeta) -> Operation {
        operation(OpKey::of(meta), &self.jobs, self.me)
    }

    /// The job's rank of a rank of the communicator.
    pub(super) fn job(&self, rank: Rank) -> Rank {
        self.jobs.get(rank as usize).copied().unwrap_or(rank)
    }

    fn cell(&self) -> Option<Arc<EngineCell>> {
        self.cell.get()?.upgrade()
    }

    fn decide(&self, cause: &Cause) -> Error {
        let error = self.verdict.get_or_init(|| self.error(cause)).clone();
        if self.bell.fd().is_some() {
            self.bell.ring();
        }
        error
    }

    fn peer(&self, rank: Rank) -> Peer {
        let unknown = || Peer { rank, host: "an unknown host".to_owned() };
        self.peers.get(rank as usize).cloned().unwrap_or_else(unknown)
    }

    /// A rank of the job, as a rank of the communicator.
    fn member(&self, job: Rank) -> Peer {
        let at = self.jobs.iter().position(|&known| known == job);
        self.peer(at.and_then(|at| Rank::try_from(at).ok()).unwrap_or(Rank::MAX))
    }

    /// A cause as an error; whose call it is, is filled in later.
    fn error(&self, cause: &Cause) -> Error {
        let call = self.call("communicator", 0);
        let member = |job: &Rank| self.member(*job);
        match cause {
            Cause::Lost { rank, how } => {
                Error::PeerLost { call, peer: member(rank), reason: how.clone() }
            }
            Cause::Left { rank } => {
                let reason = "it has left the communicator".to_owned();
                Error::PeerLost { call, peer: member(rank), reason }
            }
            Cause::Stalled { by, description, missing, after, .. } => {
                let operation = format!("{description} at {}", member(by));
                let missing = missing
                    .iter()
                    .map(|(rank, absence)| Missing { peer: member(rank), what: absent(absence) })
                    .collect();
                Error::Timeout { call, operation, missing, after: *after }
            }
            Cause::Mismatch { one, other, .. } => {
                let called = |(rank, what): &(Rank, String)| Called {
                    peer: member(rank),
                    what: what.clone(),
                };
                Error::Mismatch { call, calls: Box::new([called(one), called(other)]) }
            }
            Cause::Protocol { rank, reason } => {
                Error::Protocol { call, peer: member(rank), reason: reason.clone() }
            }
            Cause::Aborted { by, reason } => {
                Error::Aborted { call, by: member(by), reason: reason.clone() }
            }
            Cause::Revoked { by, reason } => {
                Error::Revoked { call, by: member(by), reason: reason.clone() }
            }
        }
    }
}

fn absent(absence: &Absence) -> String {
    match absence {
        Absence::Silent => "does not answer".to_owned(),
        Absence::NotEntered { last: Some(last) } => {
            format!("has not called it; its last call was {last}")
        }
        Absence::NotEntered { last: None } => "has not called it, nor anything before".to_owned(),
        Absence::Slow => "is in it, and does not move either".to_owned(),
        Absence::Left => "has left the communicator".to_owned(),
    }
}

fn job_of(jobs: &[Rank], rank: Rank) -> Rank {
    jobs.get(rank as usize).copied().unwrap_or(rank)
}

fn operation(key: OpKey, jobs: &[Rank], me: Rank) -> Operation {
    let job = |rank| job_of(jobs, rank);
    match key {
        OpKey::Collective(sequence) => Operation::Collective(sequence),
        OpKey::Send { peer, sequence } => {
            Operation::Message { from: job(me), to: job(peer), number: sequence }
        }
        OpKey::Recv { peer, sequence } => {
            Operation::Message { from: job(peer), to: job(me), number: sequence }
        }
    }
}

/// Where `engine` is in operation `key`.
fn progress(engine: &mut Engine, key: OpKey, jobs: &[Rank], me: Rank) -> Progress {
    let in_job = |ranks: Vec<Rank>| ranks.into_iter().map(|rank| job_of(jobs, rank)).collect();
    match engine.report(key) {
        OpReport::NotEntered { last } => {
            let last = last.map(|last| match last.description {
                Some(description) => words(&description, last.sequence),
                None => format!("#{}", last.sequence),
            });
            let unfinished = engine.oldest_unfinished().map(|(key, waits_for)| Unfinished {
                operation: operation(key, jobs, me),
                waits_for: in_job(waits_for),
            });
            Progress::NotEntered { last, unfinished }
        }
        OpReport::Running { description, waits_for, .. } => Progress::Running {
            description: words(&description, key.sequence()),
            waits_for: in_job(waits_for),
        },
        OpReport::Done { description: Some(description) } | OpReport::Failed { description } => {
            Progress::Done { description: words(&description, key.sequence()) }
        }
        OpReport::Done { description: None } => Progress::Unknown,
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
