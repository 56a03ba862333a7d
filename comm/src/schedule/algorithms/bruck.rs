//! Bruck all_gather: ⌈log2 p⌉ rounds at optimal volume, for any number of ranks.
//!
//! In round k, rank r sends the 2^k blocks it has, r to r + 2^k - 1, to rank r - 2^k, in the last
//! round only as many as are missing there. Blocks go straight to their places in the output: a
//! cyclic range of them is at most two slices, so unlike the original there is no final rotation.
//! With n bytes in all: ⌈log2 p⌉α + (p-1)/p·nβ. (Bruck, Ho, Kipnis, Upfal and Weathersby,
//! "Efficient algorithms for all-to-all communications in multiport message-passing systems",
//! 1997.)
//!
//! Small messages go to near ranks and large ones far away; [`sparbit`](super::sparbit) does the
//! opposite.

use crate::error::Rank;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::canonical::log2_ceil;
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Space};

/// Bruck all_gather.
#[derive(Debug)]
pub(crate) struct BruckAllGather;

impl Algorithm for BruckAllGather {
    fn name(&self) -> &str {
        "bruck"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::AllGather
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let mut c = all_gather_composer(shape, rank);
        for round in 0..log2_ceil(p) {
            let distance = 1 << round;
            let len = distance.min(p - distance);
            // The first round sends what came from nobody.
            let from = if round == 0 { Buf::Input } else { Buf::Output };
            c.send((rank + p - distance) % p, from, Run::new(rank, len));
            let source = (rank + distance) % p;
            c.recv(source, Buf::Output, Run::new(source, len));
            c.end_round();
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        all_gather_cost(shape.ranks, longest_chain(shape.ranks), u64::from(log2_ceil(shape.ranks)))
    }
}

/// The start of an all_gather: this rank's block in its place in the output.
pub(super) fn all_gather_composer(shape: &Shape, rank: Rank) -> Composer {
    let p = shape.ranks;
    let mut c = Composer::new(Space::PerRank, p, Layout::one(rank), Layout::all(p));
    if !shape.in_place {
        c.copy(Buf::Input, Buf::Output, Run::one(rank));
        c.end_round();
    }
    c
}

/// The cost of an all_gather that moves every block to every rank once, in `messages` messages
/// in each direction.
pub(super) fn all_gather_cost(ranks: Rank, rounds: u64, messages: u64) -> Cost {
    let others = u64::from(ranks) - 1;
    let level = LevelCost {
        rounds,
        sent_blocks: others,
        received_blocks: others,
        messages: 2 * messages,
        ..LevelCost::default()
    };
    Cost { blocks: u64::from(ranks), levels: vec![level] }
}

/// Messages that depend on each other, where messages over distances 2^j and 2^k depend if and
/// only if some block takes both, that is 2^j + 2^k < p.
///
/// All but the largest distance, 2^m, depend on each other in a row of m. The largest and the
/// distances that go with it make a row too.
pub(super) fn longest_chain(ranks: Rank) -> u64 {
    let rounds = log2_ceil(ranks);
    let Some(largest) = rounds.checked_sub(1) else { return 0 };
    let others = ranks - (1 << largest) - 1;
    let with_largest = 1 + others.checked_ilog2().map_or(0, |second| second + 1);
    u64::from(largest.max(with_largest))
}
