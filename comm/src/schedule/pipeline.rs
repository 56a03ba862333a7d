//! Pipelining: the data is cut into segments that follow each other through the stages of a
//! schedule, so that the levels of a hierarchy work at the same time.

use super::ir::{Round, Schedule, Slice, Step};

/// `schedule`, which must be in one segment, over `segments` segments with scratch for `window`
/// of them.
///
/// Stage s of segment i is listed beside stage s+1 of segment i-1. Segment i starts one stage
/// after segment i-1, but not before the last stage of segment i-`window`, whose scratch it
/// reuses: with a window below the number of stages fewer segments are under way at once.
///
/// The listing order is the same on all ranks: by time (start + stage), then by segment, then as
/// in `schedule`. So if the schedules of all ranks are free of deadlock, the two ends of every
/// message lie in the same stage, stages are listed in ascending order, and all ranks have the
/// same last stage (be its rounds empty), the result is free of deadlock too: waits across
/// segments and stages lead to what every rank lists earlier.
///
/// # Panics
/// If `schedule` has several segments already or does not list its stages in ascending order, or
/// if `segments` or `window` is 0.
pub fn pipelined(schedule: &Schedule, segments: u32, window: u32) -> Schedule {
    assert!(schedule.segments == 1, "a pipelined schedule cannot be pipelined again");
    assert!(schedule.rounds.is_sorted_by_key(|round| round.stage), "stages out of order");
    assert!(segments > 0 && window > 0, "segments and window are at least 1");
    let window = window.min(segments);
    let stages = schedule.rounds.last().map_or(1, |round| round.stage + 1);
    let starts = starts(segments, window, stages);
    let mut order = Vec::with_capacity(segments as usize * stages as usize);
    for (segment, start) in (0..segments).zip(starts) {
        order.extend((0..stages).map(|stage| (start + u64::from(stage), segment, stage)));
    }
    order.sort_unstable();
    let mut rounds = Vec::with_capacity(schedule.rounds.len() * segments as usize);
    for (_, segment, stage) in order {
        let first = schedule.rounds.partition_point(|round| round.stage < stage);
        let of_stage = schedule.rounds[first..].iter().take_while(|round| round.stage == stage);
        rounds.extend(of_stage.map(|round| in_segment(round, segment)));
    }
    Schedule { segments, window, rounds, ..head(schedule) }
}

/// `schedule`, which must be in one stage, in two: the second begins after its first `rounds`
/// rounds. All ranks must list the messages of either stage in it.
#[must_use]
pub fn in_two_stages(mut schedule: Schedule, rounds: u32) -> Schedule {
    assert!(schedule.rounds.iter().all(|round| round.stage == 0), "it has stages already");
    for round in schedule.rounds.iter_mut().skip(rounds as usize) {
        round.stage = 1;
    }
    schedule
}

/// All but the rounds.
fn head(schedule: &Schedule) -> Schedule {
    Schedule {
        space: schedule.space,
        segments: schedule.segments,
        window: schedule.window,
        input: schedule.input.clone(),
        output: schedule.output.clone(),
        work: schedule.work.clone(),
        stage: schedule.stage.clone(),
        work_in_output: schedule.work_in_output,
        rounds: Vec::new(),
    }
}

/// When each segment enters stage 0.
fn starts(segments: u32, window: u32, stages: u32) -> Vec<u64> {
    let mut starts = Vec::<u64>::with_capacity(segments as usize);
    for segment in 0..segments as usize {
        let after_previous = starts.last().map_or(0, |start| start + 1);
        let reused = segment.checked_sub(window as usize);
        let scratch_free = reused.map_or(0, |earlier| starts[earlier] + u64::from(stages));
        starts.push(after_previous.max(scratch_free));
    }
    starts
}

/// A copy of `round` that works on `segment`.
fn in_segment(round: &Round, segment: u32) -> Round {
    let move_all = |slices: &[Slice]| -> Vec<Slice> {
        slices.iter().map(|&slice| Slice { segment, ..slice }).collect()
    };
    let steps = round.steps.iter().map(|step| match step {
        Step::Send { peer, src } => Step::Send { peer: *peer, src: move_all(src) },
        Step::Recv { peer, dst } => Step::Recv { peer: *peer, dst: move_all(dst) },
        Step::RecvReduce { peer, wire, local, dst } => Step::RecvReduce {
            peer: *peer,
            wire: *wire,
            local: move_all(local),
            dst: move_all(dst),
        },
        Step::Copy { src, dst } => Step::Copy { src: move_all(src), dst: move_all(dst) },
        Step::Reduce { a, b, dst } => {
            Step::Reduce { a: move_all(a), b: move_all(b), dst: move_all(dst) }
        }
    });
    Round { stage: round.stage, steps: steps.collect() }
}

#[cfg(test)]
mod tests {
    use super::super::algorithms::ALGORITHMS;
    use super::super::checker::{Options, check};
    use super::super::ir::{Collective, Shape};
    use super::*;

