//! What programs decide by: the kind of an error, and the ranks it names.

use super::{Error, Rank};

/// The kind of an [`Error`], without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// [`Error::InvalidArgument`].
    InvalidArgument,
    /// [`Error::PeerLost`].
    PeerLost,
    /// [`Error::Disconnected`].
    Disconnected,
    /// [`Error::Timeout`].
    Timeout,
    /// [`Error::Mismatch`].
    Mismatch,
    /// [`Error::Protocol`].
    Protocol,
    /// [`Error::Rendezvous`].
    Rendezvous,
    /// [`Error::System`].
    System,
    /// [`Error::Aborted`].
    Aborted,
    /// [`Error::Revoked`].
    Revoked,
    /// [`Error::Excluded`].
    Excluded,
    /// [`Error::Forked`].
    Forked,
}

impl Error {
    /// Its kind.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidArgument { .. } => ErrorKind::InvalidArgument,
            Self::PeerLost { .. } => ErrorKind::PeerLost,
            Self::Disconnected { .. } => ErrorKind::Disconnected,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Mismatch { .. } => ErrorKind::Mismatch,
            Self::Protocol { .. } => ErrorKind::Protocol,
            Self::Rendezvous { .. } => ErrorKind::Rendezvous,
            Self::System { .. } => ErrorKind::System,
            Self::Aborted { .. } => ErrorKind::Aborted,
            Self::Revoked { .. } => ErrorKind::Revoked,
            Self::Excluded { .. } => ErrorKind::Excluded,
            Self::Forked { .. } => ErrorKind::Forked,
        }
    }

    /// The ranks it names as the cause: lost, missing, of another opinion, or who gave up; both
    /// ends of a broken connection. None where no rank is to blame, or this one alone.
    pub fn ranks(&self) -> Vec<Rank> {
        match self {
            Self::PeerLost { peer, .. } | Self::Protocol { peer, .. } => vec![peer.rank],
            Self::Aborted { by, .. } | Self::Revoked { by, .. } => vec![by.rank],
            Self::Timeout { missing, .. } => missing.iter().map(|m| m.peer.rank).collect(),
            Self::Disconnected { ends, .. } => ends.iter().map(|end| end.rank).collect(),
            Self::Mismatch { call, calls } => {
                let others = calls.iter().map(|called| called.peer.rank);
                others.filter(|&rank| rank != call.me.rank).collect()
            }
            Self::InvalidArgument { .. }
            | Self::Rendezvous { .. }
            | Self::System { .. }
            | Self::Excluded { .. }
            | Self::Forked { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Call, Called, Peer};
    use super::*;

    #[test]
    fn errors_name_the_others() {
        let peer = |rank| Peer { rank, host: "n1".to_owned() };
        let call = Box::new(Call { me: peer(1), operation: "all_reduce", sequence: 7 });
        let called = |rank| Called { peer: peer(rank), what: "all_reduce of 3 f32".to_owned() };
        let calls = Box::new([called(1), called(4)]);
        let error = Error::Mismatch { call: call.clone(), calls };
        assert_eq!((error.kind(), error.ranks()), (ErrorKind::Mismatch, vec![4]));
        let error = Error::Aborted { call, by: peer(2), reason: "enough".to_owned() };
        assert_eq!((error.kind(), error.ranks()), (ErrorKind::Aborted, vec![2]));
    }
}
