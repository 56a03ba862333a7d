//! Real schedules on in-memory pipes.

mod icount;
mod loopback;
mod matrix;
mod records;
mod sequences;
mod shared;
mod verdicts;

use std::sync::Arc;

use self::loopback::{Loopback, Pipes, fabric};
use super::{Description, Engine, EngineConfig, Judge, OpMeta, Operation};
use crate::error::{Peer, Rank};
use crate::transport::{Lane, Transport};

/// A small generator of numbers, the same in every run.
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) const fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

fn engine(transport: Loopback, rank: Rank, ranks: Rank, staging_bytes_max: usize) -> Engine {
    judged(transport, (rank, ranks), staging_bytes_max, None)
}

fn judged(
    transport: Loopback,
    (rank, ranks): (Rank, Rank),
    staging_bytes_max: usize,
    judge: Option<Arc<dyn Judge>>,
) -> Engine {
    let peers = (0..ranks).map(|rank| Peer { rank, host: format!("host{rank}") }).collect();
    let transports: Vec<Box<dyn Transport>> = vec![Box::new(transport)];
    let routes = vec![0; ranks as usize];
    let config = EngineConfig {
        rank,
        peers,
        transports,
        routes,
        staging_bytes_max,
        flight_records: 16,
        judge,
    };
    Engine::new(config).unwrap()
}

/// The engines of `ranks` ranks, connected.
fn engines(ranks: Rank, pipes: Pipes) -> Vec<Engine> {
    let ends = (0..).zip(fabric(ranks, pipes));
    ends.map(|(rank, end)| engine(end, rank, ranks, 1 << 24)).collect()
}

const fn meta(sequence: u64, lane: Lane) -> OpMeta {
    let description = Description::new(Operation::Send);
    OpMeta { description, sequence, fingerprint: 7, lane }
}

/// Polls `engines` in random order until `done`, and panics when nothing moves any more.
fn drive(engines: &mut [Engine], random: &mut Random, mut done: impl FnMut(&mut [Engine]) -> bool) {
    let mut idle = 0;
    while !done(engines) {
        let index = random.below(engines.len());
        idle = if engines[index].poll() { 0 } else { idle + 1 };
        if idle > 256 * engines.len() {
            let mut moved = false;
            for engine in &mut *engines {
                moved |= engine.poll();
            }
            assert!(moved, "nothing moves: {engines:?}");
            idle = 0;
        }
    }
}

/// Wraps in an `Arc`, for programs.
fn shared<T>(value: T) -> Arc<T> {
    Arc::new(value)
}
