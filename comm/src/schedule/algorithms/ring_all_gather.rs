//! Ring all_gather: every block travels once around the ring.
//!
//! Only neighbours talk, and every link carries the same: (p-1)α + (p-1)/p·nβ for n bytes in all,
//! the bandwidth optimum with the least contention, in a linear number of rounds. (Patarasu and
//! Yuan, 2009.)

use super::bruck::{all_gather_composer, all_gather_cost};
use crate::error::Rank;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::compose::Run;
use crate::schedule::ir::{Buf, Collective, Cost, Schedule, Shape};

/// Ring all_gather.
#[derive(Debug)]
pub(crate) struct RingAllGather;

impl Algorithm for RingAllGather {
    fn name(&self) -> &str {
        "ring"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::AllGather
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let (next, previous) = ((rank + 1) % p, (rank + p - 1) % p);
        let mut c = all_gather_composer(shape, rank);
        for round in 0..p - 1 {
            let from = if round == 0 { Buf::Input } else { Buf::Output };
            c.send(next, from, Run::one((rank + p - round) % p));
            c.recv(previous, Buf::Output, Run::one((previous + p - round) % p));
            c.end_round();
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let others = u64::from(shape.ranks) - 1;
        all_gather_cost(shape.ranks, others, others)
    }
}
