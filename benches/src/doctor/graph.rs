//! Who waits for whom.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use syncline::communicator::dump::{DumpKind, DumpOperation};

use super::read::Group;

/// One rank waits for another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Wait {
    /// Who waits.
    pub(super) rank: u32,
    /// For whom.
    pub(super) on: u32,
    pub(super) kind: DumpKind,
    /// The number of the operation it waits in.
    pub(super) sequence: u64,
    /// What that is.
    pub(super) call: String,
    /// The other one's message is due; otherwise it does not take what is sent.
    pub(super) awaits: bool,
}

impl Wait {
    /// The operation as words use it: `#7 all_reduce(..)`, `message #3 recv(..)`.
    pub(super) fn operation(&self) -> String {
        named(self.kind, self.sequence, &self.call)
    }
}

/// An operation as words use it.
pub(super) fn named(kind: DumpKind, sequence: u64, call: &str) -> String {
    match kind {
        DumpKind::Collective => format!("#{sequence} {call}"),
        DumpKind::Send | DumpKind::Recv => format!("message #{sequence} {call}"),
    }
}

/// Every wait that the dumps show.
pub(super) fn waits(group: &Group) -> Vec<Wait> {
    let mut waits = Vec::new();
    for (&rank, dump) in &group.dumps {
        for operation in &dump.operations {
            let DumpOperation { kind, sequence, call, waiting: Some(waiting), .. } = operation
            else {
                continue;
            };
            let edges = waiting.awaits.iter().map(|&on| (on, true));
            for (on, awaits) in edges.chain(waiting.refused_by.iter().map(|&on| (on, false))) {
                let (kind, sequence, call) = (*kind, *sequence, call.clone());
                waits.push(Wait { rank, on, kind, sequence, call, awaits });
            }
        }
    }
    waits
}

/// Groups of ranks that wait for each other in a circle, each sorted.
pub(super) fn circles(waits: &[Wait]) -> Vec<Vec<u32>> {
    let mut next: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for wait in waits.iter().filter(|wait| wait.rank != wait.on) {
        next.entry(wait.rank).or_default().insert(wait.on);
    }
    let ranks: Vec<u32> = next.keys().copied().collect();
    let reached: BTreeMap<u32, BTreeSet<u32>> =
        ranks.iter().map(|&rank| (rank, reach(&next, rank))).collect();
    let mut circles: Vec<Vec<u32>> = Vec::new();
    for &rank in &ranks {
        if !reached[&rank].contains(&rank) || circles.iter().any(|circle| circle.contains(&rank)) {
            continue;
        }
        let back = |other: &&u32| reached.get(other).is_some_and(|from| from.contains(&rank));
        circles.push(reached[&rank].iter().filter(back).copied().collect());
    }
    circles
}

/// Everything that can be reached from `start` in at least one step.
fn reach(next: &BTreeMap<u32, BTreeSet<u32>>, start: u32) -> BTreeSet<u32> {
    let mut seen = BTreeSet::new();
    let mut ahead = vec![start];
    while let Some(rank) = ahead.pop() {
        for &other in next.get(&rank).into_iter().flatten() {
            if seen.insert(other) {
                ahead.push(other);
            }
        }
    }
    seen
}

/// The ranks that wait, directly or not, for `root`.
pub(super) fn waiting_for(waits: &[Wait], root: u32) -> BTreeSet<u32> {
    let mut back: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for wait in waits {
        back.entry(wait.on).or_default().insert(wait.rank);
    }
    let mut reached = reach(&back, root);
    reached.remove(&root);
    reached
}
