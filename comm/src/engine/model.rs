//! Threads that share an engine, under loom: the real cell, wait loop, gate, completion, bell and
//! registry over a transport made for this, in every interleaving up to a bound on preemptions.
//!
//! ```text
//! RUSTFLAGS="--cfg syncline_loom" cargo test -p syncline --lib engine::model
//! ```
//!
//! Sleeps have no bound here, so a wake-up that is missed, which in the library would cost one
//! bounded sleep, ends a model with "deadlock". `docs/verification.md` says what was broken on
//! purpose to see them fail.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::thread;
use rustix::event::{EventfdFlags, eventfd};

use super::completion::{Completion, Gate};
use super::drive::readable;
use super::primitive;
use super::registry::{Client, Registry, drop_finished};
use super::wait::{Clock, Outcome, Patience, Polled, Source, WakeOn, wait};
use super::waiting::Driving;
use super::{Buffers, Description, Engine, EngineCell, EngineConfig, OpMeta, Operation, Program};
use crate::error::{Error, Peer, Rank};
use crate::memory::testing::{span, span_mut};
use crate::memory::{Span, SpanMut};
use crate::transport::{Descriptors, Fault, FrameHeader, Lane, Limits, Sleep, Transport};

/// What every message carries.
const PAYLOAD: [u8; 8] = [7; 8];

/// A peer that takes whatever is sent, and from which frames arrive when a test says so.
struct Valve {
    /// Frames that have arrived.
    arrived: AtomicU32,
    bell: OwnedFd,
}

impl Valve {
    fn deliver(&self) {
        self.arrived.fetch_add(1, Ordering::Release);
        primitive::ring(self.bell.as_fd());
    }
}

/// This rank's end.
struct End {
    valve: Arc<Valve>,
    taken: u32,
    open: bool,
}

impl Transport for End {
    fn name(&self) -> &'static str {
        "valve"
    }

    fn limits(&self, _peer: Rank) -> Limits {
        Limits { frame_bytes_max: 64, frame_bytes_preferred: 64, in_place: true }
    }

    fn send(
        &mut self,
        _lane: Lane,
        _peer: Rank,
        header: &FrameHeader,
        _parts: &[Span],
        accepted: &mut usize,
    ) -> Result<bool, Fault> {
        *accepted = header.payload_bytes as usize;
        Ok(true)
    }

    fn head(&mut self, _lane: Lane, _peer: Rank) -> Result<Option<FrameHeader>, Fault> {
        self.open = self.open || self.valve.arrived.load(Ordering::Acquire) > self.taken;
        Ok(self.open.then(|| meta(self.taken.into()).header(PAYLOAD.len())))
    }

    fn view(&mut self, lane: Lane, peer: Rank, _min_bytes: usize) -> Result<Span, Fault> {
        Ok(if self.head(lane, peer)?.is_some() { span(&PAYLOAD) } else { Span::EMPTY })
    }

    fn consume(&mut self, _lane: Lane, _peer: Rank, bytes: usize) -> Result<(), Fault> {
        assert_eq!(bytes, PAYLOAD.len());
        self.open = false;
        self.taken += 1;
        Ok(())
    }

    fn read(&mut self, lane: Lane, peer: Rank, dst: SpanMut) -> Result<usize, Fault> {
        let shown = self.view(lane, peer, 0)?;
        if !shown.is_empty() {
            dst.copy_from(shown);
            self.consume(lane, peer, shown.len())?;
        }
        Ok(shown.len())
    }

    fn progress(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn arm(&mut self, how: Sleep) {
        assert_eq!(how, Sleep::Poll);
    }

    fn disarm(&mut self) {
        primitive::silence(self.valve.bell.as_fd());
    }

    fn futex(&self) -> Option<(&std::sync::atomic::AtomicU32, u32)> {
        None
    }

    fn poll_fds(&self) -> Descriptors<'_> {
        Descriptors::from_iter([self.valve.bell.as_fd()])
    }
}

/// No time passes.
struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

