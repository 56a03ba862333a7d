//! One file per algorithm. To add one: its file and its `mod` line here, and its line in
//! [`ALGORITHMS`](super::ALGORITHMS) (ADR 0002).

mod fold;

pub(super) mod barrier;
pub(super) mod binomial;
pub(super) mod binomial_move;
pub(super) mod bruck;
pub(super) mod bruck_all_to_all;
pub(super) mod chain;
pub(super) mod chain_broadcast;
pub(super) mod circulant;
pub(super) mod direct_move;
pub(super) mod double_binary_tree;
pub(super) mod hillis_steele;
pub(super) mod one_shot;
pub(super) mod pairwise;
pub(super) mod rabenseifner;
pub(super) mod recursive_doubling;
pub(super) mod recursive_doubling_all_gather;
pub(super) mod recursive_doubling_scan;
pub(super) mod recursive_halving;
pub(super) mod ring;
pub(super) mod ring_all_gather;
pub(super) mod scatter_all_gather;
pub(super) mod sparbit;
pub(super) mod two_shot;
