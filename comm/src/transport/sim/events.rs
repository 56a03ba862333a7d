//! What will happen, in the order of virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::state::PipeKey;
use crate::error::Rank;

/// Something that happens at one moment. The order is only a tie break among equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The oldest frame still under way in a pipe arrives.
    Arrive(PipeKey),
    /// This rank learns that a pipe has room again.
    Room(Rank),
    /// This rank dies.
    Crash(Rank),
    /// This rank stands still: not polled, not noticed.
    Stop(Rank),
    /// This rank goes on.
    Continue(Rank),
    /// Everybody learns that this rank is gone.
    Lost(Rank),
    /// Everybody learns that this communicator's end at this rank is closed.
    Closed(u64, Rank),
    /// The links between these two go silent, both ways.
    Cut(Rank, Rank),
    /// The partition of this number begins.
    Part(u32),
    /// The partition of this number ends.
    Heal(u32),
    /// Everything between these two takes this many nanoseconds longer.
    Slow(Rank, Rank, u64),
    /// Something of the driver's happens to this rank.
    Signal(Rank, u64),
}

impl Event {
    /// Numbers that identify it, for the trace.
    fn words(self) -> [u64; 3] {
        match self {
            Self::Arrive(PipeKey { to, from, lane, comm }) => {
                [u64::from(lane), u64::from(from) << 32 | u64::from(to), comm]
            }
            Self::Room(rank) => [16, u64::from(rank), 0],
            Self::Crash(rank) => [17, u64::from(rank), 0],
            Self::Stop(rank) => [18, u64::from(rank), 0],
            Self::Continue(rank) => [19, u64::from(rank), 0],
            Self::Lost(rank) => [20, u64::from(rank), 0],
            Self::Closed(comm, rank) => [21, comm, u64::from(rank)],
            Self::Cut(a, b) => [22, u64::from(a), u64::from(b)],
            Self::Part(index) => [23, u64::from(index), 0],
            Self::Heal(index) => [24, u64::from(index), 0],
            Self::Slow(a, b, longer) => [25, u64::from(a) << 32 | u64::from(b), longer],
            Self::Signal(rank, token) => [26, u64::from(rank), token],
        }
    }
}

/// The event queue and the clock.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Time in nanoseconds, order of creation, event.
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    created: u64,
    /// The present, in nanoseconds.
    pub(super) now: u64,
    /// Fingerprint of all events so far.
    pub(super) trace: u64,
    /// How many there were.
    pub(super) happened: u64,
}

impl Events {
    /// Lets `event` happen at `time`, or now if that is past.
    pub(super) fn at(&mut self, time: u64, event: Event) {
        self.created += 1;
        self.queue.push(Reverse((time.max(self.now), self.created, event)));
    }

    /// The time of the next event.
    pub(super) fn next_time(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((time, ..))| *time)
    }

    /// Moves the clock to the next event and takes it.
    pub(super) fn pop(&mut self) -> Option<Event> {
        let Reverse((time, _, event)) = self.queue.pop()?;
        self.now = time;
        self.happened += 1;
        for word in std::iter::once(time).chain(event.words()) {
            self.trace = mix(self.trace ^ word);
        }
        Some(event)
    }
}

/// Spreads a number over all bits (the finalizer of SplitMix64; Steele, Lea, Flood 2014).
pub(super) const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
