//! Runs many ranks in one thread on the virtual clock.

use std::task::Poll;
use std::time::Duration;

use super::SimNet;
use crate::error::Rank;

/// A rank's program.
pub trait Pollable {
    /// Does what can be done at virtual time `now`, without blocking. Called when something
    /// happened that concerns the rank, and once more at the deadline if it is not done then.
    fn poll(&mut self, now: Duration) -> Poll<()>;
}

impl<F: FnMut(Duration) -> Poll<()>> Pollable for F {
    fn poll(&mut self, now: Duration) -> Poll<()> {
        self(now)
    }
}

/// How a rank's program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was done at this virtual time, the deadline included.
    Done(Duration),
    /// It crashed or was stopped by the network's plan.
    Halted,
    /// It was still not done at the deadline.
    Pending,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How each rank ended.
    pub ended: Vec<Ended>,
    /// The virtual time at the end: of the last rank's completion, or the deadline.
    pub now: Duration,
    /// Fingerprint of all events: the same for the same seed and programs.
    pub trace: u64,
    /// How often a rank was polled.
    pub polls: u64,
}

/// The ranks' programs and the network between them.
pub struct World {
    net: SimNet,
    ranks: Vec<Box<dyn Pollable>>,
    ended: Vec<Option<Duration>>,
    polls: u64,
}

impl World {
    /// A world whose rank `r` runs what `make(r)` returns. The network must have `ranks` ranks.
    pub fn new(net: SimNet, ranks: Rank, make: impl FnMut(Rank) -> Box<dyn Pollable>) -> Self {
        let ranks: Vec<_> = (0..ranks).map(make).collect();
        let ended = vec![None; ranks.len()];
        Self { net, ranks, ended, polls: 0 }
    }

    /// Runs until every rank is done, or `deadline`. It always ends: when nothing can happen any
    /// more, the clock jumps to the deadline.
    pub fn run(mut self, deadline: Duration) -> Report {
        loop {
            while let Some(rank) = self.net.next_ready() {
                self.poll(rank);
            }
            if self.is_over() || !self.net.advance(deadline) {
                break;
            }
        }
        for rank in 0..self.ranks.len() as Rank {
            if self.net.is_running(rank) {
                self.poll(rank);
            }
        }
        let report = |(rank, ended): (Rank, &Option<Duration>)| match ended {
            Some(time) => Ended::Done(*time),
            None if !self.net.is_running(rank) => Ended::Halted,
            None => Ended::Pending,
        };
        let ended = (0..).zip(&self.ended).map(report).collect();
        Report { ended, now: self.net.now(), trace: self.net.trace(), polls: self.polls }
    }

    fn poll(&mut self, rank: Rank) {
        let index = rank as usize;
        if self.ended[index].is_some() {
            return;
        }
        let now = self.net.now();
        self.polls += 1;
        if self.ranks[index].poll(now).is_ready() {
            self.ended[index] = Some(now);
        }
    }

    fn is_over(&self) -> bool {
        let halted = |rank| !self.net.is_running(rank);
        (0..).zip(&self.ended).all(|(rank, ended)| ended.is_some() || halted(rank))
    }
}
