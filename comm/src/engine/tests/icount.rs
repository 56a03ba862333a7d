//! What `cargo xtask icount` counts the instructions of: sums of two ranks over shared memory,
//! both driven by one thread, so that the count is the same in every run.

use std::sync::Arc;

use super::super::{
    Buffers, Compile, Engine, EngineConfig, Lengths, OpMeta, Placement, Program, Sizes,
};
use super::meta;
use crate::collective::Request;
use crate::communicator::fingerprint;
use crate::error::{Peer, Rank};
use crate::memory::testing::{span, span_mut};
use crate::reduce::{DType, ReduceOp};
use crate::schedule::{ALGORITHMS, Collective, Shape};
use crate::transport::shm::{Geometry, Segment, ShmTransport};
use crate::transport::{Lane, Transport};

/// How many operations, when `cargo xtask icount` asks.
const ROUNDS: &str = "SYNCLINE_ICOUNT_ROUNDS";
/// Whether every call computes its fingerprint anew; the library does so once per program.
const ANEW: &str = "SYNCLINE_ICOUNT_ANEW";

fn engines() -> Vec<Engine> {
    let geometry = Geometry::new(2, 1 << 20).expect("sound");
    let leader = Segment::create(geometry).expect("memory");
    let end = |local: Rank| -> Box<dyn Transport> {
        let fds = leader.fds();
        let fds = fds.iter().map(|fd| fd.try_clone_to_owned().expect("a descriptor")).collect();
        let segment = Segment::attach(fds, 2).expect("the leader made it");
        Box::new(ShmTransport::new(segment, local, &[0, 1]).expect("the first"))
    };
    let engine = |rank| {
        Engine::new(EngineConfig {
            rank,
            peers: (0..2).map(|rank| Peer { rank, host: "host".to_owned() }).collect(),
            transports: vec![end(rank)],
            routes: vec![0; 2],
            staging_bytes_max: 1 << 16,
            judge: None,
            flight_records: 64,
        })
        .expect("sound")
    };
    (0..2).map(engine).collect()
}

fn program(rank: Rank, elements: usize) -> Arc<Program> {
    let shape = Shape {
        collective: Collective::AllReduce,
        ranks: 2,
        root: 0,
        in_place: false,
        reproducible: false,
    };
    let algorithm = ALGORITHMS.iter().find(|a| a.name() == "recursive_doubling").expect("it is");
    let program = Program::compile(&Compile {
        schedule: &algorithm.build(&shape, rank),
        sizes: &Sizes { lengths: Lengths::Vector(elements), input_at: None, output_at: None },
        rank,
        ranks: 2,
        dtype: DType::F32,
        op: Some(ReduceOp::Sum),
        placement: Placement::Separate,
    });
    Arc::new(program.expect("it fits"))
}

#[test]
fn eight_bytes_over_shared_memory() {
    sums(2, Lane::Small);
}

/// 64 KiB: the engine's own way, where the short one ends.
#[test]
fn many_frames() {
    sums(16 << 10, Lane::Bulk);
}

fn sums(elements: usize, lane: Lane) {
    let rounds: u64 = std::env::var(ROUNDS).map_or(3, |n| n.parse().expect("a number"));
    let anew = std::env::var_os(ANEW).is_some();
    let request = Request::new(Collective::AllReduce, DType::F32, elements);
    let (mut engines, programs) = (engines(), [program(0, elements), program(1, elements)]);
    let inputs = [vec![1.0_f32; elements], vec![10.0; elements]];
    let mut outputs = [vec![0.0_f32; elements], vec![0.0; elements]];
    let once = fingerprint::of_request(&request, "recursive_doubling", 1);
    for sequence in 0..rounds {
        let mut ids = Vec::with_capacity(2);
        for (rank, engine) in engines.iter_mut().enumerate() {
            let fingerprint = if anew {
                fingerprint::of_request(std::hint::black_box(&request), "recursive_doubling", 1)
            } else {
                once
            };
            let meta = OpMeta { fingerprint, ..meta(sequence, lane) };
            let input = span(bytemuck::cast_slice(&inputs[rank]));
            let output = span_mut(bytemuck::cast_slice_mut(&mut outputs[rank]));
            let buffers = Buffers::separate(input, output);
            ids.push(engine.submit(&programs[rank], buffers, &meta).expect("it fits"));
        }
        let mut left = 2;
        while left > 0 {
            for (engine, &id) in engines.iter_mut().zip(&ids) {
                engine.poll();
                left -= usize::from(engine.take(id).is_some_and(|result| result.is_ok()));
            }
        }
    }
    assert!(outputs.iter().flatten().all(|&sum| sum == 11.0));
}
