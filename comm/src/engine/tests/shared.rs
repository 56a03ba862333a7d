//! Threads that share an engine, the progress thread, and the wait loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::{
    Buffers, Clock, Courtesy, EngineCell, MonotonicClock, Outcome, Patience, PollFds, Polled,
    Program, Source, WakeOn, wait,
};
use super::{Pipes, engines, meta, shared};
use crate::error::{Error, Rank};
use crate::memory::testing::{span, span_mut};
use crate::memory::{Span, SpanMut};
use crate::transport::Lane;

const PIPES: Pipes = Pipes { frame_bytes: 256, capacity_bytes: 512 };

fn cells(ranks: Rank) -> Vec<Arc<EngineCell>> {
    engines(ranks, PIPES).into_iter().map(EngineCell::new).collect()
}

/// Ends a test that hangs instead of hanging the run.
fn patience(clock: &MonotonicClock) -> Patience<'_> {
    Patience { stall_max: Some(Duration::from_secs(20)), ..Patience::endless(clock) }
}

fn blocking_send(cell: &EngineCell, peer: Rank, sequence: u64, bytes: &[u8]) -> Result<(), Error> {
    let clock = MonotonicClock::new();
    let buffers = Buffers::separate(span(bytes), SpanMut::EMPTY);
    let program = shared(Program::send(peer, bytes.len()));
    cell.run_blocking(&program, buffers, &meta(sequence, Lane::PointToPoint), &patience(&clock))
}

fn blocking_recv(cell: &EngineCell, peer: Rank, sequence: u64, bytes: usize) -> Vec<u8> {
    let clock = MonotonicClock::new();
    let mut arrived = vec![0; bytes];
    let buffers = Buffers::separate(Span::EMPTY, span_mut(&mut arrived));
    let program = shared(Program::recv(peer, bytes));
    let meta = meta(sequence, Lane::PointToPoint);
    cell.run_blocking(&program, buffers, &meta, &patience(&clock)).unwrap();
    arrived
}

/// Lets time pass, so that the other side falls asleep.
fn pause(time: Duration) {
    let clock = MonotonicClock::new();
    let patience =
        Patience { deadline: Some(time), oversubscribed: true, ..Patience::endless(&clock) };
    assert_eq!(wait(&mut Never::default(), &patience), Outcome::Deadline);
}

#[test]
fn blocking_calls_of_two_ranks_meet() {
    let cells = cells(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..50_u8 {
                if round % 16 == 0 {
                    pause(Duration::from_millis(3));
                }
                blocking_send(&cells[0], 1, round.into(), &[round; 1000]).unwrap();
            }
        });
        for round in 0..50_u8 {
            assert_eq!(blocking_recv(&cells[1], 0, round.into(), 1000), [round; 1000]);
        }
    });
}

#[test]
fn two_threads_of_a_rank_block_on_one_engine_in_opposite_directions() {
    let cells = cells(2);
    std::thread::scope(|scope| {
        for (me, cell) in cells.iter().enumerate() {
            let peer = 1 - me as Rank;
            scope.spawn(move || {
                for round in 0..20 {
                    blocking_send(cell, peer, round, &[me as u8; 3000]).unwrap();
                }
            });
            scope.spawn(move || {
                for round in 0..20 {
                    assert_eq!(blocking_recv(cell, peer, round, 3000), [peer as u8; 3000]);
                }
            });
        }
    });
}

#[test]
fn started_operations_end_without_anybody_waiting() {
    let cells = cells(2);
    let clock = MonotonicClock::new();
    let mut works = Vec::new();
    let meta = |sequence| meta(sequence, Lane::PointToPoint);
    for sequence in 0..4 {
        let data = vec![sequence as u8; 5000];
        let buffers = Buffers::separate(span(&data), SpanMut::EMPTY);
        let program = shared(Program::send(1, 5000));
        let keep = Box::new(data);
        let work = cells[0].start(&program, buffers, &meta(sequence), keep, &patience(&clock));
        works.push(work.unwrap());
    }
    for sequence in 0..4 {
        assert_eq!(blocking_recv(&cells[1], 0, sequence, 5000), [sequence as u8; 5000]);
    }
    for work in works {
        // The receiver has everything, so only the progress thread is left to notice.
        work.wait(&patience(&clock)).unwrap().unwrap();
        assert_eq!(work.test().unwrap().unwrap(), ());
        assert!(work.take_kept().unwrap().is::<Vec<u8>>());
        assert!(work.take_kept().is_none());
    }
}

#[test]
fn a_started_receive_is_waited_for_with_a_deadline_and_then_again() {
    let cells = cells(2);
    let clock = MonotonicClock::new();
    let mut data = vec![0_u8; 100];
    let buffers = Buffers::separate(Span::EMPTY, span_mut(&mut data));
    let program = shared(Program::recv(0, 100));
    let keep = Box::new(data);
    let lane = Lane::PointToPoint;
    let work = cells[1].start(&program, buffers, &meta(0, lane), keep, &patience(&clock)).unwrap();
    let deadline = Some(clock.now() + Duration::from_millis(20));
    assert!(work.wait(&Patience { deadline, ..patience(&clock) }).is_none());
    assert!(work.test().is_none());
    blocking_send(&cells[0], 1, 0, &[6; 100]).unwrap();
    work.wait(&patience(&clock)).unwrap().unwrap();
    let data = work.take_kept().unwrap().downcast::<Vec<u8>>().unwrap();
    assert_eq!(*data, [6; 100]);
}