const PATIENCE: Patience<'static> = Patience { oversubscribed: true, ..Patience::endless(&Still) };

const fn meta(sequence: u64) -> OpMeta {
    let description = Description::new(Operation::Send);
    OpMeta { description, sequence, fingerprint: 7, lane: Lane::PointToPoint }
}

/// The cell of rank 0 of two, with a bell, as after the first meeting of two threads.
fn cell() -> (std::sync::Arc<EngineCell>, Arc<Valve>) {
    let bell = eventfd(0, EventfdFlags::NONBLOCK).expect("a descriptor");
    let valve = Arc::new(Valve { arrived: AtomicU32::new(0), bell });
    let end = End { valve: Arc::clone(&valve), taken: 0, open: false };
    let config = EngineConfig {
        rank: 0,
        peers: (0..2).map(|rank| Peer { rank, host: "host".to_owned() }).collect(),
        transports: vec![Box::new(end)],
        routes: vec![0; 2],
        staging_bytes_max: 1 << 16,
        judge: None,
        flight_records: 64,
    };
    let cell = EngineCell::new(Engine::new(config).expect("sound"));
    cell.bell.prepare();
    (cell, valve)
}

fn send(cell: &EngineCell) {
    let program = std::sync::Arc::new(Program::send(1, PAYLOAD.len()));
    let buffers = Buffers::separate(span(&PAYLOAD), SpanMut::EMPTY);
    cell.run_blocking(&program, buffers, &meta(0), &PATIENCE).expect("the peer takes everything");
}

fn receive(cell: &EngineCell, sequence: u64) -> Result<(), Error> {
    let mut arrived = [0; PAYLOAD.len()];
    let program = std::sync::Arc::new(Program::recv(1, PAYLOAD.len()));
    let buffers = Buffers::separate(Span::EMPTY, span_mut(&mut arrived));
    cell.run_blocking(&program, buffers, &meta(sequence), &PATIENCE)?;
    assert_eq!(arrived, PAYLOAD);
    Ok(())
}

fn explore(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(test);
}

/// A driver that is about to sleep, or sleeps, lets another thread have the engine.
#[test]
fn who_asks_for_the_engine_gets_it() {
    explore(2, || {
        let (cell, valve) = cell();
        let asker = {
            let cell = std::sync::Arc::clone(&cell);
            thread::spawn(move || {
                send(&cell);
                valve.deliver();
            })
        };
        receive(&cell, 0).expect("it was delivered");
        asker.join().expect("no panic");
        assert!(!cell.is_wanted());
    });
}

/// Nobody oversleeps an abort.
#[test]
fn an_abort_wakes_the_driver() {
    explore(2, || {
        let (cell, _valve) = cell();
        let aborter = {
            let cell = std::sync::Arc::clone(&cell);
            thread::spawn(move || cell.abort("enough"))
        };
        let error = receive(&cell, 0).expect_err("nothing was delivered");
        assert!(error.to_string().contains("enough"), "{error}");
        aborter.join().expect("no panic");
        receive(&cell, 1).expect_err("it takes no more");
    });
}

/// What a visitor wants done is done, once, whether or not somebody drives.
#[test]
fn visits_are_made() {
    explore(2, || visit(false));
}

/// It is done soon: nothing moves before it is.
#[test]
fn visits_are_made_before_anything_moves() {
    explore(2, || visit(true));
}

fn visit(waits: bool) {
    let (cell, valve) = cell();
    let made = Arc::new(AtomicU32::new(0));
    let visitor = {
        let (cell, made) = (std::sync::Arc::clone(&cell), Arc::clone(&made));
        thread::spawn(move || {
            let gate = std::sync::Arc::new(Gate::default());
            let visited = std::sync::Arc::new(Completion::new(&gate, None));
            let there = visited.clone();
            cell.visit(Box::new(move |_| {
                made.fetch_add(1, Ordering::Relaxed);
                if waits {
                    there.end(Ok(()));
                }
            }));
            if waits {
                let mut source = AtGate { gate: &gate, completion: &visited, seen: 0 };
                assert_eq!(wait(&mut source, &PATIENCE), Outcome::Done);
            }
            valve.deliver();
        })
    };
    receive(&cell, 0).expect("it was delivered");
    visitor.join().expect("no panic");
    assert_eq!(made.load(Ordering::Relaxed), 1);
    assert!(!cell.is_wanted());
}

