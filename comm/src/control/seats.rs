//! What stands between an engine and the control protocol, without I/O: ranks of a communicator
//! and ranks of the job, operations, troubles and causes, each in the other's words. The control
//! thread and the fault campaign both go through here.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Absence, Cause, CommId, Core, Mismatch, Operation, Progress, Stall, Unfinished};
use crate::engine::{Engine, OpKey, OpReport, Trouble, TroubleKind, words};
use crate::error::{Call, Called, Error, Missing, Peer, Rank};

/// After the loss of a member: operations end when nothing has moved for this long.
pub(crate) const GRACE: Duration = Duration::from_millis(100);

/// How long this rank waits at the end of the job until its farewell was heard.
pub(crate) const FAREWELL_TIME_MAX: Duration = Duration::from_millis(60);

/// Whether operations may go on after this as long as they move: what a dead rank sent before may
/// be all that is needed.
pub(crate) const fn may_go_on(cause: &Cause) -> bool {
    matches!(cause, Cause::Lost { .. })
}

/// Who is who in one communicator.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    pub(crate) comm: CommId,
    pub(crate) me: Rank,
    pub(crate) peers: Arc<[Peer]>,
    /// The job's rank of every rank.
    pub(crate) jobs: Arc<[Rank]>,
}

impl Seats {
    /// This rank in an error's call.
    pub(crate) fn call(&self, operation: &'static str, sequence: u64) -> Box<Call> {
        Box::new(Call { me: self.peer(self.me), operation, sequence })
    }

    /// Hands what an engine saw to the protocol.
    pub(crate) fn investigate(&self, core: &mut Core, now: Duration, trouble: Trouble) {
        let (comm, job) = (self.comm, |rank| self.job(rank));
        let Trouble { meta, kind } = trouble;
        let operation = self.operation(OpKey::of(&meta));
        let description = words(&meta.description, meta.sequence);
        match kind {
            TroubleKind::Lost { peer, how } => core.suspect(now, comm, job(peer), &how),
            TroubleKind::Protocol { peer, reason } => {
                core.protocol_broken(now, comm, job(peer), &reason);
            }
            TroubleKind::System { reason } => core.revoke(now, comm, &reason),
            TroubleKind::Mismatch { peer, sequence, fingerprint } => {
                let (peer, theirs) = (job(peer), (sequence, fingerprint));
                core.mismatch(now, comm, Mismatch { operation, description, peer, theirs });
            }
            TroubleKind::Stall { waits_for, after } => {
                let waits_for = waits_for.into_iter().map(job).collect();
                core.stalled(now, comm, Stall { operation, description, waits_for, after });
            }
        }
    }

    /// Where `engine` is in an operation.
    pub(crate) fn progress(&self, engine: &mut Engine, operation: Operation) -> Progress {
        let Some(key) = self.key(operation) else { return Progress::Unknown };
        let in_job = |ranks: Vec<Rank>| ranks.into_iter().map(|rank| self.job(rank)).collect();
        match engine.report(key) {
            OpReport::NotEntered { last } => {
                let last = last.map(|last| match last.description {
                    Some(description) => words(&description, last.sequence),
                    None => format!("#{}", last.sequence),
                });
                let unfinished = engine.oldest_unfinished().map(|(key, waits_for)| Unfinished {
                    operation: self.operation(key),
                    waits_for: in_job(waits_for),
                });
                Progress::NotEntered { last, unfinished }
            }
            OpReport::Running { description, waits_for, behind, .. } => Progress::Running {
                description: words(&description, key.sequence()),
                waits_for: in_job(waits_for),
                behind: behind.map(|(key, waits_for)| Unfinished {
                    operation: self.operation(key),
                    waits_for: in_job(waits_for),
                }),
            },
            OpReport::Done { description: Some(description) }
            | OpReport::Failed { description } => {
                Progress::Done { description: words(&description, key.sequence()) }
            }
            OpReport::Done { description: None } => Progress::Unknown,
        }
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
    fn operation(&self, key: OpKey) -> Operation {
        let (me, job) = (self.job(self.me), |rank| self.job(rank));
        match key {
            OpKey::Collective(sequence) => Operation::Collective(sequence),
            OpKey::Send { peer, sequence } => {
                Operation::Message { from: me, to: job(peer), number: sequence }
            }
            OpKey::Recv { peer, sequence } => {
                Operation::Message { from: job(peer), to: me, number: sequence }
            }
        }
    }

    /// The job's rank of a rank of the communicator.
    fn job(&self, rank: Rank) -> Rank {
        self.jobs.get(rank as usize).copied().unwrap_or(rank)
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
    pub(crate) fn error(&self, cause: &Cause) -> Error {
        let call = self.call("communicator", 0);
        let member = |job: &Rank| self.member(*job);
        match cause {
            Cause::Lost { rank, how } => {
                Error::PeerLost { call, peer: member(rank), reason: how.clone() }
            }
            Cause::Disconnected { by, peer, how } => {
                let ends = Box::new([member(by), member(peer)]);
                Error::Disconnected { call, ends, reason: how.clone() }
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
        Absence::Tardy => "answers only now: it or the way to it stood still".to_owned(),
        Absence::Left => "has left the communicator".to_owned(),
    }
}
