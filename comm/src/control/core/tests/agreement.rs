//! What survivors agree on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::millis;
use crate::control::core::testing::{State, World};
use crate::control::core::{
    Absence, Agreed, Cause, Core, Input, Message, Operation, Output, Part, Timings,
};
use crate::error::Rank;

const COMM: u64 = 7;

/// One agreement of a rank, and the flags it brings.
fn enter(world: &mut World, rank: Rank, patience_millis: u64) {
    let flags = !(1 << (rank % 64));
    world.with(rank, |core, now| core.agree(now, COMM, flags, now + millis(patience_millis)));
}

/// The flags that these ranks bring together.
fn flags(ranks: impl Iterator<Item = Rank>) -> u64 {
    ranks.fold(u64::MAX, |flags, rank| flags & !(1 << (rank % 64)))
}

/// What is true of every agreement, whatever happened.
fn check(world: &World, ranks: Rank, number: u64, seed: u64) -> Option<Agreed> {
    let outcome = |rank: Rank| world.agreed.get(&(rank, COMM, number)).map(|(_, out)| out);
    let decided: Vec<(Rank, &Agreed)> =
        (0..ranks).filter_map(|r| Some((r, outcome(r)?.as_ref().ok()?))).collect();
    let (_, decision) = decided.first()?;
    for (rank, other) in &decided {
        assert_eq!(other, decision, "seed {seed}: rank {rank}, number {number}");
        assert!(!other.failed.contains(rank), "seed {seed}: rank {rank}");
    }
    let survivors = || (0..ranks).filter(|rank| !decision.failed.contains(rank));
    assert_eq!(decision.flags, flags(survivors()), "seed {seed}");
    for rank in survivors().filter(|rank| world.state(*rank) == State::Up) {
        assert!(matches!(outcome(rank), Some(Ok(_))), "seed {seed}: {rank} {:?}", outcome(rank));
    }
    for rank in &decision.failed {
        assert!(!matches!(outcome(*rank), Some(Ok(_))), "seed {seed}: rank {rank}");
    }
    Some((*decision).clone())
}

fn start(ranks: u64, seed: u64) -> (World, Rank) {
    let mut world = World::new(0, seed);
    let ranks = 1 + world.random.below(ranks) as Rank;
    world = World::new(ranks, seed);
    let all: Vec<Rank> = world.up();
    world.open(COMM, &all, millis(5));
    world.run(millis(10));
    (world, ranks)
}

/// Nothing goes wrong: everybody is in, everybody's flags count, and it takes no timeout.
#[test]
fn all_agree_when_nothing_happens() {
    for seed in 0..300 {
        let (mut world, ranks) = start(20, seed);
        for rank in 0..ranks {
            let after = world.random.micros(0, 5_000);
            world.at(after, rank, |world, rank| enter(world, rank, 30_000));
        }
        world.run(millis(100));
        let decision = check(&world, ranks, 0, seed).expect("an agreement");
        assert!(decision.failed.is_empty(), "seed {seed}");
    }
}

/// Ranks die at any moment, the coordinators most of all.
#[test]
fn survivors_agree_while_others_die() {
    for seed in 0..2000 {
        let (mut world, ranks) = start(12, seed);
        for rank in 0..ranks {
            let after = world.random.micros(0, 8_000);
            world.at(after, rank, |world, rank| enter(world, rank, 30_000));
        }
        let among = if seed % 2 == 0 { ranks } else { ranks.min(3) };
        for _ in 0..world.random.below(1 + u64::from(ranks)) {
            let victim = world.random.below(u64::from(among)) as Rank;
            let after = world.random.micros(0, 30_000);
            world.at(after, victim, |world, rank| world.crash(rank));
        }
        world.run(millis(3_000));
        let decision = check(&world, ranks, 0, seed);
        assert_eq!(decision.is_some(), !world.up().is_empty() || decision.is_some());
        for rank in world.up() {
            let (at, out) = &world.agreed[&(rank, COMM, 0)];
            assert!(out.is_ok(), "seed {seed}: {rank} {out:?}");
            assert!(*at < millis(2_000), "seed {seed}: {rank} at {at:?}");
        }
    }
}

