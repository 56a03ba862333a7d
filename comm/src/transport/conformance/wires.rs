//! Pipes that work: order, content, capacity, independence.

use std::time::Instant;

use super::Fabric;
use super::flow::{Driver, Flow, Random, STALL_MAX, Take};
use crate::error::Rank;
use crate::transport::{Lane, Limits};

/// What is offered to a pipe to fill it: no transport may buffer this much for one peer.
const FLOOD_BYTES: usize = 64 << 20;

fn limits(driver: &mut Driver) -> Limits {
    let limits = driver.end(0).limits(1);
    assert!(limits.frame_bytes_preferred > 0);
    assert!(limits.frame_bytes_preferred <= limits.frame_bytes_max);
    limits
}

/// The largest frame, or what is large enough for a test where a frame may have any size.
fn frame_bytes_max(driver: &mut Driver) -> usize {
    limits(driver).frame_bytes_max.min(4 << 20)
}

fn run(factory: fn(Rank) -> Fabric, take: Take, sizes: &[usize]) {
    let mut driver = Driver::new(factory(2));
    let largest = frame_bytes_max(&mut driver);
    let sizes: &Vec<_> = &sizes.iter().map(|&size| size.min(largest)).collect();
    let mut flows: Vec<_> = Lane::ALL
        .into_iter()
        .flat_map(|lane| [Flow::new(lane, 0, 1, take, sizes), Flow::new(lane, 1, 0, take, sizes)])
        .collect();
    driver.run(&mut flows);
}

/// A frame without payload is a frame, and ends when nothing of it is consumed.
pub(crate) fn empty_frames(factory: fn(Rank) -> Fabric) {
    run(factory, Take::View, &[0; 300]);
    run(factory, Take::Mixed, &[0, 5, 0, 0, 70, 0]);
}

/// Every size from nothing to a few cache lines.
pub(crate) fn tiny_frames(factory: fn(Rank) -> Fabric) {
    let sizes: Vec<_> = (0..300).chain((0..300).rev()).collect();
    run(factory, Take::View, &sizes);
    run(factory, Take::Mixed, &sizes);
}

/// Frames of exactly the stated limits, and one byte less.
pub(crate) fn largest_frames(factory: fn(Rank) -> Fabric) {
    let mut driver = Driver::new(factory(2));
    let (largest, preferred) =
        (frame_bytes_max(&mut driver), limits(&mut driver).frame_bytes_preferred);
    for lane in Lane::ALL {
        for take in [Take::View, Take::Read] {
            let sizes = [largest, largest - 1, largest, 1, preferred, largest, preferred];
            driver.run(&mut [Flow::new(lane, 0, 1, take, &sizes)]);
        }
    }
}

/// Several times what the pipes hold, both ways at once.
pub(crate) fn more_than_a_pipe_holds(factory: fn(Rank) -> Fabric) {
    let mut driver = Driver::new(factory(2));
    let preferred = limits(&mut driver).frame_bytes_preferred.min(1 << 20);
    let sizes = vec![preferred; (16 << 20) / preferred];
    driver.run(&mut [
        Flow::new(Lane::Bulk, 0, 1, Take::View, &sizes),
        Flow::new(Lane::Bulk, 1, 0, Take::Read, &sizes),
    ]);
}

/// Offers a pipe more than it can hold; how many frames it took before it refused.
fn flood(driver: &mut Driver, flow: &mut Flow) -> usize {
    driver.fill(std::slice::from_mut(flow));
    assert!(!flow.all_sent(), "the pipe took {FLOOD_BYTES} bytes and nobody received any");
    flow.sent
}

fn flood_sizes(driver: &mut Driver, lane: Lane) -> Vec<usize> {
    let preferred = limits(driver).frame_bytes_preferred.min(1 << 20);
    let bytes = if lane == Lane::Small { preferred.min(20_000) } else { preferred };
    vec![bytes; FLOOD_BYTES / bytes]
}

