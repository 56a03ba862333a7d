//! Two small algorithms that the checker must accept, and damage that it must name.

use super::super::ir::{
    Block, Buf, Collective, LevelCost, Round, Schedule, Shape, Slice, Slot, Space, Step,
};
use super::*;
use crate::reduce::Format;

fn slice(buf: Buf, slot: u32, block: u32) -> Vec<Slice> {
    vec![Slice { buf, segment: 0, slot, block: Block(block), len: 1 }]
}

fn shape_of(collective: Collective, ranks: Rank) -> Shape {
    Shape { collective, ranks, root: 0, in_place: false, reproducible: false }
}

/// The ring all_reduce of Patarasuk and Yuan, 2009.
fn ring(ranks: Rank, rank: Rank) -> Schedule {
    let blocks = (0..ranks).map(Block).collect::<Vec<_>>();
    let (next, previous) = ((rank + 1) % ranks, (rank + ranks - 1) % ranks);
    let mut rounds = Vec::new();
    for t in 0..ranks - 1 {
        let (out, coming) = ((rank + ranks - t) % ranks, (rank + 2 * ranks - t - 1) % ranks);
        let from = if t == 0 { Buf::Input } else { Buf::Work };
        let local = slice(Buf::Input, coming, coming);
        let wire = from.format();
        let dst = slice(Buf::Work, coming, coming);
        let src = slice(from, out, out);
        let steps = vec![
            Step::Send { peer: next, src },
            Step::RecvReduce { peer: previous, wire, local, dst },
        ];
        rounds.push(Round { stage: 0, steps });
    }
    let own = (rank + 1) % ranks;
    let src = slice(Buf::Work, own, own);
    let dst = slice(Buf::Output, own, own);
    rounds.push(Round { stage: 0, steps: vec![Step::Copy { src, dst }] });
    for t in 0..ranks - 1 {
        let (out, coming) = ((rank + 1 + ranks - t) % ranks, (rank + ranks - t) % ranks);
        let steps = vec![
            Step::Send { peer: next, src: slice(Buf::Output, out, out) },
            Step::Recv { peer: previous, dst: slice(Buf::Output, coming, coming) },
        ];
        rounds.push(Round { stage: 0, steps });
    }
    Schedule {
        space: Space::Vector { blocks: ranks },
        segments: 1,
        window: 1,
        work: blocks.iter().copied().map(Slot::Of).collect(),
        input: blocks.clone(),
        output: blocks,
        stage: Vec::new(),
        work_in_output: Some(0),
        rounds,
    }
}

/// Recursive doubling for a power of two ranks.
fn doubling(ranks: Rank, rank: Rank) -> Schedule {
    let mut rounds = Vec::new();
    let mut mask = 1;
    while mask < ranks {
        let peer = rank ^ mask;
        let turn = mask.ilog2() % 2;
        let held = if mask == 1 { Buf::Input } else { Buf::Work };
        let at = if mask == 1 { 0 } else { 1 - turn };
        let (src, local) = (slice(held, at, 0), slice(held, at, 0));
        let dst = slice(Buf::Work, turn, 0);
        let steps = vec![
            Step::Send { peer, src },
            Step::RecvReduce { peer, wire: held.format(), local, dst },
        ];
        rounds.push(Round { stage: 0, steps });
        mask *= 2;
    }
    let src = slice(Buf::Work, (ranks.ilog2() + 1) % 2, 0);
    let steps = vec![Step::Copy { src, dst: slice(Buf::Output, 0, 0) }];
    rounds.push(Round { stage: 0, steps });
    Schedule {
        space: Space::Vector { blocks: 1 },
        segments: 1,
        window: 1,
        work: vec![Slot::Of(Block(0)); 2],
        input: vec![Block(0)],
        output: vec![Block(0)],
        stage: Vec::new(),
        work_in_output: None,
        rounds,
    }
}

