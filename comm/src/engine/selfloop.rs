//! The wire from a rank to itself, for point-to-point messages.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU32;

use crate::error::Rank;
use crate::memory::{Arena, Lease, Span, SpanMut};
use crate::transport::{
    Descriptors, Fault, FaultKind, FrameHeader, Lane, Limits, Sleep, Transport,
};

/// The most payload bytes one pipe holds: a larger message needs its receive to be posted before
/// the send can end.
const PIPE_BYTES: usize = 64 * 1024;
/// Most frames one pipe holds.
const PIPE_FRAMES: usize = 64;

/// Frames lie one behind the other in the store, which starts over whenever it is empty.
#[derive(Default)]
struct Pipe {
    store: Option<Lease>,
    frames: VecDeque<FrameHeader>,
    /// First byte that is not consumed.
    start: usize,
    /// End of the last frame.
    end: usize,
    /// Bytes of the oldest frame that were consumed.
    consumed: usize,
}

impl Pipe {
    fn left(&self) -> usize {
        self.frames.front().map_or(0, |head| head.payload_bytes as usize - self.consumed)
    }

    /// The store, made at the first use.
    fn store(&mut self) -> SpanMut {
        if self.store.is_none() {
            self.store = Arena::new(PIPE_BYTES).lease(PIPE_BYTES);
        }
        self.store.as_ref().map_or(SpanMut::EMPTY, Lease::span)
    }
}

/// A transport with one peer: its own rank.
pub(super) struct SelfLoop {
    me: Rank,
    pipes: [Pipe; Lane::ALL.len()],
}

impl SelfLoop {
    pub(super) fn new(me: Rank) -> Self {
        Self { me, pipes: Default::default() }
    }
}

impl Transport for SelfLoop {
    fn name(&self) -> &'static str {
        "self"
    }

    fn limits(&self, _peer: Rank) -> Limits {
        Limits { frame_bytes_max: PIPE_BYTES, frame_bytes_preferred: PIPE_BYTES, in_place: false }
    }

    fn send(
        &mut self,
        lane: Lane,
        _peer: Rank,
        header: &FrameHeader,
        parts: &[Span],
        accepted: &mut usize,
    ) -> Result<bool, Fault> {
        let pipe = &mut self.pipes[lane as usize];
        let bytes = header.payload_bytes as usize;
        if pipe.frames.len() == PIPE_FRAMES || pipe.end + bytes > PIPE_BYTES {
            return Ok(false);
        }
        let store = pipe.store();
        for part in parts {
            store.cut(pipe.end, part.len()).copy_from(*part);
            pipe.end += part.len();
        }
        pipe.frames.push_back(*header);
        *accepted = bytes;
        Ok(true)
    }

    fn head(&mut self, lane: Lane, _peer: Rank) -> Result<Option<FrameHeader>, Fault> {
        Ok(self.pipes[lane as usize].frames.front().copied())
    }

    fn view(&mut self, lane: Lane, _peer: Rank, _min_bytes: usize) -> Result<Span, Fault> {
        let pipe = &mut self.pipes[lane as usize];
        let (start, left) = (pipe.start, pipe.left());
        Ok(pipe.store().as_span().cut(start, left))
    }

    fn consume(&mut self, lane: Lane, _peer: Rank, bytes: usize) -> Result<(), Fault> {
        let pipe = &mut self.pipes[lane as usize];
        if bytes > pipe.left() {
            let kind = FaultKind::Protocol("consumed more than a frame holds".to_owned());
            return Err(Fault { peer: self.me, kind });
        }
        pipe.start += bytes;
        pipe.consumed += bytes;
        if pipe.left() == 0 {
            pipe.frames.pop_front();
            pipe.consumed = 0;
        }
        if pipe.frames.is_empty() {
            (pipe.start, pipe.end) = (0, 0);
        }
        Ok(())
    }

    fn read(&mut self, lane: Lane, peer: Rank, dst: SpanMut) -> Result<usize, Fault> {
        let shown = self.view(lane, peer, 1)?;
        let bytes = dst.len().min(shown.len());
        dst.copy_from(shown.cut(0, bytes));
        self.consume(lane, peer, bytes)?;
        Ok(bytes)
    }

    fn progress(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn arm(&mut self, _how: Sleep) {}

    fn disarm(&mut self) {}

    fn futex(&self) -> Option<(&AtomicU32, u32)> {
        None
    }

    fn poll_fds(&self) -> Descriptors<'_> {
        Descriptors::new()
    }
}