/// A full pipe refuses, loses nothing, and takes the refused frame once there is room.
pub(crate) fn a_full_pipe_refuses_and_recovers(factory: fn(Rank) -> Fabric) {
    for lane in Lane::ALL {
        let mut driver = Driver::new(factory(2));
        let sizes = flood_sizes(&mut driver, lane);
        let mut flow = Flow::new(lane, 0, 1, Take::View, &sizes);
        let full_at = flood(&mut driver, &mut flow);
        // What a slow machine took for full may have been on its way to the peer.
        let start = Instant::now();
        while flow.sent < full_at + 20 || flow.received < 20 {
            assert!(start.elapsed() < STALL_MAX, "what was taken must have left room");
            driver.settle();
            while flow.pull(driver.end(1)).expect("the peer is there") {}
            driver.fill(std::slice::from_mut(&mut flow));
        }
    }
}

/// A full lane holds up no other lane between the same ranks, in either direction.
pub(crate) fn lanes_are_independent(factory: fn(Rank) -> Fabric) {
    for full in Lane::ALL {
        let mut driver = Driver::new(factory(2));
        let sizes = flood_sizes(&mut driver, full);
        let mut flow = Flow::new(full, 0, 1, Take::View, &sizes);
        let full_at = flood(&mut driver, &mut flow);
        let free = Lane::ALL.into_iter().filter(|&lane| lane != full);
        let mut others: Vec<_> = free
            .flat_map(|lane| [(lane, 0, 1), (lane, 1, 0)])
            .chain([(full, 1, 0)])
            .map(|(lane, from, to)| Flow::new(lane, from, to, Take::Mixed, &[8; 100]))
            .collect();
        driver.run(&mut others);
        while flow.received < full_at {
            driver.settle();
            while flow.pull(driver.end(1)).expect("the peer is there") {}
        }
    }
}

/// A peer that takes nothing holds up no other peer.
pub(crate) fn peers_are_independent(factory: fn(Rank) -> Fabric) {
    let mut driver = Driver::new(factory(3));
    let sizes = flood_sizes(&mut driver, Lane::Bulk);
    let mut flow = Flow::new(Lane::Bulk, 0, 1, Take::View, &sizes);
    flood(&mut driver, &mut flow);
    let preferred = limits(&mut driver).frame_bytes_preferred.min(1 << 20);
    driver.run(&mut [
        Flow::new(Lane::Bulk, 0, 2, Take::View, &[preferred, 3, preferred]),
        Flow::new(Lane::Bulk, 2, 0, Take::View, &[preferred, 3, preferred]),
        Flow::new(Lane::Bulk, 2, 1, Take::View, &[preferred, 3, preferred]),
    ]);
}

/// All pairs of several ranks on all lanes at once.
pub(crate) fn many_peers(factory: fn(Rank) -> Fabric) {
    let mut flows = vec![];
    for (from, to) in pairs(6) {
        for lane in Lane::ALL {
            flows.push(Flow::new(lane, from, to, Take::View, &[8, 0, 1000, 2000, 64, 1]));
        }
    }
    Driver::new(factory(6)).run(&mut flows);
}

fn pairs(ranks: Rank) -> impl Iterator<Item = (Rank, Rank)> {
    (0..ranks).flat_map(move |from| (0..ranks).map(move |to| (from, to))).filter(|(a, b)| a != b)
}

/// A receiver that asks for whole elements gets whole elements, however frames lie in the pipe.
pub(crate) fn elements_are_never_split(factory: fn(Rank) -> Fabric) {
    for element in [2, 4, 8, 16] {
        let mut random = Random(element as u64);
        let mut driver = Driver::new(factory(2));
        let largest = frame_bytes_max(&mut driver).min(300_000);
        let sizes: Vec<_> = (0..120)
            .map(|i| element * random.below(if i % 4 == 0 { largest / element } else { 50 }))
            .collect();
        driver.run(&mut [
            Flow::new(Lane::Bulk, 0, 1, Take::Elements(element), &sizes),
            Flow::new(Lane::Small, 1, 0, Take::Elements(element), &sizes),
        ]);
    }
}