/// A binomial broadcast tree.
fn tree(ranks: Rank, root: Rank, rank: Rank) -> Schedule {
    let me = (rank + ranks - root) % ranks;
    let mut rounds = Vec::new();
    let whole = || slice(Buf::Output, 0, 0);
    if me == 0 {
        let src = slice(Buf::Input, 0, 0);
        rounds.push(Round { stage: 0, steps: vec![Step::Copy { src, dst: whole() }] });
    }
    let mut mask = 1;
    while mask < ranks {
        if me < mask && me + mask < ranks {
            let step = Step::Send { peer: (rank + mask) % ranks, src: whole() };
            rounds.push(Round { stage: 0, steps: vec![step] });
        } else if me >= mask && me < 2 * mask {
            let step = Step::Recv { peer: (rank + ranks - mask) % ranks, dst: whole() };
            rounds.push(Round { stage: 0, steps: vec![step] });
        }
        mask *= 2;
    }
    Schedule {
        space: Space::Vector { blocks: 1 },
        segments: 1,
        window: 1,
        input: if me == 0 { vec![Block(0)] } else { Vec::new() },
        output: vec![Block(0)],
        work: Vec::new(),
        stage: Vec::new(),
        work_in_output: None,
        rounds,
    }
}

/// A dissemination barrier (Hensgen, Finkel and Manber, 1988).
fn barrier(ranks: Rank, rank: Rank) -> Schedule {
    let mut rounds = Vec::new();
    let mut distance = 1;
    let mut turn = 0;
    while distance < ranks {
        let work = |slot| slice(Buf::Work, slot, 0);
        let send = Step::Send { peer: (rank + distance) % ranks, src: work(turn) };
        let peer = (rank + ranks - distance) % ranks;
        let (local, dst) = (work(turn), work(turn + 1));
        let recv = Step::RecvReduce { peer, wire: Format::Acc, local, dst };
        rounds.push(Round { stage: 0, steps: vec![send, recv] });
        distance *= 2;
        turn += 1;
    }
    Schedule {
        space: Space::Vector { blocks: 1 },
        segments: 1,
        window: 1,
        input: Vec::new(),
        output: Vec::new(),
        work: vec![Slot::Any; turn as usize + 1],
        stage: Vec::new(),
        work_in_output: None,
        rounds,
    }
}

fn rings(ranks: Rank) -> Vec<Schedule> {
    (0..ranks).map(|rank| ring(ranks, rank)).collect()
}

fn doublings(ranks: Rank) -> Vec<Schedule> {
    (0..ranks).map(|rank| doubling(ranks, rank)).collect()
}

fn plain(shape: &Shape, schedules: &[Schedule]) -> Result<Report, Violation> {
    check(shape, schedules, &Options::default())
}

#[test]
fn accepts_the_ring_and_counts_it() {
    for ranks in [2, 3, 7, 64] {
        for in_place in [false, true] {
            let shape = Shape { in_place, ..shape_of(Collective::AllReduce, ranks) };
            let report = plain(&shape, &rings(ranks)).unwrap();
            let p = u64::from(ranks);
            let level = LevelCost {
                rounds: 2 * (p - 1),
                sent_blocks: 2 * (p - 1),
                sent_acc_blocks: p - 2,
                received_blocks: 2 * (p - 1),
                messages: 4 * (p - 1),
                reduced_blocks: p - 1,
            };
            assert_eq!(report.cost, Cost { blocks: p, levels: vec![level] });
        }
    }
}

#[test]
fn a_thousand_ranks_take_seconds() {
    let shape = shape_of(Collective::AllReduce, 1000);
    let report = check_with(&shape, &Options::default(), &|rank| Cow::Owned(ring(1000, rank)));
    assert_eq!(report.unwrap().steps, 1000 * (4 * 999 + 1));
}

#[test]
fn accepts_recursive_doubling_even_as_canonical() {
    for ranks in [2, 4, 8, 64] {
        let shape = Shape { reproducible: true, ..shape_of(Collective::AllReduce, ranks) };
        let report = plain(&shape, &doublings(ranks)).unwrap();
        assert_eq!(report.cost.levels[0].rounds, u64::from(ranks.ilog2()));
    }
}

#[test]
fn names_a_ring_that_is_not_canonical() {
    let shape = Shape { reproducible: true, ..shape_of(Collective::AllReduce, 5) };
    let found = plain(&shape, &rings(5)).unwrap_err();
    assert!(matches!(found, Violation::NotCanonical { rank: 0, .. }), "{found}");
}

