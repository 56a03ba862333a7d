//! What a builder offers, and the list of all of them.

use super::algorithms as a;
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

/// Every flat algorithm. To add one, write its file and add its line here.
pub static ALGORITHMS: &[&dyn Algorithm] = &[
    &a::barrier::DisseminationBarrier,
    &a::barrier::TreeBarrier,
    &a::binomial::BinomialAllReduce,
    &a::binomial::BinomialReduce,
    &a::binomial_move::BinomialBroadcast,
    &a::binomial_move::BinomialGather,
    &a::binomial_move::BinomialScatter,
    &a::bruck::BruckAllGather,
    &a::bruck_all_to_all::BruckAllToAll,
    &a::chain::ChainReduce,
    &a::chain::ChainScan,
    &a::chain_broadcast::ChainBroadcast,
    &a::circulant::CirculantAllReduce,
    &a::circulant::CirculantReduceScatter,
    &a::direct_move::DirectMove,
    &a::double_binary_tree::DoubleTreeAllReduce,
    &a::double_binary_tree::DoubleTreeReduce,
    &a::double_binary_tree::DoubleTreeBroadcast,
    &a::hillis_steele::HillisSteele,
    &a::one_shot::OneShot,
    &a::pairwise::Pairwise,
    &a::rabenseifner::RabenseifnerAllReduce,
    &a::rabenseifner::RabenseifnerReduce,
    &a::recursive_doubling::RecursiveDoubling::DOUBLING,
    &a::recursive_doubling::RecursiveDoubling::TRIPLING,
    &a::recursive_doubling::RecursiveDoubling::QUADRUPLING,
    &a::recursive_doubling_all_gather::RecursiveDoublingAllGather,
    &a::recursive_doubling_scan::RecursiveDoublingScan,
    &a::recursive_halving::RecursiveHalving,
    &a::ring::RingAllReduce,
    &a::ring::RingReduceScatter,
    &a::ring_all_gather::RingAllGather,
    &a::scatter_all_gather::ScatterAllGather,
    &a::sparbit::Sparbit,
    &a::two_shot::Direct,
    &a::two_shot::TwoShot,
    &a::two_shot::TwoShotReduce,
];
