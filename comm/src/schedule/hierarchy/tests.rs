//! Proofs of hierarchical schedules over random hierarchies.

use super::super::algorithms::ALGORITHMS;
use super::super::checker::{Options, check, prove};
use super::super::pipeline::pipelined;
use super::*;

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
    }

    /// `units` in groups of random sizes, in no order.
    fn groups(&mut self, units: u32) -> Vec<Vec<u32>> {
        let mut order = (0..units).collect::<Vec<_>>();
        self.shuffle(&mut order);
        let mut groups = Vec::new();
        let size_max = 1 + self.below(units as usize);
        while !order.is_empty() {
            let size = 1 + self.below(size_max.min(order.len()));
            groups.push(order.split_off(order.len() - size));
        }
        groups
    }

    fn hierarchy(&mut self, ranks: Rank, depth: usize) -> Hierarchy {
        let mut levels = Vec::<Vec<Vec<u32>>>::new();
        for _ in 1..depth {
            let units = levels.last().map_or(ranks, |groups| groups.len() as u32);
            levels.push(self.groups(units));
        }
        Hierarchy::new(ranks, levels).unwrap()
    }

    /// Every flat algorithm, in some order of preference.
    fn level(&mut self) -> Level {
        let mut algorithms = ALGORITHMS.to_vec();
        self.shuffle(&mut algorithms);
        Level::new(algorithms)
    }

    fn algorithm(&mut self, mode: Mode, ranks: Rank, depth: usize) -> Hierarchical {
        let hierarchy = self.hierarchy(ranks, depth);
        let levels = (0..depth).map(|_| self.level()).collect();
        Hierarchical::new(mode, &hierarchy, levels).unwrap()
    }
}

fn named(names: &[&str]) -> Level {
    let of = |name: &&str| ALGORITHMS.iter().copied().filter(|a| a.name() == *name).collect();
    Level::new(names.iter().flat_map(|name: &&str| -> Vec<_> { of(name) }).collect())
}

fn shape(collective: Collective, ranks: Rank) -> Shape {
    Shape { collective, ranks, root: 0, in_place: false, reproducible: false }
}

/// Random hierarchies with random algorithms inside: how many shapes were proved.
fn prove_random(mode: Mode, collective: Collective, seed: u64) {
    for case in 0..120 {
        let mut random = Random(seed << 32 | case);
        let depth = 2 + case as usize % 2;
        let ranks = 1 + random.below(if case % 10 == 0 { 64 } else { 20 }) as Rank;
        let algorithm = random.algorithm(mode, ranks, depth);
        let root = if collective.is_rooted() { random.below(ranks as usize) as Rank } else { 0 };
        let shape = Shape { root, in_place: case % 3 == 0, ..shape(collective, ranks) };
        assert!(algorithm.serves(&shape), "case {case}: {shape:?} {:?}", algorithm.groups);
        if let Err(violation) = prove(&algorithm, &shape) {
            let picked = picked(&algorithm, &shape);
            panic!("case {case}: {shape:?} {:?} {picked:?}: {violation}", algorithm.groups);
        }
    }
}

/// Which algorithm each phase uses.
fn picked(algorithm: &Hierarchical, shape: &Shape) -> Vec<String> {
    let of = |phase: Phase| {
        let name = algorithm.pick(phase.across, &phase.shape).map(|a| a.name().to_owned());
        format!("{:?} of {}: {name:.40?}", phase.shape.collective, phase.shape.ranks)
    };
    algorithm.heads(shape, 1).into_iter().flatten().map(of).collect()
}

macro_rules! random_proofs {
    ($($name:ident: $mode:ident $collective:ident;)*) => {
        $(
            #[test]
            fn $name() {
                let collective = Collective::$collective;
                prove_random(Mode::$mode, collective, collective as u64 + 100);
            }
        )*
    };
}

random_proofs! {
    leader_all_reduce: Leader AllReduce;
    leader_reduce: Leader Reduce;
    leader_broadcast: Leader Broadcast;
    leader_reduce_scatter: Leader ReduceScatter;
    leader_all_gather: Leader AllGather;
    leader_gather: Leader Gather;
    leader_scatter: Leader Scatter;
    leader_barrier: Leader Barrier;
    split_rail_all_reduce: SplitRail AllReduce;
    split_rail_reduce: SplitRail Reduce;
    split_rail_broadcast: SplitRail Broadcast;
    split_rail_reduce_scatter: SplitRail ReduceScatter;
    split_rail_all_gather: SplitRail AllGather;
}

