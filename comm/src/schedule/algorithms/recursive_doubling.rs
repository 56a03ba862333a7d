//! Recursive doubling all_reduce, and recursive multiplying, its form with a radix above 2.
//!
//! In every round the ranks that differ in one digit exchange their partial results of the whole
//! vector, so that after the last digit everybody has the result. The digits' radices multiply to
//! the number of ranks if that has no prime factor above the radix k. Otherwise the ranks are
//! first folded into q groups, q the largest power of k below p: the first of each group collects
//! the contributions of the others, takes part, and sends them the result.
//!
//! ⌈log_k p⌉(α + (k-1)n(β + γ)), and a fold adds two rounds. (Thakur, Rabenseifner and Gropp,
//! "Optimization of Collective Communication Operations in MPICH", 2005; recursive multiplying:
//! Ruefenacht, Bull and Booth, "Generalisation of recursive doubling for AllReduce", 2017.)
//!
//! Within a group of k the contributions are combined in the canonical order, on all of its ranks
//! alike. Whether the whole is the canonical tree depends on p and k, see [`Fold::is_canonical`].

use super::fold::Fold;
use crate::error::Rank;
use crate::reduce::Format;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::canonical::{Accumulators, Operand, accumulators_needed, combine};
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Slot, Space, Step};

/// Recursive multiplying with this radix, at least 2.
#[derive(Debug)]
pub(crate) struct RecursiveDoubling {
    name: &'static str,
    radix: Rank,
}

impl RecursiveDoubling {
    /// Radix 2.
    pub(crate) const DOUBLING: Self = Self { name: "recursive_doubling", radix: 2 };
    /// Radix 3.
    pub(crate) const TRIPLING: Self = Self { name: "recursive_tripling", radix: 3 };
    /// Radix 4.
    pub(crate) const QUADRUPLING: Self = Self { name: "recursive_quadrupling", radix: 4 };
}

impl Algorithm for RecursiveDoubling {
    fn name(&self) -> &str {
        self.name
    }

    fn serves(&self, shape: &Shape) -> bool {
        let canonical = Fold::new(shape.ranks, self.radix).is_canonical();
        shape.collective == Collective::AllReduce && (canonical || !shape.reproducible)
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let fold = Fold::new(shape.ranks, self.radix);
        let all = Layout::all(1);
        let mut c = Composer::new(Space::Vector { blocks: 1 }, 1, all, all);
        let (group, member) = fold.group_of(rank);
        if member > 0 {
            let first = fold.first_of(group);
            c.send(first, Buf::Input, Run::one(0));
            c.end_round();
            c.recv(first, Buf::Output, Run::one(0));
            return c.build();
        }
        let mut c = c.with_work(all, Some(0));
        if shape.ranks == 1 {
            c.finish(Buf::Output, Run::one(0));
        } else {
            exchange(&mut c, &fold, group, shape.in_place);
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let fold = Fold::new(shape.ranks, self.radix);
        let folded = u64::from(fold.size(0)) - 1;
        let exchanged: u64 = fold.radices.iter().map(|&m| u64::from(m) - 1).sum();
        let raw = if folded > 0 { 0 } else { fold.radices.first().map_or(0, |&m| m - 1) };
        let level = LevelCost {
            rounds: fold.longest_chain(),
            sent_blocks: exchanged + folded,
            sent_acc_blocks: exchanged - u64::from(raw),
            received_blocks: exchanged + folded,
            messages: 2 * (exchanged + folded),
            reduced_blocks: exchanged + folded,
        };
        Cost { blocks: 1, levels: vec![level] }
    }
}

/// The first rank of a group: collect the group's contributions, exchange, hand out the result.
///
/// A round must not write what it sends, or two ranks would wait for each other: the partial
/// result alternates between two work slots, so that it ends in slot 0, which may lie in
/// `Output`. In place that is `Input` too, which the first round must not write if it sends it.
fn exchange(c: &mut Composer, fold: &Fold, group: Rank, in_place: bool) {
    let me = fold.first_of(group);
    let members = fold.size(group);
    let folds = members > 1;
    let writes = fold.radices.len() as u32 + u32::from(folds);
    let flip = u32::from(in_place && !folds && writes % 2 == 1);
    let result_slot = |write: u32| (writes - 1 - write + flip) % 2;
    let (second, accumulators) = add_slots(c, fold, members);
    let accumulators = |write: u32| Accumulators {
        work: std::iter::once([0, second][result_slot(write) as usize])
            .chain(accumulators.work.iter().copied())
            .collect(),
        ..accumulators.clone()
    };
    let mut here = c.slices(Buf::Input, Run::one(0));
    let mut write = 0;
    if folds {
        let remote = |peer| Operand::Remote { peer, wire: Format::Data };
        let others = (me + 1..me + members).map(remote);
        let operands: Vec<_> = std::iter::once(Operand::Local(here)).chain(others).collect();
        combine(c, &operands, 0, &accumulators(write));
        here = Composer::at(Buf::Work, accumulators(write).work[0], 0);
        write += 1;
        c.end_round();
    }
    let mut stride = 1;
    for (round, &radix) in fold.radices.iter().enumerate() {
        let digit = group / stride % radix;
        let peer_group = |d: Rank| group - digit * stride + d * stride;
        let mut operands = Vec::with_capacity(radix as usize);
        for d in 0..radix {
            let peer = fold.first_of(peer_group(d));
            if d == digit {
                operands.push(Operand::Local(here.clone()));
                continue;
            }
            c.step(Step::Send { peer, src: here.clone() });
            let raw = round == 0 && fold.size(peer_group(d)) == 1;
            operands
                .push(Operand::Remote { peer, wire: if raw { Format::Data } else { Format::Acc } });
        }
        combine(c, &operands, digit, &accumulators(write));
        here = Composer::at(Buf::Work, accumulators(write).work[0], 0);
        write += 1;
        stride *= radix;
        c.end_round();
    }
    c.step(Step::Copy { src: here, dst: c.slices(Buf::Output, Run::one(0)) });
    for peer in me + 1..me + members {
        c.send(peer, Buf::Output, Run::one(0));
    }
}

/// The second slot of the result, and what it takes to combine more than two.
fn add_slots(c: &mut Composer, fold: &Fold, members: Rank) -> (u32, Accumulators) {
    let most = fold.radices.iter().copied().max().unwrap_or(1).max(members);
    let second = c.add_scratch([Slot::Any]);
    let more = accumulators_needed(most) - 1;
    let first = c.add_scratch((0..more).map(|_| Slot::Any));
    let stage_slots = if most > 2 { 2 } else { 0 };
    let stage = c.add_stage((0..stage_slots).map(|_| Slot::Any));
    let work = (first..first + more).collect();
    (second, Accumulators { block: 0, work, stage, stage_slots })
}
