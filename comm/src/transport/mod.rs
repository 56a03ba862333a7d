//! Wires: ordered, reliable pipes to peers, driven by polling.
//!
//! A transport serves one communicator and some of its ranks. Towards every peer it has, per
//! [`Lane`], one outgoing and one incoming pipe of *frames*: a fixed header and a payload. Pipes
//! are independent of each other: a full or silent pipe never holds up another one, in
//! particular not another lane to the same peer.
//!
//! No method blocks. The engine polls, and when nothing moves it arms every transport it uses and
//! sleeps in its one wait loop until one of them wakes it.

#[cfg(test)]
pub(crate) mod conformance;
pub mod shm;
pub mod sim;
pub mod tcp;

use smallvec::SmallVec;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU32;

use crate::error::Rank;
use crate::memory::{Span, SpanMut};

/// An independent pair of pipes between two ranks.
///
/// Operations on one lane follow each other in order; lanes overtake each other. A small
/// operation therefore never waits behind a large one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Collectives of up to [`Lane::SMALL_BYTES_MAX`] bytes.
    Small = 0,
    /// Larger collectives, and those whose total size not every rank knows.
    Bulk = 1,
    /// Point-to-point messages.
    PointToPoint = 2,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 3] = [Self::Small, Self::Bulk, Self::PointToPoint];
    /// Largest message, per rank and in bytes of user data, that travels on [`Lane::Small`].
    pub const SMALL_BYTES_MAX: usize = 64 * 1024;
}

/// What precedes every payload on every wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Fingerprint of the operation (collective, op, type, count, root, codec, algorithm).
    pub fingerprint: u64,
    /// Sequence number of the operation in its communicator, modulo 2^32.
    pub sequence: u32,
    /// Payload bytes that follow, at most the sending side's [`Limits::frame_bytes_max`].
    pub payload_bytes: u32,
}

/// What a pipe can do; fixed for the life of the transport.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest payload of one frame.
    pub frame_bytes_max: usize,
    /// The payload size at which throughput levels off: what the engine cuts messages into.
    pub frame_bytes_preferred: usize,
    /// `view` shows the peer's bytes without a copy, so that reducing out of it is cheaper than
    /// `read` followed by a reduction.
    pub in_place: bool,
}

/// Why a pipe will never move again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("rank {peer}: {kind}")]
pub struct Fault {
    /// The other end.
    pub peer: Rank,
    /// What happened.
    pub kind: FaultKind,
}

/// Kinds of [`Fault`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum FaultKind {
    /// The peer's process or host is gone, or closed the connection.
    #[error("connection lost ({0})")]
    Lost(String),
    /// The peer sent what the wire format does not allow.
    #[error("protocol violation ({0})")]
    Protocol(String),
    /// The operating system refused.
    #[error("{0}")]
    System(String),
}

/// How the engine is about to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleep {
    /// On the futex word of this transport, the only one in use.
    Futex,
    /// In `poll(2)` on the transports' file descriptors.
    Poll,
}

/// Descriptors of a transport. As many as a host has ranks, and as a rule those of few: kept
/// without an allocation, since there is a list for every sleep.
pub type Descriptors<'a> = SmallVec<[BorrowedFd<'a>; 64]>;

/// Pipes to some ranks of one communicator.
pub trait Transport: Send {
    /// Its name in options, tables and errors: `shm`, `tcp`, `sim`.
    fn name(&self) -> &'static str;

    /// What the pipes to and from `peer` can do.
    fn limits(&self, peer: Rank) -> Limits;

    /// Puts one frame, the concatenation of `parts`, into the pipe to `peer`.
    ///
    /// `accepted` says how many payload bytes the pipe has taken so far; the caller starts with
    /// 0 and calls again with the same arguments, and no other frame on this pipe between, until
    /// the answer is `true`. The bytes of `parts` that `accepted` counts are taken for good: the
    /// caller may overwrite them at once. A caller that gives up half-way must abandon the whole
    /// communicator.
    fn send(
        &mut self,
        lane: Lane,
        peer: Rank,
        header: &FrameHeader,
        parts: &[Span],
        accepted: &mut usize,
    ) -> Result<bool, Fault>;

    /// Header of the oldest frame from `peer` that is not wholly consumed yet, if it is here;
    /// its payload may still be under way.
    fn head(&mut self, lane: Lane, peer: Rank) -> Result<Option<FrameHeader>, Fault>;

    /// The head frame's header, if it is here, without a wish for one: nothing is made ready, and
    /// nothing is expected to come.
    fn peek(&mut self, lane: Lane, peer: Rank) -> Option<FrameHeader> {
        let _ = (lane, peer);
        None
    }

    /// Payload bytes of the head frame that are here and not consumed, without moving them. May
    /// be shorter than what is missing, or empty. Valid until the next call on this pipe.
    /// At least `min_bytes` are shown contiguously once that many have arrived; a caller asks
    /// for one element, so that none is ever split.
    fn view(&mut self, lane: Lane, peer: Rank, min_bytes: usize) -> Result<Span, Fault>;

    /// Consumes `bytes` of the head frame that `view` showed. A frame ends when all its payload
    /// is consumed; an empty frame ends with `consume(.., 0)`.
    fn consume(&mut self, lane: Lane, peer: Rank, bytes: usize) -> Result<(), Fault>;

    /// Moves payload of the head frame straight into `dst` and consumes it; returns the bytes
    /// moved, at most `dst.len()` and what is left of the frame.
    fn read(&mut self, lane: Lane, peer: Rank, dst: SpanMut) -> Result<usize, Fault>;

    /// Housekeeping that no single pipe triggers: accept connections, flush what `send` took
    /// but could not pass on, notice dead peers. Returns a fault of a peer that is gone even if
    /// no pipe to it was touched, once per peer. A peer that left in good order (it dropped its
    /// end) need not be reported here: a rank that is done may leave while the others still talk
    /// among themselves. Wanting something of it is what fails, after all it sent was taken.
    fn progress(&mut self) -> Result<(), Fault>;

    /// Announces that the caller will sleep. After this, any arrival, and any room made in a
    /// pipe that refused a frame, ends the sleep. The caller polls once more between `arm` and
    /// sleeping, so that nothing falls between.
    fn arm(&mut self, how: Sleep);

    /// Ends what `arm` announced.
    fn disarm(&mut self);

    /// Whether to look for something that has come takes a system call. Who waits then offers its
    /// core to others between two looks, who may be the ones it waits for: beside the system call
    /// that costs little.
    fn asks_kernel(&self) -> bool {
        false
    }

    /// The word to wait on with [`Sleep::Futex`], and the value it holds while nothing has
    /// happened since `arm`; `None` when this transport cannot be waited for that way. Other
    /// processes wake it: wait without `FUTEX_PRIVATE_FLAG`.
    fn futex(&self) -> Option<(&AtomicU32, u32)>;

    /// Descriptors to wait for readability on with [`Sleep::Poll`].
    fn poll_fds(&self) -> Descriptors<'_>;
}
