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
    /// `result`, the others and the slots of `Stage` added to `c`.
    pub(super) fn add(c: &mut Composer, block: u32, operands: &[Operand], result: u32) -> Self {
        let more = accumulators_needed(operands.len() as Rank) - 1;
        let first = c.add_scratch((0..more).map(|_| Slot::Any));
        let local = operands.iter().any(|o| matches!(o, Operand::Local(_)));
        let stage_slots = if local && operands.len() <= 2 { 0 } else { 2 };
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
/// The operands are taken in the order `near ^ 0`, `near ^ 1`, `near ^ 2`, … as far as they exist,
/// which walks the canonical tree from the leaf `near` outwards. Ranks that gather from each
/// other, each with its own number as `near`, so take turns instead of all waiting for the same
/// one. No step writes an operand that is local, so those may be sent at the same time, unless
/// they lie in the accumulators.
pub(super) fn combine(c: &mut Composer, operands: &[Operand], near: Rank, at: &Accumulators) {
    Walk { operands, near, at }.range(c, 0, operands.len() as Rank, 0);
}

struct Walk<'a> {
    operands: &'a [Operand],
    near: Rank,
    at: &'a Accumulators,
}

impl Walk<'_> {
    /// Evaluates T(lo, size) and says where it is: accumulator `depth`, or the one operand.
    fn range(&self, c: &mut Composer, lo: Rank, size: Rank, depth: usize) -> Vec<Slice> {
        if size == 1 {
            return self.single(c, lo, depth);
        }
        let left = left_part(size);
        let parts = ((lo, left), (lo + left, size - left));
        // A single contribution comes last where it can, to be combined as it arrives.
        let right_first = self.near & left != 0 && (size == 2 || size - left > 1);
        let (first, last) = if right_first { (parts.1, parts.0) } else { parts };
        let dst = Composer::at(Buf::Work, self.at.work[depth], self.at.block);
        let step = match (self.remote(first), self.remote(last)) {
            (Some((peer, wire)), None) if size == 2 => {
                let local = self.range(c, last.0, last.1, depth);
                Step::RecvReduce { peer, wire, local, dst: dst.clone() }
            }
            (_, Some((peer, wire))) => {
                let local = self.range(c, first.0, first.1, depth);
                Step::RecvReduce { peer, wire, local, dst: dst.clone() }
            }
            _ => {
                let a = self.range(c, first.0, first.1, depth);
                let b = self.range(c, last.0, last.1, depth + 1);
                Step::Reduce { a, b, dst: dst.clone() }
            }
        };
        c.step(step);
        dst
    }

    /// The peer and format of a range that is one contribution to be received.
    fn remote(&self, (lo, size): (Rank, Rank)) -> Option<(Rank, Format)> {
        match self.operands[lo as usize] {
            Operand::Remote { peer, wire } if size == 1 => Some((peer, wire)),
            _ => None,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::compose::{Layout, Run};
    use crate::schedule::ir::Space;

    /// The peers in the order their contributions are taken.
    fn order(operands: Rank, near: Rank) -> Vec<Rank> {
        let mut c = Composer::new(Space::PerRank, operands, Layout::all(operands), Layout::one(0))
            .with_work(Layout::one(0), None);
        let remote = |peer| Operand::Remote { peer, wire: Format::Data };
        let mut all: Vec<_> = (0..operands).map(remote).collect();
        all[near as usize] = Operand::Local(c.slices(Buf::Input, Run::one(0)));
        let at = Accumulators::add(&mut c, 0, &all, 0);
        combine(&mut c, &all, near, &at);
        let s = c.build();
        assert!(at.work.iter().all(|&slot| (slot as usize) < s.work.len()));
        let peer = |step: &Step| match step {
            Step::Recv { peer, .. } | Step::RecvReduce { peer, .. } => Some(*peer),
            _ => None,
        };
        s.rounds.iter().flat_map(|r| r.steps.iter().filter_map(peer)).collect()
    }

    #[test]
    fn contributions_are_taken_nearest_first_and_each_once() {
        assert_eq!(order(8, 0), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(order(8, 5), [4, 7, 6, 1, 0, 3, 2]);
        for operands in 2..40 {
            for near in 0..operands {
                let mut peers = order(operands, near);
                peers.sort_unstable();
                let others: Vec<_> = (0..operands).filter(|&r| r != near).collect();
                assert_eq!(peers, others);
            }
        }
    }

    #[test]
    fn the_left_part_is_a_power_of_two() {
        assert_eq!([2, 3, 4, 5, 8, 9].map(left_part), [1, 2, 2, 4, 4, 8]);
        assert_eq!([1, 2, 3, 4, 5, 9].map(log2_ceil), [0, 1, 2, 2, 3, 4]);
    }
}
