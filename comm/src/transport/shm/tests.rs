//! The conformance suite over shared memory, and what only this transport can get wrong.

use super::*;
use crate::memory::testing::span;
use crate::transport::conformance::{Fabric, conformance_tests};

const BUDGET: usize = 32 << 20;

/// The ends of `count` ranks with these ring sizes.
fn ends(geometry: Geometry) -> Vec<ShmTransport> {
    let ranks: Vec<_> = (0..geometry.local_ranks).collect();
    let leader = Segment::create(geometry).expect("memory");
    let attach = |&rank: &Rank| {
        let fds = leader.fds();
        let fds = fds.iter().map(|fd| fd.try_clone_to_owned().expect("a descriptor")).collect();
        let segment = Segment::attach(fds, geometry.local_ranks).expect("the leader made it");
        ShmTransport::new(segment, rank, &ranks).expect("the first of this rank")
    };
    ranks.iter().map(attach).collect()
}

fn fabric_of(geometry: Geometry) -> Fabric {
    let ends = ends(geometry).into_iter().map(|end| Box::new(end) as Box<dyn Transport>);
    Fabric { ends: ends.collect(), idle: Box::new(|| {}) }
}

fn usual(ranks: Rank) -> Fabric {
    fabric_of(Geometry::new(ranks, BUDGET).expect("sound"))
}

/// The smallest rings there are: many turns, many markers.
fn tight(ranks: Rank) -> Fabric {
    fabric_of(Geometry::new(ranks, (64 << 10) * (ranks as usize - 1)).expect("sound"))
}

mod with_usual_rings {
    use super::*;
    conformance_tests!(conformance, usual, sleep: [Futex, Poll]);
}

mod with_tight_rings {
    use super::*;
    conformance_tests!(conformance, tight, sleep: [Futex, Poll]);
}

fn header(bytes: usize) -> FrameHeader {
    let payload_bytes = u32::try_from(bytes).expect("small");
    FrameHeader { fingerprint: 1, sequence: 2, payload_bytes }
}

fn send(end: &mut ShmTransport, peer: Rank, payload: &[u8]) -> Result<bool, Fault> {
    end.send(Lane::Small, peer, &header(payload.len()), &[span(payload)], &mut 0)
}

#[test]
fn ranks_need_not_be_contiguous() {
    let geometry = Geometry::new(3, BUDGET).expect("sound");
    let leader = Segment::create(geometry).expect("memory");
    let ranks = [40, 7, 9];
    let mut ends: Vec<_> = (0..3)
        .map(|local| {
            let fds = leader.fds();
            let fds = fds.iter().map(|fd| fd.try_clone_to_owned().expect("fd")).collect();
            let segment = Segment::attach(fds, 3).expect("the leader made it");
            ShmTransport::new(segment, local, &ranks).expect("the first of this rank")
        })
        .collect();
    for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let payload = [u8::try_from(10 * from + to).expect("small")];
        assert!(send(&mut ends[from], ranks[to], &payload).expect("all are here"));
        let shown = ends[to].view(Lane::Small, ranks[from], 1).expect("all are here");
        assert_eq!(crate::memory::testing::bytes(shown), payload);
        ends[to].consume(Lane::Small, ranks[from], 1).expect("all are here");
    }
}

#[test]
fn a_rank_attaches_once_and_fits() {
    let geometry = Geometry::new(2, BUDGET).expect("sound");
    let leader = Segment::create(geometry).expect("memory");
    let attach = |local, ranks: &[Rank]| {
        let fds = leader.fds();
        let fds = fds.iter().map(|fd| fd.try_clone_to_owned().expect("fd")).collect();
        ShmTransport::new(Segment::attach(fds, 2).expect("sound"), local, ranks)
    };
    let _first = attach(0, &[0, 1]).expect("the first");
    assert!(attach(0, &[0, 1]).is_err(), "rank 0 is taken");
    assert!(attach(1, &[0, 1, 2]).is_err() && attach(1, &[3, 3]).is_err());
    assert!(attach(2, &[0, 1]).is_err());
    attach(1, &[0, 1]).expect("nothing was taken by what failed");
}

