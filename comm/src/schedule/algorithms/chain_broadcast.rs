//! Broadcast along a chain of ranks that starts at the root.
//!
//! Everybody sends and receives the vector once. Pipelined in k chunks, which the engine does,
//! this takes (p-2+k)(α + n/k·β): the bandwidth optimum for long vectors and few ranks. (The
//! field's "linear pipeline"; Sanders, Speck and Träff, 2009, section 2, compare it.)

use super::binomial_move::{Node, broadcast_composer};
use crate::error::Rank;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::compose::Run;
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape};

/// Chain broadcast.
#[derive(Debug)]
pub(crate) struct ChainBroadcast;

const ALL: Run = Run::one(0);

impl Algorithm for ChainBroadcast {
    fn name(&self) -> &str {
        "chain"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Broadcast
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let p = shape.ranks;
        let place = Node::new(shape, rank).place;
        let mut c = broadcast_composer(1, shape, rank);
        if place > 0 {
            c.recv((rank + p - 1) % p, Buf::Output, ALL);
            c.end_round();
        }
        if place + 1 < p {
            c.send((rank + 1) % p, if place == 0 { Buf::Input } else { Buf::Output }, ALL);
        }
        if place == 0 && !shape.in_place {
            c.copy(Buf::Input, Buf::Output, ALL);
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let others = u64::from(shape.ranks) - 1;
        let level = LevelCost {
            rounds: others,
            sent_blocks: others.min(1),
            received_blocks: others.min(1),
            messages: others.min(2),
            ..LevelCost::default()
        };
        Cost { blocks: 1, levels: vec![level] }
    }
}