/// One message at a time: the coordinator dies after each of its steps.
#[test]
fn the_coordinator_dies_at_every_step() {
    for ranks in 2..7 {
        for step in 0..400 {
            let mut world = World::new(ranks, u64::from(ranks));
            let all: Vec<Rank> = world.up();
            world.open(COMM, &all, millis(1));
            world.run(millis(10));
            (0..ranks).for_each(|rank| enter(&mut world, rank, 30_000));
            world.at(millis(step) / 20, 0, |world, rank| world.crash(rank));
            world.run(millis(3_000));
            let decision = check(&world, ranks, 0, step).expect("an agreement");
            assert!(decision.failed.is_empty() || decision.failed == [0], "{ranks} {step}");
        }
    }
}

/// Ranks that stop, for good or for a while, and ranks that come too late: nobody waits longer
/// than to the deadline and a little, and nobody decides differently.
#[test]
fn nobody_waits_for_those_that_stopped() {
    for seed in 0..2000 {
        let (mut world, ranks) = start(10, seed);
        let mut never = BTreeSet::new();
        for rank in 0..ranks {
            let after = match world.random.below(10) {
                0 => world.random.micros(800_000, 1_600_000),
                1 => {
                    never.insert(rank);
                    continue;
                }
                _ => world.random.micros(0, 8_000),
            };
            world.at(after, rank, |world, rank| enter(world, rank, 1_000));
        }
        for _ in 0..world.random.below(3) {
            let victim = world.random.below(u64::from(ranks)) as Rank;
            let after = world.random.micros(0, 20_000);
            world.at(after, victim, |world, rank| world.stop(rank));
            if world.random.chance(50) {
                let after = world.random.micros(20_000, 3_000_000);
                world.at(after, victim, |world, rank| world.resume(rank));
            }
        }
        world.run(millis(12_000));
        check(&world, ranks, 0, seed);
        for rank in world.up().into_iter().filter(|rank| !never.contains(rank)) {
            assert!(world.agreed.contains_key(&(rank, COMM, 0)), "seed {seed}: rank {rank}");
        }
    }
}

/// Many in a row, with deaths between and in them: a fast rank is in the next one while another
/// is in the last.
#[test]
fn agreements_in_a_row() {
    for seed in 0..300 {
        let (mut world, ranks) = start(9, seed);
        for rank in 0..ranks {
            let after = world.random.micros(0, 8_000);
            world.at(after, rank, |world, rank| row(world, rank, 0));
        }
        for _ in 0..world.random.below(4) {
            let victim = world.random.below(u64::from(ranks)) as Rank;
            let after = world.random.micros(0, 400_000);
            world.at(after, victim, |world, rank| world.crash(rank));
        }
        world.run(millis(8_000));
        let mut failed = Vec::new();
        for number in 0..10 {
            let Some(decision) = check(&world, ranks, number, seed) else {
                assert!(world.up().is_empty(), "seed {seed}: {number}");
                break;
            };
            assert!(failed.iter().all(|rank| decision.failed.contains(rank)), "seed {seed}");
            failed = decision.failed;
        }
    }
}

/// Ten agreements, each called soon after the one before has ended.
fn row(world: &mut World, rank: Rank, number: u64) {
    if number > 0 && !world.agreed.contains_key(&(rank, COMM, number - 1)) {
        world.at(millis(1), rank, move |world, rank| row(world, rank, number));
    } else if number < 10 {
        enter(world, rank, 30_000);
        let after = world.random.micros(0, 9_000);
        world.at(after, rank, move |world, rank| row(world, rank, number + 1));
    }
}

/// Ranks that do not even have the communicator yet, while others agree on it already.
#[test]
fn those_who_open_late_are_waited_for() {
    for seed in 0..300 {
        let ranks = 2 + (seed % 9) as Rank;
        let mut world = World::new(ranks, seed);
        let all: Vec<Rank> = world.up();
        for rank in all.clone() {
            let (after, all) = (world.random.micros(0, 900_000), all.clone());
            world.at(after, rank, move |world, rank| {
                world.with(rank, |core, now| core.open(now, COMM, all.into()));
                enter(world, rank, 30_000);
            });
        }
        world.run(millis(1_800));
        let decision = check(&world, ranks, 0, seed).expect("an agreement");
        assert!(decision.failed.is_empty(), "seed {seed}");
    }
}

/// What came before the coordinator had the communicator is said again, sooner than it asks.
#[test]
fn contributions_are_repeated() {
    for seed in 0..50 {
        let mut world = World::new(2, seed);
        world.with(1, |core, now| core.open(now, COMM, [0, 1].into()));
        enter(&mut world, 1, 30_000);
        world.at(millis(100), 0, |world, rank| {
            world.with(rank, |core, now| core.open(now, COMM, [0, 1].into()));
            enter(world, rank, 30_000);
        });
        world.run(millis(350));
        let decision = check(&world, 2, 0, seed).expect("an agreement");
        assert!(decision.failed.is_empty(), "seed {seed}");
    }
}

