//! All_reduce through one rank: everybody sends its input to rank 0, which combines all of them and
//! sends everybody the result.
//!
//! 2α + 2(p-1)nβ + (p-1)nγ, all of the work at one rank: hopeless where ranks have a core each. Where
//! they share cores, work adds up over ranks, and then 2(p-1) messages, the fewest there can be,
//! and as few combinations are what counts: one_shot takes p(p-1) of both, and a tree, which has
//! as few messages, makes ranks wait for each other up to 2⌈log2 p⌉ times. Combined in the
//! canonical order (ADR 0004), and only raw contributions and finished results travel. (Open MPI
//! calls it "basic linear".)

use crate::error::Rank;
use crate::reduce::Format;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::canonical::{Accumulators, Operand, combine};
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Space};

/// All_reduce through rank 0.
#[derive(Debug)]
pub(crate) struct Star;

const ALL: Run = Run::one(0);
const CENTRE: Rank = 0;

impl Algorithm for Star {
    fn name(&self) -> &str {
        "star"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::AllReduce
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let (p, all) = (shape.ranks, Layout::all(1));
        let mut c = Composer::new(Space::Vector { blocks: 1 }, 1, all, all);
        if rank != CENTRE {
            c.send(CENTRE, Buf::Input, ALL);
            c.end_round();
            c.recv(CENTRE, Buf::Output, ALL);
            return c.build();
        }
        let mut c = c.with_work(all, Some(0));
        if p == 1 {
            c.finish(Buf::Output, ALL);
            return c.build();
        }
        // Its own contribution is read first, so the accumulator may overwrite it in place.
        let operand = |peer| match peer == CENTRE {
            true => Operand::Local(c.slices(Buf::Input, ALL)),
            false => Operand::Remote { peer, wire: Format::Data },
        };
        let operands: Vec<_> = (0..p).map(operand).collect();
        let at = Accumulators::add(&mut c, 0, &operands, 0);
        combine(&mut c, &operands, CENTRE, &at);
        c.copy(Buf::Work, Buf::Output, ALL);
        c.end_round();
        for peer in 1..p {
            c.send(peer, Buf::Output, ALL);
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let others = u64::from(shape.ranks) - 1;
        let level = LevelCost {
            rounds: 2 * others.min(1),
            sent_blocks: others,
            sent_acc_blocks: 0,
            received_blocks: others,
            messages: 2 * others,
            reduced_blocks: others,
        };
        Cost { blocks: 1, levels: vec![level] }
    }
}
