//! The engine: whole operations, and what the first call of a kind takes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use syncline::engine::pair::Pair;
use syncline::engine::{Compile, Lengths, Placement, Program, Sizes};
use syncline::reduce::{DType, ReduceOp};
use syncline::schedule::{ALGORITHMS, Collective, Shape};
use syncline::transport::Lane;

/// Two ranks, one thread: no line goes between cores and nobody waits.
fn all_reduce(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine_all_reduce");
    for (bytes, lane) in [(8, Lane::Small), (4 << 10, Lane::Small), (64 << 10, Lane::Bulk)] {
        let mut pair = Pair::new(bytes / 4, lane);
        let fingerprint = pair.fingerprint();
        group.throughput(Throughput::Bytes(2 * bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| pair.all_reduce(fingerprint));
        });
        assert!(pair.is_right());
    }
    group.finish();
}

/// Building and compiling the schedule of rank 0.
fn compile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile_all_reduce");
    for ranks in [2, 8, 64] {
        for algorithm in ["one_shot", "circulant", "ring"] {
            let algorithm = ALGORITHMS.iter().find(|a| a.name() == algorithm).expect("it is");
            let shape = Shape {
                collective: Collective::AllReduce,
                ranks,
                root: 0,
                in_place: false,
                reproducible: false,
            };
            let sizes =
                Sizes { lengths: Lengths::Vector(1 << 20), input_at: None, output_at: None };
            group.bench_function(BenchmarkId::new(algorithm.name(), ranks), |bencher| {
                bencher.iter(|| {
                    let schedule = algorithm.build(black_box(&shape), 0);
                    Program::compile(&Compile {
                        schedule: &schedule,
                        sizes: &sizes,
                        rank: 0,
                        ranks,
                        dtype: DType::F32,
                        op: Some(ReduceOp::Sum),
                        placement: Placement::Separate,
                    })
                    .expect("it fits")
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, all_reduce, compile);
criterion_main!(benches);