#[test]
fn accepts_a_tree_from_every_root() {
    for ranks in 1..20 {
        for root in 0..ranks {
            let shape = Shape { root, ..shape_of(Collective::Broadcast, ranks) };
            let all = (0..ranks).map(|rank| tree(ranks, root, rank)).collect::<Vec<_>>();
            let report = plain(&shape, &all).unwrap();
            // A rank's distance from the root is its number of set bits.
            assert_eq!(report.cost.levels[0].rounds, u64::from(ranks.ilog2()));
        }
    }
}

#[test]
fn names_a_wrong_root() {
    let shape = Shape { root: 2, ..shape_of(Collective::Gather, 3) };
    let all = |root: Rank| -> Vec<Schedule> {
        (0..3)
            .map(|rank| {
                let mut s = tree(3, 0, rank);
                s.space = Space::PerRank;
                s.input = vec![Block(rank)];
                s.output = if rank == root { (0..3).map(Block).collect() } else { Vec::new() };
                let mut steps = vec![Step::Send { peer: root, src: slice(Buf::Input, 0, rank) }];
                if rank == root {
                    let src = slice(Buf::Input, 0, rank);
                    steps = vec![Step::Copy { src, dst: slice(Buf::Output, rank, rank) }];
                    steps.extend(
                        (0..3)
                            .filter(|&r| r != root)
                            .map(|peer| Step::Recv { peer, dst: slice(Buf::Output, peer, peer) }),
                    );
                }
                s.rounds = vec![Round { stage: 0, steps }];
                s
            })
            .collect()
    };
    assert_eq!(plain(&shape, &all(2)).unwrap().cost.levels[0].rounds, 1);
    let found = plain(&shape, &all(1)).unwrap_err();
    assert!(matches!(found, Violation::Head { rank: 1, .. }), "{found}");
    // A broadcast whose root sends something else than its input cannot be written down; one
    // that takes the contribution of another rank can.
    let shape = Shape { root: 0, ..shape_of(Collective::AllGather, 2) };
    let mut pair = (0..2).map(exchange).collect::<Vec<_>>();
    assert!(plain(&shape, &pair).is_ok());
    pair[1].rounds[0].steps.remove(0);
    let found = plain(&shape, &pair).unwrap_err();
    assert_eq!(found, Violation::NotWritten { rank: 1, block: Block(1), segment: 0 });
}

/// All_gather of two ranks.
fn exchange(rank: Rank) -> Schedule {
    let (own, other) = (rank, 1 - rank);
    let steps = vec![
        Step::Copy { src: slice(Buf::Input, 0, own), dst: slice(Buf::Output, own, own) },
        Step::Send { peer: other, src: slice(Buf::Input, 0, own) },
        Step::Recv { peer: other, dst: slice(Buf::Output, other, other) },
    ];
    Schedule {
        space: Space::PerRank,
        segments: 1,
        window: 1,
        input: vec![Block(rank)],
        output: vec![Block(0), Block(1)],
        work: Vec::new(),
        stage: Vec::new(),
        work_in_output: None,
        rounds: vec![Round { stage: 0, steps }],
    }
}

#[test]
fn judges_barriers() {
    for ranks in 1..40 {
        let shape = shape_of(Collective::Barrier, ranks);
        let mut all = (0..ranks).map(|rank| barrier(ranks, rank)).collect::<Vec<_>>();
        let rounds = plain(&shape, &all).unwrap().cost.levels[0].rounds;
        assert_eq!(rounds, u64::from(ranks.next_power_of_two().ilog2()));
        if ranks > 3 {
            // Sends that do not wait for what came before.
            for step in all.iter_mut().flat_map(|s| &mut s.rounds).flat_map(|r| &mut r.steps) {
                if let Step::Send { src, .. } = step {
                    src[0].slot = 0;
                }
            }
            let found = plain(&shape, &all).unwrap_err();
            assert!(matches!(found, Violation::LeftEarly { .. }), "{found}");
        }
    }
}

#[test]
fn names_a_dropped_block() {
    // Rank 2 passes on what it received without adding its own.
    let mut all = rings(4);
    let Step::RecvReduce { peer, dst, .. } = all[2].rounds[1].steps[1].clone() else { panic!() };
    all[2].rounds[1].steps[1] = Step::Recv { peer, dst };
    let found = plain(&shape_of(Collective::AllReduce, 4), &all).unwrap_err();
    assert_eq!(found, Violation::Dropped { rank: 0, block: Block(0), missing: vec![2] });
}

