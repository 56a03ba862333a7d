//! What a rank does in a multi-process test.

use std::time::{Duration, Instant};

use syncline::collective::Request;
use syncline::communicator::Communicator;
use syncline::reduce::{DType, ReduceOp};
use syncline::schedule::Collective;

use crate::matrix;

/// Runs the scenario called `name`; returns a line for the log.
///
/// # Errors
/// What went wrong, in words.
pub fn run(name: &str, comm: &Communicator) -> Result<String, String> {
    let ranks = comm.ranks() as usize;
    match name {
        "types" => matrix::run(comm, &matrix::every_type(ranks)).map(|n| format!("{n} calls")),
        "sizes" => matrix::run(comm, &matrix::every_size(ranks)).map(|n| format!("{n} calls")),
        "point_to_point" => point_to_point(comm).map_err(|e| e.to_string()),
        "in_flight" => in_flight(comm),
        "coalesced" => coalesced(comm),
        "split" => split(comm),
        "crossed" => crossed(comm),
        "grouped" => grouped(comm).map_err(|e| e.to_string()),
        "reproducible" => reproducible(comm),
        "late" => late(comm),
        "staging" => crate::staging::stay_within_the_budget(comm),
        other => Err(format!("no scenario {other}")),
    }
}

/// Every rank sends to every rank, itself included, small and large, all at once.
fn point_to_point(comm: &Communicator) -> syncline::Result<String> {
    let (rank, ranks) = (comm.rank(), comm.ranks());
    for count in [0usize, 1, 1000, 300_000] {
        let value = |from: u32, to: u32, i: usize| f64::from(from * ranks + to) + i as f64;
        let mut sends = Vec::new();
        let mut receives = Vec::new();
        for peer in 0..ranks {
            let data: Vec<f64> = (0..count).map(|i| value(rank, peer, i)).collect();
            sends.push(comm.start_send(data, peer)?);
        }
        for peer in (0..ranks).rev() {
            receives.push((peer, comm.start_recv(vec![0f64; count], peer)?));
        }
        for (peer, work) in receives {
            let data = work.wait()?;
            assert!(data.iter().enumerate().all(|(i, &x)| x == value(peer, rank, i)));
        }
        for work in sends {
            work.wait()?;
        }
    }
    Ok("sent to all".to_owned())
}

/// Several operations in flight, waited for in another order than they were started.
fn in_flight(comm: &Communicator) -> Result<String, String> {
    let (rank, ranks) = (comm.rank(), comm.ranks());
    let text = |error: syncline::Error| error.to_string();
    for round in 0..20u32 {
        let sizes = [500_000usize, 3, 70_000, 1, 0, 9_000];
        let mut works = Vec::new();
        for (index, &count) in sizes.iter().enumerate() {
            let data = vec![rank + round + index as u32; count];
            works.push((index as u32, comm.start_all_reduce(data, ReduceOp::Sum).map_err(text)?));
        }
        // A blocking call in between must not disturb those in flight.
        let mut between = [rank];
        comm.all_reduce(&mut between, ReduceOp::Max).map_err(text)?;
        if between[0] != ranks - 1 {
            return Err(format!("max of ranks is {}", between[0]));
        }
        if round % 2 == 0 {
            works.reverse();
        }
        for (index, work) in works {
            let data = work.wait().map_err(text)?;
            let expected = ranks * (ranks - 1) / 2 + ranks * (round + index);
            if data.iter().any(|&x| x != expected) {
                return Err(format!("round {round} operation {index}: wrong sum"));
            }
        }
    }
    Ok("20 rounds of 6".to_owned())
}

/// Many tensors in one call.
fn coalesced(comm: &Communicator) -> Result<String, String> {
    let (rank, ranks) = (comm.rank(), comm.ranks());
    for round in 0..3 {
        let mut tensors: Vec<Vec<f32>> = (0..60usize)
            .map(|t| vec![(rank as usize + t + round) as f32; t * t * 7 % 5000])
            .chain([vec![rank as f32; 700_000]])
            .collect();
        let mut views: Vec<&mut [f32]> = tensors.iter_mut().map(Vec::as_mut_slice).collect();
        comm.all_reduce_coalesced(&mut views, ReduceOp::Sum).map_err(|e| e.to_string())?;
        let ranks_sum = (ranks * (ranks - 1) / 2) as usize;
        for (t, tensor) in tensors.iter().take(60).enumerate() {
            let expected = (ranks_sum + ranks as usize * (t + round)) as f32;
            if tensor.iter().any(|&x| x != expected) {
                return Err(format!("tensor {t}: wrong sum"));
            }
        }
        if tensors[60].iter().any(|&x| x != ranks_sum as f32) {
            return Err("large tensor: wrong sum".to_owned());
        }
    }
    Ok("61 tensors".to_owned())
}

