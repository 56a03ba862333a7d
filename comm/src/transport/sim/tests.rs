//! The conformance suite, and the real engine on the simulated network.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::{Ended, LinkClass, Report, SimConfig, SimNet, World};
use crate::engine::{
    Buffers, Compile, Description, Engine, EngineConfig, Lengths, OpMeta, Operation, Placement,
    Program, Sizes,
};
use crate::error::{Error, Peer, Rank, Result};
use crate::memory::own;
use crate::reduce::{DType, ReduceOp};
use crate::schedule::{ALGORITHMS, Algorithm, Collective, Shape};
use crate::transport::conformance::{Fabric, conformance_tests};
use crate::transport::{Lane, Transport};

const DEADLINE: Duration = Duration::from_secs(30);

fn fabric(ranks: Rank) -> Fabric {
    let net = SimNet::new(ranks, 1, SimConfig::default());
    let ends = (0..ranks).map(|rank| Box::new(net.end(rank)) as Box<dyn Transport>).collect();
    Fabric {
        ends,
        idle: Box::new(move || {
            net.advance(net.now() + Duration::from_millis(1));
        }),
    }
}

conformance_tests!(conformance, fabric);

/// What a rank's operation came to, where the test can see it.
type Outcomes = Arc<std::sync::Mutex<Vec<Option<(Result<()>, Vec<i32>)>>>>;

/// One collective over `elements` i32 (per rank for all_gather) on every rank.
#[derive(Clone)]
struct Job {
    algorithm: &'static str,
    shape: Shape,
    elements: usize,
    lane: Lane,
}

impl Job {
    fn new(collective: Collective, algorithm: &'static str, ranks: Rank, elements: usize) -> Self {
        let shape = Shape { collective, ranks, root: 0, in_place: false, reproducible: false };
        Self { algorithm, shape, elements, lane: Lane::Bulk }
    }

    fn algorithm(&self) -> &'static dyn Algorithm {
        let found = ALGORITHMS.iter().find(|a| a.name() == self.algorithm && a.serves(&self.shape));
        *found.unwrap_or_else(|| panic!("{} does not serve {:?}", self.algorithm, self.shape))
    }

    fn program(&self, rank: Rank) -> Program {
        let lengths = match self.shape.collective {
            Collective::AllGather => Lengths::Each(self.elements),
            _ => Lengths::Vector(self.elements),
        };
        Program::compile(&Compile {
            schedule: &self.algorithm().build(&self.shape, rank),
            sizes: &Sizes::packed(lengths),
            rank,
            ranks: self.shape.ranks,
            dtype: DType::I32,
            op: (self.shape.collective == Collective::AllReduce).then_some(ReduceOp::Sum),
            placement: Placement::Separate,
        })
        .unwrap()
    }

    fn input(&self, rank: Rank) -> Vec<i32> {
        let value = |i: usize| rank.wrapping_mul(2_654_435_761).wrapping_add(i as u32) as i32;
        (0..self.elements).map(value).collect()
    }

    fn expected(&self) -> Vec<i32> {
        let inputs = (0..self.shape.ranks).map(|rank| self.input(rank));
        match self.shape.collective {
            Collective::AllReduce => {
                let add = |sum: Vec<i32>, x: Vec<i32>| -> Vec<i32> {
                    sum.iter().zip(x).map(|(a, b)| a.wrapping_add(b)).collect()
                };
                inputs.reduce(add).unwrap()
            }
            Collective::AllGather => inputs.flatten().collect(),
            _ => self.input(self.shape.root),
        }
    }

    /// Runs it on `net` until the deadline, where ranks that still wait time out.
    fn run(&self, net: &SimNet) -> (Report, Outcomes) {
        let ranks = self.shape.ranks;
        let outcomes: Outcomes = Arc::default();
        outcomes.lock().unwrap().resize(ranks as usize, None);
        let peers: Arc<[Peer]> =
            (0..ranks).map(|rank| Peer { rank, host: format!("host{}", rank / 8) }).collect();
        let world = World::new(net.clone(), ranks, |rank| {
            let engine = Engine::new(EngineConfig {
                rank,
                peers: Arc::clone(&peers),
                transports: vec![Box::new(net.end(rank))],
                routes: vec![0; ranks as usize],
                flight_records: 16,
                staging_bytes_max: 1 << 24,
                judge: None,
            })
            .unwrap();
            let mut engine = Some(engine);
            let (input, kept_input) = own(self.input(rank));
            let (output, kept_output) = own(vec![0_i32; self.expected_elements()]);
            let buffers = Buffers::separate(input.as_span(), output);
            let description = Description::new(Operation::Collective(self.shape.collective));
            let meta = OpMeta { description, sequence: 0, fingerprint: 9, lane: self.lane };
            let program = Arc::new(self.program(rank));
            let id = engine.as_mut().unwrap().submit(&program, buffers, &meta).unwrap();
            let outcomes = Arc::clone(&outcomes);
            Box::new(move |now: Duration| {
                let Some(running) = &mut engine else { return Poll::Ready(()) };
                while running.poll() {}
                if now >= DEADLINE {
                    running.time_out(id, now);
                }
                let Some(result) = running.take(id) else { return Poll::Pending };
                if result.is_err() {
                    // As a communicator does: others learn of the failure from its leaving.
                    engine = None;
                }
                // The operation has ended: nothing writes the output any more.
                let _ = &kept_input;
                outcomes.lock().unwrap()[rank as usize] = Some((result, kept_output.clone()));
                Poll::Ready(())
            })
        });
        (world.run(DEADLINE), outcomes)
    }

    fn expected_elements(&self) -> usize {
        match self.shape.collective {
            Collective::AllGather => self.elements * self.shape.ranks as usize,
            _ => self.elements,
        }
    }

    /// Runs it on a healthy network and checks every rank's result.
    fn check(&self, seed: u64, config: SimConfig) -> Report {
        let net = SimNet::new(self.shape.ranks, seed, config);
        let (report, outcomes) = self.run(&net);
        let expected = self.expected();
        for (rank, outcome) in outcomes.lock().unwrap().iter().enumerate() {
            let Some((result, output)) = outcome else { panic!("rank {rank} has no outcome") };
            assert!(result.is_ok(), "{} rank {rank}: {result:?}", self.algorithm);
            assert!(*output == expected, "{} rank {rank}: wrong result", self.algorithm);
        }
        assert!(report.ended.iter().all(|ended| matches!(ended, Ended::Done(_))));
        assert!(report.now < DEADLINE);
        report
    }
}