#[test]
fn names_a_double_contribution() {
    let mut all = doublings(4);
    // Ranks 0 and 1 meet twice.
    for (rank, peer) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        for step in &mut all[rank].rounds[1].steps {
            if let Step::Send { peer: p, .. } | Step::RecvReduce { peer: p, .. } = step {
                *p = peer;
            }
        }
    }
    let found = plain(&shape_of(Collective::AllReduce, 4), &all).unwrap_err();
    let at = |found: &Violation| match found {
        Violation::Double { at, .. } => (at.round, at.step),
        _ => panic!("{found}"),
    };
    assert_eq!(at(&found), (1, 1));
}

#[test]
fn names_a_deadlock_and_its_cycle() {
    let mut all = rings(3);
    // Every rank reduces into the slot it sends from: each waits for the next one's receive.
    for (rank, s) in all.iter_mut().enumerate() {
        let Step::Send { src, .. } = s.rounds[2 + 1].steps[0].clone() else { panic!() };
        let Step::Recv { peer, .. } = s.rounds[2 + 1].steps[1].clone() else { panic!() };
        let prev = (rank as u32 + 2) % 3;
        s.stage = vec![Slot::Any];
        let stage = |b: u32| slice(Buf::Stage, 0, b);
        let (own, other) = (src[0].block.0, (prev + 1) % 3);
        s.rounds[3].steps = vec![
            Step::Copy { src, dst: stage(own) },
            Step::Send { peer: (rank as u32 + 1) % 3, src: stage(own) },
            Step::Recv { peer, dst: stage(other) },
            Step::Copy { src: stage(other), dst: slice(Buf::Output, other, other) },
        ];
    }
    let found = plain(&shape_of(Collective::AllReduce, 3), &all).unwrap_err();
    let Violation::Deadlock { cycle } = &found else { panic!("{found}") };
    assert_eq!(cycle.len(), 6, "{found}");
    for (wait, next) in cycle.iter().zip(cycle.iter().cycle().skip(1)) {
        assert_eq!(wait.after, next.step, "{found}");
        let why = if wait.step.rank == wait.after.rank { Why::Memory } else { Why::Partner };
        assert_eq!(wait.why, why);
    }
}

#[test]
fn names_messages_out_of_order() {
    let mut all = rings(4);
    all[1].rounds.swap(4, 5);
    let found = plain(&shape_of(Collective::AllReduce, 4), &all).unwrap_err();
    assert!(matches!(found, Violation::MessageBlocks { .. }), "{found}");
}

#[test]
fn names_a_wrong_format() {
    let mut all = rings(4);
    let Step::RecvReduce { wire, .. } = &mut all[3].rounds[0].steps[1] else { panic!() };
    *wire = Format::Acc;
    let found = plain(&shape_of(Collective::AllReduce, 4), &all).unwrap_err();
    let Violation::MessageFormat { send, recv, .. } = found else { panic!("{found}") };
    assert_eq!((send.rank, recv.rank, recv.round, recv.step), (2, 3, 0, 1));
}

#[test]
fn names_a_leftover_message() {
    let mut all = rings(4);
    all[3].rounds[0].steps.pop();
    let found = plain(&shape_of(Collective::AllReduce, 4), &all).unwrap_err();
    // The later receives from rank 2 take the wrong messages, which is seen first.
    assert!(matches!(found, Violation::MessageBlocks { .. }), "{found}");
    let mut all = rings(4);
    all[3].rounds[6].steps.pop();
    let found = plain(&shape_of(Collective::AllReduce, 4), &all).unwrap_err();
    let Violation::Leftover { at, peer: 3, send: true } = found else { panic!("{found}") };
    assert_eq!((at.rank, at.round, at.step), (2, 6, 0));
}

#[test]
fn names_a_slot_overwritten_before_it_is_read() {
    // Rank 1 overwrites its output block before it has sent it on.
    let mut all = rings(4);
    let Step::Copy { src, .. } = all[1].rounds[3].steps[0].clone() else { panic!() };
    all[1].rounds[3].steps.push(Step::Copy {
        src: slice(Buf::Input, src[0].slot, src[0].block.0),
        dst: slice(Buf::Output, src[0].slot, src[0].block.0),
    });
    let found = plain(&shape_of(Collective::AllReduce, 4), &all).unwrap_err();
    assert!(matches!(found, Violation::Unfinished { .. }), "{found}");
}

