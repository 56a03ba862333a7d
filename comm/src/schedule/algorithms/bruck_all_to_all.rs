//! Bruck all_to_all: ⌈log2 p⌉ messages per rank instead of p-1, for small blocks.
//!
//! A block that has to go a distance of o ranks travels the bits of o, from the lowest: in round
//! k, a rank sends rank r + 2^k all the blocks it has whose distance has bit k set. Every block
//! is sent as often as its distance has bits, so for n bytes per rank this costs about
//! ⌈log2 p⌉(α + n/2·β). (Bruck et al., 1997.)
//!
//! Blocks go straight from the input and, in the end, to their places in the output, so there is
//! no rotation before or after. On their way they wait in `Stage`. A rank forwards blocks of pairs
//! that it is not part of, whose sizes it does not know: this serves uniform sizes only.

use super::bruck::longest_chain;
use super::pairwise::{all_to_all, own, slice};
use crate::error::Rank;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::canonical::log2_ceil;
use crate::schedule::ir::{
    Block, Buf, Collective, Cost, LevelCost, Round, Schedule, Shape, Slice, Slot, Step,
};

/// Bruck all_to_all.
#[derive(Debug)]
pub(crate) struct BruckAllToAll;

impl Algorithm for BruckAllToAll {
    fn name(&self) -> &str {
        "bruck"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::AllToAll
    }

    fn needs_uniform_sizes(&self) -> bool {
        true
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let places = Places::new(shape);
        let mut rounds = Vec::with_capacity(2 + log2_ceil(p) as usize);
        if !shape.in_place {
            rounds.push(own(p, rank));
        } else if p > 1 {
            // What comes would overwrite what has to leave.
            let from =
                |buf| vec![Slice { buf, segment: 0, slot: 0, block: Block(rank * p), len: p }];
            let steps = vec![Step::Copy { src: from(Buf::Input), dst: from(Buf::Stage) }];
            rounds.push(Round { stage: 0, steps });
        }
        for round in 0..log2_ceil(p) {
            let distance = 1 << round;
            let (next, previous) = ((rank + distance) % p, (rank + p - distance) % p);
            let distances = || (distance..p).filter(|o| o & distance != 0);
            let src = distances().map(|o| places.before(rank, o, round)).collect();
            let dst = distances().map(|o| places.after(previous, o, round)).collect();
            let steps = vec![Step::Send { peer: next, src }, Step::Recv { peer: previous, dst }];
            rounds.push(Round { stage: 0, steps });
        }
        all_to_all(p, rank, vec![Slot::Any; places.slots as usize], rounds)
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let moved = (1..shape.ranks).map(|o| u64::from(o.count_ones())).sum();
        let level = LevelCost {
            rounds: longest_chain(shape.ranks),
            sent_blocks: moved,
            received_blocks: moved,
            messages: 2 * u64::from(log2_ceil(shape.ranks)),
            ..LevelCost::default()
        };
        Cost { blocks: u64::from(shape.ranks), levels: vec![level] }
    }
}

/// Where the blocks are on their way.
struct Places {
    ranks: Rank,
    in_place: bool,
    /// Per distance, its first slot of `Stage`. A distance of two bits has one slot, for between;
    /// with more bits there are two in turn, since a block must not come where one leaves, or a
    /// ring of ranks would wait for each other.
    first: Vec<u32>,
    slots: u32,
}

impl Places {
    fn new(shape: &Shape) -> Self {
        let p = shape.ranks;
        let mut slots = if shape.in_place && p > 1 { p } else { 0 };
        let mut first = Vec::with_capacity(p as usize);
        for distance in 0..p {
            first.push(slots);
            slots += distance.count_ones().saturating_sub(1).min(2);
        }
        Self { ranks: p, in_place: shape.in_place, first, slots }
    }

    /// Source and destination of the block of `distance` that `holder` has before `round`.
    fn ends(&self, holder: Rank, distance: Rank, round: u32) -> (Rank, Rank) {
        let done = distance & ((1 << round) - 1);
        let source = (holder + self.ranks - done) % self.ranks;
        (source, (source + distance) % self.ranks)
    }

    /// Where that is at `holder`.
    fn before(&self, holder: Rank, distance: Rank, round: u32) -> Slice {
        let (source, destination) = self.ends(holder, distance, round);
        let block = source * self.ranks + destination;
        match (distance & ((1 << round) - 1)).count_ones() {
            0 if self.in_place => slice(Buf::Stage, destination, block),
            0 => slice(Buf::Input, destination, block),
            hops => slice(Buf::Stage, self.first[distance as usize] + (hops - 1) % 2, block),
        }
    }

    /// Where the next rank puts it.
    fn after(&self, holder: Rank, distance: Rank, round: u32) -> Slice {
        let (source, destination) = self.ends(holder, distance, round);
        let block = source * self.ranks + destination;
        if distance >> (round + 1) == 0 {
            return slice(Buf::Output, source, block);
        }
        let hops = (distance & ((1 << round) - 1)).count_ones();
        slice(Buf::Stage, self.first[distance as usize] + hops % 2, block)
    }
}
