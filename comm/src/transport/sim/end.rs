//! One rank's end of the simulated network.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::net::SimNet;
use super::state::{Pipe, PipeKey, State};
use crate::error::Rank;
use crate::memory::{Span, SpanMut};
use crate::transport::{
    Descriptors, Fault, FaultKind, FrameHeader, Lane, Limits, Sleep, Transport,
};

/// A [`Transport`] in a [`SimNet`]. It cannot be slept on: virtual time does not pass by itself.
#[derive(Debug)]
pub struct SimEnd {
    net: SimNet,
    comm: u64,
    /// By rank in the communicator: its number in the network.
    members: Arc<[Rank]>,
    me: Rank,
    /// Of the lost ends, those that `progress` has reported or need not.
    told: Vec<bool>,
    untold: usize,
}

impl SimEnd {
    pub(super) const fn new(net: SimNet, comm: u64, members: Arc<[Rank]>, me: Rank) -> Self {
        Self { net, comm, members, me, told: Vec::new(), untold: 0 }
    }

    fn incoming(&self, lane: Lane, peer: Rank) -> PipeKey {
        let (to, from) = (self.member(self.me), self.member(peer));
        PipeKey { to, from, lane: lane as u8, comm: self.comm }
    }

    fn member(&self, rank: Rank) -> Rank {
        self.members[rank as usize]
    }

    /// What is left of the head frame, or the fault when none will ever come.
    fn rest(&self, state: &State, lane: Lane, peer: Rank) -> Result<Option<Span>, Fault> {
        let key = self.incoming(lane, peer);
        match state.pipes.get(&key) {
            Some(pipe) if pipe.arrived > 0 => Ok(pipe.frames.front().map(|frame| {
                let len = frame.payload.len() - frame.consumed;
                frame.payload.as_span().cut(frame.consumed, len)
            })),
            Some(pipe) if pipe.is_under_way() => Ok(None),
            _ if state.is_lost(self.comm, key.to, key.from) => Err(lost(peer)),
            _ => Ok(None),
        }
    }
}

impl Drop for SimEnd {
    fn drop(&mut self) {
        self.net.state().close(self.comm, self.member(self.me));
    }
}

fn lost(peer: Rank) -> Fault {
    Fault { peer, kind: FaultKind::Lost("it left the simulated network".to_owned()) }
}

/// The rank, among `members`, of a rank of the network.
fn rank_of(members: &[Rank], number: Rank) -> Option<Rank> {
    if members.get(number as usize) == Some(&number) {
        return Some(number);
    }
    members.iter().position(|&member| member == number).map(|rank| rank as Rank)
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
        let (from, to) = (self.member(self.me), self.member(peer));
        if state.is_lost(self.comm, from, to) {
            return Err(lost(peer));
        }
        let key = PipeKey { to, from, lane: lane as u8, comm: self.comm };
        let is_taken = state.send(key, header, parts);
        if is_taken {
            *accepted = header.payload_bytes as usize;
        }
        Ok(is_taken)
    }

    fn head(&mut self, lane: Lane, peer: Rank) -> Result<Option<FrameHeader>, Fault> {
        let (state, key) = (self.net.state(), self.incoming(lane, peer));
        if self.rest(&state, lane, peer)?.is_none() {
            return Ok(None);
        }
        Ok(state.pipes.get(&key).and_then(|pipe| pipe.frames.front()).map(|frame| frame.header))
    }

    fn peek(&mut self, lane: Lane, peer: Rank) -> Option<FrameHeader> {
        self.head(lane, peer).ok().flatten()
    }

    fn view(&mut self, lane: Lane, peer: Rank, _min_bytes: usize) -> Result<Span, Fault> {
        let rest = self.rest(&self.net.state(), lane, peer)?;
        Ok(rest.unwrap_or(Span::EMPTY))
    }

    fn consume(&mut self, lane: Lane, peer: Rank, bytes: usize) -> Result<(), Fault> {
        let (mut state, key) = (self.net.state(), self.incoming(lane, peer));
        let there = self.rest(&state, lane, peer)?.map(Span::len);
        assert!(there.is_some_and(|there| bytes <= there), "consumed more than was shown");
        state.consume(key, bytes);
        Ok(())
    }

    fn read(&mut self, lane: Lane, peer: Rank, dst: SpanMut) -> Result<usize, Fault> {
        let (mut state, key) = (self.net.state(), self.incoming(lane, peer));
        let Some(there) = self.rest(&state, lane, peer)? else { return Ok(0) };
        let bytes = there.len().min(dst.len());
        dst.copy_from(there.cut(0, bytes));
        // A frame without payload ends with `consume`, as on every transport.
        if bytes > 0 {
            state.consume(key, bytes);
        }
        Ok(bytes)
    }

    fn progress(&mut self) -> Result<(), Fault> {
        let net = self.net.clone();
        let state = net.state();
        if self.told.len() == state.lost.len() && self.untold == 0 {
            return Ok(());
        }
        self.untold += state.lost.len() - self.told.len();
        self.told.resize(state.lost.len(), false);
        let me = self.member(self.me);
        for (loss, told) in state.lost.iter().zip(&mut self.told) {
            let comm = self.comm;
            let sent =
                Lane::ALL.map(|lane| PipeKey { to: me, from: loss.rank, lane: lane as u8, comm });
            let more = |key: &PipeKey| state.pipes.get(key).is_some_and(Pipe::is_under_way);
            // Like a socket, whose end comes after all that was sent.
            if *told || state.is_cut(me, loss.rank) || sent.iter().any(more) {
                continue;
            }
            *told = true;
            self.untold -= 1;
            if let Some(peer) = rank_of(&self.members, loss.rank)
                && loss.concerns(self.comm, me)
                && loss.rank != me
            {
                return Err(lost(peer));
            }
        }
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
