//! Values of every element type, as the oracle sees them: integers modulo 2^64, floats in f64.
//!
//! This arithmetic is deliberately not the library's: it is what the library is checked against.

use syncline::reduce::{DType, ReduceOp};

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// An integer modulo 2^64, in two's complement.
    Int(u64),
    /// A float.
    Float(f64),
}

/// A binary floating-point format of at most 16 bits.
#[derive(Clone, Copy)]
struct Small {
    exponent_bits: u32,
    mantissa_bits: u32,
    /// The top exponent means infinity and NaN (IEEE 754); otherwise only the all-ones code is
    /// NaN and there is no infinity (OCP E4M3).
    ieee: bool,
}

impl Small {
    const fn of(dtype: DType) -> Option<Self> {
        let (exponent_bits, mantissa_bits, ieee) = match dtype {
            DType::F16 => (5, 10, true),
            DType::BF16 => (8, 7, true),
            DType::F8E4M3 => (4, 3, false),
            DType::F8E5M2 => (5, 2, true),
            _ => return None,
        };
        Some(Self { exponent_bits, mantissa_bits, ieee })
    }

    const fn bias(self) -> i32 {
        (1 << (self.exponent_bits - 1)) - 1
    }

    const fn sign(self) -> u32 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    /// Code of the largest finite value.
    const fn largest(self) -> u32 {
        if self.ieee { self.sign() - (1 << self.mantissa_bits) - 1 } else { self.sign() - 2 }
    }

    /// Rounds to nearest, ties to even; what is too large becomes infinity, or NaN without one.
    fn encode(self, value: f64) -> u32 {
        let sign = if value.is_sign_negative() { self.sign() } else { 0 };
        if value.is_nan() {
            return self.sign() - 1;
        }
        let magnitude = value.abs();
        let largest = self.largest();
        if magnitude.is_infinite() {
            return sign | (largest + 1);
        }
        let exponent_min = 1 - self.bias();
        let exponent = (((magnitude.to_bits() >> 52) as i32) - 1023).max(exponent_min);
        // Scaling by a power of two is exact: only the rounding below rounds.
        let steps =
            (magnitude * 2f64.powi(self.mantissa_bits as i32 - exponent)).round_ties_even() as u64;
        let code = ((exponent - exponent_min) as u64) * (1 << self.mantissa_bits) + steps;
        let code = u32::try_from(code).unwrap_or(u32::MAX);
        sign | code.min(largest + 1)
    }

    fn decode(self, code: u32) -> f64 {
        let magnitude = code & (self.sign() - 1);
        let sign = if code & self.sign() == 0 { 1.0 } else { -1.0 };
        if magnitude > self.largest() {
            let infinite = self.ieee && magnitude == self.largest() + 1;
            return sign * if infinite { f64::INFINITY } else { f64::NAN };
        }
        let mantissa = magnitude & ((1 << self.mantissa_bits) - 1);
        let exponent = (magnitude >> self.mantissa_bits) as i32;
        let hidden = if exponent == 0 { 0 } else { 1 << self.mantissa_bits };
        let scale = exponent.max(1) - self.bias() - self.mantissa_bits as i32;
        sign * f64::from(mantissa + hidden) * 2f64.powi(scale)
    }
}

/// Relative spacing of a float type's values at 1.
pub(crate) fn epsilon(dtype: DType) -> f64 {
    match (dtype, Small::of(dtype)) {
        (_, Some(small)) => 2f64.powi(-(small.mantissa_bits as i32)),
        (DType::F32, None) => f64::from(f32::EPSILON),
        _ => f64::EPSILON,
    }
}

/// Appends `value` rounded to `dtype`.
pub(crate) fn encode(dtype: DType, value: Number, bytes: &mut Vec<u8>) {
    match value {
        Number::Int(bits) => bytes.extend(&bits.to_le_bytes()[..dtype.size()]),
        Number::Float(value) => match (dtype, Small::of(dtype)) {
            (_, Some(small)) => {
                bytes.extend(&small.encode(value).to_le_bytes()[..dtype.size()]);
            }
            (DType::F32, None) => bytes.extend((value as f32).to_le_bytes()),
            _ => bytes.extend(value.to_le_bytes()),
        },
    }
}