#[test]
fn a_blocking_call_ends_when_nothing_moves() {
    let cells = cells(2);
    let clock = MonotonicClock::new();
    let mut data = [0; 8];
    let buffers = Buffers::separate(Span::EMPTY, span_mut(&mut data));
    let stall = Patience { stall_max: Some(Duration::from_millis(30)), ..patience(&clock) };
    let program = shared(Program::recv(0, 8));
    let error =
        cells[1].run_blocking(&program, buffers, &meta(4, Lane::PointToPoint), &stall).unwrap_err();
    let Error::Timeout { missing, after, call, .. } = &error else { panic!("{error}") };
    assert_eq!((missing[0].peer.rank, *after), (0, Duration::from_millis(30)));
    assert_eq!((call.me.rank, call.sequence), (1, 4));
    assert!(cells[1].broken().is_some());
}

#[test]
fn an_abort_ends_a_wait_in_another_thread() {
    let cells = cells(2);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let clock = MonotonicClock::new();
            let mut data = [0; 8];
            let buffers = Buffers::separate(Span::EMPTY, span_mut(&mut data));
            let program = shared(Program::recv(0, 8));
            let meta = meta(0, Lane::PointToPoint);
            cells[1].run_blocking(&program, buffers, &meta, &patience(&clock))
        });
        pause(Duration::from_millis(10));
        cells[1].abort("the user pressed stop");
        let error = waiter.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("the user pressed stop"), "{error}");
    });
    assert!(blocking_send(&cells[1], 0, 1, &[1]).is_err());
}

/// A clock on which only sleeping takes time.
#[derive(Default)]
struct Virtual(AtomicU64);

impl Clock for Virtual {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn pass(&self, bound: Duration) -> bool {
        self.0.fetch_add(bound.as_micros() as u64, Ordering::Relaxed);
        true
    }
}

/// Never done; counts how often it is polled.
#[derive(Default)]
struct Never {
    polls: u64,
    armed: i32,
}

impl Source for Never {
    fn poll(&mut self) -> Polled {
        self.polls += 1;
        Polled::Idle
    }

    fn arm(&mut self) {
        self.armed += 1;
    }

    fn disarm(&mut self) {
        self.armed -= 1;
    }

    fn wake_on(&self) -> WakeOn<'_> {
        WakeOn::Fds(PollFds::new())
    }
}

#[test]
fn a_long_wait_hardly_polls() {
    for oversubscribed in [false, true] {
        let clock = Virtual::default();
        let mut never = Never::default();
        let deadline = Some(Duration::from_secs(5));
        let patience = Patience { deadline, oversubscribed, ..Patience::endless(&clock) };
        assert_eq!(wait(&mut never, &patience), Outcome::Deadline);
        assert_eq!(never.armed, 0);
        let polls_max = if oversubscribed { 400 } else { 1024 + 101 * 65 };
        assert!(never.polls <= polls_max, "{} polls", never.polls);
        assert_eq!(clock.now(), Duration::from_secs(5), "slept past the deadline");
    }
}

/// Every look takes as long as it says.
struct Steps {
    now: std::sync::atomic::AtomicU64,
    step_us: u64,
}

impl Clock for Steps {
    fn now(&self) -> Duration {
        Duration::from_micros(self.now.fetch_add(self.step_us, Ordering::Relaxed))
    }
}

#[test]
fn whoever_keeps_the_core_is_not_offered_it_for_a_while() {
    for (step_us, offended) in [(400, false), (600, true)] {
        let clock = Steps { now: 0.into(), step_us };
        let courtesy = Courtesy::default();
        assert!(courtesy.offer(&clock), "nobody is known to be rude");
        assert_eq!(courtesy.offer(&clock), !offended, "{step_us} us");
        clock.now.fetch_add(100_000, Ordering::Relaxed);
        assert!(courtesy.offer(&clock), "for ever");
    }
}

#[test]
fn a_stall_is_measured_from_the_last_movement() {
    struct Moves(u32);
    impl Source for Moves {
        fn poll(&mut self) -> Polled {
            self.0 += 1;
            if self.0 < 5000 { Polled::Moved } else { Polled::Idle }
        }
        fn wake_on(&self) -> WakeOn<'_> {
            WakeOn::Fds(PollFds::new())
        }
    }
    let clock = Virtual::default();
    let stall_max = Some(Duration::from_secs(2));
    let patience = Patience { stall_max, ..Patience::endless(&clock) };
    let outcome = wait(&mut Moves(0), &patience);
    assert_eq!(outcome, Outcome::Stalled(Duration::from_secs(2)));
    assert_eq!(clock.now(), Duration::from_secs(2));
}
