//! Shared memory between the ranks of one host.
//!
//! One [`Segment`] per host and communicator holds a ring for every lane and ordered pair of
//! ranks ([`Geometry`]). A sender copies payload into a ring, the receiver works on it in place.
//! No system call is made while messages flow: ranks wait by polling memory, and one that has
//! gone to sleep says so in memory too, so that only then somebody makes the call that wakes it.

mod doorbell;
pub mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod geometry;
mod mapped;
#[cfg(all(test, syncline_loom))]
mod model;
mod pace;
mod ring;
mod segment;
mod watch;

#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::futex;

use self::doorbell::{IN_POLL, ON_FUTEX};
use self::mapped::{MappedRank, MappedRing};
use self::ring::{Consumer, Corrupt, Producer};
use self::watch::{Identity, Watch};
use super::{Descriptors, Fault, FaultKind, FrameHeader, Lane, Limits, Sleep, Transport};
use crate::error::{Error, Rank, Result};
use crate::memory::{Mapping, Span, SpanMut};

pub use geometry::Geometry;
pub use segment::Segment;

/// Calls of `progress` without traffic between two looks at whether the peers are still there:
/// well under a millisecond of spinning.
const POLLS_PER_LOOK: u32 = 4096;

/// What to look for, each including those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Nothing,
    /// Peers that left in good order.
    Closed,
    /// Peers whose process exited: a system call for each.
    Exited,
}

/// Both directions to one peer.
struct Peer {
    rank: Rank,
    out: [Producer<MappedRing>; 3],
    inn: [Consumer<MappedRing>; 3],
    block: MappedRank,
    /// Index of its doorbell's descriptor.
    local: usize,
    watch: Watch,
    /// Why it is not to be talked to any more. What it sent before that can still be taken.
    gone: Option<FaultKind>,
}

/// The shared-memory transport of one rank.
pub struct ShmTransport {
    /// By rank.
    peers: Vec<Peer>,
    block: MappedRank,
    local: usize,
    identity: Identity,
    bells: Vec<OwnedFd>,
    limits: Limits,
    /// How this rank is asleep, or about to be, and the futex word's value then.
    armed: Option<(Sleep, u32)>,
    /// Calls of `progress` since the last look or traffic.
    quiet: u32,
    /// What to look for at the next `progress`.
    due: Due,
    /// Peers found dead and not yet reported by `progress`.
    unreported: Vec<Rank>,
    /// Last: what all the blocks and rings above point into.
    _mapping: Mapping,
}

impl ShmTransport {
    /// The end of local rank `local`. `ranks` holds the communicator's rank of every local rank.
    /// Peers may attach before or after: frames wait for them.
    ///
    /// # Errors
    /// `InvalidArgument` when `ranks` does not fit the segment or names a rank twice; `System`
    /// when another process has attached as this rank.
    pub fn new(segment: Segment, local: u32, ranks: &[Rank]) -> Result<Self> {
        let Segment { mapping, geometry, bells, .. } = segment;
        let local_ranks = geometry.local_ranks;
        let mut sorted = ranks.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != local_ranks as usize
            || ranks.len() != sorted.len()
            || local >= local_ranks
        {
            let reason = format!("local rank {local} of {ranks:?} in a segment for {local_ranks}");
            return Err(Error::InvalidArgument { operation: "shared memory", reason });
        }
        // SAFETY: `rank_at` lies within the mapping, which outlives the blocks in this struct.
        let block_of = |rank| unsafe { MappedRank::new(at(&mapping, geometry.rank_at(rank))) };
        let ring_of = |lane, from, to| {
            let base = at(&mapping, geometry.ring_at(lane, from, to));
            // SAFETY: as the geometry has it, within the mapping, which outlives the rings in
            // this struct, and shared with no other ring.
            unsafe { MappedRing::new(base, geometry.ring_bytes[lane as usize] as usize) }
        };
        let identity = Identity::of_this_process();
        let block = block_of(local);
        if !identity.claim(&block) {
            return Err(Error::System {
                what: format!("attach to shared memory as local rank {local}"),
                source_text: "another process has done so already".into(),
                hint: "start every rank once, each with a rank of its own".into(),
            });
        }
        let mut peers: Vec<_> = (0..local_ranks)
            .filter(|&peer| peer != local)
            .map(|peer| Peer {
                rank: ranks[peer as usize],
                out: Lane::ALL.map(|lane| Producer::new(ring_of(lane, local, peer))),
                inn: Lane::ALL.map(|lane| Consumer::new(ring_of(lane, peer, local))),
                block: block_of(peer),
                local: peer as usize,
                watch: Watch::NotYet,
                gone: None,
            })
            .collect();
        peers.sort_unstable_by_key(|peer| peer.rank);
        let limits = Limits {
            frame_bytes_max: geometry.frame_bytes_max(),
            frame_bytes_preferred: geometry.frame_bytes_preferred(),
            in_place: true,
        };
        Ok(Self {
            peers,
            block,
            local: local as usize,
            identity,
            bells,
            limits,
            armed: None,
            quiet: 0,
            due: Due::Nothing,
            unreported: vec![],
            _mapping: mapping,
        })
    }

