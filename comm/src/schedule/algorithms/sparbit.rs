//! Sparbit all_gather: ⌈log2 p⌉ rounds at optimal volume for any number of ranks, large messages
//! to near ranks.
//!
//! Count a block's offset from its owner's rank to the rank that holds it. The offset's bits are
//! travelled from the highest to the lowest: in the round of distance d = 2^k, rank r sends rank
//! r + d the blocks at offsets that are multiples of 2d, as far as they belong there. The early
//! rounds go far with few blocks and the late ones near with many, which suits ranks that are
//! numbered host by host; the price is that a message's blocks are scattered in memory.
//! ⌈log2 p⌉α + (p-1)/p·nβ for n bytes in all. (Loch and Koslovski, "Sparbit: a new
//! logarithmic-cost and data locality-aware MPI Allgather algorithm", 2021, arXiv 2109.08751.)

use super::bruck::{all_gather_composer, all_gather_cost, longest_chain};
use crate::error::Rank;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::canonical::log2_ceil;
use crate::schedule::compose::{Composer, Run};
use crate::schedule::ir::{Buf, Collective, Cost, Schedule, Shape, Slice, Step};

/// Sparbit all_gather.
#[derive(Debug)]
pub(crate) struct Sparbit;

impl Algorithm for Sparbit {
    fn name(&self) -> &str {
        "sparbit"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::AllGather
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let mut c = all_gather_composer(shape, rank);
        for round in (0..log2_ceil(p)).rev() {
            let distance = 1 << round;
            let (next, previous) = ((rank + distance) % p, (rank + p - distance) % p);
            let src = scattered(&c, p, rank, distance);
            c.step(Step::Send { peer: next, src });
            let dst = scattered(&c, p, previous, distance);
            c.step(Step::Recv { peer: previous, dst });
            c.end_round();
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        all_gather_cost(shape.ranks, longest_chain(shape.ranks), u64::from(log2_ceil(shape.ranks)))
    }
}

/// The blocks that `sender` sends over `distance`, where they lie in the output.
fn scattered(c: &Composer, p: Rank, sender: Rank, distance: Rank) -> Vec<Slice> {
    let offsets = (0..p - distance).step_by(2 * distance as usize);
    offsets.flat_map(|o| c.slices(Buf::Output, Run::one((sender + p - o) % p))).collect()
}
