//! Values to send, and what must come back, element by element.
//!
//! Values repeat with a prime period, so that a block that ends up in the wrong place, or a chunk
//! of one that is late, is seen: no block boundary is a multiple of it. Each rank's values are
//! its own. They are small integers, so that sums are exact in every type wherever that is
//! possible, and the oracle is the one result that is right.

use syncline::reduce::{DType, ReduceOp};

use crate::number::{self, Number};

/// Elements after which the values repeat.
pub(crate) const PERIOD: usize = 4099;

/// How far a right result may lie from the oracle.
enum Slack {
    /// Not at all: the result is the oracle's value, rounded once.
    None,
    /// This much, per element of the period.
    Absolute(Vec<f64>),
}

/// A periodic series of values of one type.
pub(crate) struct Series {
    dtype: DType,
    /// One period, rounded to the type.
    bytes: Vec<u8>,
    /// One period in the oracle's arithmetic; empty where bytes are moved and must arrive as
    /// they are.
    exact: Vec<Number>,
    /// What rounding alone costs, per element; empty where that is nothing.
    rounding: Vec<f64>,
    slack: Slack,
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    /// Elements that differ from the oracle by more than they may.
    pub(crate) wrong: u64,
    /// Largest distance from the oracle (float64) of any element.
    pub(crate) max_abs_error: f64,
}

impl Tally {
    fn add(&mut self, error: f64, is_wrong: bool) {
        self.wrong += u64::from(is_wrong);
        self.max_abs_error = self.max_abs_error.max(error);
    }
}

impl Series {
    /// What `rank` contributes to a reduction with `op`, or, without one, bytes to move.
    pub(crate) fn contribution(dtype: DType, op: Option<ReduceOp>, rank: u32, ranks: u32) -> Self {
        let Some(op) = op else { return Self::random_bits(dtype, rank) };
        let values = (0..PERIOD).map(|i| value(dtype, op, rank, ranks, i)).collect();
        Self::from_exact(dtype, values, Slack::None)
    }

    /// The reduction of the contributions of ranks 0 to `until - 1`, of `ranks` in all.
    pub(crate) fn reduced(dtype: DType, op: ReduceOp, until: u32, ranks: u32) -> Self {
        let mut column = Vec::with_capacity(until as usize);
        let mut values = Vec::with_capacity(PERIOD);
        let mut bounds = Vec::with_capacity(PERIOD);
        for index in 0..PERIOD {
            column.clear();
            column.extend((0..until).map(|rank| value(dtype, op, rank, ranks, index)));
            values.push(number::reduce(dtype, op, &column));
            // A division or a scaling rounds once more, before the result itself is rounded.
            bounds.push(2.0 * number::epsilon(dtype) * magnitude(&column, op));
        }
        let divides = matches!(op, ReduceOp::Avg | ReduceOp::PreMulSum(_)) && dtype.is_float();
        let slack = if divides { Slack::Absolute(bounds) } else { Slack::None };
        Self::from_exact(dtype, values, slack)
    }

    /// One contribution out of a file, as it is.
    pub(crate) fn of_floats(row: &[f32]) -> Self {
        let values = row.iter().map(|&x| Number::Float(f64::from(x))).collect();
        Self::from_exact(DType::F32, values, Slack::None)
    }

    /// The reduction of rows of float32 values, in float64.
    ///
    /// Summing n floats in any order errs by at most (n-1)·u·Σ|x| to first order, u being half
    /// the spacing at 1 (Higham, Accuracy and Stability of Numerical Algorithms, 2002, 4.2); n·u
    /// and one rounding more are allowed.
    pub(crate) fn reduced_floats(op: ReduceOp, rows: &[&[f32]]) -> Self {
        let columns = rows.first().map_or(0, |row| row.len());
        let (mut values, mut bounds) = (Vec::with_capacity(columns), Vec::with_capacity(columns));
        let unit = number::epsilon(DType::F32) / 2.0;
        let mut column = Vec::with_capacity(rows.len());
        for index in 0..columns {
            column.clear();
            column.extend(rows.iter().map(|row| Number::Float(f64::from(row[index]))));
            values.push(number::reduce(DType::F32, op, &column));
            bounds.push((rows.len() + 1) as f64 * unit * magnitude(&column, op));
        }
        let exact = matches!(op, ReduceOp::Min | ReduceOp::Max);
        let slack = if exact { Slack::None } else { Slack::Absolute(bounds) };
        Self::from_exact(DType::F32, values, slack)
    }

