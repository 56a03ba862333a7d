//! What stands between an engine and the control protocol, as in production.

use std::time::Duration;

use crate::control::core::{
    Absence, Cause, CommId, Core, Mismatch, Operation, Progress, Stall, Unfinished,
};
use crate::engine::{Description, Engine, OpKey, OpReport, Trouble, TroubleKind};
use crate::error::{Call, Called, Error, Missing, Peer, Rank};

/// Has the control protocol find out what is behind `trouble`.
pub(super) fn investigate(
    core: &mut Core,
    now: Duration,
    (comm, members, me): (CommId, &[Rank], Rank),
    trouble: Trouble,
) {
    let meta = trouble.meta;
    let operation = of_key(OpKey::of(&meta), members, me);
    let description = format!("#{} {}", meta.sequence, meta.description);
    match trouble.kind {
        TroubleKind::Lost { peer, how } => core.suspect(now, comm, members[peer as usize], &how),
        TroubleKind::Protocol { peer, reason } => {
            core.protocol_broken(now, comm, members[peer as usize], &reason);
        }
        TroubleKind::System { reason } => core.revoke(now, comm, &reason),
        TroubleKind::Mismatch { peer, sequence, fingerprint } => {
            let peer = members[peer as usize];
            let theirs = (sequence, fingerprint);
            core.mismatch(now, comm, Mismatch { operation, description, peer, theirs });
        }
        TroubleKind::Stall { waits_for, after } => {
            let waits_for = waits_for.into_iter().map(|rank| members[rank as usize]).collect();
            core.stalled(now, comm, Stall { operation, description, waits_for, after });
        }
    }
}

/// For how long operations that a death may have left intact need not move before they end.
pub(super) const GRACE: Duration = Duration::from_millis(100);

/// Whether operations may go on as long as they can after a failure: what a dead rank sent before
/// may be all that is needed.
pub(super) const fn is_lenient(cause: &Cause) -> bool {
    matches!(cause, Cause::Lost { .. })
}

/// The communicator of the survivors of `comm` that is made by this attempt to shrink it.
pub(super) const fn child(comm: CommId, attempt: u64) -> CommId {
    comm.wrapping_mul(1000).wrapping_add(attempt + 1)
}

/// Where `engine` is in an operation.
pub(super) fn progress(
    engine: &mut Engine,
    operation: Operation,
    members: &[Rank],
    me: Rank,
) -> Progress {
    let member = |rank: Rank| members.iter().position(|known| *known == rank).map(|at| at as Rank);
    let key = match operation {
        Operation::Collective(sequence) => Some(OpKey::Collective(sequence)),
        Operation::Message { from, to, number } if from == me => {
            member(to).map(|peer| OpKey::Send { peer, sequence: number })
        }
        Operation::Message { from, number, .. } => {
            member(from).map(|peer| OpKey::Recv { peer, sequence: number })
        }
    };
    let Some(key) = key else { return Progress::Unknown };
    let words = |description: &Description, sequence| format!("#{sequence} {description}");
    let in_job = |ranks: Vec<Rank>| ranks.iter().map(|rank| members[*rank as usize]).collect();
    match engine.report(key) {
        OpReport::NotEntered { last } => {
            let last = last.and_then(|last| Some(words(&last.description?, last.sequence)));
            let unfinished = engine.oldest_unfinished().map(|(key, waits_for)| Unfinished {
                operation: of_key(key, members, me),
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

fn of_key(key: OpKey, members: &[Rank], me: Rank) -> Operation {
    let job = |rank: Rank| members[rank as usize];
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

/// A cause, as calls of rank `me` of the communicator report it.
pub(super) fn error(cause: &Cause, members: &[Rank], peers: &[Peer], me: Rank) -> Error {
    let peer = |rank: &Rank| {
        let position = members.iter().position(|member| member == rank);
        let known = position.and_then(|index| peers.get(index)).cloned();
        known.unwrap_or_else(|| Peer { rank: Rank::MAX, host: format!("nowhere ({rank})") })
    };
    let me = peers[me as usize].clone();
    let call = Box::new(Call { me, operation: "campaign", sequence: 0 });
    match cause {
        Cause::Lost { rank, how } => {
            Error::PeerLost { call, peer: peer(rank), reason: how.clone() }
        }
        Cause::Left { rank } => {
            let reason = "it left the communicator".to_owned();
            Error::PeerLost { call, peer: peer(rank), reason }
        }
        Cause::Stalled { description, missing, after, .. } => {
            let missing = missing
                .iter()
                .map(|(rank, absence)| Missing { peer: peer(rank), what: what(absence) })
                .collect();
            Error::Timeout { call, operation: description.clone(), missing, after: *after }
        }
        Cause::Mismatch { one, other, .. } => {
            let called =
                |(rank, what): &(Rank, String)| Called { peer: peer(rank), what: what.clone() };
            Error::Mismatch { call, calls: Box::new([called(one), called(other)]) }
        }
        Cause::Protocol { rank, reason } => {
            Error::Protocol { call, peer: peer(rank), reason: reason.clone() }
        }
        Cause::Aborted { by, reason } => {
            Error::Aborted { call, by: peer(by), reason: reason.clone() }
        }
        Cause::Revoked { by, reason } => {
            Error::Revoked { call, by: peer(by), reason: reason.clone() }
        }
    }
}

fn what(absence: &Absence) -> String {
    match absence {
        Absence::Silent => "does not answer".to_owned(),
        Absence::NotEntered { last } => format!("has not entered; last {last:?}"),
        Absence::Slow => "is slow".to_owned(),
        Absence::Left => "left".to_owned(),
    }
}
