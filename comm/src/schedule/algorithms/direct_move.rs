//! Everybody talks to everybody concerned, at once: all_gather, broadcast, scatter and gather.
//!
//! One round of up to p-1 messages per rank. Every byte goes the shortest way, so this is the
//! fastest where messages cost little and links are parallel (shared memory, few ranks), and the
//! rank that has or wants everything is the bottleneck elsewhere: α + (p-1)nβ for n bytes each.

use crate::error::Rank;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Space};

/// Direct all_gather, broadcast, scatter and gather.
#[derive(Debug)]
pub(crate) struct DirectMove;

impl Algorithm for DirectMove {
    fn name(&self) -> &str {
        "direct"
    }

    fn serves(&self, shape: &Shape) -> bool {
        use Collective as C;
        matches!(shape.collective, C::AllGather | C::Broadcast | C::Scatter | C::Gather)
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let ends = Ends::new(shape, rank);
        let (p, mine) = (shape.ranks, ends.block(shape, rank));
        let blocks = if ends.space == Space::PerRank { p } else { 1 };
        let mut c = Composer::new(ends.space, blocks, ends.input, ends.output);
        // Everybody starts with another peer.
        for distance in 1..p {
            let (next, previous) = ((rank + distance) % p, (rank + p - distance) % p);
            if ends.sends && Ends::new(shape, next).receives {
                let goes = if shape.collective == Collective::Scatter { next } else { rank };
                c.send(next, Buf::Input, Run::one(ends.block(shape, goes)));
            }
            if ends.receives && Ends::new(shape, previous).sends {
                let comes = if shape.collective == Collective::Scatter { rank } else { previous };
                c.recv(previous, Buf::Output, Run::one(ends.block(shape, comes)));
            }
        }
        if ends.input.len > 0 && ends.output.len > 0 && !shape.in_place {
            c.copy(Buf::Input, Buf::Output, Run::one(mine));
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        use Collective as C;
        let others = u64::from(shape.ranks) - 1;
        let (sent_blocks, received_blocks) = match shape.collective {
            C::Broadcast | C::Scatter => (others, others.min(1)),
            C::Gather => (others.min(1), others),
            _ => (others, others),
        };
        let all = shape.collective == C::AllGather;
        let level = LevelCost {
            rounds: others.min(1),
            sent_blocks,
            received_blocks,
            messages: if all { 2 * others } else { others },
            ..LevelCost::default()
        };
        let blocks = if shape.collective == C::Broadcast { 1 } else { u64::from(shape.ranks) };
        Cost { blocks, levels: vec![level] }
    }
}

/// What a rank has and gets.
#[derive(Clone, Copy, Debug)]
struct Ends {
    space: Space,
    input: Layout,
    output: Layout,
    sends: bool,
    receives: bool,
}

impl Ends {
    fn new(shape: &Shape, rank: Rank) -> Self {
        let root = rank == shape.root;
        let (all, mine) = (Layout::all(shape.ranks), Layout::one(rank));
        let at_root = |layout| if root { layout } else { Layout::NONE };
        let space = Space::PerRank;
        match shape.collective {
            Collective::Broadcast => {
                let (space, all) = (Space::Vector { blocks: 1 }, Layout::all(1));
                Self { space, input: at_root(all), output: all, sends: root, receives: !root }
            }
            Collective::Scatter => {
                Self { space, input: at_root(all), output: mine, sends: root, receives: !root }
            }
            Collective::Gather => {
                Self { space, input: mine, output: at_root(all), sends: !root, receives: root }
            }
            _ => Self { space, input: mine, output: all, sends: true, receives: true },
        }
    }

    /// The block that belongs to `rank`.
    fn block(&self, shape: &Shape, rank: Rank) -> u32 {
        if shape.collective == Collective::Broadcast { 0 } else { rank }
    }
}