/// Splits by parity with reversed keys, by explicit ranks, and duplicates; works on all at once.
fn split(comm: &Communicator) -> Result<String, String> {
    let (rank, ranks) = (comm.rank(), comm.ranks());
    let text = |error: syncline::Error| error.to_string();
    let half = comm.split(Some(rank % 2), -(rank as i32)).map_err(text)?.ok_or("no half")?;
    let mut members = vec![0u32; half.ranks() as usize];
    half.all_gather(&[rank], &mut members).map_err(text)?;
    let expected: Vec<u32> = (0..ranks).rev().filter(|r| r % 2 == rank % 2).collect();
    if members != expected {
        return Err(format!("half has {members:?}, expected {expected:?}"));
    }
    matrix::run(&half, &matrix::every_size(half.ranks() as usize))?;
    let none = comm.split((rank == 0).then_some(7), 0).map_err(text)?;
    if none.is_some() != (rank == 0) {
        return Err("split without a colour must give none".to_owned());
    }
    let chosen = [ranks - 1, 0];
    let chosen = if ranks == 1 { &chosen[..1] } else { &chosen[..] };
    let pair = comm.subset(chosen).map_err(text)?;
    if let Some(pair) = &pair {
        let mut sum = [1u64];
        pair.all_reduce(&mut sum, ReduceOp::Sum).map_err(text)?;
        if sum[0] != chosen.len() as u64 || (pair.rank() == 0) != (rank == ranks - 1) {
            return Err(format!("subset: rank {} sum {}", pair.rank(), sum[0]));
        }
    }
    let copy = comm.duplicate().map_err(text)?;
    let first = copy.start_all_reduce(vec![1u32; 100_000], ReduceOp::Sum).map_err(text)?;
    let second = comm.start_all_reduce(vec![2u32; 100_000], ReduceOp::Sum).map_err(text)?;
    let (second, first) = (second.wait().map_err(text)?, first.wait().map_err(text)?);
    if first.iter().any(|&x| x != ranks) || second.iter().any(|&x| x != 2 * ranks) {
        return Err("two communicators disturbed each other".to_owned());
    }
    Ok("split, subset, duplicate".to_owned())
}

/// Three communicators whose operations every rank starts, and waits for, in another order: what
/// locks up where each communicator needs a device or a thread to itself.
fn crossed(comm: &Communicator) -> Result<String, String> {
    let text = |error: syncline::Error| error.to_string();
    let comms = [comm.clone(), comm.duplicate().map_err(text)?, comm.duplicate().map_err(text)?];
    let rank = comm.rank() as usize;
    for (round, count) in [10, 100_000, 1, 30_000].into_iter().enumerate() {
        let start = |which: usize| {
            let data = vec![which as u32 + 1; count];
            comms[which].start_all_reduce(data, ReduceOp::Sum).map(|work| (which, work))
        };
        let order = (0..3).map(|turn| (turn + rank + round) % 3);
        let started: Result<Vec<_>, _> = order.map(start).collect();
        for (which, work) in started.map_err(text)?.into_iter().rev() {
            let expected = (which as u32 + 1) * comm.ranks();
            if work.wait().map_err(text)?.iter().any(|&sum| sum != expected) {
                return Err(format!("communicator {which} has a wrong sum"));
            }
        }
    }
    // Blocking calls of several threads cross each other as well.
    std::thread::scope(|scope| {
        let call = |comm: &Communicator| -> syncline::Result<()> {
            for _ in 0..20 {
                comm.all_reduce(&mut [1.0f32; 5000], ReduceOp::Sum)?;
            }
            Ok(())
        };
        let threads: Vec<_> = comms.iter().map(|comm| scope.spawn(move || call(comm))).collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        ended.collect::<syncline::Result<Vec<()>>>()
    })
    .map_err(text)?;
    Ok("three communicators, crossed".to_owned())
}

