//! Combining contributions in the canonical order (ADR 0004).
//!
//! The canonical tree of m contributions in rank order is T(lo, m) = T(lo, h) ⊕ T(lo+h, m-h)
//! with h the largest power of two below m. Evaluated depth first it takes the contributions one
//! after the other, and ⌈log2 m⌉ accumulators suffice.

use super::compose::Composer;
use super::ir::{Buf, Slice, Slot, Step};
use crate::error::Rank;
use crate::reduce::Format;

/// The size of the left part of a range of `ranks` ranks: the largest power of two below it.
/// `ranks` must be at least 2.
pub(super) const fn left_part(ranks: Rank) -> Rank {
    1 << (ranks - 1).ilog2()
}

/// ⌈log2 n⌉.
pub(super) const fn log2_ceil(n: Rank) -> u32 {
    n.next_power_of_two().ilog2()
}

/// One contribution to a block.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    /// It is here.
    Local(Vec<Slice>),
    /// It has to be received.
    Remote {
        /// From whom.
        peer: Rank,
        /// The format it arrives in.
        wire: Format,
    },
}

/// Where [`combine`] keeps values of one block while it works.
#[derive(Clone, Debug)]
pub(super) struct Accumulators {
    /// The block.
    pub block: u32,
    /// Slots of `Work`: [`accumulators_needed`] of them. The result ends in the first.
    pub work: Vec<u32>,
    /// First of the slots of `Stage` that hold a contribution that came before its partner.
    pub stage: u32,
    /// How many of those there are.
    pub stage_slots: u32,
}

impl Accumulators {
    /// Accumulators for `operands` contributions to `block`, the first of them in work slot
    /// `result`, the others and two stage slots added to `c`.
    pub(super) fn add(c: &mut Composer, block: u32, operands: Rank, result: u32) -> Self {
        let more = accumulators_needed(operands) - 1;
        let first = c.add_scratch((0..more).map(|_| Slot::Any));
        let stage_slots = if operands > 2 { 2 } else { 0 };
        let stage = c.add_stage((0..stage_slots).map(|_| Slot::Any));
        let work = std::iter::once(result).chain(first..first + more).collect();
        Self { block, work, stage, stage_slots }
    }
}

/// How many accumulators `operands` contributions take.
pub(super) const fn accumulators_needed(operands: Rank) -> u32 {
    if operands <= 2 { 1 } else { log2_ceil(operands) }
}

/// Appends the steps that combine `operands`, at least two, into the first accumulator.
///
/// No step writes an operand that is local, so those may be sent at the same time, unless they
/// lie in the accumulators.
pub(super) fn combine(c: &mut Composer, operands: &[Operand], at: &Accumulators) {
    Walk { operands, at }.range(c, 0, operands.len() as Rank, 0);
}

struct Walk<'a> {
    operands: &'a [Operand],
    at: &'a Accumulators,
}

impl Walk<'_> {
    /// Evaluates T(lo, size) and says where it is: accumulator `depth`, or the one operand.
    fn range(&self, c: &mut Composer, lo: Rank, size: Rank, depth: usize) -> Vec<Slice> {
        if size == 1 {
            return self.single(c, lo, depth);
        }
        let left = left_part(size);
        let work = |depth: usize| Composer::at(Buf::Work, self.at.work[depth], self.at.block);
        let (first, last) = (&self.operands[lo as usize], &self.operands[(lo + left) as usize]);
        let step = match (first, last) {
            (&Operand::Remote { peer, wire }, Operand::Local(local)) if size == 2 => {
                Step::RecvReduce { peer, wire, local: local.clone(), dst: work(depth) }
            }
            (_, &Operand::Remote { peer, wire }) if size - left == 1 => {
                let local = self.range(c, lo, left, depth);
                Step::RecvReduce { peer, wire, local, dst: work(depth) }
            }
            _ => {
                let a = self.range(c, lo, left, depth);
                let b = self.range(c, lo + left, size - left, depth + 1);
                Step::Reduce { a, b, dst: work(depth) }
            }
        };
        c.step(step);
        work(depth)
    }

    fn single(&self, c: &mut Composer, index: Rank, depth: usize) -> Vec<Slice> {
        match self.operands[index as usize] {
            Operand::Local(ref slices) => slices.clone(),
            Operand::Remote { peer, wire } => {
                let dst = match wire {
                    Format::Acc => Composer::at(Buf::Work, self.at.work[depth], self.at.block),
                    Format::Data => {
                        let slot = self.at.stage + (index / 2) % self.at.stage_slots;
                        Composer::at(Buf::Stage, slot, self.at.block)
                    }
                };
                c.step(Step::Recv { peer, dst: dst.clone() });
                dst
            }
        }
    }
}
