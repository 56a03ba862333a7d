//! One-shot all_reduce, reduce, scan and exscan: everybody sends its input to everybody that
//! needs it, who combines all of them.
//!
//! One round, so the fastest there is for tiny vectors and few ranks: for all_reduce
//! α + (p-1)n(β + γ), with p-1 messages at once. Combined in the canonical order (ADR 0004), and
//! only raw contributions travel. (The field's "flat" or "all-pairs" algorithm.)

use std::ops::Range;

use crate::error::Rank;
use crate::reduce::Format;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::canonical::{Accumulators, Operand, combine};
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Slot, Space, Step};

/// One-shot reduction.
#[derive(Debug)]
pub(crate) struct OneShot;

const ALL: Run = Run::one(0);

impl Algorithm for OneShot {
    fn name(&self) -> &str {
        "one_shot"
    }

    fn serves(&self, shape: &Shape) -> bool {
        use Collective as C;
        matches!(shape.collective, C::AllReduce | C::Reduce | C::Scan | C::ExScan)
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let sources = sources(shape, rank);
        let output = output(shape, rank);
        let mut c = Composer::new(Space::Vector { blocks: 1 }, 1, Layout::all(1), output);
        for peer in (1..p).map(|d| (rank + d) % p) {
            if sources_contain(shape, peer, rank) {
                c.send(peer, Buf::Input, ALL);
            }
        }
        if sources.is_empty() {
            return c.build();
        }
        // In place, the accumulator would overwrite what is being sent.
        let in_output = if shape.in_place { None } else { Some(0) };
        let mut c = c.with_work(Layout::all(1), in_output);
        if sources == (rank..rank + 1) {
            c.finish(Buf::Output, ALL);
        } else if sources.len() == 1 {
            receive_only(&mut c, sources.start);
        } else {
            let operand = |peer| match peer == rank {
                true => Operand::Local(c.slices(Buf::Input, ALL)),
                false => Operand::Remote { peer, wire: Format::Data },
            };
            let operands: Vec<_> = sources.clone().map(operand).collect();
            let at = Accumulators::add(&mut c, 0, &operands, 0);
            combine(&mut c, &operands, rank.min(sources.end - 1), &at);
            c.copy(Buf::Work, Buf::Output, ALL);
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        use Collective as C;
        let others = u64::from(shape.ranks) - 1;
        let (sent, messages, reduced) = match shape.collective {
            C::Reduce => (1, others, others),
            C::Scan => (others, others, others),
            C::ExScan => (others, others, others.saturating_sub(1)),
            _ => (others, 2 * others, others),
        };
        let level = LevelCost {
            rounds: others.min(1),
            sent_blocks: sent.min(others),
            sent_acc_blocks: 0,
            received_blocks: others,
            messages,
            reduced_blocks: reduced,
        };
        Cost { blocks: 1, levels: vec![level] }
    }
}

/// Whose contributions are in `rank`'s result.
fn sources(shape: &Shape, rank: Rank) -> Range<Rank> {
    match shape.collective {
        Collective::Scan => 0..rank + 1,
        Collective::ExScan => 0..rank,
        Collective::Reduce if rank != shape.root => 0..0,
        _ => 0..shape.ranks,
    }
}

fn sources_contain(shape: &Shape, rank: Rank, source: Rank) -> bool {
    sources(shape, rank).contains(&source)
}

fn output(shape: &Shape, rank: Rank) -> Layout {
    match shape.collective {
        Collective::Reduce if rank != shape.root => Layout::NONE,
        _ => Layout::all(1),
    }
}

/// The result is one other rank's contribution.
fn receive_only(c: &mut Composer, peer: Rank) {
    let stage = Composer::at(Buf::Stage, c.add_stage([Slot::Any]), 0);
    c.step(Step::Recv { peer, dst: stage.clone() });
    c.step(Step::Copy { src: stage, dst: c.slices(Buf::Work, ALL) });
    c.copy(Buf::Work, Buf::Output, ALL);
}
