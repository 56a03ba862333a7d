//! One rank's end of the simulated network.

use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU32;

use super::net::{PipeKey, SimNet, State};
use crate::error::Rank;
use crate::memory::{Span, SpanMut};
use crate::transport::{Fault, FaultKind, FrameHeader, Lane, Limits, Sleep, Transport};

/// A [`Transport`] in a [`SimNet`]. It cannot be slept on: virtual time does not pass by itself.
#[derive(Debug)]
pub struct SimEnd {
    net: SimNet,
    me: Rank,
    /// How many of the lost ranks `progress` has reported.
    told: usize,
}

impl SimEnd {
    pub(super) const fn new(net: SimNet, me: Rank) -> Self {
        Self { net, me, told: 0 }
    }

    const fn incoming(&self, lane: Lane, peer: Rank) -> PipeKey {
        PipeKey { to: self.me, from: peer, lane: lane as u8 }
    }
}

impl Drop for SimEnd {
    fn drop(&mut self) {
        self.net.state().leave(self.me);
    }
}

fn lost(peer: Rank) -> Fault {
    Fault { peer, kind: FaultKind::Lost("it left the simulated network".to_owned()) }
}

/// What is left of the head frame, or the fault when none will ever come.
fn rest(state: &State, key: PipeKey) -> Result<Option<Span>, Fault> {
    match state.pipes.get(&key) {
        Some(pipe) if pipe.arrived > 0 => Ok(pipe.frames.front().map(|frame| {
            let len = frame.payload.len() - frame.consumed;
            frame.payload.as_span().cut(frame.consumed, len)
        })),
        Some(pipe) if pipe.is_under_way() => Ok(None),
        _ if state.lost.contains(&key.from) => Err(lost(key.from)),
        _ => Ok(None),
    }
}

impl Transport for SimEnd {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn limits(&self, _peer: Rank) -> Limits {
        let frame_bytes_max = self.net.state().config.frame_bytes_max;
        Limits { frame_bytes_max, frame_bytes_preferred: frame_bytes_max, in_place: true }
    }

    fn send(
        &mut self,
        lane: Lane,
        peer: Rank,
        header: &FrameHeader,
        parts: &[Span],
        accepted: &mut usize,
    ) -> Result<bool, Fault> {
        let mut state = self.net.state();
        if state.lost.contains(&peer) {
            return Err(lost(peer));
        }
        let key = PipeKey { to: peer, from: self.me, lane: lane as u8 };
        let is_taken = state.send(key, header, parts);
        if is_taken {
            *accepted = header.payload_bytes as usize;
        }
        Ok(is_taken)
    }

    fn head(&mut self, lane: Lane, peer: Rank) -> Result<Option<FrameHeader>, Fault> {
        let (state, key) = (self.net.state(), self.incoming(lane, peer));
        if rest(&state, key)?.is_none() {
            return Ok(None);
        }
        Ok(state.pipes.get(&key).and_then(|pipe| pipe.frames.front()).map(|frame| frame.header))
    }

    fn view(&mut self, lane: Lane, peer: Rank, _min_bytes: usize) -> Result<Span, Fault> {
        let rest = rest(&self.net.state(), self.incoming(lane, peer))?;
        Ok(rest.unwrap_or(Span::EMPTY))
    }

    fn consume(&mut self, lane: Lane, peer: Rank, bytes: usize) -> Result<(), Fault> {
        let (mut state, key) = (self.net.state(), self.incoming(lane, peer));
        let there = rest(&state, key)?.map(Span::len);
        assert!(there.is_some_and(|there| bytes <= there), "consumed more than was shown");
        state.consume(key, bytes);
        Ok(())
    }

    fn read(&mut self, lane: Lane, peer: Rank, dst: SpanMut) -> Result<usize, Fault> {
        let (mut state, key) = (self.net.state(), self.incoming(lane, peer));
        let Some(there) = rest(&state, key)? else { return Ok(0) };
        let bytes = there.len().min(dst.len());
        dst.copy_from(there.cut(0, bytes));
        // A frame without payload ends with `consume`, as on every transport.
        if bytes > 0 {
            state.consume(key, bytes);
        }
        Ok(bytes)
    }

    fn progress(&mut self) -> Result<(), Fault> {
        let gone = self.net.state().lost.get(self.told).copied();
        self.told += usize::from(gone.is_some());
        match gone {
            Some(peer) if peer != self.me => Err(lost(peer)),
            _ => Ok(()),
        }
    }

    fn arm(&mut self, _how: Sleep) {}

    fn disarm(&mut self) {}

    fn futex(&self) -> Option<(&AtomicU32, u32)> {
        None
    }

    fn poll_fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
}
