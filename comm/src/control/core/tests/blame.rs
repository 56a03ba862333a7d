//! Who is named when an operation cannot go on.

use std::collections::{BTreeMap, BTreeSet};

use super::millis;
use crate::control::core::testing::{State, World};
use crate::control::core::{
    Absence, Cause, CommId, Mismatch, Operation, Progress, Stall, Unfinished,
};
use crate::error::Rank;

const COMM: CommId = 3;
const BARRIER: Operation = Operation::Collective(41);

fn world(ranks: Rank, seed: u64) -> World {
    let mut world = World::new(ranks, seed);
    let all: Vec<Rank> = world.up();
    world.open(COMM, &all, millis(1));
    world.run(millis(10));
    world
}

fn running(waits_for: Vec<Rank>) -> Progress {
    Progress::Running { description: "barrier #41".to_owned(), waits_for, behind: None }
}

fn not_entered(last: &str) -> Progress {
    Progress::NotEntered { last: Some(last.to_owned()), unfinished: None }
}

fn stalled(world: &mut World, rank: Rank, waits_for: Vec<Rank>) {
    let stall = Stall {
        operation: BARRIER,
        description: "barrier #41".to_owned(),
        waits_for,
        after: millis(30_000),
    };
    world.with(rank, |core, now| core.stalled(now, COMM, stall));
}

/// Everybody who runs has the same cause; which.
fn common(world: &World, seed: u64) -> Cause {
    let up = world.up();
    let causes: BTreeMap<Rank, &Cause> =
        up.iter().map(|rank| (*rank, &world.failed[&(*rank, COMM)].1)).collect();
    let first = causes.values().next().expect("somebody runs");
    assert!(causes.values().all(|cause| cause == first), "seed {seed}: {causes:?}");
    (*first).clone()
}

fn missing(cause: &Cause) -> BTreeMap<Rank, Absence> {
    let Cause::Stalled { missing, .. } = cause else { panic!("{cause:?}") };
    missing.iter().cloned().collect()
}

/// A ring in which everybody waits for the one before: some have stopped, some never called.
#[test]
fn a_stall_names_those_who_hold_it_up() {
    for seed in 0..500 {
        let ranks = 3 + (seed % 14) as Rank;
        let mut world = world(ranks, seed);
        let pick = |world: &mut World| world.random.below(u64::from(ranks)) as Rank;
        let stopped = BTreeSet::from([pick(&mut world)]);
        let absent = BTreeSet::from([pick(&mut world), pick(&mut world)]);
        stopped.iter().for_each(|rank| world.stop(*rank));
        let away = absent.clone();
        world.progress = Box::new(move |rank, _, _| match away.contains(&rank) {
            true => not_entered("broadcast #40"),
            false => running(vec![(rank + ranks - 1) % ranks]),
        });
        let up: Vec<Rank> = world.up().into_iter().filter(|r| !absent.contains(r)).collect();
        if up.is_empty() {
            continue;
        }
        for rank in &up {
            let after = world.random.micros(0, 20_000);
            world.at(after, *rank, move |world, rank| {
                stalled(world, rank, vec![(rank + ranks - 1) % ranks]);
            });
        }
        world.run(millis(1_000));
        for (rank, absence) in up.iter().flat_map(|r| missing(&world.failed[&(*r, COMM)].1)) {
            let true_absence = match stopped.contains(&rank) {
                true => Absence::Silent,
                false => Absence::NotEntered { last: Some("broadcast #40".to_owned()) },
            };
            assert_eq!(absence, true_absence, "seed {seed}: {rank}");
            assert!(stopped.contains(&rank) || absent.contains(&rank), "seed {seed}: {rank}");
        }
        for rank in &up {
            let (at, _) = world.failed[&(*rank, COMM)];
            assert!(at < millis(900), "seed {seed}: {rank} at {at:?}");
        }
    }
}

/// Everybody waits for everybody, all answer: they are slow, or wait in a circle.
#[test]
fn a_circle_is_slow() {
    for seed in 0..100 {
        let mut world = world(4, seed);
        world.progress = Box::new(|rank, _, _| running(vec![(rank + 1) % 4]));
        stalled(&mut world, 0, vec![1]);
        world.run(millis(1_000));
        let cause = common(&world, seed);
        assert_eq!(missing(&cause), BTreeMap::from([(1, Absence::Slow)]));
    }
}

