//! The wires of one communicator as tasks see them: routes, and whose turn each pipe is.

use crate::error::Rank;
use crate::memory::Span;
use crate::transport::{Fault, FrameHeader, Lane, Transport};

/// Most contiguous runs that go into one frame.
pub(super) const PARTS_MAX: usize = 64;

/// Which way a pipe runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Send = 0,
    Recv = 1,
}

/// The order of tasks on one pipe: each takes a ticket when it is submitted, and may use the
/// pipe while its ticket is the one served. This is what keeps messages of successive
/// operations in order on a pipe.
#[derive(Clone, Copy, Debug, Default)]
struct Turns {
    next: u32,
    served: u32,
}

/// How one peer is reached.
#[derive(Clone, Copy, Debug)]
struct Route {
    /// Index of the transport.
    transport: u8,
    /// Payload bytes the engine cuts messages into.
    frame_bytes: u32,
    turns: [[Turns; 2]; Lane::ALL.len()],
}

/// The transports of one communicator.
pub(super) struct Wires {
    transports: Vec<Box<dyn Transport>>,
    routes: Vec<Route>,
    /// Peers a transport reported gone, and how. What they sent before may still be here.
    lost: Vec<Fault>,
    /// Reused by every send.
    pub(super) parts: Vec<Span>,
}

impl Wires {
    /// `routes[p]` is the index in `transports` of the one that reaches rank `p`.
    pub(super) fn new(transports: Vec<Box<dyn Transport>>, routes: &[u8]) -> Self {
        let route = |(peer, &transport): (Rank, &u8)| {
            let limits = transports[transport as usize].limits(peer);
            let frame = limits.frame_bytes_preferred.min(limits.frame_bytes_max).max(1);
            let frame_bytes = u32::try_from(frame).unwrap_or(u32::MAX);
            Route { transport, frame_bytes, turns: Default::default() }
        };
        let routes = (0..).zip(routes).map(route).collect();
        Self { transports, routes, lost: Vec::new(), parts: Vec::with_capacity(PARTS_MAX) }
    }

    pub(super) fn transports(&self) -> &[Box<dyn Transport>] {
        &self.transports
    }

    pub(super) fn transports_mut(&mut self) -> &mut [Box<dyn Transport>] {
        &mut self.transports
    }

    /// The transport to `peer`.
    #[inline]
    pub(super) fn reach(&mut self, peer: Rank) -> &mut dyn Transport {
        let index = self.routes[peer as usize].transport;
        &mut *self.transports[index as usize]
    }

    /// Splits into the transport to `peer` and the parts of a frame for it.
    #[inline]
    pub(super) fn reach_with_parts(&mut self, peer: Rank) -> (&mut dyn Transport, &[Span]) {
        let index = self.routes[peer as usize].transport;
        (&mut *self.transports[index as usize], &self.parts)
    }

    /// Payload bytes of a full frame to `peer`.
    #[inline]
    pub(super) fn frame_bytes(&self, peer: Rank) -> usize {
        self.routes[peer as usize].frame_bytes as usize
    }

    /// Queues for a pipe.
    pub(super) fn take_ticket(&mut self, lane: Lane, peer: Rank, direction: Direction) -> u32 {
        let turns = &mut self.routes[peer as usize].turns[lane as usize][direction as usize];
        let ticket = turns.next;
        turns.next = ticket.wrapping_add(1);
        ticket
    }

    /// Tickets taken so far; wraps.
    pub(super) fn tickets(&self, lane: Lane, peer: Rank, direction: Direction) -> u32 {
        let route = self.routes.get(peer as usize);
        route.map_or(0, |route| route.turns[lane as usize][direction as usize].next)
    }

    #[inline]
    pub(super) fn is_turn(
        &self,
        lane: Lane,
        peer: Rank,
        direction: Direction,
        ticket: u32,
    ) -> bool {
        self.routes[peer as usize].turns[lane as usize][direction as usize].served == ticket
    }

    /// Header of a frame from `peer` that no task asks for.
    pub(super) fn stray(&mut self, lane: Lane, peer: Rank) -> Option<FrameHeader> {
        let turns = self.routes[peer as usize].turns[lane as usize][Direction::Recv as usize];
        if turns.next == turns.served { self.reach(peer).peek(lane, peer) } else { None }
    }

    /// Lets the next task have the pipe.
    pub(super) fn pass_turn(&mut self, lane: Lane, peer: Rank, direction: Direction) {
        let turns = &mut self.routes[peer as usize].turns[lane as usize][direction as usize];
        turns.served = turns.served.wrapping_add(1);
    }

    /// Housekeeping of every transport; notes peers that are gone.
    #[inline]
    pub(super) fn progress(&mut self) {
        for transport in &mut self.transports {
            if let Err(fault) = transport.progress()
                && self.lost.iter().all(|known| known.peer != fault.peer)
            {
                self.lost.push(fault);
            }
        }
    }

    /// The first peer that was reported gone, and how.
    pub(super) fn first_lost(&self) -> Option<Fault> {
        self.lost.first().cloned()
    }

    /// Whether `peer` was reported gone. Asked only when nothing more comes from it.
    #[inline]
    pub(super) fn check_lost(&self, peer: Rank) -> Result<(), Fault> {
        if self.lost.is_empty() { Ok(()) } else { self.find_lost(peer) }
    }

    #[cold]
    fn find_lost(&self, peer: Rank) -> Result<(), Fault> {
        match self.lost.iter().find(|fault| fault.peer == peer) {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }
}
