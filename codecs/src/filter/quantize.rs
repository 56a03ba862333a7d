//! Stochastic rounding to the grid.

use super::Grid;

/// The code of a value that is not rounded but kept.
pub(super) const ESCAPE: i32 = i32::MIN;
/// Magnitudes in steps end here, so that codes have at most 22 bits.
const STEPS_END: f32 = ((1 << 22) - 2) as f32;
/// Magnitudes up to this have finite neighbours on any grid.
const MAGNITUDE_MAX: f32 = f32::MAX / 2.0;

/// The codes of `data`, given a random word for each element.
///
/// A loop without branches, for a caller compiled for any instruction set.
#[inline(always)]
pub(super) fn quantize(grid: Grid, data: &[f32], words: &[u32], codes: &mut [i32]) {
    let (per_step, per_drop) = (1.0 / grid.step, 1.0 / grid.drop);
    for ((x, word), code) in data.iter().zip(words).zip(codes) {
        let magnitude = x.abs();
        let small = magnitude < grid.drop;
        let above = (magnitude - grid.drop) * per_step;
        let steps = if small { magnitude * per_drop } else { above };
        // Not for NaN.
        let fits = (steps < STEPS_END) & (magnitude <= MAGNITUDE_MAX);
        let steps = if fits { steps } else { 0.0 };
        let whole = steps as i32;
        // 24 random bits, exactly.
        let chance = (word >> 8).cast_signed() as f32 * (1.0 / (1 << 24) as f32);
        let up = chance < steps - whole as f32;
        let count = whole + i32::from(!small) + i32::from(up);
        let signed = if x.is_sign_negative() { -count } else { count };
        *code = if fits { signed } else { ESCAPE };
    }
}