/// A rank that has not come because it is held up by a stopped one in an earlier operation is
/// not to blame.
#[test]
fn the_one_behind_an_earlier_operation_is_named() {
    for seed in 0..100 {
        let mut world = world(4, seed);
        world.stop(3);
        let earlier = Operation::Collective(40);
        world.progress = Box::new(move |rank, _, operation| match (rank, operation) {
            (1, BARRIER) => Progress::NotEntered {
                last: Some("all_reduce #40".to_owned()),
                unfinished: Some(Unfinished { operation: earlier, waits_for: vec![2] }),
            },
            (2, operation) if operation == earlier => running(vec![3]),
            _ => running(vec![]),
        });
        stalled(&mut world, 0, vec![1]);
        world.run(millis(1_000));
        let cause = common(&world, seed);
        assert_eq!(missing(&cause), BTreeMap::from([(3, Absence::Silent)]), "seed {seed}");
    }
}

/// What rank 3 sent in an operation that it has finished does not come to 2. Rank 1 waits for 2
/// there, and has to finish that before it goes on in the next one, where 0 waits for it.
#[test]
fn a_broken_connection_behind_an_earlier_operation_is_found() {
    for seed in 0..100 {
        let mut world = world(4, seed);
        let earlier = Operation::Collective(40);
        let behind = move |waits_for| Some(Unfinished { operation: earlier, waits_for });
        let description = || "barrier #41".to_owned();
        world.progress = Box::new(move |rank, _, operation| match (rank, operation) {
            (1, BARRIER) => Progress::Running {
                description: description(),
                waits_for: vec![],
                behind: behind(vec![2]),
            },
            (2, BARRIER) => Progress::Running {
                description: description(),
                waits_for: vec![1],
                behind: behind(vec![3]),
            },
            (2, operation) if operation == earlier => running(vec![3]),
            _ => Progress::Done { description: description() },
        });
        stalled(&mut world, 0, vec![1]);
        world.run(millis(1_000));
        let cause = common(&world, seed);
        assert!(matches!(cause, Cause::Disconnected { by: 2, peer: 3, .. }), "{seed}: {cause:?}");
    }
}

/// It was stopped, so what it sent may be late as well: no connection broke.
#[test]
fn one_that_was_away_for_a_while_is_tardy() {
    for finished in [true, false] {
        let mut world = world(2, 1);
        world.stop(1);
        world.at(millis(150), 0, |world, _| world.resume(1));
        world.progress = Box::new(move |_, _, _| match finished {
            true => Progress::Done { description: "barrier #41".to_owned() },
            false => running(vec![]),
        });
        stalled(&mut world, 0, vec![1]);
        world.run(millis(1_000));
        assert_eq!(missing(&common(&world, 1)), BTreeMap::from([(1, Absence::Tardy)]));
    }
}

/// A stall behind somebody who died while being asked ends with the death.
#[test]
fn investigations_end_when_the_asked_die() {
    for seed in 0..500 {
        let ranks = 3 + (seed % 10) as Rank;
        let mut world = world(ranks, seed);
        world.progress = Box::new(move |rank, _, _| running(vec![(rank + 1) % ranks]));
        let after = world.random.micros(0, 20_000);
        let victim = 1 + world.random.below(u64::from(ranks) - 1) as Rank;
        world.at(after, victim, |world, rank| world.crash(rank));
        let after = world.random.micros(0, 20_000);
        world.at(after, 0, move |world, rank| match world.random.chance(50) {
            true => stalled(world, rank, vec![1]),
            false => world.with(rank, |core, now| core.suspect(now, COMM, victim, "pipe broke")),
        });
        world.run(millis(2_000));
        for rank in world.up() {
            match &world.failed[&(rank, COMM)].1 {
                Cause::Lost { rank, .. } => assert_eq!(*rank, victim, "seed {seed}"),
                // It answered, and died later.
                Cause::Disconnected { by: 0, peer, .. } => {
                    assert_eq!(*peer, victim, "seed {seed}");
                }
                cause => assert_eq!(missing(cause).get(&1), Some(&Absence::Slow), "seed {seed}"),
            }
        }
    }
}