    fn random_bits(dtype: DType, rank: u32) -> Self {
        let bits = (0..PERIOD).map(|i| mix(rank, i));
        let bytes = bits.flat_map(|b| b.to_le_bytes().into_iter().take(dtype.size())).collect();
        Self { dtype, bytes, exact: Vec::new(), rounding: Vec::new(), slack: Slack::None }
    }

    fn from_exact(dtype: DType, exact: Vec<Number>, slack: Slack) -> Self {
        let mut bytes = Vec::with_capacity(exact.len() * dtype.size());
        for &value in &exact {
            number::encode(dtype, value, &mut bytes);
        }
        let rounded = bytes.chunks_exact(dtype.size()).map(|b| number::decode(dtype, b));
        let mut rounding: Vec<f64> =
            rounded.zip(&exact).map(|(r, &e)| number::distance(dtype, r, e)).collect();
        if rounding.iter().all(|&error| error == 0.0) {
            rounding.clear();
        }
        Self { dtype, bytes, exact, rounding, slack }
    }

    /// Writes the series into `buffer`, beginning with element `start` of it.
    pub(crate) fn fill(&self, buffer: &mut [u8], start: usize) {
        for (range, from) in self.runs(buffer.len(), start) {
            let len = range.len();
            buffer[range].copy_from_slice(&self.bytes[from..from + len]);
        }
    }

    /// Compares `buffer` with the series from element `start` on.
    pub(crate) fn check(&self, buffer: &[u8], start: usize, tally: &mut Tally) {
        let size = self.dtype.size();
        for (range, from) in self.runs(buffer.len(), start) {
            let found = &buffer[range];
            let wanted = &self.bytes[from..from + found.len()];
            let first = from / size;
            if found != wanted {
                self.check_each(found, wanted, first, tally);
            } else if let Some(errors) = self.rounding.get(first..first + found.len() / size) {
                let worst = errors.iter().fold(0.0, |a: f64, &b| a.max(b));
                tally.max_abs_error = tally.max_abs_error.max(worst);
            }
        }
    }

    fn check_each(&self, found: &[u8], wanted: &[u8], first: usize, tally: &mut Tally) {
        let size = self.dtype.size();
        for (i, (f, w)) in found.chunks_exact(size).zip(wanted.chunks_exact(size)).enumerate() {
            let value = number::decode(self.dtype, f);
            let Some(&exact) = self.exact.get(first + i) else {
                let error = number::distance(self.dtype, value, number::decode(self.dtype, w));
                tally.add(if f == w { 0.0 } else { error }, f != w);
                continue;
            };
            let error = number::distance(self.dtype, value, exact);
            let is_wrong = match &self.slack {
                Slack::None => value != number::decode(self.dtype, w),
                Slack::Absolute(bounds) => error > bounds[first + i] || error.is_nan(),
            };
            tally.add(error, is_wrong);
        }
    }

    /// Cuts `len` bytes into ranges that lie within one period, with the offset in the period.
    fn runs(
        &self,
        len: usize,
        start: usize,
    ) -> impl Iterator<Item = (std::ops::Range<usize>, usize)> {
        let period = self.bytes.len();
        let mut from = start * self.dtype.size() % period;
        let mut at = 0;
        std::iter::from_fn(move || {
            (at < len).then(|| {
                let end = len.min(at + period - from);
                let run = (at..end, from);
                (at, from) = (end, 0);
                run
            })
        })
    }
}

