//! All pipes to and from one peer, and whether it is still there.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::incoming::{End, Incoming};
use super::outgoing::Outgoing;
use crate::error::Rank;
use crate::transport::{Fault, FaultKind, Lane};

/// A peer that closes what this end has opened, and says nothing, may have left properly before it
/// took that up: for this long, what it sent before may still come to the listener.
const LAST_WORDS_TIME: Duration = Duration::from_millis(100);

/// One rank of the communicator, as this end sees it.
pub(super) struct Peer {
    pub(super) rank: Rank,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) outgoing: [Option<Box<Outgoing>>; 3],
    pub(super) incoming: [Option<Box<Incoming>>; 3],
    /// Per lane without an incoming pipe: the poll after which it was last asked for one.
    pub(super) asked: [u64; 3],
    /// The peer has left properly; bit `l` says whether it ever opened lane `l`.
    goodbye: Option<u8>,
    lost: Option<FaultKind>,
    /// When to hold it for lost unless something comes from it.
    pub(super) doubtful_until: Option<Instant>,
}

impl Peer {
    pub(super) fn new(rank: Rank, addresses: Vec<SocketAddr>) -> Self {
        Self {
            rank,
            addresses,
            outgoing: Default::default(),
            incoming: Default::default(),
            asked: [u64::MAX; 3],
            goodbye: None,
            lost: None,
            doubtful_until: None,
        }
    }

    pub(super) fn fault(&self, kind: FaultKind) -> Fault {
        Fault { peer: self.rank, kind }
    }

    /// Whether there is any connection whose end would tell that the peer is gone.
    pub(super) fn is_watched(&self) -> bool {
        self.outgoing.iter().any(Option::is_some) || self.incoming.iter().any(Option::is_some)
    }

    /// Lanes on which this end has opened a pipe.
    pub(super) fn opened_lanes(&self) -> u8 {
        Lane::ALL
            .into_iter()
            .filter(|&lane| self.outgoing[lane as usize].is_some())
            .fold(0, |lanes, lane| lanes | 1 << lane as u8)
    }

    /// Why nothing will ever come on a lane that has no incoming pipe, if that is certain.
    pub(super) fn absence(&self, lane: Lane) -> Option<FaultKind> {
        if let Some(lanes) = self.goodbye {
            return (lanes & 1 << lane as u8 == 0).then(left);
        }
        self.lost.clone()
    }

    /// Why a new pipe to this peer is pointless, if it is.
    pub(super) fn unreachable(&self) -> Option<FaultKind> {
        self.goodbye.map(|_| left()).or_else(|| self.lost.clone())
    }

    /// Draws conclusions from the ends of single pipes. Returns the news, once, that the peer
    /// is gone without having left properly.
    ///
    /// While a pipe from it may still hold something there is no verdict: it may be what this
    /// rank waits for, and a goodbye may follow. As long as no pipe from it has come at all, one
    /// may be on its way.
    pub(super) fn judge(&mut self, now: Instant) -> Option<Fault> {
        let mut broken = None;
        let mut open = false;
        for incoming in self.incoming.iter().flatten() {
            match incoming.end() {
                None => open = true,
                Some(End::Goodbye { lanes }) => self.goodbye = Some(lanes),
                Some(End::Fault(kind)) => broken = Some(kind),
            }
        }
        // A leaver that never opened a pipe says so where this end has opened one.
        let backward = self.outgoing.iter().flatten().find_map(|outgoing| outgoing.left());
        self.goodbye = self.goodbye.or(backward);
        if open || self.goodbye.is_some() || self.lost.is_some() {
            self.doubtful_until = None;
            return None;
        }
        let kind = match broken {
            Some(kind) => kind,
            None => {
                let unsent = self.outgoing.iter().flatten().find(|o| o.is_broken());
                let kind = unsent?.end()?;
                let until = *self.doubtful_until.get_or_insert(now + LAST_WORDS_TIME);
                if now < until {
                    return None;
                }
                kind
            }
        };
        self.doubtful_until = None;
        self.lost = Some(kind.clone());
        Some(self.fault(kind))
    }
}

pub(super) fn left() -> FaultKind {
    FaultKind::Lost("it has left the communicator".to_owned())
}
