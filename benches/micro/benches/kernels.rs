//! Elementwise combining, as `recv_reduce` does it: `dst = a + b`, all three apart.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use syncline::memory::testing::{span, span_mut};
use syncline::reduce::{DType, Format, ReduceOp, Reducer};

/// Of each operand: in a core's first-level cache together, in its second-level cache, in neither.
const SIZES_BYTES: [usize; 3] = [8 << 10, 128 << 10, 16 << 20];
const TYPES: [DType; 8] = [
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::F8E4M3,
    DType::I8,
    DType::I32,
    DType::I64,
];

fn sum(criterion: &mut Criterion) {
    combine(criterion, ReduceOp::Sum);
}

fn average(criterion: &mut Criterion) {
    combine(criterion, ReduceOp::Avg);
}

fn combine(criterion: &mut Criterion, op: ReduceOp) {
    let mut group = criterion.benchmark_group(format!("combine_{}", op.name()));
    for dtype in TYPES.into_iter().filter(|&dtype| op.supports(dtype)) {
        let reducer = Reducer::new(dtype, op, 2).expect("supported");
        for bytes in SIZES_BYTES {
            let (a, b, mut dst) = (vec![0_u8; bytes], vec![0_u8; bytes], vec![0_u8; bytes]);
            group.throughput(Throughput::Bytes(bytes as u64));
            group.bench_function(BenchmarkId::new(dtype.name(), bytes), |bencher| {
                bencher.iter(|| {
                    let (a, b) = (black_box(span(&a)), black_box(span(&b)));
                    let data = Format::Data;
                    reducer.combine(span_mut(&mut dst), data, a, data, b, data);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, sum, average);
criterion_main!(benches);