/// Sum of the magnitudes of what is added up.
fn magnitude(column: &[Number], op: ReduceOp) -> f64 {
    let sum: f64 = column
        .iter()
        .map(|n| match n {
            Number::Float(x) => x.abs(),
            Number::Int(_) => 0.0,
        })
        .sum();
    match op {
        ReduceOp::Avg => sum / column.len() as f64,
        ReduceOp::PreMulSum(factor) => sum * factor.abs(),
        ReduceOp::Prod => column.iter().fold(1.0, |product, n| match n {
            Number::Float(x) => product * x.abs(),
            Number::Int(_) => product,
        }),
        _ => sum,
    }
}

/// Element `index` of what `rank` contributes.
fn value(dtype: DType, op: ReduceOp, rank: u32, ranks: u32, index: usize) -> Number {
    let bits = mix(rank, index);
    match op {
        ReduceOp::BitAnd | ReduceOp::BitOr | ReduceOp::BitXor => {
            let mut bytes = Vec::with_capacity(8);
            number::encode(dtype, Number::Int(bits), &mut bytes);
            number::decode(dtype, &bytes)
        }
        // One rank in turn doubles; the others only flip signs: no product overflows.
        ReduceOp::Prod => {
            let doubles = index % ranks as usize == rank as usize;
            let factor = if doubles { 2 } else { 1 };
            signed(dtype, factor, bits & 1 == 1)
        }
        _ => {
            let largest = largest(dtype, ranks);
            let magnitude = (bits >> 8) % (largest + 1);
            signed(dtype, magnitude, bits & 1 == 1)
        }
    }
}

/// The largest magnitude for which sums over all ranks stay exact, where the type allows it.
fn largest(dtype: DType, ranks: u32) -> u64 {
    let (total, most) = match dtype {
        DType::I8 => (127, 64),
        DType::U8 => (255, 64),
        DType::BF16 => (256, 64),
        DType::F16 => (2048, 64),
        DType::F8E4M3 => (240, 16),
        DType::F8E5M2 => (240, 8),
        _ => (1 << 24, 1000),
    };
    (total / u64::from(ranks)).clamp(1, most)
}

fn signed(dtype: DType, magnitude: u64, negative: bool) -> Number {
    let unsigned = matches!(dtype, DType::U8 | DType::U32 | DType::U64);
    let negative = negative && !unsigned && magnitude != 0;
    if dtype.is_float() {
        let value = magnitude as f64;
        Number::Float(if negative { -value } else { value })
    } else {
        Number::Int(if negative { magnitude.wrapping_neg() } else { magnitude })
    }
}