#[test]
fn every_root_of_an_uneven_hierarchy() {
    let hierarchy = Hierarchy::by_key(&[3, 1, 1, 3, 2, 3, 1, 2, 3]).unwrap();
    for mode in [Mode::Leader, Mode::SplitRail] {
        for collective in Collective::ALL.into_iter().filter(|c| c.is_rooted() && mode.knows(*c)) {
            let levels = vec![Random(1).level(), Random(2).level()];
            let algorithm = Hierarchical::new(mode, &hierarchy, levels).unwrap();
            for root in 0..9 {
                for in_place in [false, true] {
                    let shape = Shape { root, in_place, ..shape(collective, 9) };
                    prove(&algorithm, &shape).unwrap_or_else(|e| panic!("{shape:?}: {e}"));
                }
            }
        }
    }
}

/// Pipelined over several segments, with scratch for all of them or for few.
#[test]
fn levels_can_be_pipelined() {
    for case in 0..60 {
        let mut random = Random(77 << 32 | case);
        let mode = if case % 2 == 0 { Mode::Leader } else { Mode::SplitRail };
        let ranks = 2 + random.below(14) as Rank;
        let algorithm = random.algorithm(mode, ranks, 2 + case as usize % 2);
        for collective in Collective::ALL.into_iter().filter(|&c| mode.knows(c)) {
            let root = if collective.is_rooted() { ranks - 1 } else { 0 };
            let shape = Shape { root, in_place: case % 4 < 2, ..shape(collective, ranks) };
            let (segments, window) = (1 + random.below(6) as u32, 1 + random.below(4) as u32);
            let all = (0..ranks)
                .map(|rank| pipelined(&algorithm.build(&shape, rank), segments, window))
                .collect::<Vec<_>>();
            check(&shape, &all, &Options::default())
                .unwrap_or_else(|e| panic!("case {case} {shape:?} {segments}/{window}: {e}"));
        }
    }
}

#[test]
fn even_groups_in_rank_order_keep_the_canonical_tree() {
    let mut proved = 0;
    for (size, ranks) in [(1, 5), (2, 7), (2, 8), (4, 13), (4, 16), (8, 24), (8, 33)] {
        let keys = (0..ranks).map(|rank| rank / size).collect::<Vec<_>>();
        let hierarchy = Hierarchy::by_key(&keys).unwrap();
        for mode in [Mode::Leader, Mode::SplitRail] {
            let levels = vec![Random(5).level(), Random(6).level()];
            let algorithm = Hierarchical::new(mode, &hierarchy, levels).unwrap();
            for collective in Collective::ALL.into_iter().filter(|&c| mode.knows(c)) {
                let shape = Shape { reproducible: true, ..shape(collective, ranks) };
                if algorithm.serves(&shape) {
                    prove(&algorithm, &shape).unwrap_or_else(|e| panic!("{shape:?}: {e}"));
                    proved += u32::from(collective.reduces());
                }
            }
        }
    }
    assert!(proved >= 30, "only {proved} served");
}

#[test]
fn other_groups_do_not_serve_the_canonical_tree() {
    for keys in [&[0, 1, 0, 1][..], &[0, 0, 0, 1, 1, 1], &[0, 0, 1, 1, 1, 1]] {
        let hierarchy = Hierarchy::by_key(keys).unwrap();
        let levels = vec![Random(5).level(), Random(6).level()];
        let algorithm = Hierarchical::new(Mode::Leader, &hierarchy, levels).unwrap();
        let ranks = keys.len() as Rank;
        let canonical = Shape { reproducible: true, ..shape(Collective::AllReduce, ranks) };
        assert!(!algorithm.serves(&canonical));
        assert!(algorithm.serves(&shape(Collective::AllReduce, ranks)));
        let moved = Shape { reproducible: true, ..shape(Collective::Broadcast, ranks) };
        assert!(algorithm.serves(&moved));
    }
}

/// Four hosts of eight: the volumes are those of the textbook.
#[test]
fn an_even_split_rail_costs_what_it_states() {
    let keys = (0..32).map(|rank| rank / 8).collect::<Vec<_>>();
    let hierarchy = Hierarchy::by_key(&keys).unwrap();
    let levels = vec![named(&["ring"]), named(&["ring"])];
    let algorithm = Hierarchical::new(Mode::SplitRail, &hierarchy, levels).unwrap();
    assert_eq!(algorithm.name(), "split_rail(ring,ring)");
    let shape = shape(Collective::AllReduce, 32);
    let stated = algorithm.cost(&shape);
    let counted = prove(&algorithm, &shape).unwrap().cost;
    // Blocks of 1/32: inside 7/8 of the data twice, across 3/4 of one eighth twice.
    assert_eq!(stated.blocks, 32);
    let sent = |cost: &Cost| [cost.levels[0].sent_blocks, cost.levels[1].sent_blocks];
    assert_eq!(sent(&stated), [2 * 28, 2 * 3]);
    assert_eq!(counted, stated);
    let rounds = |cost: &Cost| [cost.levels[0].rounds, cost.levels[1].rounds];
    assert_eq!(rounds(&stated), [14, 6]);
}

