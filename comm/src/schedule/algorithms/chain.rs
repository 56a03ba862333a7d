//! Linear chains: reduce towards the root, and scan and exscan along the ranks.
//!
//! Each rank combines what comes from the one before it and passes it on. Everybody sends and
//! receives the vector at most once, so once the engine pipelines it in k chunks, p-1 rounds of
//! the whole become (p-2+k)(α + n/k·(β + γ)): the bandwidth optimum for long vectors and few
//! ranks. (The field's "linear pipeline"; Sanders, Speck and Träff, 2009, section 2, compare it.)
//!
//! Contributions are combined from left to right, which is canonical for scans over up to three
//! ranks, and for a reduce of two.

use crate::error::Rank;
use crate::reduce::Format;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Slot, Space, Step};

/// Reduce along a chain of ranks that ends at the root.
#[derive(Debug)]
pub(crate) struct ChainReduce;

/// Scan and exscan along the ranks.
#[derive(Debug)]
pub(crate) struct ChainScan;

const ALL: Run = Run::one(0);

/// What is sent by the rank at `place` in the chain.
const fn wire_from(place: Rank) -> Format {
    if place == 0 { Format::Data } else { Format::Acc }
}

impl Algorithm for ChainReduce {
    fn name(&self) -> &str {
        "chain"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Reduce && (!shape.reproducible || shape.ranks <= 2)
    }

    /// The chain starts behind the root and goes once around.
    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let place = (rank + p - shape.root + p - 1) % p;
        let all = Layout::all(1);
        let root = rank == shape.root;
        let (output, in_output) = if root { (all, Some(0)) } else { (Layout::NONE, None) };
        let mut c = Composer::new(Space::Vector { blocks: 1 }, 1, all, output);
        if place > 0 || root {
            c = c.with_work(all, in_output);
        }
        if place > 0 {
            c.recv_reduce((rank + p - 1) % p, wire_from(place - 1), ALL);
            c.end_round();
        }
        if root {
            c.finish(Buf::Output, ALL);
        } else {
            c.send_partial((rank + 1) % p, ALL);
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        cost(shape.ranks, u64::from(shape.ranks >= 2))
    }
}

impl Algorithm for ChainScan {
    fn name(&self) -> &str {
        "chain"
    }

    fn serves(&self, shape: &Shape) -> bool {
        let scan = matches!(shape.collective, Collective::Scan | Collective::ExScan);
        scan && (!shape.reproducible || self.is_canonical(shape))
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        if shape.collective == Collective::Scan {
            scan(shape.ranks, rank)
        } else {
            exscan(shape, rank)
        }
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let least = if shape.collective == Collective::Scan { 2 } else { 3 };
        cost(shape.ranks, u64::from(shape.ranks >= least))
    }
}

impl ChainScan {
    /// Contributions 0 to 2 in one result are combined canonically, more are not.
    fn is_canonical(&self, shape: &Shape) -> bool {
        shape.ranks <= if shape.collective == Collective::Scan { 3 } else { 4 }
    }
}

fn cost(ranks: Rank, reduced_blocks: u64) -> Cost {
    let sent = u64::from(ranks >= 2);
    let between = u64::from(ranks >= 3);
    let level = LevelCost {
        rounds: u64::from(ranks) - 1,
        sent_blocks: sent,
        sent_acc_blocks: between,
        received_blocks: sent,
        messages: sent + between,
        reduced_blocks,
    };
    Cost { blocks: 1, levels: vec![level] }
}

fn scan(p: Rank, rank: Rank) -> Schedule {
    let all = Layout::all(1);
    let mut c = Composer::new(Space::Vector { blocks: 1 }, 1, all, all).with_work(all, Some(0));
    if rank > 0 {
        c.recv_reduce(rank - 1, wire_from(rank - 1), ALL);
        c.end_round();
    }
    if rank + 1 < p {
        c.send_partial(rank + 1, ALL);
        c.end_round();
    }
    c.finish(Buf::Output, ALL);
    c.build()
}

/// The result is what comes; what goes on is a second partial result.
fn exscan(shape: &Shape, rank: Rank) -> Schedule {
    let all = Layout::all(1);
    let mut c = Composer::new(Space::Vector { blocks: 1 }, 1, all, all);
    let next = (rank + 1 < shape.ranks).then_some(rank + 1);
    if rank == 0 {
        if let Some(peer) = next {
            c.send(peer, Buf::Input, ALL);
        }
        return c.build();
    }
    // In place, what comes would overwrite the contribution.
    let mut c = c.with_work(all, if shape.in_place { None } else { Some(0) });
    let work = c.slices(Buf::Work, ALL);
    let came = match wire_from(rank - 1) {
        Format::Acc => work.clone(),
        Format::Data => Composer::at(Buf::Stage, c.add_stage([Slot::Any]), 0),
    };
    c.step(Step::Recv { peer: rank - 1, dst: came.clone() });
    c.end_round();
    if let Some(peer) = next {
        let sum = Composer::at(Buf::Work, c.add_scratch([Slot::Any]), 0);
        let b = c.slices(Buf::Input, ALL);
        c.step(Step::Reduce { a: came.clone(), b, dst: sum.clone() });
        c.step(Step::Send { peer, src: sum });
        c.end_round();
    }
    if came != work {
        c.step(Step::Copy { src: came, dst: work });
    }
    c.copy(Buf::Work, Buf::Output, ALL);
    c.build()
}
