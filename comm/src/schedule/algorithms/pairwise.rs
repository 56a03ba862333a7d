//! Pairwise all_to_all: every block goes straight to its destination.
//!
//! In round i, rank r sends to r + i and receives from r - i; no round waits for another. Optimal
//! volume, one message per pair: α + (p-1)/p·nβ for n bytes per rank, if links are parallel.
//! The only one that can serve blocks of different sizes. (Thakur, Rabenseifner and Gropp, 2005.)
//!
//! In place, what a rank sends to a peer lies where the peer's block must go, and two partners
//! that both wait until theirs has left would wait for ever. So one of each pair receives into
//! `Stage` and copies: the peers r+1 to r+p/2 are the ones whose blocks rank r stages. Few slots,
//! used in turn, do for any number of ranks.

use crate::error::Rank;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::ir::{
    Block, Buf, Collective, Cost, LevelCost, Round, Schedule, Shape, Slice, Slot, Space, Step,
};

/// Pairwise all_to_all.
#[derive(Debug)]
pub(crate) struct Pairwise;

/// Blocks of peers that may be on their way into `Stage` at the same time.
const STAGED_MAX: Rank = 4;

impl Algorithm for Pairwise {
    fn name(&self) -> &str {
        "pairwise"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::AllToAll
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        if shape.in_place { in_place(shape.ranks, rank) } else { apart(shape.ranks, rank) }
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let others = u64::from(shape.ranks) - 1;
        let level = LevelCost {
            rounds: others.min(1),
            sent_blocks: others,
            received_blocks: others,
            messages: 2 * others,
            ..LevelCost::default()
        };
        Cost { blocks: u64::from(shape.ranks), levels: vec![level] }
    }
}

/// One slot of the input or the output of an all_to_all, or of `Stage`.
pub(super) const fn slice(buf: Buf, slot: u32, block: u32) -> Slice {
    Slice { buf, segment: 0, slot, block: Block(block), len: 1 }
}

/// The block that goes from `rank` to `peer`.
fn outgoing(p: Rank, rank: Rank, peer: Rank) -> Vec<Slice> {
    vec![slice(Buf::Input, peer, rank * p + peer)]
}

/// The place of the block that goes from `peer` to `rank`.
fn incoming(p: Rank, rank: Rank, peer: Rank) -> Vec<Slice> {
    vec![slice(Buf::Output, peer, peer * p + rank)]
}

/// A schedule of these rounds and slots of `Stage`.
pub(super) fn all_to_all(p: Rank, rank: Rank, stage: Vec<Slot>, rounds: Vec<Round>) -> Schedule {
    Schedule {
        space: Space::PerPair,
        segments: 1,
        window: 1,
        input: (0..p).map(|peer| Block(rank * p + peer)).collect(),
        output: (0..p).map(|peer| Block(peer * p + rank)).collect(),
        work: Vec::new(),
        stage,
        work_in_output: None,
        rounds,
    }
}

/// This rank's block for itself, to its place.
pub(super) fn own(p: Rank, rank: Rank) -> Round {
    let (src, dst) = (outgoing(p, rank, rank), incoming(p, rank, rank));
    Round { stage: 0, steps: vec![Step::Copy { src, dst }] }
}

/// Input and output are different memory.
fn apart(p: Rank, rank: Rank) -> Schedule {
    let mut rounds = Vec::with_capacity(p as usize);
    for distance in 1..p {
        let (next, previous) = ((rank + distance) % p, (rank + p - distance) % p);
        let send = Step::Send { peer: next, src: outgoing(p, rank, next) };
        let recv = Step::Recv { peer: previous, dst: incoming(p, rank, previous) };
        rounds.push(Round { stage: 0, steps: vec![send, recv] });
    }
    rounds.push(own(p, rank));
    all_to_all(p, rank, Vec::new(), rounds)
}

/// Input and output are the same memory.
fn in_place(p: Rank, rank: Rank) -> Schedule {
    let mut rounds = Vec::with_capacity(p as usize / 2);
    let mut staged = 0;
    for distance in 1..=p / 2 {
        let (next, previous) = ((rank + distance) % p, (rank + p - distance) % p);
        let mut steps = Vec::with_capacity(5);
        // Partners that are opposite each other meet only once.
        let opposite = next == previous;
        if !opposite || rank < next {
            let block = next * p + rank;
            let stage = vec![slice(Buf::Stage, staged % STAGED_MAX, block)];
            staged += 1;
            steps.push(Step::Send { peer: next, src: outgoing(p, rank, next) });
            steps.push(Step::Recv { peer: next, dst: stage.clone() });
            steps.push(Step::Copy { src: stage, dst: incoming(p, rank, next) });
        }
        if !opposite || rank > previous {
            steps.push(Step::Send { peer: previous, src: outgoing(p, rank, previous) });
            steps.push(Step::Recv { peer: previous, dst: incoming(p, rank, previous) });
        }
        rounds.push(Round { stage: 0, steps });
    }
    all_to_all(p, rank, vec![Slot::Any; staged.min(STAGED_MAX) as usize], rounds)
}
