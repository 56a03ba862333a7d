//! What a builder offers, and the list of all of them.

use super::ir::{Cost, Schedule, Shape};
use crate::error::Rank;

/// Builds the schedules of one algorithm.
pub trait Algorithm: Send + Sync {
    /// Its name in options, tables and `explain`: the field's term, in snake case.
    fn name(&self) -> &str;

    /// Whether it can build for `shape`.
    fn serves(&self, shape: &Shape) -> bool;

    /// The program of `rank`, in one segment. Only called when it serves `shape`.
    fn build(&self, shape: &Shape, rank: Rank) -> Schedule;

    /// How many rounds reduce, where others follow that only spread the results, and it is the
    /// same on all ranks: then one segment can be spread while the next one is reduced. 0 where it
    /// is not so.
    fn reducing_rounds(&self, _shape: &Shape) -> u32 {
        0
    }

    /// Whether it serves only blocks of one size, as the `_v` forms do not have.
    fn needs_uniform_sizes(&self) -> bool {
        false
    }

    /// The stated cost; the checker holds the schedules to it exactly.
    fn cost(&self, shape: &Shape) -> Cost;

    /// Whether the stated cost is exact; otherwise no number of it may be exceeded. Only
    /// combinators over uneven groups state bounds.
    fn cost_is_exact(&self, _shape: &Shape) -> bool {
        true
    }

    /// The topology level of the link between two ranks: an index into [`Cost::levels`].
    fn level(&self, _a: Rank, _b: Rank) -> usize {
        0
    }

    /// The topology level that the local reductions in a stage of its rounds are charged to.
    fn stage_level(&self, _shape: &Shape, _stage: u32) -> usize {
        0
    }
}