/// Views, partial consumption and reads in any order within a frame.
pub(crate) fn reading_and_viewing_mix(factory: fn(Rank) -> Fabric) {
    let mut random = Random(7);
    let sizes: Vec<_> = (0..200).map(|_| random.below(3000)).collect();
    run(factory, Take::Mixed, &sizes);
    run(factory, Take::Bite, &[1000, 20_000, 0, 40]);
    run(factory, Take::Read, &[1000, 20_000, 0, 40]);
}

/// Seeded traffic between all of four ranks, sizes from empty to the largest.
pub(crate) fn random_traffic(factory: fn(Rank) -> Fabric) {
    for seed in 0..3 {
        let mut random = Random(seed);
        let mut driver = Driver::new(factory(4));
        let largest = frame_bytes_max(&mut driver).min(200_000);
        let mut flows = vec![];
        for (from, to) in pairs(4) {
            for lane in Lane::ALL {
                let frames = random.below(40);
                let sizes: Vec<_> = (0..frames)
                    .map(|_| match random.below(10) {
                        0 => random.below(largest + 1),
                        1..4 => random.below(largest.min(5000)),
                        _ => random.below(100),
                    })
                    .collect();
                let take = [Take::Mixed, Take::View, Take::Read][random.below(3)];
                flows.push(Flow::new(lane, from, to, take, &sizes));
            }
        }
        driver.run(&mut flows);
    }
}

/// Who views without a minimum is shown what has come, and at last all of it.
pub(crate) fn a_view_without_a_minimum_shows_what_is_here(factory: fn(Rank) -> Fabric) {
    let mut driver = Driver::new(factory(2));
    let mut left = frame_bytes_max(&mut driver).min(200_000);
    let mut flow = Flow::new(Lane::Bulk, 0, 1, Take::View, &[left]);
    let start = Instant::now();
    while left > 0 {
        assert!(start.elapsed() < STALL_MAX, "{left} bytes are not shown");
        driver.fill(std::slice::from_mut(&mut flow));
        driver.settle();
        let end = driver.end(1);
        if end.head(Lane::Bulk, 0).expect("the peer is there").is_some() {
            let shown = end.view(Lane::Bulk, 0, 0).expect("the peer is there").len();
            end.consume(Lane::Bulk, 0, shown).expect("the peer is there");
            left -= shown;
        }
    }
}

/// `head` and `view` take nothing: asked again they give the same answer.
pub(crate) fn a_frame_is_seen_before_it_is_taken(factory: fn(Rank) -> Fabric) {
    use crate::memory::testing::bytes;
    let mut driver = Driver::new(factory(2));
    let mut flow = Flow::new(Lane::Small, 0, 1, Take::View, &[96, 8]);
    driver.fill(std::slice::from_mut(&mut flow));
    driver.settle();
    let end = driver.end(1);
    let header = end.head(Lane::Small, 0).expect("the peer is there").expect("it was sent");
    assert_eq!(end.head(Lane::Small, 0).expect("the peer is there"), Some(header));
    let first = bytes(end.view(Lane::Small, 0, 96).expect("the peer is there"));
    assert_eq!(first.len(), 96, "all has arrived, and all of it was asked for");
    assert_eq!(end.head(Lane::Small, 0).expect("the peer is there"), Some(header));
    assert_eq!(bytes(end.view(Lane::Small, 0, 96).expect("the peer is there")), first);
    end.consume(Lane::Small, 0, 32).expect("the peer is there");
    let rest = bytes(end.view(Lane::Small, 0, 64).expect("the peer is there"));
    assert_eq!(rest, first[32..]);
    assert_eq!(end.head(Lane::Small, 0).expect("the peer is there"), Some(header));
    end.consume(Lane::Small, 0, 64).expect("the peer is there");
    let next = end.head(Lane::Small, 0).expect("the peer is there").expect("it was sent");
    assert_eq!((next.sequence, next.payload_bytes), (1, 8));
}
