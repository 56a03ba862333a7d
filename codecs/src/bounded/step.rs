//! The shared step, and what a sum in units of it is worth.

use crate::descriptor::{Bound, BoundMode};
use crate::error::DescriptorError;

/// Significant bits of a step. With at most [`CODE_BITS_FAST`] bits in the code, the product of
/// the two is exact in f32.
const STEP_BITS: u32 = 11;
/// Codes whose check is done in f32 are in -2^13..2^13.
pub(super) const CODE_BITS_FAST: u32 = 13;
/// Codes beyond this magnitude are not made: such a block is stored as it is.
pub(super) const CODE_MAX: f64 = 4_194_304.0;
/// Half a unit in the last place of an f32, as a fraction of the number, and a little more for
/// the two roundings in f64 of an average.
pub(super) const ROUNDING: f64 = (1.0 + 1.0 / 1_048_576.0) / 16_777_216.0;

/// The step that all ranks share for one bound, and the constants derived from it.
///
/// A value x is coded as an integer q and stands for q·step. The step is the largest number with
/// 11 significant bits such that
///
/// ```text
/// step · (1/2 + 2^-11 + 2^-12) <= bound
/// ```
///
/// * 1/2: the distance to the nearest multiple.
/// * 2^-11: a result is rounded to f32 once, by at most 2^-24 of itself. Every rank pays for
///   its own part, 2^-24·|q|·step, so that the bound holds for the result of any number of
///   ranks: with |q| < 2^13 that is 2^-11 of a step at most. Larger codes are made only where
///   an element's own check has room for the exact amount.
/// * 2^-12: q is found by a multiplication with 1/step in f32, which may be off by 2^-23 of q and
///   so choose the second nearest multiple. With |q| < 2^11 this room is enough; where it is
///   not, the block is coded again in f64.
///
/// Eleven bits make q·step exact in f32 for |q| <= 2^13. The difference to x then is exact, too:
/// either q is 0, or the two are within a factor of two of each other (Sterbenz). What the
/// encoder compares with its limit is therefore the error itself and no estimate.
///
/// All this costs at most 0.25 % of the step, 0.004 bits per element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub(super) step: f32,
    pub(super) inverse: f32,
    /// The largest error of an element with a code below 2^13.
    pub(super) limit: f32,
    bound: f64,
}

impl Step {
    /// The step for errors of at most `bound` per contribution, in the unit of the data. The
    /// same on every rank and machine.
    ///
    /// # Errors
    /// If `bound` is not a number that [`Bound::new`] takes as absolute.
    pub fn new(bound: f64) -> Result<Self, DescriptorError> {
        let bound = Bound::new(BoundMode::Abs, bound)?.value();
        let part = 0.5 + 3.0 / 4096.0;
        // Cut off below the eleventh bit; the quotient may have been rounded up across one.
        let unit = 1_u64 << (53 - STEP_BITS);
        let mut bits = (bound / part).to_bits() & !(unit - 1);
        if f64::from_bits(bits) * part > bound {
            bits -= unit;
        }
        let step = f64::from_bits(bits);
        // At most 2^13 steps of 2^-24 and a little each, and an average that is subnormal.
        let rounding = step * ROUNDING * f64::from(1_u32 << CODE_BITS_FAST);
        let limit = bound * (1.0 - 1.0 / 1_048_576.0) - rounding;
        let mut limit_f32 = limit as f32;
        if f64::from(limit_f32) > limit {
            limit_f32 = limit_f32.next_down();
        }
        let step = step as f32;
        Ok(Self { step, inverse: 1.0 / step, limit: limit_f32, bound })
    }

    /// What one code is worth.
    pub fn step(self) -> f32 {
        self.step
    }

    /// The bound it was made for.
    pub fn bound(self) -> f64 {
        self.bound
    }

    /// The code of `x`, if there is one within the bound: in f64, where everything up to the
    /// comparison is exact.
    pub(super) fn code(self, x: f32) -> Option<i32> {
        let (x, step) = (f64::from(x), f64::from(self.step));
        let code = (x / step).round_ties_even();
        if code.is_nan() || code.abs() > CODE_MAX {
            return None;
        }
        let value = code * step;
        let error = (x - value).abs() + value.abs() * ROUNDING;
        // 2^-40 is room for the two roundings in that sum.
        let fits = error <= self.bound * (1.0 - 1.0 / 1_048_576.0);
        (fits && (value as f32).is_finite()).then_some(code as i32)
    }
}

/// How a sum becomes a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The sum, rounded to f32 once.
    Sum,
    /// The sum divided by the number of ranks: the sum rounded to f64, times 1/ranks rounded to
    /// f64, rounded to f64, rounded to f32.
    Average {
        /// How many.
        ranks: std::num::NonZeroU32,
    },
}

impl Finish {
    /// 1/ranks.
    fn factor(self) -> f64 {
        match self {
            Self::Sum => 1.0,
            Self::Average { ranks } => 1.0 / f64::from(ranks.get()),
        }
    }

    /// Whether the result of a single f32 is that f32.
    pub(super) fn is_identity(self) -> bool {
        self.factor() == 1.0
    }

    /// The result of a sum that f64 holds exactly.
    pub(super) fn apply(self, sum: f64) -> f32 {
        (sum * self.factor()) as f32
    }
}

/// [`Step`] and [`Finish`] in the form the kernels want.
///
/// A sum of codes has at most 29 bits, so that its product with the step is exact in f64 and
/// [`Finish`] says all there is to say. f32 gives the same where the code is exact in f32 and the
/// factor leaves the product alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// The result is code · this, in f32.
    Single(f32),
    /// The result is code · step · factor, in f64 and then rounded to f32.
    Double { step: f64, factor: f64 },
}

impl Scale {
    pub(super) fn new(step: Step, finish: Finish) -> Self {
        let (wide, factor) = (f64::from(step.step), finish.factor());
        let single = (wide * factor) as f32;
        // A power of two.
        let exact = f64::from(single) == wide * factor && factor.to_bits() << 12 == 0;
        if exact { Self::Single(single) } else { Self::Double { step: wide, factor } }
    }

    /// The result for any sum of codes.
    pub(super) fn apply(self, code: i32) -> f32 {
        match self {
            Self::Single(scale) if code.unsigned_abs() <= 1 << 24 => code as f32 * scale,
            Self::Single(scale) => (f64::from(code) * f64::from(scale)) as f32,
            Self::Double { step, factor } => (f64::from(code) * step * factor) as f32,
        }
    }
}