    /// Where this rank is among the peers. Panics when it is not on this host, or is this rank
    /// itself: routes are the caller's business.
    #[inline]
    fn index(&self, rank: Rank) -> usize {
        // Ranks of one host mostly follow each other, less this rank itself.
        let first = self.peers.first().map_or(0, |peer| peer.rank);
        let guess = rank.wrapping_sub(first) as usize;
        let is = |index: usize| self.peers.get(index).is_some_and(|peer| peer.rank == rank);
        if is(guess) {
            return guess;
        }
        if is(guess.wrapping_sub(1)) {
            return guess - 1;
        }
        let found = self.peers.binary_search_by_key(&rank, |peer| peer.rank);
        found.expect("a rank that shares memory with this one")
    }

    /// Looks whether peers are gone; reports one that died.
    #[cold]
    fn look(&mut self) -> Result<(), Fault> {
        let due = std::mem::replace(&mut self.due, Due::Nothing);
        for peer in self.peers.iter_mut().filter(|peer| peer.gone.is_none()) {
            if due >= Due::Closed && peer.has_closed() {
                continue;
            }
            if due >= Due::Exited && peer.has_died(&self.identity) {
                self.unreported.push(peer.rank);
            }
        }
        let Some(rank) = self.unreported.pop() else { return Ok(()) };
        let peer = &self.peers[self.index(rank)];
        Err(peer.fault(peer.gone.clone().expect("that is why it is to be reported")))
    }
}

fn at(mapping: &Mapping, offset: usize) -> *mut u8 {
    assert!(offset < mapping.len(), "the geometry was checked against the length");
    mapping.as_ptr().wrapping_add(offset)
}

impl Peer {
    /// Whether it has left in good order.
    fn has_closed(&mut self) -> bool {
        let closed = self.block.closed().load(Ordering::Acquire) != 0;
        if closed {
            self.gone = Some(FaultKind::Lost("it closed the communicator".into()));
            self.watch = Watch::Over;
        }
        closed
    }

    /// Whether its process has exited without that.
    fn has_died(&mut self, me: &Identity) -> bool {
        let begun = self.watch.begin(&self.block, me);
        let Some(reason) = begun.or_else(|| self.watch.look(&self.block)) else { return false };
        // It may have closed after `has_closed` looked, and then exited.
        if self.has_closed() {
            return false;
        }
        self.gone = Some(FaultKind::Lost(reason));
        true
    }

    #[cold]
    fn fault(&self, kind: FaultKind) -> Fault {
        Fault { peer: self.rank, kind }
    }

    /// The peer breaks the protocol: nothing it writes is believed from now on.
    #[cold]
    fn corrupt(&mut self, Corrupt(what): Corrupt) -> Fault {
        let kind = FaultKind::Protocol(format!("shared memory: {what}"));
        self.gone = Some(kind.clone());
        self.fault(kind)
    }

    /// The head frame of a lane; what there is, is shown even when the peer is gone.
    #[inline]
    fn head(&mut self, lane: Lane) -> Result<Option<FrameHeader>, Fault> {
        if let Some(kind @ FaultKind::Protocol(_)) = &self.gone {
            return Err(self.fault(kind.clone()));
        }
        match self.inn[lane as usize].poll() {
            Ok(None) => match &self.gone {
                None => Ok(None),
                Some(kind) => Err(self.fault(kind.clone())),
            },
            Ok(header) => Ok(header),
            Err(corrupt) => Err(self.corrupt(corrupt)),
        }
    }

    /// Wakes the peer if it sleeps.
    #[inline]
    fn ring(&self, bells: &[OwnedFd]) {
        if let Some(how) = doorbell::ring(&self.block) {
            wake(&self.block, how, &bells[self.local]);
        }
    }
}

/// Ends the sleep of the owner of `block`. Failing is no fault of ours: a peer that cannot be
/// woken looks by itself before long.
#[cold]
fn wake(block: &MappedRank, how: u32, bell: &OwnedFd) {
    if how == ON_FUTEX {
        let _woken = futex::wake(block.futex_word(), futex::Flags::empty(), u32::MAX >> 1);
    } else {
        let _written = rustix::io::write(bell, &1_u64.to_ne_bytes());
    }
}