/// Where the first frame on the small lane from 0 to 1 starts.
fn first_frame(end: &ShmTransport, geometry: Geometry) -> *mut u8 {
    let at = geometry.ring_at(Lane::Small, 0, 1) + geometry::CONTROL_BYTES;
    end._mapping.as_ptr().wrapping_add(at)
}

#[test]
fn a_frame_that_leaves_the_ring_is_a_protocol_violation() {
    for bytes in [u32::MAX, 1 << 20, u32::try_from(BUDGET).expect("small")] {
        let geometry = Geometry::new(2, BUDGET).expect("sound");
        let mut ends = ends(geometry);
        assert!(send(&mut ends[0], 1, &[7; 8]).expect("both are here"));
        let line = first_frame(&ends[0], geometry);
        // SAFETY: the length field of the first frame, which nobody else touches now.
        unsafe { line.wrapping_add(20).cast::<u32>().write(bytes) };
        for _ in 0..2 {
            let fault = ends[1].head(Lane::Small, 0).expect_err("the length is nonsense");
            assert!(matches!(fault.kind, FaultKind::Protocol(_)), "{fault}");
        }
        let fault = ends[1].view(Lane::Small, 0, 1).expect_err("it stays so");
        assert_eq!(fault.peer, 0);
        assert!(send(&mut ends[1], 0, &[1]).is_err(), "nothing more is said to such a peer");
    }
}

#[test]
fn a_read_position_out_of_range_is_a_protocol_violation() {
    let geometry = Geometry::new(2, 64 << 10).expect("sound");
    for head in [u64::MAX, 1 << 40, 1000] {
        let mut ends = ends(geometry);
        let ring = ends[0]._mapping.as_ptr().wrapping_add(geometry.ring_at(Lane::Small, 0, 1));
        // SAFETY: the word that rank 1 writes, which it does not do now.
        unsafe { ring.cast::<u64>().write(head) };
        let fault = (0..1000).find_map(|_| send(&mut ends[0], 1, &[0; 100]).err());
        let fault = fault.expect("the position is nonsense, or the ring is overrun");
        assert!(matches!(fault.kind, FaultKind::Protocol(_)), "{fault}");
    }
}

#[test]
fn a_marker_at_the_start_is_a_protocol_violation() {
    let geometry = Geometry::new(2, BUDGET).expect("sound");
    let mut ends = ends(geometry);
    // SAFETY: the first publish word, which nobody else touches now.
    unsafe { first_frame(&ends[0], geometry).cast::<u64>().write(3) };
    let fault = ends[1].head(Lane::Small, 0).expect_err("it leads nowhere");
    assert!(matches!(fault.kind, FaultKind::Protocol(_)), "{fault}");
}

#[test]
fn a_peer_that_dies_is_reported_once() {
    let geometry = Geometry::new(2, BUDGET).expect("sound");
    let leader = Segment::create(geometry).expect("memory");
    let mut child = std::process::Command::new("sleep").arg("100").spawn().expect("sleep");
    // SAFETY: the block of rank 1; the mapping moves into the transport below.
    let block = unsafe { MappedRank::new(at(&leader.mapping, geometry.rank_at(1))) };
    assert!(Identity::of(child.id()).claim(&block));
    let mut end = ShmTransport::new(leader, 0, &[0, 1]).expect("the first");
    end.arm(Sleep::Poll);
    end.progress().expect("it lives");
    assert_eq!(end.poll_fds().len(), 2, "its bell, and the peer's process");
    end.disarm();
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    let fault = (0..3 * POLLS_PER_LOOK).find_map(|_| end.progress().err()).expect("it died");
    assert_eq!(fault.peer, 1);
    assert!(matches!(fault.kind, FaultKind::Lost(_)), "{fault}");
    assert!((0..3 * POLLS_PER_LOOK).all(|_| end.progress().is_ok()), "reported already");
    assert!(end.head(Lane::Small, 1).is_err() && send(&mut end, 1, &[1]).is_err());
    assert_eq!(end.poll_fds().len(), 1, "what is gone does not end every sleep");
}
