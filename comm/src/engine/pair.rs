//! Two ranks over shared memory, driven by one thread: what benchmarks time, and what
//! `cargo xtask icount` counts the instructions of, which are then the same in every run.

use std::sync::Arc;

use super::{
    Buffers, Compile, Description, Engine, EngineConfig, Lengths, OpMeta, Operation, Placement,
    Program, Sizes,
};
use crate::collective::Request;
use crate::communicator::fingerprint;
use crate::error::{Peer, Rank};
use crate::memory::testing::{span, span_mut};
use crate::reduce::{DType, ReduceOp};
use crate::schedule::{ALGORITHMS, Collective, Shape};
use crate::transport::shm::{Geometry, Segment, ShmTransport};
use crate::transport::{Lane, Transport};

/// The all_reduce that is done: its messages are as large as its vector.
const ALGORITHM: &str = "recursive_doubling";
/// What rank 0 and rank 1 have in every element.
const INPUTS: [f32; 2] = [1.0, 10.0];

/// Two engines, and the f32 sum that they do.
#[derive(Debug)]
pub struct Pair {
    engines: Vec<Engine>,
    programs: [Arc<Program>; 2],
    inputs: [Vec<f32>; 2],
    outputs: [Vec<f32>; 2],
    request: Request,
    lane: Lane,
    sequence: u64,
}

impl Pair {
    /// To sum vectors of `elements` elements.
    ///
    /// # Panics
    /// If there is no memory for the shared segment.
    #[must_use]
    pub fn new(elements: usize, lane: Lane) -> Self {
        Self {
            engines: engines(),
            programs: [program(0, elements), program(1, elements)],
            inputs: INPUTS.map(|value| vec![value; elements]),
            outputs: INPUTS.map(|_| vec![0.0; elements]),
            request: Request::new(Collective::AllReduce, DType::F32, elements),
            lane,
            sequence: 0,
        }
    }

    /// The fingerprint of the operation, computed anew.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        fingerprint::of_request(std::hint::black_box(&self.request), ALGORITHM, 1)
    }

    /// One all_reduce, on both ranks from the submission to the end.
    ///
    /// # Panics
    /// If it fails.
    pub fn all_reduce(&mut self, fingerprint: u64) {
        let description = Description::new(Operation::Send);
        let meta = OpMeta { description, sequence: self.sequence, fingerprint, lane: self.lane };
        self.sequence += 1;
        let Self { engines, programs, inputs, outputs, .. } = self;
        let ids: [_; 2] = std::array::from_fn(|rank| {
            let input = span(bytemuck::cast_slice(&inputs[rank]));
            let output = span_mut(bytemuck::cast_slice_mut(&mut outputs[rank]));
            let buffers = Buffers::separate(input, output);
            engines[rank].submit(&programs[rank], buffers, &meta).expect("it fits")
        });
        let mut left = ids.len();
        while left > 0 {
            for (engine, &id) in engines.iter_mut().zip(&ids) {
                engine.poll();
                left -= usize::from(engine.take(id).is_some_and(|result| result.is_ok()));
            }
        }
    }

    /// Whether every rank has the sum.
    #[must_use]
    pub fn is_right(&self) -> bool {
        let sum: f32 = INPUTS.iter().sum();
        self.outputs.iter().flatten().all(|&value| value == sum)
    }
}

/// The two ends of a shared segment.
///
/// # Panics
/// If there is no memory for it.
#[must_use]
pub fn ends() -> [ShmTransport; 2] {
    let geometry = Geometry::new(2, 1 << 20).expect("sound");
    let leader = Segment::create(geometry).expect("memory");
    std::array::from_fn(|local| {
        let fds = leader.fds();
        let fds = fds.iter().map(|fd| fd.try_clone_to_owned().expect("a descriptor")).collect();
        let segment = Segment::attach(fds, 2).expect("the leader made it");
        ShmTransport::new(segment, local as Rank, &[0, 1]).expect("the first")
    })
}

fn engines() -> Vec<Engine> {
    let engine = |(rank, end): (Rank, ShmTransport)| {
        Engine::new(EngineConfig {
            rank,
            peers: (0..2).map(|rank| Peer { rank, host: "host".to_owned() }).collect(),
            transports: vec![Box::new(end) as Box<dyn Transport>],
            routes: vec![0; 2],
            staging_bytes_max: 1 << 16,
            judge: None,
            flight_records: 64,
        })
        .expect("sound")
    };
    (0..).zip(ends()).map(engine).collect()
}

fn program(rank: Rank, elements: usize) -> Arc<Program> {
    let shape = Shape {
        collective: Collective::AllReduce,
        ranks: 2,
        root: 0,
        in_place: false,
        reproducible: false,
    };
    let algorithm = ALGORITHMS.iter().find(|a| a.name() == ALGORITHM).expect("it is");
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
