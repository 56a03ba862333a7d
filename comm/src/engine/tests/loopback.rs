//! Pipes in memory, with any frame size and capacity, for tests in one process.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::Rank;
use crate::memory::testing::{bytes, span};
use crate::memory::{Span, SpanMut};
use crate::transport::{
    Descriptors, Fault, FaultKind, FrameHeader, Lane, Limits, Sleep, Transport,
};

/// What every pipe of a fabric can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pipes {
    pub(super) frame_bytes: usize,
    /// Payload bytes a pipe holds; at least the widest element.
    pub(super) capacity_bytes: usize,
}

struct Frame {
    header: FrameHeader,
    payload: Vec<u8>,
    consumed: usize,
}

#[derive(Default)]
struct Pipe {
    frames: VecDeque<Frame>,
    /// The last frame is not complete.
    open: bool,
}

impl Pipe {
    fn held_bytes(&self) -> usize {
        self.frames.iter().map(|frame| frame.payload.len() - frame.consumed).sum()
    }
}

#[derive(Default)]
struct Shared {
    pipes: HashMap<(Rank, Rank, u8), Pipe>,
    gone: Vec<Rank>,
    bells: Vec<Arc<OwnedFd>>,
}

/// Ends of a fabric, one per rank.
pub(super) struct Loopback {
    me: Rank,
    limits: Pipes,
    shared: Arc<Mutex<Shared>>,
    bell: Arc<OwnedFd>,
    told: Vec<Rank>,
}

/// The transports of `ranks` ranks.
pub(super) fn fabric(ranks: Rank, limits: Pipes) -> Vec<Loopback> {
    let bell = || Arc::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
    let bells: Vec<_> = (0..ranks).map(|_| bell()).collect();
    let shared = Shared { bells: bells.clone(), ..Shared::default() };
    let shared = Arc::new(Mutex::new(shared));
    let end =
        |(me, bell)| Loopback { me, limits, shared: Arc::clone(&shared), bell, told: Vec::new() };
    (0..).zip(bells).map(end).collect()
}

impl Loopback {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    fn ring(shared: &Shared, peer: Rank) {
        rustix::io::write(&shared.bells[peer as usize], &1_u64.to_ne_bytes()).unwrap();
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        let Ok(mut shared) = self.shared.lock() else { return };
        shared.gone.push(self.me);
        for peer in 0..shared.bells.len() {
            Self::ring(&shared, peer as Rank);
        }
    }
}

impl Transport for Loopback {
    fn name(&self) -> &'static str {
        "loopback"
    }

    fn limits(&self, _peer: Rank) -> Limits {
        let bytes = self.limits.frame_bytes;
        Limits { frame_bytes_max: bytes, frame_bytes_preferred: bytes, in_place: true }
    }

    fn send(
        &mut self,
        lane: Lane,
        peer: Rank,
        header: &FrameHeader,
        parts: &[Span],
        accepted: &mut usize,
    ) -> Result<bool, Fault> {
        let capacity = self.limits.capacity_bytes;
        let mut shared = self.shared();
        if shared.gone.contains(&peer) {
            return Err(Fault { peer, kind: FaultKind::Lost("left".to_owned()) });
        }
        let total: usize = parts.iter().map(|part| part.len()).sum();
        assert_eq!(total, header.payload_bytes as usize);
        let pipe = shared.pipes.entry((self.me, peer, lane as u8)).or_default();
        if !pipe.open {
            assert_eq!(*accepted, 0, "a frame starts with nothing accepted");
            if pipe.held_bytes() >= capacity || pipe.frames.len() >= 4 {
                return Ok(false);
            }
            let payload = Vec::with_capacity(total);
            pipe.frames.push_back(Frame { header: *header, payload, consumed: 0 });
            pipe.open = true;
        }
        let mut room = capacity.saturating_sub(pipe.held_bytes());
        let frame = pipe.frames.back_mut().unwrap();
        assert_eq!(frame.header, *header, "no other frame while one is under way");
        assert_eq!(frame.payload.len(), *accepted);
        let mut skip = *accepted;
        for part in parts {
            let skipped = skip.min(part.len());
            skip -= skipped;
            let taken = room.min(part.len() - skipped);
            frame.payload.extend(bytes(part.cut(skipped, taken)));
            room -= taken;
            if taken + skipped < part.len() {
                break;
            }
        }
        *accepted = frame.payload.len();
        let complete = *accepted == total;
        pipe.open = !complete;
        Self::ring(&shared, peer);
        Ok(complete)
    }

    fn head(&mut self, lane: Lane, peer: Rank) -> Result<Option<FrameHeader>, Fault> {
        let mut shared = self.shared();
        let pipe = shared.pipes.entry((peer, self.me, lane as u8)).or_default();
        Ok(pipe.frames.front().map(|frame| frame.header))
    }

    fn peek(&mut self, lane: Lane, peer: Rank) -> Option<FrameHeader> {
        self.head(lane, peer).ok().flatten()
    }

    fn view(&mut self, lane: Lane, peer: Rank, _min_bytes: usize) -> Result<Span, Fault> {
        let shared = self.shared();
        let frame = shared.pipes[&(peer, self.me, lane as u8)].frames.front().unwrap();
        // The payload never moves: it was allocated whole.
        Ok(span(&frame.payload[frame.consumed..]))
    }

    fn consume(&mut self, lane: Lane, peer: Rank, bytes: usize) -> Result<(), Fault> {
        let mut shared = self.shared();
        let pipe = shared.pipes.get_mut(&(peer, self.me, lane as u8)).unwrap();
        let frame = pipe.frames.front_mut().unwrap();
        frame.consumed += bytes;
        assert!(frame.consumed <= frame.payload.len());
        if frame.consumed == frame.header.payload_bytes as usize {
            pipe.frames.pop_front();
        }
        Self::ring(&shared, peer);
        Ok(())
    }

    fn read(&mut self, lane: Lane, peer: Rank, dst: SpanMut) -> Result<usize, Fault> {
        let shown = self.view(lane, peer, 1)?;
        let bytes = shown.len().min(dst.len());
        dst.copy_from(shown.cut(0, bytes));
        if bytes > 0 {
            self.consume(lane, peer, bytes)?;
        }
        Ok(bytes)
    }

    fn progress(&mut self) -> Result<(), Fault> {
        let gone = self.shared().gone.clone();
        match gone.into_iter().find(|peer| *peer != self.me && !self.told.contains(peer)) {
            Some(peer) => {
                self.told.push(peer);
                Err(Fault { peer, kind: FaultKind::Lost("left".to_owned()) })
            }
            None => Ok(()),
        }
    }

    fn arm(&mut self, _how: Sleep) {}

    fn disarm(&mut self) {
        let _ = rustix::io::read(&*self.bell, &mut [0_u8; 8]);
    }

    fn futex(&self) -> Option<(&AtomicU32, u32)> {
        None
    }

    fn poll_fds(&self) -> Descriptors<'_> {
        Descriptors::from_iter([self.bell.as_fd()])
    }
}