impl Transport for ShmTransport {
    fn name(&self) -> &'static str {
        "shm"
    }

    fn limits(&self, _peer: Rank) -> Limits {
        self.limits
    }

    #[inline]
    fn send(
        &mut self,
        lane: Lane,
        peer: Rank,
        header: &FrameHeader,
        parts: &[Span],
        accepted: &mut usize,
    ) -> Result<bool, Fault> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        assert_eq!(bytes, header.payload_bytes as usize, "the header states what follows");
        let index = self.index(peer);
        let peer = &mut self.peers[index];
        if let Some(kind) = &peer.gone {
            return Err(peer.fault(kind.clone()));
        }
        match peer.out[lane as usize].push(header, parts) {
            Ok(false) => return Ok(false),
            Ok(true) => {}
            Err(corrupt) => return Err(peer.corrupt(corrupt)),
        }
        peer.ring(&self.bells);
        *accepted = bytes;
        self.quiet = 0;
        Ok(true)
    }

    #[inline]
    fn head(&mut self, lane: Lane, peer: Rank) -> Result<Option<FrameHeader>, Fault> {
        let index = self.index(peer);
        self.peers[index].head(lane)
    }

    fn peek(&mut self, lane: Lane, peer: Rank) -> Option<FrameHeader> {
        self.head(lane, peer).ok().flatten()
    }

    #[inline]
    fn view(&mut self, lane: Lane, peer: Rank, _min_bytes: usize) -> Result<Span, Fault> {
        let index = self.index(peer);
        let peer = &mut self.peers[index];
        peer.head(lane)?;
        // A frame is here whole or not at all, so every minimum is met.
        Ok(peer.inn[lane as usize].view())
    }

    #[inline]
    fn consume(&mut self, lane: Lane, peer: Rank, bytes: usize) -> Result<(), Fault> {
        let index = self.index(peer);
        let peer = &mut self.peers[index];
        if peer.inn[lane as usize].consume(bytes) {
            peer.ring(&self.bells);
        }
        self.quiet = 0;
        Ok(())
    }

    fn read(&mut self, lane: Lane, peer: Rank, dst: SpanMut) -> Result<usize, Fault> {
        let shown = self.view(lane, peer, 0)?;
        let bytes = shown.len().min(dst.len());
        if bytes > 0 {
            dst.copy_from(shown.cut(0, bytes));
            self.consume(lane, peer, bytes)?;
        }
        Ok(bytes)
    }

    #[inline]
    fn progress(&mut self) -> Result<(), Fault> {
        self.quiet += 1;
        if self.quiet >= POLLS_PER_LOOK {
            self.quiet = 0;
            self.due = Due::Exited;
        }
        if self.due == Due::Nothing && self.unreported.is_empty() { Ok(()) } else { self.look() }
    }

    fn arm(&mut self, how: Sleep) {
        let state = match how {
            Sleep::Futex => ON_FUTEX,
            Sleep::Poll => IN_POLL,
        };
        let value = doorbell::arm(&self.block, state);
        self.armed = Some((how, value));
        // A peer that closed before this rang nobody; and the descriptors to sleep on must be
        // those of all peers that have attached.
        let unwatched = self.peers.iter().any(|peer| matches!(peer.watch, Watch::NotYet));
        let due = if unwatched { Due::Exited } else { Due::Closed };
        self.due = self.due.max(due);
    }

    fn disarm(&mut self) {
        let Some((how, _)) = self.armed.take() else { return };
        let rung = doorbell::disarm(&self.block);
        if how == Sleep::Poll {
            // Empty already unless somebody rang.
            let _emptied = rustix::io::read(&self.bells[self.local], &mut [0; 8]);
        }
        self.due = self.due.max(if rung { Due::Closed } else { Due::Exited });
    }

    fn futex(&self) -> Option<(&AtomicU32, u32)> {
        let word = self.block.futex_word();
        let value = self.armed.map_or_else(|| word.load(Ordering::Relaxed), |(_, value)| value);
        Some((word, value))
    }

    fn poll_fds(&self) -> Descriptors<'_> {
        let watched = self.peers.iter().filter_map(|peer| peer.watch.fd());
        std::iter::once(self.bells[self.local].as_fd()).chain(watched).collect()
    }
}

impl Drop for ShmTransport {
    fn drop(&mut self) {
        if watch::this_pid() != self.identity.pid {
            // A child that this process forked is not the rank.
            return;
        }
        self.block.closed().store(1, Ordering::Release);
        for peer in &self.peers {
            peer.ring(&self.bells);
        }
    }
}
