//! Circulant reduce_scatter and all_reduce: bandwidth optimal in ⌈log2 p⌉ and 2⌈log2 p⌉ rounds,
//! for any number of ranks, without folding.
//!
//! Rank r keeps p partial results, of blocks r, r+1, …. The skips are p halved and rounded up
//! until 1. In the round that goes from skip t to skip s = ⌈t/2⌉ a rank sends its partial results
//! s to t-1 to rank r+s, where they are results 0 to t-s-1, and combines as many that come from
//! rank r-s. In the end only the own block is left. For all_reduce the finished blocks go back
//! the same ways.
//!
//! With n bytes: reduce_scatter ⌈log2 p⌉α + (p-1)/p·n(β + γ), all_reduce
//! 2⌈log2 p⌉α + 2(p-1)/p·nβ + (p-1)/p·nγ. (Träff, "Optimal, Non-pipelined Reduce-scatter and
//! Allreduce Algorithms", 2024.) The tree depends on the block: it needs a commutative operator,
//! and is canonical for two ranks only.

use crate::error::Rank;
use crate::reduce::Format;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::canonical::log2_ceil;
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Space};

/// Circulant all_reduce.
#[derive(Debug)]
pub(crate) struct CirculantAllReduce;

/// Circulant reduce_scatter.
#[derive(Debug)]
pub(crate) struct CirculantReduceScatter;

impl Algorithm for CirculantAllReduce {
    fn name(&self) -> &str {
        "circulant"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::AllReduce && (!shape.reproducible || shape.ranks <= 2)
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let all = Layout::all(p);
        let mut c = Composer::new(Space::Vector { blocks: p }, p, all, all).with_work(all, Some(0));
        let rounds = reduce_rounds(p);
        reduce(&mut c, p, rank, &rounds);
        for round in rounds.iter().rev() {
            c.send((rank + p - round.skip) % p, Buf::Output, round.received(rank));
            c.recv((rank + round.skip) % p, Buf::Output, round.sent(p, rank));
            c.end_round();
        }
        c.build()
    }

    fn reducing_rounds(&self, shape: &Shape) -> u32 {
        match log2_ceil(shape.ranks) {
            0 => 0,
            // And one that finishes the own block.
            rounds => rounds + 1,
        }
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let p = u64::from(shape.ranks);
        let rounds = u64::from(log2_ceil(shape.ranks));
        let level = LevelCost {
            rounds: longest_chain(shape.ranks, true),
            sent_blocks: 2 * (p - 1),
            sent_acc_blocks: partial_blocks(shape.ranks),
            received_blocks: 2 * (p - 1),
            messages: 4 * rounds,
            reduced_blocks: p - 1,
        };
        Cost { blocks: p, levels: vec![level] }
    }
}

impl Algorithm for CirculantReduceScatter {
    fn name(&self) -> &str {
        "circulant"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::ReduceScatter && (!shape.reproducible || shape.ranks <= 2)
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let mut c = Composer::new(Space::PerRank, p, Layout::all(p), Layout::one(rank))
            .with_work(Layout::from(rank, p.div_ceil(2)), Some(0));
        reduce(&mut c, p, rank, &reduce_rounds(p));
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let p = u64::from(shape.ranks);
        let rounds = u64::from(log2_ceil(shape.ranks));
        let level = LevelCost {
            rounds: longest_chain(shape.ranks, false),
            sent_blocks: p - 1,
            sent_acc_blocks: partial_blocks(shape.ranks),
            received_blocks: p - 1,
            messages: 2 * rounds,
            reduced_blocks: p - 1,
        };
        Cost { blocks: p, levels: vec![level] }
    }
}

/// One round of the reduce_scatter.
#[derive(Clone, Copy, Debug)]
struct Skip {
    skip: u32,
    previous: u32,
    /// Whether any of the blocks sent was received before.
    partial: bool,
}

impl Skip {
    /// The blocks that `rank` sends on.
    const fn sent(self, p: Rank, rank: Rank) -> Run {
        Run::new((rank + self.skip) % p, self.previous - self.skip)
    }

    /// The blocks that `rank` receives.
    const fn received(self, rank: Rank) -> Run {
        Run::new(rank, self.previous - self.skip)
    }
}

fn reduce_rounds(p: Rank) -> Vec<Skip> {
    let mut rounds = Vec::new();
    // Partial results 0 to reduced-1 hold more than the own contribution.
    let (mut previous, mut reduced) = (p, 0);
    while previous > 1 {
        let skip = previous.div_ceil(2);
        rounds.push(Skip { skip, previous, partial: reduced > skip });
        reduced = reduced.max(previous - skip);
        previous = skip;
    }
    rounds
}

/// How many blocks a rank sends as partial results.
fn partial_blocks(p: Rank) -> u64 {
    let partial = reduce_rounds(p).into_iter().filter(|r| r.partial);
    partial.map(|r| u64::from(r.previous - r.skip)).sum()
}

/// Messages that depend on each other: as many as rounds, or fewer where a round sends nothing
/// that came in the one before. All ranks are alike, so one rank's view will do.
fn longest_chain(p: Rank, and_back: bool) -> u64 {
    let rounds = reduce_rounds(p);
    // Messages that had to come before partial result i, and from the own block on, block i.
    let mut came = vec![0; p as usize];
    let mut pass = |sent: std::ops::Range<u32>, received: std::ops::Range<u32>| {
        let sent = came[sent.start as usize..sent.end as usize].iter().max().copied().unwrap_or(0);
        for i in received {
            came[i as usize] = came[i as usize].max(sent + 1);
        }
    };
    for r in &rounds {
        pass(r.skip..r.previous, 0..r.previous - r.skip);
    }
    for r in rounds.iter().rev().filter(|_| and_back) {
        pass(0..r.previous - r.skip, r.skip..r.previous);
    }
    came.into_iter().max().unwrap_or(0)
}

/// The reduce_scatter; block `rank` ends in `Output`.
fn reduce(c: &mut Composer, p: Rank, rank: Rank, rounds: &[Skip]) {
    for round in rounds {
        c.send_partial((rank + round.skip) % p, round.sent(p, rank));
        let wire = if round.partial { Format::Acc } else { Format::Data };
        c.recv_reduce((rank + p - round.skip) % p, wire, round.received(rank));
        c.end_round();
    }
    c.finish(Buf::Output, Run::one(rank));
    c.end_round();
}
