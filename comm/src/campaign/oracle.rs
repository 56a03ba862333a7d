//! What every collective must produce, computed the obvious way from every rank's input.
//!
//! Inputs are small integers, chosen so that sums and products are exact in every type; the
//! expected value of each element is computed in f64 and encoded into the type once.

use crate::collective::{Counts, Request};
use crate::reduce::{DType, ReduceOp};
use crate::schedule::Collective;
use syncline_codecs::float;

/// Value `index` of rank `rank`'s input. 1 or 2 (a single 2 per column keeps products exact), or
/// small signed integers where the operator allows them.
pub fn input_value(op: ReduceOp, dtype: DType, rank: usize, ranks: usize, index: usize) -> f64 {
    match op {
        ReduceOp::Prod => f64::from(u8::from(index % ranks == rank) + 1),
        ReduceOp::BitAnd | ReduceOp::BitOr | ReduceOp::BitXor => {
            ((rank * 37 + index * 11) % 100) as f64
        }
        ReduceOp::Min | ReduceOp::Max => {
            let spread = ((rank * 5 + index * 3) % 11) as f64;
            if matches!(dtype, DType::U8 | DType::U32 | DType::U64) { spread } else { spread - 5.0 }
        }
        // At most 16 in total over 16 ranks, so that e4m3 (4 significant bits) is exact.
        _ => f64::from(u8::from((rank + index).is_multiple_of(3))),
    }
}

/// Combines two values.
fn combine(op: ReduceOp, a: f64, b: f64) -> f64 {
    match op {
        ReduceOp::Sum | ReduceOp::Avg | ReduceOp::PreMulSum(_) => a + b,
        ReduceOp::Prod => a * b,
        ReduceOp::Min => a.min(b),
        ReduceOp::Max => a.max(b),
        ReduceOp::BitAnd => ((a as u64) & (b as u64)) as f64,
        ReduceOp::BitOr => ((a as u64) | (b as u64)) as f64,
        ReduceOp::BitXor => ((a as u64) ^ (b as u64)) as f64,
    }
}

/// The reduction of element `index` over the first `upto` ranks.
fn reduce(op: ReduceOp, dtype: DType, ranks: usize, upto: usize, index: usize) -> f64 {
    let factor = |value: f64| match op {
        ReduceOp::PreMulSum(factor) => value * factor,
        _ => value,
    };
    let sum = (0..upto)
        .map(|rank| factor(input_value(op, dtype, rank, ranks, index)))
        .reduce(|a, b| combine(op, a, b))
        .expect("at least one rank");
    match op {
        ReduceOp::Avg if dtype.is_float() => sum / ranks as f64,
        ReduceOp::Avg => (sum / ranks as f64).trunc(),
        _ => sum,
    }
}

/// Appends `value` in `dtype`'s encoding.
pub fn encode(dtype: DType, value: f64, out: &mut Vec<u8>) {
    match dtype {
        DType::I8 => out.extend((value as i8).to_le_bytes()),
        DType::U8 => out.extend((value as u8).to_le_bytes()),
        DType::I32 => out.extend((value as i32).to_le_bytes()),
        DType::U32 => out.extend((value as u32).to_le_bytes()),
        DType::I64 => out.extend((value as i64).to_le_bytes()),
        DType::U64 => out.extend((value as u64).to_le_bytes()),
        DType::F16 => out.extend(float::f16_from_f32(value as f32).to_le_bytes()),
        DType::BF16 => out.extend(float::bf16_from_f32(value as f32).to_le_bytes()),
        DType::F32 => out.extend((value as f32).to_le_bytes()),
        DType::F64 => out.extend(value.to_le_bytes()),
        DType::F8E4M3 => out.push(float::f8e4m3_from_f32(value as f32)),
        DType::F8E5M2 => out.push(float::f8e5m2_from_f32(value as f32)),
    }
}

fn encode_all(dtype: DType, values: impl Iterator<Item = f64>) -> Vec<u8> {
    let mut out = Vec::new();
    values.for_each(|value| encode(dtype, value, &mut out));
    out
}

/// Elements before and in block `rank`.
fn block(counts: &Counts, rank: usize) -> (usize, usize) {
    match counts {
        Counts::Uniform(count) => (count * rank, *count),
        Counts::PerRank(counts) => (counts[..rank].iter().sum(), counts[rank]),
        Counts::PerPair { .. } => unreachable!("pairs have no single block"),
    }
}

/// Elements that `source` sends to `destination` in the uneven all_to_all of the matrix.
pub fn pair_count(source: usize, destination: usize) -> usize {
    (source * 3 + destination * 5) % 7
}

/// This rank's input bytes; empty where it gives none.
pub fn input(request: &Request, rank: usize, ranks: usize) -> Vec<u8> {
    let length = crate::collective::contract(request, rank as u32, ranks as u32)
        .expect("the matrix makes valid requests")
        .input
        .unwrap_or(0);
    let value = |index| input_value(request.op, request.dtype, rank, ranks, index);
    encode_all(request.dtype, (0..length).map(value))
}

/// This rank's expected output bytes; `None` where its output is not defined.
pub fn output(request: &Request, rank: usize, ranks: usize) -> Option<Vec<u8>> {
    let Request { collective, dtype, op, root, counts } = request;
    let root = *root as usize;
    let value = |source: usize, index: usize| input_value(*op, *dtype, source, ranks, index);
    let vector = |upto: usize, from: usize, count: usize| {
        encode_all(*dtype, (from..from + count).map(|i| reduce(*op, *dtype, ranks, upto, i)))
    };
    let whole = match counts {
        Counts::Uniform(count) => *count,
        _ => 0,
    };
    Some(match collective {
        Collective::AllReduce => vector(ranks, 0, whole),
        Collective::Reduce if rank == root => vector(ranks, 0, whole),
        Collective::Scan => vector(rank + 1, 0, whole),
        Collective::ExScan if rank > 0 => vector(rank, 0, whole),
        Collective::ReduceScatter => {
            let (from, count) = block(counts, rank);
            vector(ranks, from, count)
        }
        Collective::Broadcast => encode_all(*dtype, (0..whole).map(|i| value(root, i))),
        Collective::AllGather => gathered(request, ranks),
        Collective::Gather if rank == root => gathered(request, ranks),
        Collective::Scatter => {
            let (from, count) = block(counts, rank);
            encode_all(*dtype, (from..from + count).map(|i| value(root, i)))
        }
        Collective::AllToAll => exchanged(request, rank, ranks),
        _ => return None,
    })
}

fn gathered(request: &Request, ranks: usize) -> Vec<u8> {
    let block_of = |source| block(&request.counts, source).1;
    let values = (0..ranks).flat_map(|source| {
        (0..block_of(source)).map(move |i| input_value(request.op, request.dtype, source, ranks, i))
    });
    encode_all(request.dtype, values)
}

fn exchanged(request: &Request, rank: usize, ranks: usize) -> Vec<u8> {
    let count = |source: usize, destination: usize| match &request.counts {
        Counts::Uniform(count) => *count,
        _ => pair_count(source, destination),
    };
    let values = (0..ranks).flat_map(|source| {
        let from: usize = (0..rank).map(|before| count(source, before)).sum();
        (from..from + count(source, rank))
            .map(move |i| input_value(request.op, request.dtype, source, ranks, i))
    });
    encode_all(request.dtype, values)
}