/// Everything that may go wrong between the ranks of `net`, at `time`.
fn wound(net: &SimNet, kind: u64, ranks: Rank, time: Duration) {
    match kind % 4 {
        0 => net.crash(ranks / 2, time),
        1 => net.stop(ranks - 1, time),
        2 => net.cut(0, 1, time),
        _ => net.partition(ranks / 3, time),
    }
}

#[test]
fn every_all_reduce_all_gather_and_broadcast_is_right_under_jitter() {
    let collectives = [Collective::AllReduce, Collective::AllGather, Collective::Broadcast];
    let mut seen = BTreeSet::new();
    for collective in collectives {
        for ranks in [2, 5, 16, 37] {
            for algorithm in ALGORITHMS {
                let job = Job::new(collective, algorithm.name(), ranks, 1003);
                if algorithm.serves(&job.shape) {
                    seen.insert(job.algorithm);
                    job.check(u64::from(ranks), SimConfig::default());
                }
            }
        }
    }
    assert!(seen.len() >= 8, "{seen:?}");
}

#[test]
fn a_thousand_ranks_agree() {
    for (collective, algorithm) in [
        (Collective::AllReduce, "recursive_doubling"),
        (Collective::AllReduce, "circulant"),
        (Collective::Broadcast, "binomial_tree"),
        (Collective::AllGather, "bruck"),
    ] {
        Job::new(collective, algorithm, 1000, 64).check(3, SimConfig::default());
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let job = Job::new(Collective::AllReduce, "ring", 24, 50_000);
    let first = job.check(5, SimConfig::default());
    assert_eq!(first, job.check(5, SimConfig::default()));
    assert_ne!(first.trace, job.check(6, SimConfig::default()).trace);
}

#[test]
fn time_is_what_latency_and_bandwidth_say() {
    let link = LinkClass {
        group_ranks: Rank::MAX,
        latency: Duration::from_micros(10),
        bandwidth: 1_000_000_000,
    };
    let config = SimConfig { classes: vec![link], jitter: Duration::ZERO, ..SimConfig::default() };
    let report = Job::new(Collective::Broadcast, "binomial_tree", 2, 10_000).check(1, config);
    assert_eq!(report.now, Duration::from_micros(10 + 40));
}

#[test]
fn a_tiny_pipe_only_makes_it_slower() {
    let tiny =
        SimConfig { pipe_bytes: 512, pipe_frames: 1, frame_bytes_max: 256, ..SimConfig::default() };
    let job = Job::new(Collective::AllReduce, "ring", 9, 5000);
    assert!(job.check(2, tiny).now > job.check(2, SimConfig::default()).now);
}

#[test]
fn a_crash_is_an_error_on_every_rank() {
    let job = Job::new(Collective::AllReduce, "ring", 12, 100_000);
    let net = SimNet::new(12, 4, SimConfig::default());
    net.crash(7, Duration::from_micros(30));
    let (report, outcomes) = job.run(&net);
    assert_eq!(report.ended[7], Ended::Halted);
    assert!(report.now < Duration::from_secs(1), "found at {:?}", report.now);
    let mut named = Vec::new();
    for (rank, outcome) in outcomes.lock().unwrap().iter().enumerate().filter(|(r, _)| *r != 7) {
        let Some((Err(error), _)) = outcome else { panic!("rank {rank}: {outcome:?}") };
        let Error::PeerLost { peer, .. } = error else { panic!("rank {rank}: {error}") };
        named.extend((peer.rank == 7).then_some(rank));
    }
    // Its neighbours in the ring; the others lose those in turn.
    assert_eq!(named, [6, 8]);
}

#[test]
fn no_fault_makes_anybody_hang_or_get_a_wrong_result() {
    let mut failed = 0;
    for seed in 0..60 {
        let ranks = 6 + seed as Rank % 11;
        let name = ["ring", "recursive_doubling", "circulant"][seed as usize % 3];
        let job = Job::new(Collective::AllReduce, name, ranks, 20_000);
        let net = SimNet::new(ranks, seed, SimConfig::default());
        wound(&net, seed / 3, ranks, Duration::from_nanos(seed * 400));
        let (report, outcomes) = job.run(&net);
        let expected = job.expected();
        for (rank, ended) in report.ended.iter().enumerate() {
            let outcome = &outcomes.lock().unwrap()[rank];
            match (ended, outcome) {
                (Ended::Done(_), Some((Ok(()), output))) => assert!(*output == expected),
                (Ended::Done(_), Some((Err(Error::Timeout { missing, .. }), _))) => {
                    assert!(!missing.is_empty());
                    failed += 1;
                }
                (Ended::Done(_), Some((Err(Error::PeerLost { .. }), _))) => failed += 1,
                (Ended::Halted, _) => {}
                other => panic!("seed {seed}, {name}, rank {rank}: {other:?}"),
            }
        }
    }
    assert!(failed > 100, "the faults came too late: {failed}");
}
