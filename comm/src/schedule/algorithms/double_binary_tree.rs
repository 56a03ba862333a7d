//! Two binary trees at once, each for half of the vector: all_reduce, and reduce to and broadcast
//! from any root.
//!
//! The trees are in-order: in the first, position n (from 1) has its parent at n ± the lowest set
//! bit of n, so the odd positions are leaves. The second is the first with all positions shifted
//! by one: (almost) everybody is an inner node of one tree and a leaf of the other, and so sends
//! and receives the vector about once in each direction, where one binary tree would leave half
//! of the ranks' links idle. Pipelined in k chunks, all_reduce takes about
//! (2·log2 p + 2k)(α + n/k·(β + γ/2)), with only three neighbours per tree.
//!
//! For reduce, both trees span the other ranks, and the root combines what their roots send;
//! broadcast is the same backwards.
//!
//! (Sanders, Speck and Träff, "Two-tree algorithms for full bandwidth broadcast, reduction and
//! scan", 2009.) The tree over ranks is not the canonical one.

use super::binomial_move::broadcast_composer;
use crate::error::Rank;
use crate::reduce::Format;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Space};

/// Double binary tree all_reduce.
#[derive(Debug)]
pub(crate) struct DoubleTreeAllReduce;

/// Double binary tree reduce.
#[derive(Debug)]
pub(crate) struct DoubleTreeReduce;

/// Double binary tree broadcast.
#[derive(Debug)]
pub(crate) struct DoubleTreeBroadcast;

const NAME: &str = "double_binary_tree";
const BOTH: Run = Run::new(0, 2);

impl Algorithm for DoubleTreeAllReduce {
    fn name(&self) -> &str {
        NAME
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::AllReduce && (!shape.reproducible || shape.ranks <= 2)
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let all = Layout::all(2);
        let mut c = Composer::new(Space::Vector { blocks: 2 }, 2, all, all).with_work(all, Some(0));
        let nodes = nodes(shape, rank);
        reduce(&mut c, &nodes);
        for (block, node) in (0..).map(Run::one).zip(&nodes) {
            match node.parent {
                Some(parent) => c.recv(parent, Buf::Output, block),
                None => c.finish(Buf::Output, block),
            }
            for &(child, _) in &node.children {
                c.send(child, Buf::Output, block);
            }
            c.end_round();
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let mut level = cost(shape, true);
        level.rounds = 2 * u64::from(shape.ranks.ilog2());
        Cost { blocks: 2, levels: vec![level] }
    }
}

impl Algorithm for DoubleTreeReduce {
    fn name(&self) -> &str {
        NAME
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Reduce && (!shape.reproducible || shape.ranks <= 2)
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let all = Layout::all(2);
        let root = rank == shape.root;
        let (output, in_output) = if root { (all, Some(0)) } else { (Layout::NONE, None) };
        let mut c = Composer::new(Space::Vector { blocks: 2 }, 2, all, output);
        let nodes = nodes(shape, rank);
        // A rank may be a leaf of both trees, and then combines nothing.
        if root || nodes.iter().any(|node| !node.children.is_empty()) {
            c = c.with_work(all, in_output);
        }
        reduce(&mut c, &nodes);
        if root {
            c.finish(Buf::Output, BOTH);
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let mut level = cost(shape, false);
        level.rounds = rooted_height(shape.ranks);
        Cost { blocks: 2, levels: vec![level] }
    }
}

impl Algorithm for DoubleTreeBroadcast {
    fn name(&self) -> &str {
        NAME
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Broadcast
    }

