//! One file per algorithm. To add one: its file, and its line in the list below (ADR 0002).

mod fold;

use super::algorithm::Algorithm;

/// Declares the files, and lists what they register.
macro_rules! algorithms {
    ($($file:ident: $($($name:ident)::+),+;)*) => {
        $(mod $file;)*

        /// Every flat algorithm.
        pub static ALGORITHMS: &[&dyn Algorithm] = &[$($(&$file::$($name)::+),+),*];
    };
}

algorithms! {
    barrier: DisseminationBarrier, StarBarrier, TreeBarrier;
    binomial: BinomialAllReduce, BinomialReduce;
    binomial_move: BinomialBroadcast, BinomialGather, BinomialScatter;
    bruck: BruckAllGather;
    bruck_all_to_all: BruckAllToAll;
    chain: ChainReduce, ChainScan;
    chain_broadcast: ChainBroadcast;
    circulant: CirculantAllReduce, CirculantReduceScatter;
    direct_move: DirectMove;
    double_binary_tree: DoubleTreeAllReduce, DoubleTreeReduce, DoubleTreeBroadcast;
    hillis_steele: HillisSteele;
    one_shot: OneShot;
    pairwise: Pairwise;
    rabenseifner: RabenseifnerAllReduce, RabenseifnerReduce;
    recursive_doubling:
        RecursiveDoubling::DOUBLING,
        RecursiveDoubling::TRIPLING,
        RecursiveDoubling::QUADRUPLING;
    recursive_doubling_all_gather: RecursiveDoublingAllGather;
    recursive_doubling_scan: RecursiveDoublingScan;
    recursive_halving: RecursiveHalving;
    ring: RingAllReduce, RingReduceScatter;
    ring_all_gather: RingAllGather;
    scatter_all_gather: ScatterAllGather;
    sparbit: Sparbit;
    star: Star;
    two_shot: Direct, TwoShot, TwoShotReduce;
}