/// Whoever has agreed leaves the communicator at once, some leave the job, some die.
#[test]
fn those_who_went_on_tell_the_rest() {
    for seed in 0..1000 {
        let (mut world, ranks) = start(9, seed);
        for rank in 0..ranks {
            let after = world.random.micros(0, 8_000);
            world.at(after, rank, |world, rank| {
                enter(world, rank, 30_000);
                go_on(world, rank);
            });
            if world.random.chance(15) {
                let after = world.random.micros(0, 30_000);
                world.at(after, rank, |world, rank| world.crash(rank));
            }
        }
        world.run(millis(3_000));
        let decision = check(&world, ranks, 0, seed);
        for rank in world.up() {
            assert!(world.agreed[&(rank, COMM, 0)].1.is_ok(), "seed {seed}: {rank}");
        }
        assert!(decision.is_some() || world.up().is_empty(), "seed {seed}");
    }
}

fn go_on(world: &mut World, rank: Rank) {
    if !world.agreed.contains_key(&(rank, COMM, 0)) {
        world.at(millis(1) / 10, rank, go_on);
    } else if world.random.chance(30) {
        world.leave(rank);
    } else {
        world.with(rank, |core, now| core.close(now, COMM));
    }
}

/// Those that the failure named are not waited for.
#[test]
fn suspects_cost_no_time() {
    for seed in 0..300 {
        let (mut world, ranks) = start(12, seed);
        if ranks < 3 {
            continue;
        }
        let stopped = world.random.below(u64::from(ranks)) as Rank;
        world.stop(stopped);
        let by = (stopped + 1) % ranks;
        let cause = Cause::Stalled {
            by,
            operation: Operation::Collective(3),
            description: "barrier #3".to_owned(),
            missing: vec![(stopped, Absence::Silent)],
            after: millis(1000),
        };
        for rank in (0..ranks).filter(|rank| *rank != stopped) {
            let cause = cause.clone();
            world.with(rank, |core, now| core.fail(now, COMM, cause));
            let after = world.random.micros(0, 8_000);
            world.at(after, rank, |world, rank| enter(world, rank, 30_000));
        }
        world.run(millis(100));
        let decision = check(&world, ranks, 0, seed).expect("an agreement");
        assert_eq!(decision.failed, [stopped], "seed {seed}");
        // It runs on, and asks to be let in.
        world.resume(stopped);
        enter(&mut world, stopped, 1_000);
        world.run(millis(3_000));
        assert!(world.agreed[&(stopped, COMM, 0)].1.is_err(), "seed {seed}");
    }
}

/// Those that gave up or left have no part; nobody waits for them to the deadline.
#[test]
fn those_who_left_or_aborted_have_no_part() {
    for seed in 0..500 {
        let (mut world, ranks) = start(12, seed);
        let mut out = BTreeSet::new();
        for rank in 0..ranks {
            let after = world.random.micros(0, 20_000);
            match world.random.below(6) {
                0 => world.at(after, rank, |world, rank| {
                    world.with(rank, |core, now| core.abort(now, COMM, "enough"));
                }),
                1 => world.at(after, rank, |world, rank| {
                    world.with(rank, |core, now| core.close(now, COMM));
                }),
                2 => world.at(after, rank, |world, rank| world.leave(rank)),
                _ => {
                    world.at(after, rank, |world, rank| enter(world, rank, 30_000));
                    continue;
                }
            }
            out.insert(rank);
        }
        world.run(millis(3_000));
        let Some(decision) = check_parts(&world, ranks, seed, &out) else {
            assert_eq!(out.len() as Rank, ranks, "seed {seed}");
            continue;
        };
        assert_eq!(decision.failed, out.iter().copied().collect::<Vec<_>>(), "seed {seed}");
    }
}

fn check_parts(world: &World, ranks: Rank, seed: u64, out: &BTreeSet<Rank>) -> Option<Agreed> {
    for rank in (0..ranks).filter(|rank| !out.contains(rank)) {
        assert!(world.agreed.contains_key(&(rank, COMM, 0)), "seed {seed}: rank {rank}");
    }
    check(world, ranks, 0, seed)
}

