//! What bounds relative to the data are relative to: root mean square and largest magnitude.

#[cfg(target_arch = "x86_64")]
mod simd;

use crate::descriptor::{Bound, BoundMode};
use crate::float::environment::DefaultEnvironment;
use crate::level::Level;

/// Sums run in this many lanes side by side: element i is in lane i mod 16.
const LANES: usize = 16;

/// Of the finite elements of a tensor, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// How many elements are finite.
    pub count: u64,
    /// The sum of their squares.
    pub sum_of_squares: f64,
    /// Their largest magnitude.
    pub max: f32,
}

impl Statistics {
    /// Of a slice. The order of additions is fixed, so that every machine finds the same: squares
    /// are exact in f64 and added in 16 lanes, which are added one after the other.
    pub fn of(x: &[f32]) -> Self {
        Self::with(Level::best(), x)
    }

    /// As [`Self::of`], by the kernels of `level`.
    fn with(level: Level, x: &[f32]) -> Self {
        let _environment = DefaultEnvironment::enter();
        match level {
            Level::Scalar => run(x),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(avx2) => simd::run(avx2, x),
        }
    }

    /// Of both. Ranks that combine many must do it in the same order to get the same sum.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            sum_of_squares: self.sum_of_squares + other.sum_of_squares,
            max: self.max.max(other.max),
        }
    }

    /// The root of the mean of the squares; 0 if nothing is finite.
    pub fn rms(self) -> f64 {
        if self.count == 0 { 0.0 } else { (self.sum_of_squares / self.count as f64).sqrt() }
    }

    /// The bound in the unit of the data; 0 if it is relative to data that are all zero.
    pub fn absolute(self, bound: Bound) -> f64 {
        match bound.mode() {
            BoundMode::Abs => bound.value(),
            BoundMode::Rms => bound.value() * self.rms(),
            BoundMode::Max => bound.value() * f64::from(self.max),
        }
    }
}

/// The loop, plain enough to be compiled for any instruction set.
#[inline(always)]
fn run(x: &[f32]) -> Statistics {
    let mut sums = [0.0; LANES];
    let mut largest = [0_u32; LANES];
    let mut counts = [0_u64; LANES];
    // 32 bits are enough for the counts of a part.
    for part in x.chunks(1 << 30) {
        let mut part_counts = [0_u32; LANES];
        let (groups, rest) = part.as_chunks::<LANES>();
        // Minus infinity is not finite and so not counted.
        let mut padded = [f32::NEG_INFINITY; LANES];
        padded[..rest.len()].copy_from_slice(rest);
        for group in groups.iter().chain([&padded]) {
            for lane in 0..LANES {
                let magnitude = group[lane].to_bits() & 0x7fff_ffff;
                let finite = u32::from(magnitude < 0x7f80_0000);
                let magnitude = magnitude & finite.wrapping_neg();
                let wide = f64::from(f32::from_bits(magnitude));
                sums[lane] += wide * wide;
                largest[lane] = largest[lane].max(magnitude);
                part_counts[lane] += finite;
            }
        }
        for (count, part) in counts.iter_mut().zip(part_counts) {
            *count += u64::from(part);
        }
    }
    Statistics {
        count: counts.iter().sum(),
        sum_of_squares: sums.iter().sum(),
        max: f32::from_bits(largest.into_iter().fold(0, u32::max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{adversarial, gradient};

    #[test]
    fn they_are_what_their_names_say() {
        let x = [3.0, -4.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let statistics = Statistics::of(&x);
        assert_eq!(statistics, Statistics { count: 2, sum_of_squares: 25.0, max: 4.0 });
        assert_eq!(statistics.rms(), 12.5_f64.sqrt());
        let both = statistics.and(Statistics::of(&[5.0]));
        assert_eq!(both, Statistics { count: 3, sum_of_squares: 50.0, max: 5.0 });
        assert_eq!(Statistics::of(&[]), Statistics::default());
        assert_eq!(Statistics::default().rms(), 0.0);
        assert_eq!(Statistics::of(&[f32::MAX; 3]).rms(), f64::from(f32::MAX));
        let bound = |mode, value| statistics.absolute(Bound::new(mode, value).unwrap());
        assert_eq!(bound(BoundMode::Abs, 0.5), 0.5);
        assert_eq!(bound(BoundMode::Max, 0.5), 2.0);
        assert_eq!(bound(BoundMode::Rms, 2.0), 2.0 * 12.5_f64.sqrt());
    }

    #[test]
    fn every_level_adds_in_the_same_order() {
        let mut tensors: Vec<_> = adversarial().into_iter().map(|(_, x)| x).collect();
        tensors.push(gradient(10_007, 4));
        for x in tensors {
            let want = Statistics::with(Level::Scalar, &x);
            for level in Level::available() {
                assert_eq!(Statistics::with(level, &x), want);
            }
            let plain: f64 =
                x.iter().filter(|x| x.is_finite()).map(|x| f64::from(*x).powi(2)).sum();
            assert!((want.sum_of_squares - plain).abs() <= 1e-12 * plain);
        }
    }
}
