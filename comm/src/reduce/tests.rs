//! Every type, operator, format and instruction set against an oracle that works on one element
//! at a time: integers in i128, floats by case distinction.

use syncline_codecs::float;

use super::kernel::Level;
use super::{DType, Format, ReduceOp, Reducer};
use crate::error::Error;
use crate::memory::testing::{span, span_mut};

const RANKS: u32 = 7;
const FACTOR: f64 = -0.3;
const OPS: [ReduceOp; 9] = ReduceOp::all(FACTOR);
const FORMATS: [Format; 2] = [Format::Data, Format::Acc];

/// One element's bits, zero-extended.
type Bits = u64;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn read(bytes: &[u8]) -> Bits {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// NaNs with payloads and signs, infinities, subnormals, zeros, extremes, ties.
fn special_values(dtype: DType) -> Vec<Bits> {
    let width = 8 * dtype.size();
    let (mantissa, exponent) = match dtype {
        DType::F16 => (10, 0x1f),
        DType::BF16 => (7, 0xff),
        DType::F32 => (23, 0xff),
        DType::F64 => (52, 0x7ff),
        DType::F8E4M3 => (3, 0xf),
        DType::F8E5M2 => (2, 0x1f),
        _ => {
            let top = 1 << (width - 1);
            return vec![0, 1, 2, 7, top - 1, top, top + 1, u64::MAX, u64::MAX - 6];
        }
    };
    let fraction = (1u64 << mantissa) - 1;
    let infinity = exponent << mantissa;
    let one = (exponent >> 1) << mantissa;
    let magnitudes = [
        0,
        1,
        fraction,
        fraction + 1,
        one,
        one + 1,
        one + fraction,
        infinity - 1,
        infinity,
        infinity + 1,
        infinity + fraction,
    ];
    magnitudes.into_iter().flat_map(|m| [m, m | 1 << (width - 1)]).collect()
}

/// `count` elements, from special values, values near one another, and random bits.
fn values(dtype: DType, count: usize, random: &mut Random) -> Vec<u8> {
    let special = special_values(dtype);
    let mut bytes = Vec::with_capacity(count * dtype.size());
    for _ in 0..count {
        let word = match random.next() % 3 {
            0 => special[random.next() as usize % special.len()],
            1 => special[8 % special.len()] ^ (random.next() & 0xf),
            _ => random.next(),
        };
        bytes.extend_from_slice(&word.to_le_bytes()[..dtype.size()]);
    }
    bytes
}

fn stored(dtype: DType, format: Format) -> DType {
    if format == Format::Acc { dtype.accumulator() } else { dtype }
}

fn signed(dtype: DType, bits: Bits) -> i128 {
    match dtype {
        DType::I8 => i128::from(bits as i8),
        DType::I32 => i128::from(bits as i32),
        DType::I64 => i128::from(bits as i64),
        _ => i128::from(bits),
    }
}

/// `value` modulo the type's range, as bits.
fn wrapped(dtype: DType, value: i128) -> Bits {
    (value as u128 & ((1u128 << (8 * dtype.size())) - 1)) as Bits
}

fn oracle_integer(dtype: DType, op: ReduceOp, a: Bits, b: Bits, last: bool) -> Bits {
    let (x, y) = (signed(dtype, a), signed(dtype, b));
    match op {
        ReduceOp::Sum => wrapped(dtype, x + y),
        ReduceOp::Avg if !last => wrapped(dtype, x + y),
        ReduceOp::Avg => wrapped(dtype, signed(dtype, wrapped(dtype, x + y)) / i128::from(RANKS)),
        ReduceOp::Prod => wrapped(dtype, x.wrapping_mul(y)),
        ReduceOp::Min => wrapped(dtype, x.min(y)),
        ReduceOp::Max => wrapped(dtype, x.max(y)),
        ReduceOp::BitAnd => a & b,
        ReduceOp::BitOr => a | b,
        ReduceOp::BitXor => a ^ b,
        ReduceOp::PreMulSum(_) => unreachable!("floats only"),
    }
}

macro_rules! oracle_float {
    ($name:ident, $type:ident, $nan:literal) => {
        fn $name(op: ReduceOp, a: $type, b: $type, last: bool) -> $type {
            let nan = $type::from_bits($nan);
            // Orders -0 before +0.
            let (low, high) = if a.total_cmp(&b).is_lt() { (a, b) } else { (b, a) };
            let result = match op {
                _ if a.is_nan() || b.is_nan() => nan,
                ReduceOp::Sum | ReduceOp::PreMulSum(_) => a + b,
                ReduceOp::Avg => (a + b) / if last { RANKS as $type } else { 1.0 },
                ReduceOp::Prod => a * b,
                ReduceOp::Min => low,
                ReduceOp::Max => high,
                _ => unreachable!("integers only"),
            };
            if result.is_nan() { nan } else { result }
        }
    };
}

oracle_float!(oracle_f32, f32, 0x7fc0_0000);
oracle_float!(oracle_f64, f64, 0x7ff8_0000_0000_0000);

fn to_f32(dtype: DType, bits: Bits) -> f32 {
    let wide = match dtype {
        DType::F16 => half::f16::from_bits(bits as u16).to_f32(),
        DType::BF16 => half::bf16::from_bits(bits as u16).to_f32(),
        DType::F8E4M3 => float::F8E4M3::from_bits(bits as u8).to_f32(),
        DType::F8E5M2 => float::F8E5M2::from_bits(bits as u8).to_f32(),
        _ => f32::from_bits(bits as u32),
    };
    if wide.is_nan() { f32::from_bits(0x7fc0_0000) } else { wide }
}

fn from_f32(dtype: DType, x: f32) -> Bits {
    match dtype {
        DType::F16 if x.is_nan() => 0x7e00,
        DType::BF16 if x.is_nan() => 0x7fc0,
        DType::F16 => u64::from(half::f16::from_f32(x).to_bits()),
        DType::BF16 => u64::from(half::bf16::from_f32(x).to_bits()),
        DType::F8E4M3 => u64::from(float::F8E4M3::from_f32(x).to_bits()),
        DType::F8E5M2 => u64::from(float::F8E5M2::from_f32(x).to_bits()),
        _ => u64::from(x.to_bits()),
    }
}

/// `a ⊕ b`, from and to the given formats.
fn oracle(
    dtype: DType,
    op: ReduceOp,
    to: Format,
    (a, a_format): (Bits, Format),
    (b, b_format): (Bits, Format),
) -> Bits {
    let last = to == Format::Data;
    match dtype.accumulator() {
        DType::F64 => oracle_f64(op, f64::from_bits(a), f64::from_bits(b), last).to_bits(),
        DType::F32 => {
            let x = to_f32(stored(dtype, a_format), a);
            let y = to_f32(stored(dtype, b_format), b);
            from_f32(stored(dtype, to), oracle_f32(op, x, y, last))
        }
        _ => oracle_integer(dtype, op, a, b, last),
    }
}

/// Calls `check` for each type, operator it supports, and instruction set this CPU has.
fn for_each_reducer(mut check: impl FnMut(&Reducer, &str)) {
    for &level in Level::ALL {
        if !level.is_available() {
            skipped(level);
            continue;
        }
        for dtype in DType::ALL {
            for op in OPS.into_iter().filter(|op| op.supports(dtype)) {
                let name = format!("{} of {} with {level:?}", op.name(), dtype.name());
                check(&Reducer::with_level(dtype, op, RANKS, level).unwrap(), &name);
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn skipped(level: Level) {
    eprintln!("skipped: {level:?} kernels, which this CPU cannot run");
}

fn lengths() -> impl Iterator<Item = usize> {
    (0..40).chain([63, 64, 65, 127, 128, 129, 511, 512, 513, 1030])
}

#[test]
fn combine_gives_the_oracle_s_bits_out_of_place_and_unaligned() {
    let mut random = Random(1);
    for_each_reducer(|reducer, name| {
        for [to, left, right] in format_triples() {
            for count in lengths() {
                let a = values(stored(reducer.dtype(), left), count, &mut random);
                let b = values(stored(reducer.dtype(), right), count, &mut random);
                let size = reducer.size(to);
                let skew = random.next() as usize % 8;
                let mut dst = vec![0xee; count * size + 8];
                let mut skewed = vec![0; skew];
                skewed.extend_from_slice(&a);
                let target = span_mut(&mut dst[skew..skew + count * size]);
                reducer.combine(target, to, span(&skewed[skew..]), left, span(&b), right);
                for i in 0..count {
                    let got = read(&dst[skew + i * size..][..size]);
                    let (left_size, right_size) = (reducer.size(left), reducer.size(right));
                    let x = read(&a[i * left_size..][..left_size]);
                    let y = read(&b[i * right_size..][..right_size]);
                    let want = oracle(reducer.dtype(), reducer.op(), to, (x, left), (y, right));
                    assert_eq!(got, want, "{name} {to:?} = {left:?} {x:#x} ⊕ {right:?} {y:#x}");
                }
                assert!(dst[..skew].iter().chain(&dst[skew + count * size..]).all(|&x| x == 0xee));
            }
        }
    });
}

fn format_triples() -> impl Iterator<Item = [Format; 3]> {
    (0..8).map(|i| [FORMATS[i & 1], FORMATS[i >> 1 & 1], FORMATS[i >> 2 & 1]])
}

#[test]
fn in_place_on_either_side_equals_out_of_place_and_operands_commute() {
    let mut random = Random(2);
    for_each_reducer(|reducer, name| {
        for [to, left, right] in format_triples() {
            for count in lengths() {
                let a = values(stored(reducer.dtype(), left), count, &mut random);
                let b = values(stored(reducer.dtype(), right), count, &mut random);
                let mut want = vec![0; count * reducer.size(to)];
                reducer.combine(span_mut(&mut want), to, span(&a), left, span(&b), right);
                let mut swapped = vec![0; want.len()];
                reducer.combine(span_mut(&mut swapped), to, span(&b), right, span(&a), left);
                assert_eq!(swapped, want, "{name}: order of operands");
                if reducer.size(left) == reducer.size(to) {
                    let mut dst = a.clone();
                    let target = span_mut(&mut dst);
                    reducer.combine(target, to, target.as_span(), left, span(&b), right);
                    assert_eq!(dst, want, "{name}: in place of the first");
                }
                if reducer.size(right) == reducer.size(to) {
                    let mut dst = b.clone();
                    let target = span_mut(&mut dst);
                    reducer.combine(target, to, span(&a), left, target.as_span(), right);
                    assert_eq!(dst, want, "{name}: in place of the second");
                }
            }
        }
    });
}

#[test]
fn copy_widens_finishes_and_moves() {
    let mut random = Random(3);
    for_each_reducer(|reducer, name| {
        let (dtype, op) = (reducer.dtype(), reducer.op());
        for (to, from) in FORMATS.into_iter().flat_map(|to| FORMATS.map(|from| (to, from))) {
            for count in lengths() {
                let src = values(stored(dtype, from), count, &mut random);
                let mut dst = vec![0; count * reducer.size(to)];
                reducer.copy(span_mut(&mut dst), to, span(&src), from);
                if reducer.size(to) == reducer.size(from) {
                    let mut same = src.clone();
                    let target = span_mut(&mut same);
                    reducer.copy(target, to, target.as_span(), from);
                    assert_eq!(same, dst, "{name}: in place");
                }
                for i in 0..count {
                    let x = read(&src[i * reducer.size(from)..][..reducer.size(from)]);
                    let got = read(&dst[i * reducer.size(to)..][..reducer.size(to)]);
                    let want = oracle_copy(dtype, op, to, (x, from));
                    assert_eq!(got, want, "{name}: {to:?} of {from:?} {x:#x}");
                }
            }
        }
    });
}

fn oracle_copy(dtype: DType, op: ReduceOp, to: Format, (x, from): (Bits, Format)) -> Bits {
    let divided = op == ReduceOp::Avg && (to, from) == (Format::Data, Format::Acc);
    match dtype.accumulator() {
        _ if to == from => x,
        DType::F64 if divided => oracle_f64(op, f64::from_bits(x), -0.0, true).to_bits(),
        DType::F32 if divided => {
            let wide = oracle_f32(op, to_f32(DType::F32, x), -0.0, true);
            from_f32(dtype, wide)
        }
        DType::F32 if dtype.is_narrow() => {
            from_f32(stored(dtype, to), to_f32(stored(dtype, from), x))
        }
        _ if divided => oracle_integer(dtype, op, x, 0, true),
        _ => x,
    }
}

#[test]
fn premul_multiplies_in_the_accumulator_and_rounds_once() {
    let mut random = Random(4);
    for_each_reducer(|reducer, name| {
        if !matches!(reducer.op(), ReduceOp::PreMulSum(_)) {
            return;
        }
        let (dtype, size) = (reducer.dtype(), reducer.dtype().size());
        for count in lengths() {
            let src = values(dtype, count, &mut random);
            let mut dst = vec![0; src.len()];
            reducer.premul(span_mut(&mut dst), span(&src));
            let mut same = src.clone();
            let target = span_mut(&mut same);
            reducer.premul(target, target.as_span());
            assert_eq!(same, dst, "{name}: in place");
            for i in 0..count {
                let x = read(&src[i * size..][..size]);
                let want = if dtype == DType::F64 {
                    oracle_f64(ReduceOp::Prod, f64::from_bits(x), FACTOR, false).to_bits()
                } else {
                    let factor = FACTOR as f32;
                    from_f32(dtype, oracle_f32(ReduceOp::Prod, to_f32(dtype, x), factor, false))
                };
                assert_eq!(read(&dst[i * size..][..size]), want, "{name} of {x:#x}");
            }
        }
    });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_thread_that_flushes_subnormals_gets_the_same_bits() {
    let (tiny, count) = (3u32, 37);
    let src: Vec<u8> = tiny.to_le_bytes().repeat(count);
    let expect = (2 * tiny).to_le_bytes().repeat(count);
    for &level in Level::ALL.iter().filter(|level| level.is_available()) {
        let sum = Reducer::with_level(DType::F32, ReduceOp::Sum, 2, level).unwrap();
        let mut dst = vec![0; src.len()];
        syncline_codecs::float::environment::flush_to_zero(|| {
            let data = Format::Data;
            sum.combine(span_mut(&mut dst), data, span(&src), data, span(&src), data);
        });
        assert_eq!(dst, expect, "{level:?}");
    }
}

#[test]
fn what_is_not_defined_is_refused() {
    for (dtype, op) in [(DType::F32, ReduceOp::BitAnd), (DType::U8, ReduceOp::PreMulSum(2.0))] {
        let error = Reducer::new(dtype, op, 2).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
        assert!(error.to_string().contains(dtype.name()), "{error}");
    }
    assert!(Reducer::new(DType::F32, ReduceOp::Sum, 0).is_err());
}

#[test]
#[should_panic(expected = "second operand")]
fn operands_of_different_lengths_are_refused() {
    let sum = Reducer::new(DType::I32, ReduceOp::Sum, 2).unwrap();
    let (a, b, mut dst) = ([0; 8], [0; 4], [0; 8]);
    let data = Format::Data;
    sum.combine(span_mut(&mut dst), data, span(&a), data, span(&b), data);
}
