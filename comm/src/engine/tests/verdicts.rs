//! Trouble, from the first sign to the verdict.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::{Buffers, Judge, OpMeta, Program, Trouble, TroubleKind};
use super::loopback::Pipes;
use super::sequences::{finish, recv, send};
use super::{engines, fabric, judged, meta, shared};
use crate::error::Error;
use crate::memory::Span;
use crate::memory::testing::span_mut;
use crate::transport::Lane;

const ROOMY: Pipes = Pipes { frame_bytes: 64, capacity_bytes: 1 << 20 };

/// Rank 1 waits for rank 2; rank 0 sends to it, in another call of the same number.
#[test]
fn a_frame_that_nobody_asks_for_tells_of_another_call() {
    for lane in [Lane::Small, Lane::Bulk] {
        let mut engines = engines(3, ROOMY);
        send(&mut engines[0], 1, &[1; 8], &meta(9, lane));
        engines[0].poll();
        let mut data = [0; 8];
        let mine = OpMeta { fingerprint: 8, ..meta(9, Lane::Small) };
        let id = recv(&mut engines[1], 2, &mut data, &mine);
        engines[1].poll();
        engines[1].find_strays();
        let error = finish(&mut engines[1], id).unwrap_err();
        let Error::Mismatch { calls, .. } = &error else { panic!("{error}") };
        assert_eq!((calls[0].peer.rank, calls[1].peer.rank), (1, 0));
    }
}

#[test]
fn a_frame_of_a_later_call_disturbs_nothing() {
    let mut engines = engines(3, ROOMY);
    send(&mut engines[0], 1, &[1; 8], &meta(10, Lane::Small));
    engines[0].poll();
    let mut data = [0; 8];
    let id = recv(&mut engines[1], 2, &mut data, &meta(9, Lane::Small));
    engines[1].poll();
    engines[1].find_strays();
    assert!(engines[1].broken().is_none());
    send(&mut engines[2], 1, &[2; 8], &meta(9, Lane::Small));
    engines[2].poll();
    finish(&mut engines[1], id).unwrap();
    assert_eq!(data, [2; 8]);
}

/// What the engine hands over, kept.
#[derive(Default)]
struct Kept(Mutex<Vec<Trouble>>);

impl Judge for Kept {
    fn investigate(&self, trouble: Trouble) {
        self.0.lock().unwrap().push(trouble);
    }
}

/// An engine with a judge stops at trouble, and ends everything with the judge's answer.
#[test]
fn a_judged_engine_waits_for_its_verdict() {
    let judge = Arc::new(Kept::default());
    let mut ends = fabric(3, ROOMY).into_iter();
    let mut engine = judged(ends.nth(1).unwrap(), (1, 3), 0, Some(Arc::clone(&judge) as _));
    let (mut one, mut two) = ([0; 8], [0; 8]);
    let lost = recv(&mut engine, 0, &mut one, &meta(0, Lane::Small));
    let other = recv(&mut engine, 2, &mut two, &meta(1, Lane::Small));
    drop(ends);
    engine.time_out(lost, Duration::from_secs(1));
    assert!(!engine.poll() && engine.take(lost).is_none() && !engine.is_idle());
    engine.time_out(other, Duration::from_secs(1));
    let troubles = judge.0.lock().unwrap();
    assert_eq!(troubles.len(), 1, "told once");
    let TroubleKind::Stall { waits_for, .. } = &troubles[0].kind else { panic!() };
    assert_eq!(waits_for, &[0]);
    let verdict = engine.names().aborted(&meta(7, Lane::Small), "as the judge says");
    engine.condemn(&verdict);
    for (id, sequence) in [(lost, 0), (other, 1)] {
        let error = finish(&mut engine, id).unwrap_err();
        let Error::Aborted { call, reason, .. } = &error else { panic!("{error}") };
        assert_eq!((call.sequence, reason.as_str()), (sequence, "as the judge says"));
    }
}

#[test]
fn a_doomed_engine_finishes_what_it_can_and_takes_nothing_new() {
    let mut engines = engines(2, ROOMY);
    let mut data = [0; 8];
    let id = recv(&mut engines[1], 0, &mut data, &meta(0, Lane::Small));
    let error = engines[1].names().aborted(&meta(7, Lane::Small), "it died");
    engines[1].doom(&error);
    let before = engines[1].mark();
    send(&mut engines[0], 1, &[3; 8], &meta(0, Lane::Small));
    engines[0].poll();
    let program = shared(Program::recv(0, 8));
    let mut more = [0; 8];
    let buffers = Buffers::separate(Span::EMPTY, span_mut(&mut more));
    let refused = engines[1].submit(&program, buffers, &meta(1, Lane::Small)).unwrap_err();
    assert!(refused.to_string().contains("it died"));
    finish(&mut engines[1], id).unwrap();
    assert_eq!(data, [3; 8]);
    assert_ne!(engines[1].mark(), before);
}
