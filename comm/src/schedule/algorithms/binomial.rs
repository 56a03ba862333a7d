//! Binomial tree reduce to any root, and all_reduce as reduce and broadcast.
//!
//! In round i the aligned groups of 2^i ranks are paired, and one rank of each group knows the
//! group's partial result: the root in its own group, else the group's first rank. Of each pair
//! the rank that will not represent the union sends to the one that will. This is the canonical
//! tree (ADR 0004) for any root and any number of ranks, at no extra message. The broadcast takes
//! the same ways back, largest subtree first.
//!
//! reduce ⌈log2 p⌉(α + n(β + γ)), all_reduce ⌈log2 p⌉(2α + 2nβ + nγ). (Thakur, Rabenseifner and
//! Gropp, 2005, describe the tree relative to the root.)

use crate::error::Rank;
use crate::reduce::Format;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::canonical::log2_ceil;
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Space};

/// Binomial tree all_reduce.
#[derive(Debug)]
pub(crate) struct BinomialAllReduce;

/// Binomial tree reduce.
#[derive(Debug)]
pub(crate) struct BinomialReduce;

const ALL: Run = Run::one(0);

impl Algorithm for BinomialAllReduce {
    fn name(&self) -> &str {
        "binomial_tree"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::AllReduce
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let all = Layout::all(1);
        let mut c = Composer::new(Space::Vector { blocks: 1 }, 1, all, all).with_work(all, Some(0));
        let role = Role::new(shape.ranks, 0, rank);
        role.reduce(&mut c);
        match role.parent {
            None => c.finish(Buf::Output, ALL),
            Some(parent) => c.recv(parent, Buf::Output, ALL),
        }
        for &(child, _) in role.children.iter().rev() {
            c.send(child, Buf::Output, ALL);
            c.end_round();
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let rounds = u64::from(log2_ceil(shape.ranks));
        let level = LevelCost {
            rounds: 2 * longest_chain(shape.ranks, 0),
            sent_blocks: rounds,
            sent_acc_blocks: u64::from(shape.ranks >= 4),
            received_blocks: rounds,
            messages: 2 * rounds,
            reduced_blocks: rounds,
        };
        Cost { blocks: 1, levels: vec![level] }
    }
}

impl Algorithm for BinomialReduce {
    fn name(&self) -> &str {
        "binomial_tree"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Reduce
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let all = Layout::all(1);
        let (output, in_output) =
            if rank == shape.root { (all, Some(0)) } else { (Layout::NONE, None) };
        let mut c = Composer::new(Space::Vector { blocks: 1 }, 1, all, output);
        let role = Role::new(shape.ranks, shape.root, rank);
        if !role.children.is_empty() || rank == shape.root {
            c = c.with_work(all, in_output);
        }
        role.reduce(&mut c);
        if rank == shape.root {
            c.finish(Buf::Output, ALL);
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let (p, root) = (shape.ranks, shape.root);
        let rounds = log2_ceil(p);
        let received = |rank| Role::new(p, root, rank).children.len() as u64;
        let level = LevelCost {
            rounds: longest_chain(p, root),
            sent_blocks: u64::from(p > 1),
            sent_acc_blocks: u64::from(p >= 4 || p == 3 && root == 2),
            received_blocks: received(root).max(received(0)),
            messages: u64::from(rounds),
            reduced_blocks: received(root).max(received(0)),
        };
        Cost { blocks: 1, levels: vec![level] }
    }
}

/// Messages on the longest way to the root. It ends with the largest group that the root hears
/// of, where nobody is farther than a way of one message per bit.
fn longest_chain(ranks: Rank, root: Rank) -> u64 {
    let from = |level: u32| {
        let sibling = ((root >> level) ^ 1) << level;
        let size = ranks.saturating_sub(sibling).min(1 << level);
        size.checked_ilog2().map_or(0, |depth| u64::from(depth) + 1)
    };
    (0..log2_ceil(ranks)).map(from).max().unwrap_or(0)
}

/// A rank's place in the tree.
#[derive(Debug)]
struct Role {
    /// Whom it receives from, in order, and whether that is a raw contribution.
    children: Vec<(Rank, bool)>,
    /// Whom it sends to then; the root does not.
    parent: Option<Rank>,
}

impl Role {
    fn new(ranks: Rank, root: Rank, rank: Rank) -> Self {
        let representative = |first: Rank, level: u32| match root >> level == first >> level {
            true => root,
            false => first,
        };
        let mut children = Vec::new();
        for level in 0..log2_ceil(ranks) {
            let sibling = ((rank >> level) ^ 1) << level;
            if sibling >= ranks {
                continue;
            }
            let union = rank >> (level + 1) << (level + 1);
            let next = representative(union, level + 1);
            if next != rank {
                return Self { children, parent: Some(next) };
            }
            let raw = level == 0 || sibling + 1 == ranks;
            children.push((representative(sibling, level), raw));
        }
        Self { children, parent: None }
    }

    /// Combines what the children send and sends it to the parent.
    fn reduce(&self, c: &mut Composer) {
        for &(child, raw) in &self.children {
            c.recv_reduce(child, if raw { Format::Data } else { Format::Acc }, ALL);
            c.end_round();
        }
        if let Some(parent) = self.parent {
            c.send_partial(parent, ALL);
            c.end_round();
        }
    }
}
