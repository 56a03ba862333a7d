//! Ring reduce_scatter and all_reduce.
//!
//! Block b starts at rank b+1 and travels once around the ring, every rank adding its own
//! contribution, until it is complete at rank b. For all_reduce the finished blocks travel around
//! once more. Only neighbours talk, so the volume is optimal and every link carries the same, but
//! the number of rounds is linear.
//!
//! With p ranks and n bytes: reduce_scatter (p-1)α + (p-1)/p·n(β + γ), all_reduce
//! 2(p-1)α + 2(p-1)/p·nβ + (p-1)/p·nγ. (Patarasu and Yuan, "Bandwidth optimal all-reduce
//! algorithms for clusters of workstations", 2009.)
//!
//! A block is combined in ring order, which is the canonical tree for two ranks only. A partial
//! result is sent on in the round after it came, so two scratch slots serve any number of ranks.

use crate::error::Rank;
use crate::reduce::Format;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Slot, Space, Step};

/// Ring all_reduce.
#[derive(Debug)]
pub(crate) struct RingAllReduce;

/// Ring reduce_scatter.
#[derive(Debug)]
pub(crate) struct RingReduceScatter;

impl Algorithm for RingAllReduce {
    fn name(&self) -> &str {
        "ring"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::AllReduce && (!shape.reproducible || shape.ranks <= 2)
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let all = Layout::all(p);
        let mut c = Composer::new(Space::Vector { blocks: p }, p, all, all)
            .with_work(Layout::one(rank), Some(rank));
        reduce_around(&mut c, p, rank);
        c.finish(Buf::Output, Run::one(rank));
        pass_around(&mut c, p, rank);
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let others = u64::from(shape.ranks) - 1;
        let level = LevelCost {
            rounds: 2 * others,
            sent_blocks: 2 * others,
            sent_acc_blocks: others.saturating_sub(1),
            received_blocks: 2 * others,
            messages: 4 * others,
            reduced_blocks: others,
        };
        Cost { blocks: u64::from(shape.ranks), levels: vec![level] }
    }
}

impl Algorithm for RingReduceScatter {
    fn name(&self) -> &str {
        "ring"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::ReduceScatter && (!shape.reproducible || shape.ranks <= 2)
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let mut c = Composer::new(Space::PerRank, p, Layout::all(p), Layout::one(rank))
            .with_work(Layout::one(rank), Some(0));
        reduce_around(&mut c, p, rank);
        c.finish(Buf::Output, Run::one(rank));
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let others = u64::from(shape.ranks) - 1;
        let level = LevelCost {
            rounds: others,
            sent_blocks: others,
            sent_acc_blocks: others.saturating_sub(1),
            received_blocks: others,
            messages: 2 * others,
            reduced_blocks: others,
        };
        Cost { blocks: u64::from(shape.ranks), levels: vec![level] }
    }
}

/// Partial results go around; block `rank` ends complete in `Work`.
fn reduce_around(c: &mut Composer, p: Rank, rank: Rank) {
    let (next, previous) = ((rank + 1) % p, (rank + p - 1) % p);
    let scratch_slots = p.saturating_sub(2).min(2);
    let scratch = c.add_scratch((0..scratch_slots).map(|_| Slot::Any));
    let slot = |round: Rank| scratch + round % 2;
    for round in 0..p - 1 {
        let sent = (rank + 2 * p - 1 - round) % p;
        let src = match round {
            0 => c.slices(Buf::Input, Run::one(sent)),
            _ => Composer::at(Buf::Work, slot(round - 1), sent),
        };
        c.step(Step::Send { peer: next, src });
        let wire = if round == 0 { Format::Data } else { Format::Acc };
        let received = Run::one((rank + 2 * p - 2 - round) % p);
        if round == p - 2 {
            c.recv_reduce(previous, wire, received);
        } else {
            let local = c.slices(Buf::Input, received);
            let dst = Composer::at(Buf::Work, slot(round), received.first);
            c.step(Step::RecvReduce { peer: previous, wire, local, dst });
        }
        c.end_round();
    }
}

/// Finished blocks go around, from `Output` to `Output`, starting with block `rank`.
fn pass_around(c: &mut Composer, p: Rank, rank: Rank) {
    let (next, previous) = ((rank + 1) % p, (rank + p - 1) % p);
    for round in 0..p - 1 {
        c.send(next, Buf::Output, Run::one((rank + p - round) % p));
        c.recv(previous, Buf::Output, Run::one((rank + p - 1 - round) % p));
        c.end_round();
    }
}
