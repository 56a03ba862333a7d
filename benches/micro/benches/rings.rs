//! Frames through the rings of shared memory.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, Ordering};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use syncline::engine::pair::ends;
use syncline::transport::Lane;
use syncline_micro::{send, take};

const SIZES_BYTES: [usize; 4] = [8, 512, 4 << 10, 64 << 10];
const LANE: Lane = Lane::Bulk;

/// Sent and consumed by one thread: what the code takes, without a line going between cores.
fn one_core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring_one_core");
    for bytes in SIZES_BYTES {
        let [mut from, mut to] = ends();
        let payload = vec![1_u8; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| {
                assert!(send(&mut from, 1, LANE, black_box(&payload)).expect("both are here"));
                assert_eq!(take(&mut to, 0, LANE).expect("both are here"), Some(bytes));
            });
        });
    }
    group.finish();
}

/// There and back again between two threads.
fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring_round_trip");
    for bytes in SIZES_BYTES {
        let [mut here, mut there] = ends();
        let payload = vec![1_u8; bytes];
        let over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    match take(&mut there, 0, LANE).expect("both are here") {
                        Some(_) => {
                            assert!(send(&mut there, 0, LANE, &payload).expect("both are here"));
                        }
                        None => spin_loop(),
                    }
                }
            });
            group.throughput(Throughput::Bytes(2 * bytes as u64));
            group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
                bencher.iter(|| {
                    assert!(send(&mut here, 1, LANE, &payload).expect("both are here"));
                    while take(&mut here, 1, LANE).expect("both are here").is_none() {
                        spin_loop();
                    }
                });
            });
            over.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
}

criterion_group!(benches, one_core, round_trip);
criterion_main!(benches);
