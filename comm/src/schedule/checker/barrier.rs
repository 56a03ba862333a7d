//! A barrier: when a rank has done all its steps, every rank must have begun.

use super::compile::Plan;
use super::graph::Graph;
use super::violation::Violation;
use crate::error::Rank;

/// Checks that every rank's completion depends on every rank's start.
///
/// A message tells its receiver what its sender knew; with buffering a sender learns nothing
/// from having sent, so knowledge follows operations here, not whole messages. `order` is an
/// order in which the events can run.
pub(super) fn check(plan: &Plan, graph: &Graph, order: &[u32]) -> Result<(), Violation> {
    let words = plan.ranks().div_ceil(64) as usize;
    let mut known = vec![0_u64; plan.ops.len() * words];
    let learn = |known: &mut [u64], from: u32, to: u32| {
        for word in 0..words {
            known[to as usize * words + word] |= known[from as usize * words + word];
        }
    };
    for &unit in order {
        for op in graph.ends(unit) {
            let rank = plan.at(op).rank as usize;
            known[op as usize * words + rank / 64] |= 1 << (rank % 64);
            if op != unit {
                learn(&mut known, unit, op);
            }
            for &later in graph.later(op) {
                learn(&mut known, op, later);
            }
        }
    }
    for rank in 0..plan.ranks() {
        let ops = plan.first_op[rank as usize]..plan.first_op[rank as usize + 1];
        let knows = |other: Rank| {
            let (word, bit) = (other as usize / 64, 1 << (other % 64));
            other == rank || ops.clone().any(|op| known[op as usize * words + word] & bit != 0)
        };
        if let Some(absent) = (0..plan.ranks()).find(|&other| !knows(other)) {
            return Err(Violation::LeftEarly { rank, absent });
        }
    }
    Ok(())
}
