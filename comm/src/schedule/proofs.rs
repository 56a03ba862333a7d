//! Proves every registered algorithm: all rank counts from 1 to 64 with every root, and larger
//! ones with chosen roots where that does not take minutes; in place and not; reproducible and
//! not. A new algorithm needs no line here.

use super::algorithm::Algorithm;
use super::algorithms::ALGORITHMS;
use super::checker::prove;
use super::ir::{Block, Collective, Schedule, Shape, Slice, Step};
use crate::error::Rank;
use crate::reduce::Format;

const RANKS_ALL_MAX: Rank = 64;
const RANKS_ALL_SHAPES_MAX: Rank = 32;
const RANKS_LARGE: [Rank; 3] = [127, 128, 1000];

/// The larger rank counts are left out where all ranks' schedules together have more slots of
/// data to handle than this.
const ITEMS_MAX: u64 = 2_000_000;

/// The shapes of `collective` on `ranks` ranks: all of them up to [`RANKS_ALL_SHAPES_MAX`]; above,
/// every root up to [`RANKS_ALL_MAX`], but in place only from chosen roots; then chosen roots.
fn shapes(collective: Collective, ranks: Rank) -> Vec<Shape> {
    let chosen = [0, 1, ranks / 2, ranks - 1];
    let roots = match (collective.is_rooted(), ranks > RANKS_ALL_MAX) {
        (false, _) => vec![0],
        (true, false) => (0..ranks).collect(),
        (true, true) => chosen.to_vec(),
    };
    let mut shapes = Vec::new();
    for root in roots {
        for (in_place, reproducible) in [(false, false), (true, false), (false, true), (true, true)]
        {
            if !in_place || ranks <= RANKS_ALL_SHAPES_MAX || chosen.contains(&root) {
                shapes.push(Shape { collective, ranks, root, in_place, reproducible });
            }
        }
    }
    shapes
}

/// Operand slots of all steps of all ranks, estimated from the root's and two other schedules.
fn items(algorithm: &dyn Algorithm, shape: &Shape) -> u64 {
    let of = |rank: Rank| -> u64 {
        let schedule = algorithm.build(shape, rank);
        let steps = schedule.rounds.iter().flat_map(|round| &round.steps);
        steps.map(|step| step.operands().map(|slice| u64::from(slice.len)).sum::<u64>()).sum()
    };
    let others = of(0).max(of(shape.ranks - 1));
    of(shape.root) + others * u64::from(shape.ranks - 1)
}

fn affordable(algorithm: &dyn Algorithm, shape: &Shape) -> bool {
    shape.ranks <= RANKS_ALL_MAX || items(algorithm, shape) <= ITEMS_MAX
}

/// Whether the schedules are those of reproducible mode, for which more is proved.
fn canonical_anyway(algorithm: &dyn Algorithm, shape: &Shape) -> bool {
    let canonical = Shape { reproducible: true, ..shape.clone() };
    let same = |rank| algorithm.build(shape, rank) == algorithm.build(&canonical, rank);
    !shape.reproducible && algorithm.serves(&canonical) && (0..shape.ranks).all(same)
}

/// Proves `algorithm` for every shape of `collective` it serves; returns how many that were.
fn prove_collective(algorithm: &dyn Algorithm, collective: Collective) -> usize {
    let mut proved = 0;
    for ranks in (1..=RANKS_ALL_MAX).chain(RANKS_LARGE) {
        for shape in shapes(collective, ranks) {
            if !algorithm.serves(&shape) || !affordable(algorithm, &shape) {
                continue;
            }
            proved += 1;
            if !canonical_anyway(algorithm, &shape)
                && let Err(violation) = prove(algorithm, &shape)
            {
                panic!("{} for {shape:?}: {violation}", algorithm.name());
            }
        }
    }
    proved
}