#[test]
fn depth_shows_in_names_levels_and_costs() {
    let hosts = (0..6).map(|h| vec![2 * h, 2 * h + 1]).collect();
    let hierarchy = Hierarchy::new(12, vec![hosts, vec![vec![0, 1, 2], vec![3, 4, 5]]]).unwrap();
    assert_eq!((hierarchy.depth(), hierarchy.ranks()), (3, 12));
    let levels = vec![named(&["ring"]), named(&["ring"]), named(&["recursive_doubling"])];
    let algorithm = Hierarchical::new(Mode::SplitRail, &hierarchy, levels).unwrap();
    assert_eq!(algorithm.name(), "split_rail(ring,ring,recursive_doubling)");
    assert_eq!([1, 2, 5, 6, 11].map(|b| algorithm.level(0, b)), [0, 1, 1, 2, 2]);
    let shape = shape(Collective::AllReduce, 12);
    assert_eq!(
        algorithm.describe(&shape),
        "split_rail: reduce_scatter ring inside, all_reduce (split_rail: reduce_scatter ring \
         inside, all_reduce recursive_doubling across, all_gather ring inside) across, \
         all_gather ring inside"
    );
    assert_eq!(algorithm.cost(&shape).levels.len(), 3);
    let report = prove(&algorithm, &shape).unwrap();
    assert!(report.cost.levels.iter().all(|level| level.messages > 0));
}

#[test]
fn refuses_what_is_no_hierarchy() {
    assert!(Hierarchy::new(3, vec![vec![vec![0, 1]]]).is_err());
    assert!(Hierarchy::new(2, vec![vec![vec![0, 1], vec![1]]]).is_err());
    assert!(Hierarchy::new(2, vec![vec![vec![0, 2]]]).is_err());
    assert!(Hierarchy::new(2, vec![vec![vec![0, 1], vec![]]]).is_err());
    assert!(Hierarchy::new(2, vec![vec![vec![0], vec![1]], vec![vec![0]]]).is_err());
    assert!(Hierarchy::by_key(&[]).is_err());
    let flat = Hierarchy::new(2, Vec::new()).unwrap();
    assert!(Hierarchical::new(Mode::Leader, &flat, vec![Random(0).level()]).is_err());
    let two = Hierarchy::by_key(&[0, 1]).unwrap();
    assert!(Hierarchical::new(Mode::Leader, &two, vec![Random(0).level()]).is_err());
}

/// Each flat algorithm wherever it can serve, inside and across.
#[test]
fn every_algorithm_in_every_phase() {
    let keys = [0, 1, 2, 0, 1, 2, 3, 3, 0, 0, 1, 4, 4, 3, 2, 0, 4, 4, 4];
    let ranks = keys.len() as Rank;
    let hierarchy = Hierarchy::by_key(&keys).unwrap();
    for first in ALGORITHMS {
        let level =
            || Level::new(std::iter::once(*first).chain(ALGORITHMS.iter().copied()).collect());
        for mode in [Mode::Leader, Mode::SplitRail] {
            let algorithm = Hierarchical::new(mode, &hierarchy, vec![level(), level()]).unwrap();
            for collective in Collective::ALL.into_iter().filter(|&c| mode.knows(c)) {
                let root = if collective.is_rooted() { 7 } else { 0 };
                let shape = Shape { root, ..shape(collective, ranks) };
                prove(&algorithm, &shape)
                    .unwrap_or_else(|e| panic!("{} {mode:?} {shape:?}: {e}", first.name()));
            }
        }
    }
}

#[test]
fn hundreds_of_ranks() {
    let mut random = Random(9);
    for (mode, collective) in [
        (Mode::SplitRail, Collective::AllReduce),
        (Mode::SplitRail, Collective::ReduceScatter),
        (Mode::Leader, Collective::AllGather),
        (Mode::Leader, Collective::Reduce),
    ] {
        let keys = (0..300).map(|_| random.below(40) as u32).collect::<Vec<_>>();
        let hierarchy = Hierarchy::by_key(&keys).unwrap();
        let levels = vec![random.level(), random.level()];
        let algorithm = Hierarchical::new(mode, &hierarchy, levels).unwrap();
        let shape = shape(collective, 300);
        assert!(algorithm.serves(&shape));
        prove(&algorithm, &shape).unwrap_or_else(|e| panic!("{shape:?}: {e}"));
    }
}
