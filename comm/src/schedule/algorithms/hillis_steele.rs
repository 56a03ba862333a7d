//! Hillis and Steele's scan.
//!
//! In round i every rank sends its partial result, of the up to 2^i contributions that end with
//! its own, to the rank 2^i above, which puts it in front of its own. One reduction per round,
//! half of what the recursive doubling scan needs, but not in the canonical order (ADR 0004).
//!
//! ⌈log2 p⌉(α + n(β + γ)). (Hillis and Steele, "Data parallel algorithms", 1986.)

use crate::error::Rank;
use crate::reduce::Format;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::canonical::log2_ceil;
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Slot, Space, Step};

/// Hillis and Steele's scan.
#[derive(Debug)]
pub(crate) struct HillisSteele;

const ALL: Run = Run::one(0);

impl Algorithm for HillisSteele {
    fn name(&self) -> &str {
        "hillis_steele"
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Scan && (!shape.reproducible || shape.ranks <= 2)
    }

    /// The partial result alternates between two slots, so that a rank need not have sent it
    /// before it takes the next; it ends in the first, which may lie in `Output`, unless that
    /// would overwrite the contribution while it is being sent.
    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let all = Layout::all(1);
        let mut c = Composer::new(Space::Vector { blocks: 1 }, 1, all, all).with_work(all, Some(0));
        let second = if rank > 0 { c.add_scratch([Slot::Any]) } else { 0 };
        let writes = receives(rank);
        let flip = u32::from(shape.in_place && writes % 2 == 1);
        let mut here = c.slices(Buf::Input, ALL);
        for round in 0..log2_ceil(shape.ranks) {
            let distance = 1 << round;
            if rank + distance < shape.ranks {
                c.step(Step::Send { peer: rank + distance, src: here.clone() });
            }
            if distance <= rank {
                let peer = rank - distance;
                let raw = round == 0 || peer == 0;
                let wire = if raw { Format::Data } else { Format::Acc };
                let slot = [0, second][((writes - 1 - round + flip) % 2) as usize];
                let dst = Composer::at(Buf::Work, slot, 0);
                let local = std::mem::replace(&mut here, dst.clone());
                c.step(Step::RecvReduce { peer, wire, local, dst });
            }
            c.end_round();
        }
        if rank == 0 {
            c.finish(Buf::Output, ALL);
        } else {
            c.step(Step::Copy { src: here, dst: c.slices(Buf::Output, ALL) });
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let p = shape.ranks;
        let rounds = u64::from(log2_ceil(p));
        let messages = (0..p).map(|rank| log2_ceil(p - rank) + receives(rank)).max().unwrap_or(0);
        let level = LevelCost {
            // Distances on a chain double at least, and their sum is below p.
            rounds: u64::from(p.ilog2()),
            sent_blocks: rounds,
            // Rank 1 sends most of those, all but its first message.
            sent_acc_blocks: if p > 1 { u64::from(log2_ceil(p - 1)).saturating_sub(1) } else { 0 },
            received_blocks: rounds,
            messages: u64::from(messages),
            reduced_blocks: rounds,
        };
        Cost { blocks: 1, levels: vec![level] }
    }
}

/// In how many rounds `rank` receives: the first so many.
const fn receives(rank: Rank) -> u32 {
    Rank::BITS - rank.leading_zeros()
}