/// Every algorithm that serves `collective` at all; several tests run side by side.
fn prove_all(collective: Collective) {
    let mut proved = 0;
    for algorithm in ALGORITHMS {
        proved += prove_collective(*algorithm, collective);
    }
    let name = collective.name();
    assert!(proved >= RANKS_ALL_MAX as usize, "only {proved} shapes of {name} can be served");
}

#[test]
fn every_all_reduce() {
    prove_all(Collective::AllReduce);
}

#[test]
fn every_reduce_scatter() {
    prove_all(Collective::ReduceScatter);
}

#[test]
fn every_all_gather() {
    prove_all(Collective::AllGather);
}

#[test]
fn every_broadcast() {
    prove_all(Collective::Broadcast);
}

#[test]
fn every_reduce() {
    prove_all(Collective::Reduce);
}

#[test]
fn every_gather() {
    prove_all(Collective::Gather);
}

#[test]
fn every_scatter() {
    prove_all(Collective::Scatter);
}

#[test]
fn every_all_to_all() {
    prove_all(Collective::AllToAll);
}

#[test]
fn every_barrier() {
    prove_all(Collective::Barrier);
}

#[test]
fn every_scan() {
    prove_all(Collective::Scan);
}

#[test]
fn every_exscan() {
    prove_all(Collective::ExScan);
}

#[test]
fn names_are_unique_within_a_collective() {
    for collective in Collective::ALL {
        let served = |a: &&dyn Algorithm| {
            [1, 2, 3, 4, 8].into_iter().any(|p| shapes(collective, p).iter().any(|s| a.serves(s)))
        };
        let mut names = std::collections::HashSet::new();
        for algorithm in ALGORITHMS.iter().copied().filter(served) {
            assert!(names.insert(algorithm.name()), "{}: {}", collective.name(), algorithm.name());
        }
    }
}

/// The messages of one rank: to or from whom, which blocks, in which format.
fn messages(schedule: &Schedule) -> Vec<(bool, Rank, Format, Vec<Block>)> {
    let blocks = |slices: &[Slice]| -> Vec<Block> {
        slices.iter().flat_map(|s| (s.block.0..s.block.0 + s.len).map(Block)).collect()
    };
    let format = |slices: &[Slice]| slices.first().map_or(Format::Data, |s| s.buf.format());
    let of = |step: &Step| match step {
        Step::Send { peer, src } => Some((true, *peer, format(src), blocks(src))),
        Step::Recv { peer, dst } => Some((false, *peer, format(dst), blocks(dst))),
        Step::RecvReduce { peer, wire, dst, .. } => Some((false, *peer, *wire, blocks(dst))),
        Step::Copy { .. } | Step::Reduce { .. } => None,
    };
    let mut messages: Vec<_> =
        schedule.rounds.iter().flat_map(|round| &round.steps).filter_map(of).collect();
    // The order among different peers, and between sending and receiving, is nobody else's
    // business; a stable sort keeps the order on each pipe.
    messages.sort_by_key(|&(sends, peer, ..)| (sends, peer));
    messages
}

/// One rank may work in place while another does not, as MPI allows at the root of a gather: what
/// goes over the wire must not depend on it.
#[test]
fn in_place_does_not_show_on_the_wire() {
    let mut compared = 0;
    for collective in Collective::ALL {
        for ranks in (1..=17).chain([24, 33]) {
            for root in if collective.is_rooted() { vec![0, ranks / 2] } else { vec![0] } {
                for reproducible in [false, true] {
                    let shape =
                        |in_place| Shape { collective, ranks, root, in_place, reproducible };
                    for algorithm in ALGORITHMS {
                        if !algorithm.serves(&shape(false)) || !algorithm.serves(&shape(true)) {
                            continue;
                        }
                        for rank in 0..ranks {
                            let [apart, shared] = [false, true]
                                .map(|at| messages(&algorithm.build(&shape(at), rank)));
                            let name = algorithm.name();
                            assert_eq!(apart, shared, "{name} rank {rank} {:?}", shape(true));
                            compared += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(compared > 10_000, "only {compared} schedules compared");
}