/// The rank that really failed is named, not the one that went because of it.
#[test]
fn the_first_to_fail_is_named() {
    for seed in 0..500 {
        let ranks = 3 + (seed % 10) as Rank;
        let mut world = world(ranks, seed);
        // 1 aborts; 2 hears of it, and leaves the job; 0 sees its pipe to 2 close.
        world.with(1, |core, now| core.abort(now, COMM, "out of memory"));
        world.at(millis(0), 2, leave_once_failed);
        world.run(millis(3_000));
        let aborted = Cause::Aborted { by: 1, reason: "out of memory".to_owned() };
        for rank in (0..ranks).filter(|rank| world.state(*rank) == State::Up) {
            assert_eq!(world.failed[&(rank, COMM)].1, aborted, "seed {seed}: {rank}");
        }
    }
}

fn leave_once_failed(world: &mut World, rank: Rank) {
    if !world.failed.contains_key(&(rank, COMM)) {
        world.at(millis(1) / 10, rank, leave_once_failed);
        return;
    }
    world.leave(rank);
    for other in world.up() {
        let after = world.random.micros(1, 500);
        world.at(after, other, move |world, other| {
            world.with(other, |core, now| core.suspect(now, COMM, rank, "pipe closed"));
        });
    }
}

/// The pipe broke, for which there are several reasons.
#[test]
fn a_broken_pipe_is_explained() {
    let told = |act: fn(&mut World)| {
        let mut world = world(3, 1);
        act(&mut world);
        world.with(0, |core, now| core.suspect(now, COMM, 1, "pipe broke"));
        world.run(millis(1_500));
        assert_eq!(world.failed[&(0, COMM)].1, world.failed[&(2, COMM)].1);
        world.failed[&(0, COMM)].1.clone()
    };
    let lost = |cause: Cause| match cause {
        Cause::Lost { rank: 1, how } => how,
        cause => panic!("{cause:?}"),
    };
    let how = "pipe broke".to_owned();
    assert_eq!(told(|_| {}), Cause::Disconnected { by: 0, peer: 1, how });
    assert!(lost(told(|world| world.stop(1))).contains("does not answer"));
    assert!(lost(told(|world| world.crash(1))).contains("connection"));
    let left = told(|world| world.with(1, |core, now| core.close(now, COMM)));
    assert_eq!(left, Cause::Left { rank: 1 });
    let protocol = |world: &mut World| {
        world.with(1, |core, now| core.protocol_broken(now, COMM, 2, "a frame of 2^60 bytes"));
    };
    let Cause::Protocol { rank: 2, reason } = told(protocol) else { panic!() };
    assert_eq!(reason, "a frame of 2^60 bytes");
}

/// Calls that differ, told on both sides; the third rank is shown the one that differs from its
/// own.
#[test]
fn a_mismatch_shows_both_calls() {
    for seed in 0..300 {
        let ranks = 2 + (seed % 6) as Rank;
        let mut world = world(ranks, seed);
        let call = |rank: Rank| match rank {
            1 => "all_reduce #41 (f32 x 8, sum)".to_owned(),
            _ => "all_reduce #41 (f32 x 8, max)".to_owned(),
        };
        world.progress = Box::new(move |rank, _, _| Progress::Running {
            description: call(rank),
            waits_for: vec![],
            behind: None,
        });
        for (me, peer) in [(0, 1), (1, 0)] {
            let after = world.random.micros(0, 3_000);
            let mismatch =
                Mismatch { operation: BARRIER, description: call(me), peer, theirs: (41, 0xabcd) };
            world.at(after, me, move |world, rank| {
                world.with(rank, |core, now| core.mismatch(now, COMM, mismatch));
            });
        }
        world.run(millis(1_000));
        for rank in 0..ranks {
            let (at, cause) = &world.failed[&(rank, COMM)];
            assert!(*at < millis(100), "seed {seed}: {at:?}");
            let (shown, theirs) = cause.differing(rank, &call(rank)).expect("a mismatch");
            assert_eq!(shown == 1, rank != 1, "seed {seed}: {rank} is shown {shown}");
            assert_eq!(theirs, call(shown));
        }
    }
}