    /// Reduce, backwards.
    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let mut c = broadcast_composer(2, shape, rank);
        let from = if rank == shape.root { Buf::Input } else { Buf::Output };
        for (block, node) in (0..).map(Run::one).zip(&nodes(shape, rank)) {
            if let Some(parent) = node.parent {
                c.recv(parent, Buf::Output, block);
            }
            for &(child, _) in &node.children {
                c.send(child, from, block);
            }
            c.end_round();
        }
        if rank == shape.root && !shape.in_place {
            c.copy(Buf::Input, Buf::Output, BOTH);
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let up = cost(shape, false);
        let level = LevelCost {
            rounds: rooted_height(shape.ranks),
            sent_blocks: up.received_blocks,
            received_blocks: up.sent_blocks,
            messages: up.messages,
            ..LevelCost::default()
        };
        Cost { blocks: 2, levels: vec![level] }
    }
}

/// Messages from the deepest rank to the root, when the trees span the other ranks.
fn rooted_height(ranks: Rank) -> u64 {
    (ranks - 1).checked_ilog2().map_or(0, |height| u64::from(height) + 1)
}

/// A rank's place in one of the two trees.
#[derive(Debug)]
struct Node {
    parent: Option<Rank>,
    /// And whether what they send is a raw contribution.
    children: Vec<(Rank, bool)>,
}

/// The rank's places in both trees.
fn nodes(shape: &Shape, rank: Rank) -> [Node; 2] {
    let p = shape.ranks;
    if !shape.collective.is_rooted() {
        return [0, 1].map(|shift| {
            let rank_at = |n: u32| (n - 1 + p - shift) % p;
            node((rank + shift) % p + 1, p, rank_at, None)
        });
    }
    // The trees span the ranks after the root.
    let (root, nodes) = (shape.root, p - 1);
    [0, 1].map(|shift| {
        let rank_at = |n: u32| (root + 1 + (n - 1 + nodes - shift) % nodes) % p;
        if rank != root {
            let place = (rank + p - root - 1) % p;
            return node((place + shift) % nodes + 1, nodes, rank_at, Some(root));
        }
        let top = nodes.checked_ilog2().map(|height| 1 << height);
        Node { parent: None, children: top.map(|n| (rank_at(n), nodes == 1)).into_iter().collect() }
    })
}

/// Position `n` of the in-order tree of positions 1 to `nodes`. `above` is the root's parent.
fn node(n: u32, nodes: u32, rank_at: impl Fn(u32) -> Rank, above: Option<Rank>) -> Node {
    let children = children(n, nodes).map(|child| (rank_at(child), child % 2 == 1));
    Node { parent: parent(n, nodes).map(&rank_at).or(above), children: children.collect() }
}

/// The position above `n`: the nearest that exists where the tree is not full.
fn parent(n: u32, nodes: u32) -> Option<u32> {
    if n == 1 << nodes.ilog2() {
        return None;
    }
    let mut up = n;
    loop {
        let bit = up & up.wrapping_neg();
        up = if up & (bit << 1) == 0 { up + bit } else { up - bit };
        if up <= nodes {
            return Some(up);
        }
    }
}

/// The positions below `n`, which are none if it is odd.
fn children(n: u32, nodes: u32) -> impl Iterator<Item = u32> {
    let half = (n & n.wrapping_neg()) / 2;
    let left = (half > 0).then(|| n - half);
    // In the right subtree, the first on the way down to the left that exists.
    let mut step = half;
    while step > 0 && n + step > nodes {
        step /= 2;
    }
    let right = (step > 0).then(|| n + step);
    left.into_iter().chain(right)
}

/// Each tree's partial results go up.
fn reduce(c: &mut Composer, nodes: &[Node; 2]) {
    for (block, node) in (0..).map(Run::one).zip(nodes) {
        for &(child, raw) in &node.children {
            c.recv_reduce(child, if raw { Format::Data } else { Format::Acc }, block);
        }
        if let Some(parent) = node.parent {
            c.send_partial(parent, block);
        }
        c.end_round();
    }
}

/// Everything but the rounds, by the busiest ranks' places in the trees.
fn cost(shape: &Shape, and_back: bool) -> LevelCost {
    let mut most = LevelCost::default();
    for rank in 0..shape.ranks {
        let nodes = nodes(shape, rank);
        let children: u64 = nodes.iter().map(|n| n.children.len() as u64).sum();
        let parents = nodes.iter().filter(|n| n.parent.is_some()).count() as u64;
        let inner = |n: &&Node| n.parent.is_some() && !n.children.is_empty();
        let back = u64::from(and_back);
        let partial = nodes.iter().filter(inner).count() as u64;
        most.sent_blocks = most.sent_blocks.max(parents + back * children);
        most.sent_acc_blocks = most.sent_acc_blocks.max(partial);
        most.received_blocks = most.received_blocks.max(children + back * parents);
        most.messages = most.messages.max((1 + back) * (children + parents));
        most.reduced_blocks = most.reduced_blocks.max(children);
    }
    most
}
