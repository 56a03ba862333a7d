//! What all parts of the protocol share at one member.

use std::collections::VecDeque;
use std::time::Duration;

use super::roster::Roster;
use super::{Message, Output, Timings};
use crate::error::Rank;

/// This member: its time, its view of the others, and what it has to say.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) me: Rank,
    pub(super) timings: Timings,
    pub(super) now: Duration,
    pub(super) roster: Roster,
    pub(super) outputs: VecDeque<Output>,
    queries: u64,
}

impl Local {
    pub(super) fn new(me: Rank, ranks: Rank, timings: Timings) -> Self {
        let (now, outputs) = (Duration::ZERO, VecDeque::new());
        let roster = Roster::new(me, ranks);
        Self { me, timings, now, roster, outputs, queries: 0 }
    }

    /// Sends, unless nobody is there to receive it.
    pub(super) fn send(&mut self, to: Rank, message: Message) {
        if self.roster.is_peer(to) && !self.roster.is_gone(to) {
            self.outputs.push_back(Output::Send { to, message });
        }
    }

    /// A number that no question of this member had before.
    pub(super) fn next_query(&mut self) -> u64 {
        self.queries += 1;
        self.queries
    }

    /// When a question asked now counts as unanswered.
    pub(super) fn answer_by(&self) -> Duration {
        self.now + self.timings.answer_max
    }
}
