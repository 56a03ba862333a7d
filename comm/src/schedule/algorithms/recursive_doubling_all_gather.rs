//! Recursive doubling all_gather, for a power of two of ranks.
//!
//! In round k, the partners r and r XOR 2^k exchange all they have: aligned ranges of 2^k blocks,
//! so every message is one slice. log2(p)·α + (p-1)/p·nβ for n bytes in all. (Thakur,
//! Rabenseifner and Gropp, 2005.)

use super::bruck::{all_gather_composer, all_gather_cost};
use crate::error::Rank;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::compose::Run;
use crate::schedule::ir::{Buf, Collective, Cost, Schedule, Shape};

/// Recursive doubling all_gather.
#[derive(Debug)]
pub(crate) struct RecursiveDoublingAllGather;

impl Algorithm for RecursiveDoublingAllGather {
    fn name(&self) -> &str {
        "recursive_doubling"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::AllGather && shape.ranks.is_power_of_two()
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let mut c = all_gather_composer(shape, rank);
        for round in 0..shape.ranks.ilog2() {
            let len = 1 << round;
            let (partner, first) = (rank ^ len, rank & !(len - 1));
            let from = if round == 0 { Buf::Input } else { Buf::Output };
            c.send(partner, from, Run::new(first, len));
            c.recv(partner, Buf::Output, Run::new(first ^ len, len));
            c.end_round();
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let rounds = u64::from(shape.ranks.ilog2());
        all_gather_cost(shape.ranks, rounds, rounds)
    }
}
