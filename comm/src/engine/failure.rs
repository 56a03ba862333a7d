//! What makes a communicator fail, and the errors its calls then return.

use std::sync::Arc;

use super::executor::OpMeta;
use crate::error::{Call, Error, Peer, Rank};
use crate::transport::{Fault, FaultKind, FrameHeader};

/// Why a task cannot go on.
#[derive(Debug)]
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
            Failure::Mismatch { peer, got } => Error::Mismatch {
                call,
                peer: self.of(peer),
                ours: format!(
                    "#{} {} (fingerprint {:016x})",
                    meta.sequence, meta.description, meta.fingerprint
                ),
                theirs: format!(
                    "operation #{} (fingerprint {:016x})",
                    got.sequence, got.fingerprint
                ),
            },
            Failure::Size { peer, reason } => Error::Protocol { call, peer: self.of(peer), reason },
        }
    }
}
