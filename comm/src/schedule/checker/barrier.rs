//! A barrier: when a rank has done all its steps, every rank must have begun.

use super::compile::{Kind, Plan};
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
    let mut waits = plan.waits.clone();
    waits.sort_unstable_by_key(|&(_, later)| later);
    let learn = |known: &mut [u64], from: u32, to: u32| {
        for word in 0..words {
            known[to as usize * words + word] |= known[from as usize * words + word];
        }
    };
    for &unit in order {
        let end = graph.partner[unit as usize];
        let is_send = plan.ops[unit as usize].kind == Kind::Send;
        for op in std::iter::once(unit).chain(is_send.then_some(end)) {
            let rank = plan.at(op).rank as usize;
            known[op as usize * words + rank / 64] |= 1 << (rank % 64);
            let first = waits.partition_point(|&(_, later)| later < op);
            for &(earlier, _) in waits[first..].iter().take_while(|&&(_, later)| later == op) {
                learn(&mut known, earlier, op);
            }
            if op != unit {
                learn(&mut known, unit, op);
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
