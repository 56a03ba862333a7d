//! Deaths and farewells.

use std::collections::BTreeSet;

use super::millis;
use crate::control::core::Cause;
use crate::control::core::testing::{State, World};
use crate::error::Rank;

/// Crashes at random times, in communicators of random members: everybody who shares one with a
/// dead member learns of one that is really dead, within a second; nobody else fails.
#[test]
fn deaths_are_known_everywhere() {
    for seed in 0..300 {
        let mut world = World::new(0, seed);
        let ranks = 2 + world.random.below(20) as Rank;
        world = World::new(ranks, seed);
        let all: Vec<Rank> = (0..ranks).collect();
        let some: Vec<Rank> = all.iter().copied().filter(|_| world.random.chance(50)).collect();
        world.open(1, &all, millis(20));
        world.open(2, &some, millis(2000));
        let deaths = 1 + world.random.below(u64::from(ranks) - 1);
        for _ in 0..deaths {
            let victim = world.random.below(u64::from(ranks)) as Rank;
            let after = world.random.micros(0, 300_000);
            world.at(after, victim, |world, rank| world.crash(rank));
        }
        world.run(millis(1500));
        let up = world.up();
        for rank in &up {
            let (at, cause) = &world.failed[&(*rank, 1)];
            assert!(*at < millis(1300), "seed {seed}: {rank} at {at:?}");
            let Cause::Lost { rank: lost, .. } = cause else { panic!("seed {seed}: {cause:?}") };
            assert_eq!(world.state(*lost), State::Gone, "seed {seed}");
            let next = (1..ranks).map(|by| (rank + by) % ranks).filter(|at| up.contains(at));
            let next: Vec<Rank> = next.take(2).collect();
            assert_eq!(world.watched[rank], next, "seed {seed}");
        }
        world.run(millis(3000));
        let dead: BTreeSet<Rank> = all.iter().copied().filter(|r| !up.contains(r)).collect();
        for rank in some.iter().filter(|rank| up.contains(rank)) {
            let fails = some.iter().any(|member| dead.contains(member));
            assert_eq!(world.failed.contains_key(&(*rank, 2)), fails, "seed {seed}: {rank}");
        }
    }
}

/// The member before the one that dies has stopped, and so notices nothing; all others do, though
/// nobody talks to either.
#[test]
fn a_death_behind_a_stopped_watcher_is_noticed() {
    for seed in 0..300 {
        let ranks = 3 + (seed % 20) as Rank;
        let mut world = World::new(ranks, seed);
        let all: Vec<Rank> = world.up();
        world.open(1, &all, millis(1));
        world.run(millis(10));
        let victim = world.random.below(u64::from(ranks)) as Rank;
        let watcher = (victim + ranks - 1) % ranks;
        world.stop(watcher);
        world.crash(victim);
        world.run(millis(500));
        for rank in world.up() {
            let failed = world.failed.get(&(rank, 1));
            let told = matches!(failed, Some((_, Cause::Lost { rank, .. })) if *rank == victim);
            assert!(told, "seed {seed}: {rank} of {ranks} behind {victim}: {failed:?}");
        }
        assert_eq!(world.state(watcher), State::Stopped);
        world.resume(watcher);
        world.run(millis(1000));
        assert!(
            matches!(world.failed[&(watcher, 1)].1, Cause::Lost { rank, .. } if rank == victim)
        );
    }
}

/// A job ends: members leave one after the other, while others still work.
#[test]
fn farewells_are_no_deaths() {
    for seed in 0..300 {
        let mut world = World::new(2 + (seed % 20) as Rank, seed);
        let all: Vec<Rank> = world.up();
        world.open(1, &all, millis(1));
        world.run(millis(10));
        let spread = if seed % 2 == 0 { 3_000 } else { 300_000 };
        for rank in &all {
            let after = world.random.micros(0, spread);
            world.at(after, *rank, |world, rank| world.leave(rank));
        }
        world.run(millis(2000));
        assert!(world.failed.is_empty(), "seed {seed}: {:?}", world.failed);
    }
}

/// The last one is told of nobody's death, and watches nobody in the end.
#[test]
fn the_last_one_works_on() {
    for seed in 0..300 {
        let mut world = World::new(2 + (seed % 30) as Rank, seed);
        let all: Vec<Rank> = world.up();
        world.open(1, &all, millis(1));
        world.run(millis(10));
        for rank in all.iter().skip(1) {
            let after = world.random.micros(0, 2_000);
            world.at(after, *rank, |world, rank| world.leave(rank));
        }
        world.run(millis(2000));
        assert!(world.failed.is_empty(), "seed {seed}: {:?}", world.failed);
        assert!(world.watched[&0].is_empty());
        // Needing somebody who left is another matter.
        world.with(0, |core, now| core.suspect(now, 1, 1, "pipe closed"));
        world.run(millis(4000));
        assert_eq!(world.failed[&(0, 1)].1, Cause::Left { rank: 1 }, "seed {seed}");
    }
}

/// Both sides of a partition go on, each holding the other for dead.
#[test]
fn a_partition_is_the_death_of_the_other_side() {
    for seed in 0..300 {
        let ranks = 4 + (seed % 10) as Rank;
        let mut world = World::new(ranks, seed);
        let all: Vec<Rank> = world.up();
        world.open(1, &all, millis(1));
        let cut: Vec<Rank> = all.iter().copied().filter(|_| world.random.chance(40)).collect();
        world.run(millis(10));
        world.cut_off(&cut, millis(500));
        world.run(millis(20_000));
        if cut.is_empty() || cut.len() == all.len() {
            assert!(world.failed.is_empty());
            continue;
        }
        for rank in &all {
            let Cause::Lost { rank: lost, .. } = &world.failed[&(*rank, 1)].1 else { panic!() };
            assert_ne!(cut.contains(rank), cut.contains(lost), "seed {seed}: {rank}");
        }
    }
}

/// A firewall between two members: one holds the other for dead, and so do all; which that one is
/// told when it speaks up.
#[test]
fn a_rank_held_for_dead_is_told() {
    for seed in 0..100 {
        let ranks = 3 + (seed % 10) as Rank;
        let mut world = World::new(ranks, seed);
        let all: Vec<Rank> = world.up();
        world.open(1, &all, millis(1));
        world.run(millis(10));
        world.refuse(0, 2);
        world.run(millis(500));
        for rank in all.iter().filter(|rank| **rank != 2) {
            assert!(matches!(world.failed[&(*rank, 1)].1, Cause::Lost { rank: 2, .. }));
        }
        assert!(!world.failed.contains_key(&(2, 1)), "seed {seed}");
        world.with(2, |core, now| core.agree(now, 1, 1, now + millis(1_000)));
        world.run(millis(1_000));
        assert!(matches!(world.failed[&(2, 1)].1, Cause::Lost { rank: 2, .. }), "seed {seed}");
        let (at, outcome) = &world.agreed[&(2, 1, 0)];
        assert!(outcome.is_err() && *at < millis(600), "seed {seed}: {at:?} {outcome:?}");
    }
}