/// Bits that depend on rank and index alone (the finalizer of SplitMix64: Steele, Lea, Flood,
/// 2014).
const fn mix(rank: u32, index: usize) -> u64 {
    let mut z = ((rank as u64) << 32 | index as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(series: &Series, buffer: &[u8], start: usize) -> Tally {
        let mut tally = Tally::default();
        series.check(buffer, start, &mut tally);
        tally
    }

    #[test]
    fn what_is_filled_is_found_again_at_any_start() {
        for dtype in DType::ALL {
            let series = Series::contribution(dtype, None, 3, 4);
            for (start, count) in [(0, 1), (7, 3 * PERIOD), (5 * PERIOD + 4098, 2)] {
                let mut buffer = vec![0; count * dtype.size()];
                series.fill(&mut buffer, start);
                assert_eq!(tally(&series, &buffer, start), Tally::default());
            }
        }
    }

    #[test]
    fn a_shifted_block_and_a_foreign_rank_are_seen() {
        let series = Series::contribution(DType::F32, None, 0, 4);
        let mut buffer = vec![0; 4 * 1000];
        series.fill(&mut buffer, 1024);
        assert!(tally(&series, &buffer, 0).wrong > 990);
        let other = Series::contribution(DType::F32, None, 1, 4);
        assert!(tally(&other, &buffer, 1024).wrong > 990);
    }

    #[test]
    fn one_flipped_bit_is_one_wrong_element() {
        for dtype in DType::ALL {
            let series = Series::reduced(dtype, ReduceOp::Sum, 4, 4);
            let mut buffer = vec![0; 10_000 * dtype.size()];
            series.fill(&mut buffer, 0);
            assert_eq!(tally(&series, &buffer, 0).wrong, 0, "{}", dtype.name());
            // The lowest bit but one of the last byte: part of the exponent or the value.
            buffer[6000 * dtype.size() - 1] ^= 2;
            let found = tally(&series, &buffer, 0);
            assert_eq!(found.wrong, 1, "{}", dtype.name());
            assert!(found.max_abs_error > 0.0, "{}", dtype.name());
        }
    }

    #[test]
    fn sums_are_exact_in_every_type_but_the_smallest() {
        for dtype in DType::ALL {
            for ranks in [1, 2, 5, 16] {
                let series = Series::reduced(dtype, ReduceOp::Sum, ranks, ranks);
                let exact = !matches!(dtype, DType::F8E4M3 | DType::F8E5M2);
                assert!(!exact || series.rounding.is_empty(), "{} {ranks}", dtype.name());
            }
        }
    }

    #[test]
    fn an_average_may_be_rounded_twice_but_not_more() {
        let series = Series::reduced(DType::F32, ReduceOp::Avg, 3, 3);
        let index = (0..PERIOD)
            .find(|&i| matches!(series.exact[i], Number::Float(x) if x.abs() > 1.0))
            .expect("values vary");
        let mut buffer = vec![0; 4 * (index + 1)];
        series.fill(&mut buffer, 0);
        buffer[4 * index] ^= 1;
        let found = tally(&series, &buffer, 0);
        assert_eq!(found.wrong, 0, "one unit in the last place");
        assert!(found.max_abs_error > 0.0);
        buffer[4 * index] ^= 0x40;
        assert_eq!(tally(&series, &buffer, 0).wrong, 1);
    }

    #[test]
    fn not_a_number_is_wrong() {
        let series = Series::reduced(DType::F32, ReduceOp::Avg, 2, 2);
        let mut buffer = vec![0; 4];
        series.fill(&mut buffer, 0);
        buffer.copy_from_slice(&f32::NAN.to_le_bytes());
        let found = tally(&series, &buffer, 0);
        assert_eq!((found.wrong, found.max_abs_error), (1, f64::INFINITY));
    }

    #[test]
    fn every_operator_on_every_type_has_an_oracle() {
        use ReduceOp::{Avg, BitAnd, BitOr, BitXor, Max, Min, PreMulSum, Prod, Sum};
        for op in [Sum, Prod, Min, Max, Avg, PreMulSum(0.5), BitAnd, BitOr, BitXor] {
            for dtype in DType::ALL.into_iter().filter(|&d| op.supports(d)) {
                let series = Series::reduced(dtype, op, 8, 8);
                assert_eq!(series.bytes.len(), PERIOD * dtype.size());
                let finite = series.exact.iter().all(|n| match n {
                    Number::Float(x) => x.is_finite(),
                    Number::Int(_) => true,
                });
                assert!(finite, "{} {}", op.name(), dtype.name());
            }
        }
    }

    #[test]
    fn rows_of_a_file_are_summed_in_double_precision() {
        let rows: [&[f32]; 3] = [&[1.0, 0.1], &[2.0, 0.2], &[3.0, 0.3]];
        let series = Series::reduced_floats(ReduceOp::Sum, &rows);
        let result: Vec<u8> =
            [6.0f32, 0.1 + 0.2 + 0.3].iter().flat_map(|x| x.to_le_bytes()).collect();
        let found = tally(&series, &result, 0);
        assert_eq!(found.wrong, 0);
        assert!(found.max_abs_error < 1e-7, "{found:?}");
        let result: Vec<u8> = [6.0f32, 0.6001].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(tally(&series, &result, 0).wrong, 1);
    }
}
