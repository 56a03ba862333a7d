//! Stochastic rounding compiled for AVX2.

use super::Grid;
use crate::level::Avx2;

/// As [`super::quantize::quantize`].
pub(super) fn quantize(_: Avx2, grid: Grid, data: &[f32], words: &[u32], codes: &mut [i32]) {
    // SAFETY: the token proves that the CPU has AVX2.
    unsafe { quantize_avx2(grid, data, words, codes) }
}

#[target_feature(enable = "avx2")]
fn quantize_avx2(grid: Grid, data: &[f32], words: &[u32], codes: &mut [i32]) {
    super::quantize::quantize(grid, data, words, codes);
}
