//! What makes a communicator fail, and the errors its calls then return.

use std::sync::Arc;
use std::time::Duration;

use super::executor::OpMeta;
use crate::error::{Call, Called, Error, Missing, Peer, Rank};
use crate::transport::{Fault, FaultKind, FrameHeader};

/// Why a task cannot go on.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// A transport reported a fault.
    Fault(Fault),
    /// A peer's frame belongs to another operation.
    Mismatch { peer: Rank, got: FrameHeader },
    /// A peer's message has another size.
    Size { peer: Rank, reason: String },
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What made an operation stop, before anybody knows who is to blame.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// The operation.
    pub meta: OpMeta,
    /// What was seen.
    pub kind: TroubleKind,
}

/// What an engine saw.
#[derive(Clone, Debug)]
pub enum TroubleKind {
    /// The wire to a peer broke.
    Lost {
        /// Who.
        peer: Rank,
        /// How that was noticed.
        how: String,
    },
    /// A peer sent what the wire format, or this operation, does not allow.
    Protocol {
        /// Who.
        peer: Rank,
        /// What was wrong.
        reason: String,
    },
    /// The system refused this rank something.
    System {
        /// In its words.
        reason: String,
    },
    /// A peer's frame belongs to another operation.
    Mismatch {
        /// Who.
        peer: Rank,
        /// The low 32 bits of its sequence number.
        sequence: u32,
        /// Its fingerprint.
        fingerprint: u64,
    },
    /// Nothing moved.
    Stall {
        /// Whom the operation waits for.
        waits_for: Vec<Rank>,
        /// For how long.
        after: Duration,
    },
}

impl TroubleKind {
    pub(super) fn of(failure: &Failure) -> Self {
        match failure.clone() {
            Failure::Fault(Fault { peer, kind }) => match kind {
                // Trouble of this rank, whomever it wanted to reach.
                FaultKind::System(reason) => Self::System { reason },
                FaultKind::Lost(how) => Self::Lost { peer, how },
                FaultKind::Protocol(reason) => Self::Protocol { peer, reason },
            },
            Failure::Mismatch { peer, got } => {
                let FrameHeader { sequence, fingerprint, .. } = got;
                Self::Mismatch { peer, sequence, fingerprint }
            }
            Failure::Size { peer, reason } => Self::Protocol { peer, reason },
        }
    }
}

/// Finds out why an engine's operations cannot go on. The engine stops, and its operations end
/// when the answer comes ([`EngineCell::condemn`](super::EngineCell::condemn)).
pub trait Judge: Send + Sync {
    /// Called once, by whoever drives the engine. Must not wait.
    fn investigate(&self, trouble: Trouble);
}

/// Who the ranks of a communicator are.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) me: Rank,
    pub(super) peers: Arc<[Peer]>,
}

impl Names {
    pub(super) fn of(&self, rank: Rank) -> Peer {
        match self.peers.get(rank as usize) {
            Some(peer) => peer.clone(),
            None => Peer { rank, host: "an unknown host".to_owned() },
        }
    }

    pub(super) fn call(&self, meta: &OpMeta) -> Box<Call> {
        let me = self.of(self.me);
        Box::new(Call { me, operation: meta.description.name(), sequence: meta.sequence })
    }

    /// The error of a task that waited for `missing` in vain.
    pub(super) fn time_out(&self, meta: &OpMeta, missing: Vec<Peer>, after: Duration) -> Error {
        let call = self.call(meta);
        let what = || "has not come".to_owned();
        let missing = missing.into_iter().map(|peer| Missing { peer, what: what() }).collect();
        Error::Timeout { operation: call.to_string(), call, missing, after }
    }

    /// The error of a task that this rank gives up.
    pub(super) fn aborted(&self, meta: &OpMeta, reason: &str) -> Error {
        let call = self.call(meta);
        Error::Aborted { call, by: self.of(self.me), reason: reason.to_owned() }
    }

    /// The error of the task that ran into `failure`.
    pub(super) fn error(&self, failure: Failure, meta: &OpMeta) -> Error {
        let call = self.call(meta);
        match failure {
            Failure::Fault(Fault { peer, kind }) => {
                let peer = self.of(peer);
                match kind {
                    FaultKind::Lost(reason) | FaultKind::System(reason) => {
                        Error::PeerLost { call, peer, reason }
                    }
                    FaultKind::Protocol(reason) => Error::Protocol { call, peer, reason },
                }
            }
            Failure::Mismatch { peer, got } => {
                let OpMeta { description, sequence, fingerprint, .. } = meta;
                let ours = format!("#{sequence} {description} (fingerprint {fingerprint:016x})");
                let theirs =
                    format!("operation #{} (fingerprint {:016x})", got.sequence, got.fingerprint);
                let calls = [
                    Called { peer: call.me.clone(), what: ours },
                    Called { peer: self.of(peer), what: theirs },
                ];
                Error::Mismatch { call, calls: Box::new(calls) }
            }
            Failure::Size { peer, reason } => Error::Protocol { call, peer: self.of(peer), reason },
        }
    }
}