/// The value of one element. Panics unless `bytes` is one element long.
pub(crate) fn decode(dtype: DType, bytes: &[u8]) -> Number {
    assert_eq!(bytes.len(), dtype.size(), "one element");
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(wide);
    match (dtype, Small::of(dtype)) {
        (_, Some(small)) => Number::Float(small.decode(bits as u32)),
        (DType::F32, None) => Number::Float(f64::from(f32::from_bits(bits as u32))),
        (DType::F64, None) => Number::Float(f64::from_bits(bits)),
        _ => Number::Int(wrap(dtype, bits)),
    }
}

/// `bits` modulo the width of an integer type, sign-extended where it is signed.
fn wrap(dtype: DType, bits: u64) -> u64 {
    let unused = 64 - 8 * dtype.size() as u32;
    if is_signed(dtype) {
        (((bits << unused) as i64) >> unused) as u64
    } else {
        (bits << unused) >> unused
    }
}

const fn is_signed(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::I32 | DType::I64)
}

/// Distance of two values, for reports.
pub(crate) fn distance(dtype: DType, a: Number, b: Number) -> f64 {
    match (a, b) {
        (Number::Float(a), Number::Float(b)) if a.is_nan() && b.is_nan() => 0.0,
        (Number::Float(a), Number::Float(b)) if a.is_nan() || b.is_nan() => f64::INFINITY,
        (Number::Float(a), Number::Float(b)) => (a - b).abs(),
        (Number::Int(a), Number::Int(b)) if is_signed(dtype) => {
            (i128::from(a as i64) - i128::from(b as i64)).unsigned_abs() as f64
        }
        (Number::Int(a), Number::Int(b)) => a.abs_diff(b) as f64,
        _ => f64::INFINITY,
    }
}

/// `contributions` combined in rank order, before the last rounding. Panics when there is none
/// or when `op` does not go with `dtype`.
pub(crate) fn reduce(dtype: DType, op: ReduceOp, contributions: &[Number]) -> Number {
    let ranks = contributions.len();
    let combined = contributions.iter().copied().map(|n| match (op, n) {
        (ReduceOp::PreMulSum(factor), Number::Float(x)) => Number::Float(factor * x),
        _ => n,
    });
    let total = combined.reduce(|a, b| combine(dtype, op, a, b)).expect("at least one rank");
    match (op, total) {
        (ReduceOp::Avg, Number::Float(sum)) => Number::Float(sum / ranks as f64),
        (ReduceOp::Avg, Number::Int(sum)) if is_signed(dtype) => {
            Number::Int((sum as i64).wrapping_div(ranks as i64) as u64)
        }
        (ReduceOp::Avg, Number::Int(sum)) => Number::Int(sum / ranks as u64),
        _ => total,
    }
}