/// Of two threads that wait, one drives for both, and the other hears of its end.
#[test]
fn a_waiter_learns_of_an_end_that_another_thread_drove_to() {
    explore(2, || {
        let (cell, valve) = cell();
        let mut arrived = Box::new([0; PAYLOAD.len()]);
        let program = std::sync::Arc::new(Program::recv(1, PAYLOAD.len()));
        let buffers = Buffers::separate(Span::EMPTY, span_mut(&mut *arrived));
        let mut held = cell.try_hold().expect("nobody else is here");
        let id = held.engine_mut().submit(&program, buffers, &meta(0)).expect("it fits");
        let completion = std::sync::Arc::new(Completion::new(&cell.gate, None));
        held.engine_mut().notify(id, std::sync::Arc::clone(&completion));
        drop(held);
        let other = {
            let cell = std::sync::Arc::clone(&cell);
            thread::spawn(move || {
                valve.deliver();
                valve.deliver();
                receive(&cell, 1).expect("it was delivered");
            })
        };
        let mut driving = Driving::new(&cell, id, None, Some(completion));
        assert_eq!(wait(&mut driving, &PATIENCE), Outcome::Done);
        let (held, _, result) = driving.finish();
        drop(held);
        assert!(matches!(result, Some(Ok(()))));
        other.join().expect("no panic");
        assert!(!cell.gate.is_pending() && *arrived == PAYLOAD);
    });
}

/// Waits for a completion at the gate, and for nothing else.
struct AtGate<'a> {
    gate: &'a Gate,
    completion: &'a Completion,
    seen: u32,
}

impl Source for AtGate<'_> {
    fn poll(&mut self) -> Polled {
        if self.completion.has_ended() { Polled::Done } else { Polled::Idle }
    }

    fn arm(&mut self) {
        self.seen = self.gate.arm();
    }

    fn disarm(&mut self) {
        self.gate.disarm();
    }

    fn wake_on(&self) -> WakeOn<'_> {
        WakeOn::Private { word: self.gate.word(), value: self.seen }
    }
}

/// Two threads wait for the end of one operation, which a third brings about.
#[test]
fn everybody_at_the_gate_hears_of_an_end() {
    explore(3, || {
        let gate = std::sync::Arc::new(Gate::default());
        let completion = std::sync::Arc::new(Completion::new(&gate, Some(Box::new(PAYLOAD))));
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let (gate, completion) = (gate.clone(), completion.clone());
                thread::spawn(move || {
                    let mut source = AtGate { gate: &gate, completion: &completion, seen: 0 };
                    assert_eq!(wait(&mut source, &PATIENCE), Outcome::Done);
                    let result = completion.result().expect("it has ended");
                    assert!(result.expect_err("it went wrong").to_string().contains("enough"));
                    completion.take_kept().is_some()
                })
            })
            .collect();
        let reason = "enough".to_owned();
        completion.end(Err(Error::InvalidArgument { operation: "send", reason }));
        let kept = waiters.into_iter().map(|waiter| waiter.join().expect("no panic"));
        assert_eq!(kept.filter(|&kept| kept).count(), 1, "the buffers come back once");
        assert!(!gate.is_pending());
    });
}

/// Something the progress thread looks after.
struct Job {
    gate: std::sync::Arc<Gate>,
    registered: AtomicBool,
    /// Operations that were started, and that the thread can end.
    open: primitive::Mutex<Vec<std::sync::Arc<Completion>>>,
}

