//! Recursive halving reduce_scatter.
//!
//! Ranks that differ in one bit exchange the blocks that belong to the other's side and combine
//! what they keep, until each has its own block. Other numbers of ranks than powers of two are
//! folded to the next lower one first; those folded away get their block in an extra round.
//!
//! The farthest rank comes first, which makes every message one contiguous run of blocks.
//! Reproducible results need the nearest first (see [`Fold::is_canonical`]); messages then
//! have a stride.
//!
//! With n bytes and p a power of two, log2 p·α + (p-1)/p·n(β + γ); a fold adds two rounds and n
//! bytes. (Thakur, Rabenseifner and Gropp, 2005.)

use super::fold::Fold;
use crate::error::Rank;
use crate::reduce::Format;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Space};

/// Recursive halving reduce_scatter.
#[derive(Debug)]
pub(crate) struct RecursiveHalving;

impl Algorithm for RecursiveHalving {
    fn name(&self) -> &str {
        "recursive_halving"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::ReduceScatter
            && (!shape.reproducible || Fold::binary(shape.ranks).is_canonical())
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let fold = Fold::binary(p);
        let mut c = Composer::new(Space::PerRank, p, Layout::all(p), Layout::one(rank));
        let (group, member) = fold.group_of(rank);
        if member > 0 {
            let first = fold.first_of(group);
            c.send(first, Buf::Input, Run::new(0, p));
            c.end_round();
            c.recv(first, Buf::Output, Run::one(rank));
            return c.build();
        }
        let extra = (fold.size(group) > 1).then_some(rank + 1);
        // The own block lies in the first slot.
        let mut c = c.with_work(Layout::from(rank, p), Some(0));
        if let Some(extra) = extra {
            c = c.with_stage(Layout::one(extra));
            c.recv_reduce(extra, Format::Data, Run::new(0, p));
            c.end_round();
        }
        for round in 0..fold.digits() {
            let side = Side { fold: &fold, canonical: shape.reproducible, round };
            let peer_group = group ^ 1 << side.bit();
            let peer = fold.first_of(peer_group);
            c.send_partial(peer, side.blocks(peer_group));
            let raw = round == 0 && fold.size(peer_group) == 1;
            c.recv_reduce(peer, if raw { Format::Data } else { Format::Acc }, side.blocks(group));
            c.end_round();
        }
        if let Some(extra) = extra {
            c.finish(Buf::Stage, Run::one(extra));
            c.send(extra, Buf::Stage, Run::one(extra));
        }
        c.finish(Buf::Output, Run::one(rank));
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let fold = Fold::binary(shape.ranks);
        let (p, digits) = (u64::from(shape.ranks), u64::from(fold.digits()));
        let folds = u64::from(fold.folds());
        // Group 0 is on the larger side every time.
        let side = |round| Side { fold: &fold, canonical: shape.reproducible, round };
        let kept = |round| side(round).blocks(0).iter().map(|r| u64::from(r.len)).sum::<u64>();
        let combined = folds * p + (0..fold.digits()).map(kept).sum::<u64>();
        // Who did not collect from another sends the first half raw.
        let partial = if fold.folds() { p - 2 } else { p - 1 - p / 2 };
        let level = LevelCost {
            rounds: fold.longest_chain(),
            sent_blocks: p - 1 + folds,
            sent_acc_blocks: partial,
            received_blocks: combined,
            messages: 2 * digits + 2 * folds,
            reduced_blocks: combined,
        };
        Cost { blocks: p, levels: vec![level] }
    }
}

/// How the groups are divided in one round.
struct Side<'a> {
    fold: &'a Fold,
    canonical: bool,
    round: u32,
}

impl Side<'_> {
    /// The bit in which the two sides differ.
    fn bit(&self) -> u32 {
        if self.canonical { self.round } else { self.fold.digits() - 1 - self.round }
    }

    /// The blocks that `group` keeps.
    fn blocks(&self, group: Rank) -> Vec<Run> {
        let fold = self.fold;
        let run = |first: Rank, groups: Rank| {
            let start = fold.first_of(first);
            Run::new(start, fold.first_of(first + groups) - start)
        };
        if self.canonical {
            let stride = 2 << self.bit();
            (group % stride..fold.groups).step_by(stride as usize).map(|g| run(g, 1)).collect()
        } else {
            let groups = 1 << self.bit();
            vec![run(group & !(groups - 1), groups)]
        }
    }
}