/// Sends and receives that would block each other one by one, and reductions of several types.
fn grouped(comm: &Communicator) -> syncline::Result<String> {
    let (rank, ranks) = (comm.rank(), comm.ranks());
    let (next, last) = ((rank + 1) % ranks, (rank + ranks - 1) % ranks);
    // More than a pipe holds, so that a send alone would wait for its receive.
    let out = vec![rank; 2_000_000];
    for _ in 0..3 {
        let mut from_last = vec![u32::MAX; out.len()];
        let (mut a, mut b) = (vec![1.5f32; 1000], vec![rank as f32; 10]);
        let (mut c, mut d) = ([u64::from(rank)], vec![2.5f32; 100_000]);
        comm.group(|group| {
            group.send(&out, next)?;
            group.all_reduce(&mut a, ReduceOp::Sum);
            group.all_reduce(&mut b, ReduceOp::Sum);
            group.all_reduce(&mut c, ReduceOp::Max);
            group.all_reduce(&mut d, ReduceOp::Sum);
            group.recv(&mut from_last, last)
        })?;
        let sum = ranks as f32;
        assert!(from_last.iter().all(|&x| x == last));
        assert!(a.iter().all(|&x| x == 1.5 * sum) && d.iter().all(|&x| x == 2.5 * sum));
        assert!(b.iter().all(|&x| x == sum * (sum - 1.0) / 2.0) && c == [u64::from(ranks - 1)]);
    }
    let refused = comm.group(|group| group.send(&out, ranks)).unwrap_err().to_string();
    assert!(refused.contains("is not a rank"), "{refused}");
    Ok("grouped".to_owned())
}

/// A number without a pattern, the same wherever it is computed.
fn noise(rank: u32, index: usize) -> f32 {
    let mut x = (u64::from(rank) << 32 | index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mantissa = (x >> 40) as f32 / (1 << 23) as f32 - 1.0;
    mantissa * f32::from(1u16 << (x & 15))
}

/// The canonical tree over ranks `first` to `first + ranks - 1` (ADR 0004), by its definition.
fn canonical(first: u32, ranks: u32, index: usize) -> f32 {
    if ranks == 1 {
        return noise(first, index);
    }
    let half = 1 << (u32::BITS - 1 - (ranks - 1).leading_zeros());
    canonical(first, half, index) + canonical(first + half, ranks - half, index)
}

/// Sums of numbers that round, in the bits that the canonical tree gives.
fn reproducible(comm: &Communicator) -> Result<String, String> {
    let (rank, ranks) = (comm.rank(), comm.ranks());
    let text = |error: syncline::Error| error.to_string();
    for count in [1usize, 17, 5000, 300_000] {
        let mine: Vec<f32> = (0..count).map(|i| noise(rank, i)).collect();
        let right = |got: &[f32], from: usize, upto: u32| {
            let expected = |i: usize| canonical(0, upto, from + i).to_bits();
            got.iter().enumerate().all(|(i, x)| x.to_bits() == expected(i))
        };
        let mut sum = mine.clone();
        comm.all_reduce(&mut sum, ReduceOp::Sum).map_err(text)?;
        let mut rooted = vec![0f32; count];
        comm.reduce(&mine, &mut rooted, ReduceOp::Sum, ranks - 1).map_err(text)?;
        let mut prefix = mine.clone();
        comm.scan(&mut prefix, ReduceOp::Sum).map_err(text)?;
        let whole: Vec<f32> = (0..count * ranks as usize).map(|i| noise(rank, i)).collect();
        let mut block = vec![0f32; count];
        comm.reduce_scatter(&whole, &mut block, ReduceOp::Sum).map_err(text)?;
        let at_root = rank != ranks - 1 || right(&rooted, 0, ranks);
        let parts = right(&block, count * rank as usize, ranks) && right(&prefix, 0, rank + 1);
        if !right(&sum, 0, ranks) || !at_root || !parts {
            return Err(format!("rank {rank}: {count} elements: not the canonical sum"));
        }
    }
    Ok("the canonical bits".to_owned())
}

/// The last rank comes 5 s late; the others report the share of a core their wait used.
fn late(comm: &Communicator) -> Result<String, String> {
    let request = Request::new(Collective::AllReduce, DType::F32, 1);
    let mut value = 1f32.to_le_bytes();
    comm.run(&request, None, &mut value).map_err(|e| e.to_string())?;
    let wait = Duration::from_secs(5);
    if comm.rank() == comm.ranks() - 1 {
        std::thread::sleep(wait);
    }
    let (cpu, start) = (cpu_time(), Instant::now());
    comm.run(&request, None, &mut value).map_err(|e| e.to_string())?;
    let share = (cpu_time() - cpu).as_secs_f64() / wait.as_secs_f64();
    let waited = start.elapsed();
    if comm.rank() != comm.ranks() - 1 && (share > 0.02 || waited < wait / 2) {
        return Err(format!("waited {waited:?} using {:.1} % of a core", share * 100.0));
    }
    Ok(format!("{:.2} % of a core", share * 100.0))
}

/// Processor time of this process so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec.try_into().unwrap_or(0))
}