impl Job {
    fn new() -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self {
            gate: std::sync::Arc::default(),
            registered: AtomicBool::new(false),
            open: primitive::Mutex::new(Vec::new()),
        })
    }

    /// Starts an operation.
    fn start(&self) -> std::sync::Arc<Completion> {
        let completion = std::sync::Arc::new(Completion::new(&self.gate, None));
        self.open.lock().expect("no panic").push(completion.clone());
        completion
    }

    fn wait_for(&self, completion: &Completion) {
        let mut source = AtGate { gate: &self.gate, completion, seen: 0 };
        assert_eq!(wait(&mut source, &PATIENCE), Outcome::Done);
    }
}

impl Client for Job {
    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn registered(&self) -> &AtomicBool {
        &self.registered
    }
}

/// What the model's progress thread works through.
struct Office {
    registry: Registry<Job>,
    /// Threads that look after it now: one or none.
    busy: AtomicU32,
    threads: primitive::Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Office {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            registry: Registry::new(),
            busy: AtomicU32::new(0),
            threads: primitive::Mutex::new(Vec::new()),
        })
    }

    fn register(office: &Arc<Self>, job: &std::sync::Arc<Job>) {
        let start = || -> io::Result<()> {
            let theirs = Arc::clone(office);
            let thread = thread::spawn(move || progress(&theirs));
            office.threads.lock().expect("no panic").push(thread);
            Ok(())
        };
        office.registry.register(job, start).expect("it starts");
    }

    /// Waits until all threads have left.
    fn close(&self) {
        self.registry.bell.ring();
        loop {
            let Some(thread) = self.threads.lock().expect("no panic").pop() else { return };
            thread.join().expect("no panic");
        }
    }
}

/// The progress thread's wait, as `progress.rs` has it, over jobs in place of engines.
struct Desk<'a> {
    office: &'a Office,
    jobs: &'a [std::sync::Arc<Job>],
}

impl Source for Desk<'_> {
    fn poll(&mut self) -> Polled {
        if self.office.registry.has_news() {
            return Polled::Done;
        }
        let mut moved = false;
        for job in self.jobs {
            let open = job.open.lock().expect("no panic").pop();
            moved |= open.is_some();
            if let Some(completion) = open {
                completion.end(Ok(()));
            }
            if !job.gate.is_pending() {
                return Polled::Done;
            }
        }
        if moved { Polled::Moved } else { Polled::Idle }
    }

    fn disarm(&mut self) {
        self.office.registry.bell.silence();
    }

    fn wake_on(&self) -> WakeOn<'_> {
        WakeOn::Fds(self.office.registry.bell.fd().map(readable).into_iter().collect())
    }
}

/// A progress thread whose patience is over when it has no jobs.
fn progress(office: &Office) {
    let mut jobs = Vec::new();
    assert_eq!(office.busy.fetch_add(1, Ordering::SeqCst), 0, "one thread at a time");
    loop {
        drop_finished(&mut jobs);
        office.registry.collect(&mut jobs);
        if !jobs.is_empty() {
            assert_eq!(wait(&mut Desk { office, jobs: &jobs }, &PATIENCE), Outcome::Done);
            continue;
        }
        office.busy.fetch_sub(1, Ordering::SeqCst);
        if office.registry.leave() {
            return;
        }
        assert_eq!(office.busy.fetch_add(1, Ordering::SeqCst), 0);
    }
}

/// What is started is ended: a client that registers while the thread forgets it, or leaves, is
/// looked after all the same.
#[test]
fn nothing_started_is_forgotten() {
    explore(2, || {
        let (office, job) = (Office::new(), Job::new());
        for _ in 0..2 {
            let completion = job.start();
            Office::register(&office, &job);
            job.wait_for(&completion);
        }
        office.close();
    });
}

/// A client that comes while the thread sleeps over another one is looked after.
#[test]
fn who_comes_later_is_looked_after() {
    explore(2, || {
        let (office, stuck, job) = (Office::new(), Job::new(), Job::new());
        let completion = std::sync::Arc::new(Completion::new(&stuck.gate, None));
        Office::register(&office, &stuck);
        let later = job.start();
        Office::register(&office, &job);
        job.wait_for(&later);
        completion.end(Ok(()));
        office.close();
    });
}