    fn shape(collective: Collective, ranks: u32, in_place: bool) -> Shape {
        Shape { collective, ranks, root: ranks / 2, in_place, reproducible: false }
    }

    /// Every flat algorithm, pipelined, moves the same data in that many segments.
    #[test]
    fn flat_algorithms_stay_correct() {
        let mut proved = 0;
        for algorithm in ALGORITHMS {
            for collective in Collective::ALL {
                for ranks in [1, 2, 3, 5, 8] {
                    let root = if collective.is_rooted() { ranks / 2 } else { 0 };
                    let shape = Shape { root, ..shape(collective, ranks, ranks % 2 == 0) };
                    if !algorithm.serves(&shape) {
                        continue;
                    }
                    let one = algorithm.cost(&shape).levels[0];
                    for (segments, window) in [(1, 1), (3, 1), (5, 2)] {
                        let all = (0..ranks)
                            .map(|r| pipelined(&algorithm.build(&shape, r), segments, window))
                            .collect::<Vec<_>>();
                        let report = check(&shape, &all, &Options::default())
                            .unwrap_or_else(|e| panic!("{} {shape:?}: {e}", algorithm.name()));
                        let found = report.cost.levels[0];
                        let times = u64::from(segments);
                        assert_eq!(found.sent_blocks, times * one.sent_blocks);
                        assert_eq!(found.messages, times * one.messages);
                        proved += 1;
                    }
                }
            }
        }
        assert!(proved > 0, "no algorithm to pipeline");
    }

    /// Where a schedule says that it may be cut into two stages, it may.
    #[test]
    fn reducing_and_spreading_overlap() {
        let mut proved = 0;
        for (algorithm, ranks) in ALGORITHMS.iter().flat_map(|a| (2..10).map(move |p| (a, p))) {
            for in_place in [false, true] {
                let shape = shape(Collective::AllReduce, ranks, in_place);
                let shape = Shape { root: 0, ..shape };
                if !algorithm.serves(&shape) || algorithm.reducing_rounds(&shape) == 0 {
                    continue;
                }
                let staged = |rank| {
                    let schedule = algorithm.build(&shape, rank);
                    let rounds = algorithm.reducing_rounds(&shape);
                    assert!(schedule.rounds.len() > rounds as usize, "rank {rank}");
                    in_two_stages(schedule, rounds)
                };
                for (segments, window) in [(2, 1), (4, 3), (7, 2)] {
                    let all = (0..ranks).map(|rank| pipelined(&staged(rank), segments, window));
                    check(&shape, &all.collect::<Vec<_>>(), &Options::default())
                        .unwrap_or_else(|e| panic!("{} {shape:?}: {e}", algorithm.name()));
                    proved += 1;
                }
            }
        }
        assert!(proved > 0, "no algorithm is in two stages");
    }

    /// A ring cut into stages by hand: more stages than window, as many, and fewer.
    #[test]
    fn stages_overlap_within_the_window() {
        let ring = ALGORITHMS.iter().find(|a| a.name() == "ring").unwrap();
        for ranks in [2, 3, 4, 7] {
            for in_place in [false, true] {
                let shape = Shape { root: 0, ..shape(Collective::AllReduce, ranks, in_place) };
                for (stages, segments, window) in [(2, 4, 1), (3, 7, 2), (3, 5, 3), (2, 9, 4)] {
                    let all = (0..ranks).map(|rank| {
                        let mut schedule = ring.build(&shape, rank);
                        let rounds = schedule.rounds.len();
                        for (i, round) in schedule.rounds.iter_mut().enumerate() {
                            round.stage = (i * stages / rounds) as u32;
                        }
                        pipelined(&schedule, segments, window)
                    });
                    check(&shape, &all.collect::<Vec<_>>(), &Options::default())
                        .unwrap_or_else(|e| panic!("{ranks} ranks, {stages} stages: {e}"));
                }
            }
        }
    }

    #[test]
    fn a_segment_waits_for_its_scratch() {
        assert_eq!(starts(5, 5, 3), [0, 1, 2, 3, 4]);
        assert_eq!(starts(5, 2, 3), [0, 1, 3, 4, 6]);
        assert_eq!(starts(3, 1, 3), [0, 3, 6]);
    }

    #[test]
    fn stage_s_runs_beside_stage_s_plus_1_of_the_segment_before() {
        let stage = |stage| Round { stage, steps: Vec::new() };
        let ring = ALGORITHMS.iter().find(|a| a.name() == "ring").unwrap();
        let mut schedule = ring.build(&shape(Collective::AllReduce, 2, false), 0);
        schedule.rounds = vec![stage(0), stage(1), stage(2)];
        let order = pipelined(&schedule, 3, 3).rounds.iter().map(|r| r.stage).collect::<Vec<_>>();
        assert_eq!(order, [0, 1, 0, 2, 1, 0, 2, 1, 2]);
    }
}
