//! Direct reduce_scatter, and two-shot all_reduce and reduce: direct reduce_scatter, then
//! everybody sends its block of the result to everybody, or to the root.
//!
//! With p ranks and n bytes: reduce_scatter α + (p-1)/p·n(β + γ), all_reduce and reduce
//! 2α + 2(p-1)/p·nβ + (p-1)/p·nγ, with p-1 messages at once. Every block crosses the wire as a raw
//! contribution and as a finished result, never as a partial one, so 8- and 16-bit floats stay
//! narrow, and are still rounded once only. (The field's "two-shot" or "all-pairs" algorithm.)
//!
//! Block r is combined by rank r, in the canonical order (ADR 0004) and starting from its own, so
//! that in each turn the ranks take from different ones. ⌈log2 p⌉ blocks of scratch suffice.

use crate::error::Rank;
use crate::reduce::Format;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::canonical::{Accumulators, Operand, combine};
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Space};

/// Two-shot all_reduce.
#[derive(Debug)]
pub(crate) struct TwoShot;

/// Two-shot reduce.
#[derive(Debug)]
pub(crate) struct TwoShotReduce;

/// Direct reduce_scatter.
#[derive(Debug)]
pub(crate) struct Direct;

impl Algorithm for TwoShot {
    fn name(&self) -> &str {
        "two_shot"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::AllReduce
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        // In place, the accumulator would overwrite the contribution it has not read yet.
        let in_output = if shape.in_place { None } else { Some(rank) };
        let all = Layout::all(p);
        let mut c = Composer::new(Space::Vector { blocks: p }, p, all, all)
            .with_work(Layout::one(rank), in_output);
        reduce_directly(&mut c, p, rank, Buf::Output);
        for peer in nearest_first(p, rank) {
            c.send(peer, Buf::Output, Run::one(rank));
        }
        for peer in nearest_first(p, rank) {
            c.recv(peer, Buf::Output, Run::one(peer));
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        cost(shape.ranks, 2)
    }
}

impl Algorithm for TwoShotReduce {
    fn name(&self) -> &str {
        "two_shot"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Reduce
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let (p, root) = (shape.ranks, shape.root);
        let all = Layout::all(p);
        let space = Space::Vector { blocks: p };
        if rank != root {
            let mut c = Composer::new(space, p, all, Layout::NONE)
                .with_work(Layout::one(rank), None)
                .with_stage(Layout::one(rank));
            reduce_directly(&mut c, p, rank, Buf::Stage);
            c.send(root, Buf::Stage, Run::one(rank));
            return c.build();
        }
        let in_output = if shape.in_place { None } else { Some(rank) };
        let mut c = Composer::new(space, p, all, all).with_work(Layout::one(rank), in_output);
        reduce_directly(&mut c, p, rank, Buf::Output);
        for peer in nearest_first(p, rank) {
            c.recv(peer, Buf::Output, Run::one(peer));
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let others = u64::from(shape.ranks) - 1;
        let mut cost = cost(shape.ranks, 1);
        let level = &mut cost.levels[0];
        level.rounds *= 2;
        level.sent_blocks += others.min(1);
        level.received_blocks += others;
        level.messages += others;
        cost
    }
}

impl Algorithm for Direct {
    fn name(&self) -> &str {
        "direct"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::ReduceScatter
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let in_output = if shape.in_place { None } else { Some(0) };
        let mut c = Composer::new(Space::PerRank, p, Layout::all(p), Layout::one(rank))
            .with_work(Layout::one(rank), in_output);
        reduce_directly(&mut c, p, rank, Buf::Output);
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        cost(shape.ranks, 1)
    }
}

/// Of `shots` rounds in which everybody sends a block to everybody.
fn cost(ranks: Rank, shots: u64) -> Cost {
    let others = u64::from(ranks) - 1;
    let level = LevelCost {
        rounds: shots * others.min(1),
        sent_blocks: shots * others,
        sent_acc_blocks: 0,
        received_blocks: shots * others,
        messages: 2 * shots * others,
        reduced_blocks: others,
    };
    Cost { blocks: u64::from(ranks), levels: vec![level] }
}

/// All other ranks, in the order in which [`combine`] takes their contributions.
fn nearest_first(p: Rank, rank: Rank) -> impl Iterator<Item = Rank> {
    (1..p.next_power_of_two()).map(move |d| rank ^ d).filter(move |&peer| peer < p)
}

/// Everybody sends block b of its input to rank b, who combines what comes, into `to`.
fn reduce_directly(c: &mut Composer, p: Rank, rank: Rank, to: Buf) {
    for peer in nearest_first(p, rank) {
        c.send(peer, Buf::Input, Run::one(peer));
    }
    let own = Run::one(rank);
    if p == 1 {
        c.finish(to, own);
        return;
    }
    let operand = |peer| match peer == rank {
        true => Operand::Local(c.slices(Buf::Input, own)),
        false => Operand::Remote { peer, wire: Format::Data },
    };
    let operands: Vec<_> = (0..p).map(operand).collect();
    let at = Accumulators::add(c, rank, &operands, 0);
    combine(c, &operands, rank, &at);
    c.copy(Buf::Work, to, own);
    c.end_round();
}