/// A peer that cannot say what it called is described by what its frame said.
#[test]
fn a_mismatch_with_a_stopped_peer_is_told_by_numbers() {
    for (stop, says) in [
        (true, "operation #40 (fingerprint 000000000000abcd)"),
        (false, "broadcast #40 (fingerprint 000000000000abcd)"),
    ] {
        let mut world = world(3, 1);
        world.progress = Box::new(|_, _, _| not_entered("broadcast #40"));
        if stop {
            world.stop(1);
        }
        let mismatch = Mismatch {
            operation: BARRIER,
            description: "barrier #41".to_owned(),
            peer: 1,
            theirs: (40, 0xabcd),
        };
        world.with(0, |core, now| core.mismatch(now, COMM, mismatch));
        world.run(millis(1_000));
        let Cause::Mismatch { one, other, .. } = common(&world, 1) else { panic!() };
        assert_eq!(one, (0, "barrier #41".to_owned()));
        assert_eq!(other, (1, says.to_owned()));
    }
}

/// The failure is known before the communicator is.
#[test]
fn a_communicator_fails_on_opening() {
    let mut world = World::new(3, 1);
    world.open(COMM, &[0, 1], millis(1));
    world.run(millis(10));
    world.with(0, |core, now| core.open(now, 9, [0, 1].into()));
    world.with(0, |core, now| core.revoke(now, 9, "no more"));
    world.run(millis(20));
    assert!(!world.failed.contains_key(&(1, 9)));
    world.with(1, |core, now| core.open(now, 9, [0, 1].into()));
    let revoked = Cause::Revoked { by: 0, reason: "no more".to_owned() };
    assert_eq!(world.failed[&(1, 9)].1, revoked);
    // A member that died before fails it as well.
    world.crash(2);
    world.run(millis(500));
    world.with(1, |core, now| core.open(now, 10, [1, 2].into()));
    assert!(matches!(world.failed[&(1, 10)].1, Cause::Lost { rank: 2, .. }));
}

/// Everything at once, at random: nothing hangs, and whoever is named has done something.
#[test]
fn every_failure_names_somebody_to_blame() {
    for seed in 0..1000 {
        let ranks = 3 + (seed % 14) as Rank;
        let mut world = world(ranks, seed);
        let mut guilty = BTreeSet::new();
        world.progress = Box::new(move |rank, _, _| running(vec![(rank + 1) % ranks]));
        for _ in 0..1 + world.random.below(3) {
            let rank = world.random.below(u64::from(ranks)) as Rank;
            guilty.insert(rank);
            let after = world.random.micros(0, 50_000);
            match world.random.below(4) {
                0 => world.at(after, rank, |world, rank| world.crash(rank)),
                1 => world.at(after, rank, |world, rank| world.stop(rank)),
                2 => world.at(after, rank, |world, rank| {
                    world.with(rank, |core, now| core.abort(now, COMM, "enough"));
                }),
                _ => world.at(after, rank, |world, rank| {
                    world.with(rank, |core, now| core.close(now, COMM));
                }),
            }
        }
        for rank in (0..ranks).filter(|rank| !guilty.contains(rank)) {
            let after = world.random.micros(60_000, 90_000);
            world
                .at(after, rank, move |world, rank| stalled(world, rank, vec![(rank + 1) % ranks]));
        }
        world.run(millis(2_000));
        for rank in world.up().into_iter().filter(|rank| !guilty.contains(rank)) {
            let Some((at, cause)) = world.failed.get(&(rank, COMM)) else {
                panic!("seed {seed}: {rank} does not fail; guilty {guilty:?}");
            };
            assert!(*at < millis(1_200), "seed {seed}: {rank} at {at:?}");
            let named = cause.ranks();
            assert!(!named.is_empty(), "seed {seed}: {cause:?}");
            assert!(named.iter().all(|r| guilty.contains(r)), "seed {seed}: {rank}: {cause:?}");
        }
    }
}

/// A large ring stalls behind one stopped rank, everywhere at once: soon known to all, with few
/// questions.
#[test]
fn a_large_job_asks_few_questions() {
    let ranks = 400;
    let mut world = world(ranks, 1);
    world.stop(100);
    world.progress = Box::new(move |rank, _, _| running(vec![(rank + ranks - 1) % ranks]));
    for rank in world.up() {
        let after = world.random.micros(0, 1_000);
        world.at(after, rank, move |world, rank| {
            stalled(world, rank, vec![(rank + ranks - 1) % ranks]);
        });
    }
    let before = world.messages;
    world.run(millis(1_000));
    assert_eq!(missing(&common(&world, 1)), BTreeMap::from([(100, Absence::Silent)]));
    let flood = 2 * 9 * u64::from(ranks);
    let asked = world.messages - before - flood;
    assert!(asked < 4 * u64::from(ranks), "{asked}");
}