/// Agreement and abort at once: whoever is in the agreement ends it.
#[test]
fn death_and_abort_during_agreement() {
    for seed in 0..1000 {
        let (mut world, ranks) = start(9, seed);
        for rank in 0..ranks {
            let after = world.random.micros(0, 8_000);
            world.at(after, rank, |world, rank| enter(world, rank, 2_000));
            let after = world.random.micros(0, 30_000);
            match world.random.below(8) {
                0 => world.at(after, rank, |world, rank| {
                    world.with(rank, |core, now| core.abort(now, COMM, "enough"));
                }),
                1 => world.at(after, rank, |world, rank| world.crash(rank)),
                2 => world.at(after, rank, |world, rank| {
                    world.with(rank, |core, now| core.revoke(now, COMM, "enough"));
                }),
                _ => {}
            }
        }
        world.run(millis(8_000));
        for rank in world.up() {
            assert!(world.agreed.contains_key(&(rank, COMM, 0)), "seed {seed}: rank {rank}");
        }
    }
}

/// Each side of a partition agrees by itself.
#[test]
fn each_side_of_a_partition_agrees() {
    for seed in 0..300 {
        let ranks = 4 + (seed % 6) as Rank;
        let mut world = World::new(ranks, seed);
        let all: Vec<Rank> = world.up();
        world.open(COMM, &all, millis(1));
        let cut: Vec<Rank> = all.iter().copied().filter(|_| world.random.chance(40)).collect();
        world.run(millis(10));
        let after = world.random.micros(0, 20_000);
        let side = cut.clone();
        world.at(after, 0, move |world, _| world.cut_off(&side, millis(500)));
        for rank in 0..ranks {
            let after = world.random.micros(0, 8_000);
            world.at(after, rank, |world, rank| enter(world, rank, 5_000));
        }
        world.run(millis(30_000));
        for side in [false, true] {
            let here: Vec<Rank> =
                all.iter().copied().filter(|rank| cut.contains(rank) == side).collect();
            let outcomes: BTreeSet<String> =
                here.iter().map(|r| format!("{:?}", world.agreed[&(*r, COMM, 0)].1)).collect();
            assert!(outcomes.len() <= 1, "seed {seed}: {outcomes:?}");
        }
    }
}

/// A coordinator stops, and wakes up just when the others have given up on it.
#[test]
fn a_coordinator_wakes_up_too_late() {
    for seed in 0..2000 {
        let ranks = 3 + (seed % 4) as Rank;
        let mut world = World::new(ranks, seed);
        let all: Vec<Rank> = world.up();
        world.open(COMM, &all, millis(1));
        world.run(millis(10));
        for rank in 0..ranks {
            let after = world.random.micros(0, 3_000);
            world.at(after, rank, |world, rank| enter(world, rank, 1_000));
        }
        for rank in 0..2 {
            let after = world.random.micros(0, 12_000);
            world.at(after, rank, |world, rank| world.stop(rank));
            let after = world.random.micros(995_000, 1_020_000);
            world.at(after, rank, |world, rank| world.resume(rank));
        }
        world.run(millis(12_000));
        check(&world, ranks, 0, seed).expect("an agreement");
    }
}

/// Whoever went to a higher ballot accepts nothing in a lower one, and says so.
#[test]
fn lower_ballots_are_refused() {
    let mut core = Core::new(2, 3, Timings::default());
    core.open(Duration::ZERO, COMM, Arc::new([0, 1, 2]));
    core.agree(Duration::ZERO, COMM, 1, millis(1000));
    core.tick(millis(1000));
    let mut said = || {
        let sent = std::iter::from_fn(|| core.next_output()).filter_map(|output| match output {
            Output::Send { to, message: Message::Agreement { ballot, part, .. } } => {
                Some((to, ballot, part))
            }
            _ => None,
        });
        sent.collect::<Vec<_>>()
    };
    assert!(matches!(said()[..], [(0, 0, Part::Contribute(_)), (1, 1, Part::Contribute(_))]));
    let part = Part::Propose { attempt: 1, decision: Agreed { flags: 1, failed: vec![] } };
    let message = Message::Agreement { comm: COMM, number: 0, ballot: 0, part };
    core.handle(millis(1001), Input::Message { from: 0, message });
    let said: Vec<_> = std::iter::from_fn(|| core.next_output()).collect();
    let message = Message::Agreement { comm: COMM, number: 0, ballot: 1, part: Part::Refuse };
    assert_eq!(said, [Output::Send { to: 0, message }]);
}