#[test]
fn names_scratch_out_of_bounds_or_misused() {
    let mut all = rings(4);
    all[2].work.truncate(3);
    let found = plain(&shape_of(Collective::AllReduce, 4), &all).unwrap_err();
    let Violation::OutOfBounds { at, buf: Buf::Work, slot: 3, .. } = found else {
        panic!("{found}")
    };
    assert_eq!(at.rank, 2);
    let mut all = rings(4);
    (all[2].work_in_output, all[2].work[1]) = (None, Slot::Of(Block(2)));
    let found = plain(&shape_of(Collective::AllReduce, 4), &all).unwrap_err();
    assert!(matches!(found, Violation::WrongSlot { slot: 1, .. }), "{found}");
}

#[test]
fn names_reads_of_nothing_and_writes_to_input() {
    let mut all = rings(4);
    all[0].rounds.remove(3);
    let found = plain(&shape_of(Collective::AllReduce, 4), &all).unwrap_err();
    assert!(matches!(found, Violation::Uninitialised { .. }), "{found}");
    let mut all = rings(4);
    let Step::Recv { dst, .. } = &mut all[0].rounds[5].steps[1] else { panic!() };
    dst[0].buf = Buf::Input;
    let found = plain(&shape_of(Collective::AllReduce, 4), &all).unwrap_err();
    assert!(matches!(found, Violation::Forbidden { buf: Buf::Input, .. }), "{found}");
}

#[test]
fn names_ranks_that_used_different_trees() {
    // Rank 0 takes everything from everybody and adds in another order than the others.
    let ranks = 3;
    let all = (0..ranks)
        .map(|rank| {
            let mut steps = Vec::new();
            for peer in (0..ranks).filter(|&peer| peer != rank) {
                steps.push(Step::Send { peer, src: slice(Buf::Input, 0, 0) });
            }
            for (k, peer) in (0..ranks).filter(|&peer| peer != rank).enumerate() {
                let local = slice(if k == 0 { Buf::Input } else { Buf::Work }, 0, 0);
                let dst = slice(Buf::Work, 0, 0);
                steps.push(Step::RecvReduce { peer, wire: Format::Data, local, dst });
            }
            let src = slice(Buf::Work, 0, 0);
            steps.push(Step::Copy { src, dst: slice(Buf::Output, 0, 0) });
            let rounds = vec![Round { stage: 0, steps }];
            Schedule { rounds, ..doubling(2, 0) }
        })
        .collect::<Vec<_>>();
    let found = plain(&shape_of(Collective::AllReduce, ranks), &all).unwrap_err();
    assert_eq!(found, Violation::Disagreement { ranks: (0, 2), block: Block(0) });
}

#[test]
fn finds_what_only_aliased_work_breaks() {
    // Two work slots that trade places are fine on their own, but not inside the output.
    let mut all = doublings(2);
    for s in &mut all {
        s.work = vec![Slot::Of(Block(0))];
        s.work_in_output = Some(0);
    }
    let shape = Shape { in_place: true, ..shape_of(Collective::AllReduce, 2) };
    let found = plain(&shape, &all).unwrap_err();
    let Violation::Aliased(inner) = &found else { panic!("{found}") };
    assert!(matches!(**inner, Violation::Deadlock { .. }), "{found}");
}

#[test]
fn names_a_misstated_cost() {
    let schedules = rings(4);
    let shape = shape_of(Collective::AllReduce, 4);
    let mut cost = plain(&shape, &schedules).unwrap().cost;
    let exactly = |cost: &Cost| {
        let options = Options { stated: Stated::Exactly(cost), ..Options::default() };
        check(&shape, &schedules, &options).map(|_| ())
    };
    assert_eq!(exactly(&cost), Ok(()));
    cost.levels[0].rounds += 1;
    let found = exactly(&cost).unwrap_err();
    assert_eq!(
        found,
        Violation::Cost { level: 0, what: "rounds", stated: 7, counted: 6 },
        "{found}"
    );
}