fn combine(dtype: DType, op: ReduceOp, a: Number, b: Number) -> Number {
    use ReduceOp::{Avg, BitAnd, BitOr, BitXor, Max, Min, PreMulSum, Prod, Sum};
    match (a, b) {
        (Number::Float(a), Number::Float(b)) => Number::Float(match op {
            Sum | Avg | PreMulSum(_) => a + b,
            Prod => a * b,
            Min => a.min(b),
            Max => a.max(b),
            BitAnd | BitOr | BitXor => unreachable!("bitwise operators are for integers"),
        }),
        (Number::Int(a), Number::Int(b)) => {
            let a_is_less = if is_signed(dtype) { (a as i64) < b as i64 } else { a < b };
            let bits = match op {
                Sum | Avg => a.wrapping_add(b),
                Prod => a.wrapping_mul(b),
                Min => {
                    if a_is_less {
                        a
                    } else {
                        b
                    }
                }
                Max => {
                    if a_is_less {
                        b
                    } else {
                        a
                    }
                }
                BitAnd => a & b,
                BitOr => a | b,
                BitXor => a ^ b,
                PreMulSum(_) => unreachable!("premul_sum is for floats"),
            };
            Number::Int(wrap(dtype, bits))
        }
        _ => unreachable!("one type has one kind of number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(dtype: DType, value: f64) -> f64 {
        let mut bytes = Vec::new();
        encode(dtype, Number::Float(value), &mut bytes);
        match decode(dtype, &bytes) {
            Number::Float(value) => value,
            Number::Int(_) => panic!("{} is a float", dtype.name()),
        }
    }

    #[test]
    fn every_code_of_every_small_format_survives() {
        for dtype in [DType::F8E4M3, DType::F8E5M2, DType::F16, DType::BF16] {
            let small = Small::of(dtype).expect("small");
            for code in 0..small.sign() * 2 {
                let value = small.decode(code);
                if !value.is_nan() {
                    assert_eq!(small.encode(value), code, "{} {code:#x}", dtype.name());
                }
            }
        }
    }

    #[test]
    fn known_values() {
        assert_eq!(float(DType::F8E4M3, 448.0), 448.0);
        assert!(float(DType::F8E4M3, 500.0).is_nan());
        assert_eq!(float(DType::F8E4M3, 2f64.powi(-9)), 2f64.powi(-9));
        assert_eq!(float(DType::F8E5M2, 57344.0), 57344.0);
        assert_eq!(float(DType::F8E5M2, 1e9), f64::INFINITY);
        assert_eq!(float(DType::F16, 65504.0), 65504.0);
        assert_eq!(float(DType::F16, 65520.0), f64::INFINITY);
        assert_eq!(float(DType::F16, 2049.0), 2048.0, "ties to even");
        assert_eq!(float(DType::F16, 2051.0), 2052.0, "ties to even");
        assert_eq!(float(DType::BF16, 257.0), 256.0);
        assert_eq!(float(DType::F32, 16_777_217.0), 16_777_216.0);
    }

    #[test]
    fn integers_wrap_at_their_width_and_keep_their_sign() {
        let int = |v: i64| Number::Int(v as u64);
        assert_eq!(reduce(DType::I8, ReduceOp::Sum, &[int(100), int(100)]), int(-56));
        assert_eq!(reduce(DType::U8, ReduceOp::Sum, &[int(200), int(100)]), int(44));
        assert_eq!(reduce(DType::I32, ReduceOp::Min, &[int(-1), int(1)]), int(-1));
        assert_eq!(reduce(DType::U64, ReduceOp::Max, &[int(-1), int(1)]), int(-1));
        assert_eq!(reduce(DType::I8, ReduceOp::Avg, &[int(-4), int(-3)]), int(-3));
        assert_eq!(reduce(DType::U8, ReduceOp::BitXor, &[int(6), int(3)]), int(5));
        assert_eq!(decode(DType::I8, &[0xff]), int(-1));
        assert_eq!(decode(DType::U8, &[0xff]), int(255));
    }

    #[test]
    fn floats_reduce_in_double_precision() {
        let x = [Number::Float(1.0), Number::Float(2.0), Number::Float(4.0)];
        assert_eq!(reduce(DType::F32, ReduceOp::Sum, &x), Number::Float(7.0));
        assert_eq!(reduce(DType::F32, ReduceOp::Prod, &x), Number::Float(8.0));
        assert_eq!(reduce(DType::F32, ReduceOp::Avg, &x), Number::Float(7.0 / 3.0));
        assert_eq!(reduce(DType::F32, ReduceOp::PreMulSum(0.5), &x), Number::Float(3.5));
    }

    #[test]
    fn distances_are_finite_only_between_numbers() {
        let f = Number::Float;
        assert_eq!(distance(DType::F32, f(1.0), f(-1.0)), 2.0);
        assert_eq!(distance(DType::F32, f(f64::NAN), f(f64::NAN)), 0.0);
        assert_eq!(distance(DType::F32, f(f64::NAN), f(1.0)), f64::INFINITY);
        assert_eq!(distance(DType::I8, Number::Int(u64::MAX), Number::Int(1)), 2.0);
        assert_eq!(distance(DType::U64, Number::Int(u64::MAX), Number::Int(0)), u64::MAX as f64);
    }
}
