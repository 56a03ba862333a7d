//! Barriers. They move one element of no meaning, whose memory carries the waits: nothing else
//! orders steps, so a barrier of no bytes would hold nobody back. Run them on a vector of one
//! element.

use super::binomial_move::{Node, height};
use crate::error::Rank;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::canonical::log2_ceil;
use crate::schedule::compose::{Composer, Layout};
use crate::schedule::ir::{
    Buf, Collective, Cost, LevelCost, Schedule, Shape, Slice, Slot, Space, Step,
};

/// Dissemination barrier: in round k, rank r tells rank r + 2^k that it and those it has heard of
/// have come. ⌈log2 p⌉α, for any number of ranks. (Hensgen, Finkel and Manber, "Two algorithms for
/// barrier synchronization", 1988.)
#[derive(Debug)]
pub(crate) struct DisseminationBarrier;

/// Tree barrier: up a binomial tree and down again, 2⌊log2 p⌋α on the way, with 2(p-1) messages
/// in all instead of p⌈log2 p⌉: better where ranks share cores or one wire. (Mellor-Crummey and
/// Scott, "Algorithms for scalable synchronization on shared-memory multiprocessors", 1991.)
#[derive(Debug)]
pub(crate) struct TreeBarrier;

/// Star barrier: everybody tells rank 0, which answers once all have come. 2α, with 2(p-1) messages in
/// all like the tree, and ranks that share cores must run once each instead of once per level.
#[derive(Debug)]
pub(crate) struct StarBarrier;

fn composer() -> Composer {
    Composer::new(Space::Vector { blocks: 1 }, 1, Layout::NONE, Layout::NONE)
}

fn slot(slot: u32) -> Vec<Slice> {
    Composer::at(Buf::Stage, slot, 0)
}

impl Algorithm for DisseminationBarrier {
    fn name(&self) -> &str {
        "dissemination"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Barrier
    }

    /// What a round sends must wait for all that came before. What comes cannot be received where
    /// it is sent from, or a ring of ranks would wait for each other.
    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let mut c = composer();
        if p > 1 {
            c.add_stage([Slot::Any, Slot::Any]);
        }
        for round in 0..log2_ceil(p) {
            let distance = 1 << round;
            c.step(Step::Send { peer: (rank + distance) % p, src: slot(0) });
            c.step(Step::Recv { peer: (rank + p - distance) % p, dst: slot(1) });
            c.step(Step::Copy { src: slot(1), dst: slot(0) });
            c.end_round();
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let rounds = u64::from(log2_ceil(shape.ranks));
        cost(rounds, rounds)
    }
}

impl Algorithm for TreeBarrier {
    fn name(&self) -> &str {
        "binomial_tree"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Barrier
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let node = Node::new(shape, rank);
        let mut c = composer();
        if shape.ranks > 1 {
            c.add_stage([Slot::Any]);
        }
        for child in node.children().collect::<Vec<_>>().into_iter().rev() {
            c.step(Step::Recv { peer: child.rank(), dst: slot(0) });
        }
        c.end_round();
        if let Some(parent) = node.parent() {
            c.step(Step::Send { peer: parent.rank(), src: slot(0) });
            c.step(Step::Recv { peer: parent.rank(), dst: slot(0) });
            c.end_round();
        }
        for child in node.children() {
            c.step(Step::Send { peer: child.rank(), src: slot(0) });
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        cost(2 * height(shape.ranks), u64::from(log2_ceil(shape.ranks)))
    }
}

impl Algorithm for StarBarrier {
    fn name(&self) -> &str {
        "star"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Barrier
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let mut c = composer();
        if shape.ranks > 1 {
            c.add_stage([Slot::Any]);
        }
        if rank > 0 {
            c.step(Step::Send { peer: 0, src: slot(0) });
            c.end_round();
            c.step(Step::Recv { peer: 0, dst: slot(0) });
            return c.build();
        }
        for peer in 1..shape.ranks {
            c.step(Step::Recv { peer, dst: slot(0) });
        }
        c.end_round();
        for peer in 1..shape.ranks {
            c.step(Step::Send { peer, src: slot(0) });
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let others = u64::from(shape.ranks) - 1;
        cost(2 * others.min(1), others)
    }
}

/// With as many messages in each direction at the busiest rank.
fn cost(rounds: u64, messages: u64) -> Cost {
    let level = LevelCost {
        rounds,
        sent_blocks: messages,
        received_blocks: messages,
        messages: 2 * messages,
        ..LevelCost::default()
    };
    Cost { blocks: 1, levels: vec![level] }
}
