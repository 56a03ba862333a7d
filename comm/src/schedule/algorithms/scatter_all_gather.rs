//! Broadcast of long vectors as a binomial scatter and a ring all_gather.
//!
//! Ranks are counted from the root; the scatter leaves each with its block and those of the ranks
//! below it. Then blocks travel around the ring, except to those that have them: every rank
//! receives every block exactly once, the root none. With n bytes:
//! (⌈log2 p⌉ + p-1)α + 2(p-1)/p·nβ. (van de Geijn's long-vector broadcast; Barnett, Shuler,
//! van de Geijn et al., "Interprocessor collective communication library", 1994.)

use super::binomial_move::{Node, broadcast_composer};
use crate::error::Rank;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::compose::Run;
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape};

/// Scatter and all_gather broadcast.
#[derive(Debug)]
pub(crate) struct ScatterAllGather;

impl Algorithm for ScatterAllGather {
    fn name(&self) -> &str {
        "scatter_all_gather"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Broadcast
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let node = Node::new(shape, rank);
        let mut c = broadcast_composer(p, shape, rank);
        let from = if node.place == 0 { Buf::Input } else { Buf::Output };
        if let Some(parent) = node.parent() {
            c.recv(parent.rank(), Buf::Output, below(node));
            c.end_round();
        }
        for child in node.children() {
            c.send(child.rank(), from, below(child));
            c.end_round();
        }
        let next = node.place + 1;
        for round in 0..p - 1 {
            let block = (node.place + p - round) % p;
            if next < p && !has(node.at(next), block) {
                c.send((rank + 1) % p, from, Run::one(block));
            }
            let block = (node.place + 2 * p - 1 - round) % p;
            if node.place > 0 && !has(node, block) {
                c.recv((rank + p - 1) % p, Buf::Output, Run::one(block));
            }
            c.end_round();
        }
        if node.place == 0 && !shape.in_place {
            c.copy(Buf::Input, Buf::Output, Run::new(0, p));
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let others = u64::from(shape.ranks) - 1;
        let level = LevelCost {
            rounds: others,
            sent_blocks: 2 * others,
            received_blocks: if others == 0 { 0 } else { u64::from(shape.ranks) },
            messages: (0..shape.ranks).map(|rank| messages(shape, rank)).max().unwrap_or(0),
            ..LevelCost::default()
        };
        Cost { blocks: u64::from(shape.ranks), levels: vec![level] }
    }
}

/// The blocks that the scatter brings to a place.
const fn below(node: Node) -> Run {
    Run::new(node.place, node.size())
}

/// Whether the scatter brings `block` there.
const fn has(node: Node, block: u32) -> bool {
    block >= node.place && block - node.place < node.size()
}

fn messages(shape: &Shape, rank: Rank) -> u64 {
    let (p, node) = (shape.ranks, Node::new(shape, rank));
    let next = node.place + 1;
    let around = if next < p { p - node.at(next).size() } else { 0 };
    let received = if node.place == 0 { 0 } else { 1 + p - node.size() };
    node.children().count() as u64 + u64::from(around) + u64::from(received)
}
