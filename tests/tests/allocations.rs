//! What a call allocates once its communicator has seen its like: nothing.
//!
//! The ranks are threads, so that one counter sees all of them, and whatever works for them in the
//! background.

use std::alloc::System;
use std::fmt::Write as _;
use std::sync::Barrier;
use std::thread;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use syncline::communicator::{Communicator, Options, Rendezvous, TransportChoice, UniqueId};
use syncline::reduce::ReduceOp;

#[global_allocator]
static COUNTER: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Elements (of 4 bytes) of a rank's part: 8 B, 1 KiB, 64 KiB, 4 MiB.
const COUNTS: [usize; 4] = [2, 256, 16 << 10, 1 << 20];
/// Rounds before anything is counted: every call is made, and every buffer has its size.
const WARMUP: usize = 5;
/// Counted rounds.
const ROUNDS: usize = 12;
/// Allocations that are not of the calls: watching over ranks, a pipe that grows because a rank
/// was late as never before. One in so many calls of all ranks, and a few in any case.
const CALLS_PER_ALLOCATION: usize = 100;
const ALLOCATIONS_MAX: usize = 3;
/// How often to count before it is believed that the calls allocate: what is made once, when a
/// rank first waits long for another, is made whenever that happens.
const ATTEMPTS: usize = 5;

const CALLS: [&str; 6] =
    ["all_reduce", "reduce_scatter", "all_gather", "broadcast", "all_to_all", "barrier"];

/// What is counted at a time.
#[derive(Debug)]
enum Part {
    /// A blocking call of so many elements.
    Call(&'static str, usize),
    /// Every call with every number of elements, in turn.
    Everything,
    /// An all_reduce, started and waited for, of `COUNTS[_]` elements.
    Started(usize),
}

impl Part {
    /// Calls that are counted, of all ranks together.
    fn calls(&self, ranks: u32) -> usize {
        let calls = if matches!(self, Self::Everything) { CALLS.len() * COUNTS.len() } else { 1 };
        calls * ROUNDS * ranks as usize
    }

    /// Allocations that are not too many.
    fn allowed(&self, ranks: u32) -> usize {
        ALLOCATIONS_MAX + self.calls(ranks) / CALLS_PER_ALLOCATION
    }
}

/// A rank's communicator and buffers, which are made once.
struct Player<'a> {
    comm: &'a Communicator,
    small: Vec<f32>,
    large: Vec<f32>,
    other: Vec<f32>,
    /// Moves into started operations and out of them again.
    lent: Vec<Vec<f32>>,
}

impl<'a> Player<'a> {
    fn new(comm: &'a Communicator) -> Self {
        let largest = COUNTS[COUNTS.len() - 1];
        let ranks = comm.ranks() as usize;
        Self {
            comm,
            small: vec![1.0; largest],
            large: vec![1.0; ranks * largest],
            other: vec![1.0; ranks * largest],
            lent: COUNTS.iter().map(|&count| vec![1.0; count]).collect(),
        }
    }

    fn play(&mut self, part: &Part) {
        match *part {
            Part::Call(name, count) => self.call(name, count),
            Part::Everything => {
                CALLS.iter().for_each(|name| COUNTS.iter().for_each(|&n| self.call(name, n)));
            }
            Part::Started(index) => self.start_and_wait(index),
        }
    }

    fn call(&mut self, name: &str, count: usize) {
        let comm = self.comm;
        let whole = count * comm.ranks() as usize;
        let (small, large) = (&mut self.small[..count], &mut self.large[..whole]);
        match name {
            "all_reduce" => comm.all_reduce(small, ReduceOp::Max),
            "reduce_scatter" => comm.reduce_scatter(large, small, ReduceOp::Max),
            "all_gather" => comm.all_gather(small, large),
            "broadcast" => comm.broadcast(small, 0),
            "all_to_all" => comm.all_to_all(large, &mut self.other[..whole]),
            _ => comm.barrier(),
        }
        .expect(name);
    }

    fn start_and_wait(&mut self, index: usize) {
        let data = std::mem::take(&mut self.lent[index]);
        let work = self.comm.start_all_reduce(data, ReduceOp::Max).expect("started");
        self.lent[index] = work.wait().expect("done");
    }
}

/// How many allocations [`ROUNDS`] of `part` make, on all ranks together; all of them count alike.
fn count_once(player: &mut Player<'_>, part: &Part, meet: &Barrier) -> usize {
    (0..WARMUP).for_each(|_| player.play(part));
    meet.wait();
    let region = Region::new(COUNTER);
    meet.wait();
    (0..ROUNDS).for_each(|_| player.play(part));
    meet.wait();
    let change = region.change();
    // Nobody goes on before everybody has read the counter.
    meet.wait();
    change.allocations + change.reallocations
}

/// How many allocations [`ROUNDS`] of each of `parts` make, on all ranks together.
fn count(ranks: u32, transport: TransportChoice, parts: &[Part]) -> Vec<usize> {
    let id = UniqueId::listen(Some("127.0.0.1")).expect("an id");
    let at = Rendezvous::Id(id);
    let meet = Barrier::new(ranks as usize);
    let (at, meet) = (&at, &meet);
    let play = move |rank| {
        let interface = Some("127.0.0.1".to_owned());
        let options = Options { transport, interface, ..Options::default() };
        let comm = Communicator::init(at, rank, ranks, options).expect("joined");
        let mut player = Player::new(&comm);
        let mut counted = Vec::with_capacity(parts.len());
        for part in parts {
            let counts = (0..ATTEMPTS).map(|_| count_once(&mut player, part, meet));
            let mut least = usize::MAX;
            for count in counts {
                least = least.min(count);
                if least <= part.allowed(ranks) {
                    break;
                }
            }
            counted.push(least);
        }
        counted
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks).map(|rank| scope.spawn(move || play(rank))).collect();
        let counts: Vec<_> = threads.into_iter().map(|t| t.join().expect("no panic")).collect();
        counts.into_iter().next().expect("a rank")
    })
}

/// Nothing else may run in this process meanwhile: one test for everything.
#[test]
fn calls_allocate_nothing() {
    let mut too_many = String::new();
    for (transport, ranks) in [
        (TransportChoice::Shm, 2),
        (TransportChoice::Shm, 3),
        (TransportChoice::Tcp, 2),
        (TransportChoice::Tcp, 3),
    ] {
        let mut parts: Vec<Part> = Vec::new();
        for name in CALLS {
            parts.extend(COUNTS.iter().map(|&count| Part::Call(name, count)));
        }
        parts.push(Part::Everything);
        parts.extend((0..COUNTS.len()).map(Part::Started));
        for (part, count) in parts.iter().zip(count(ranks, transport, &parts)) {
            if count > part.allowed(ranks) {
                let per_call = count as f64 / part.calls(ranks) as f64;
                let name = transport.name();
                let _ = writeln!(
                    too_many,
                    "  {name}, {ranks} ranks, {part:?}: {count} in {ROUNDS} rounds, {per_call:.2} \
                     per call of a rank"
                );
            }
        }
    }
    assert!(too_many.is_empty(), "calls allocate memory:\n{too_many}");
}
