//! The loops compiled for AVX2.

use super::{Rounding, blocks};
use crate::descriptor::CastFormat;
use crate::level::Avx2;

/// See [`blocks::encode`].
pub(super) fn encode(
    _: Avx2,
    format: CastFormat,
    rounding: Rounding,
    x: &[f32],
    out: &mut [u8],
) -> usize {
    #[target_feature(enable = "avx2")]
    fn run(format: CastFormat, rounding: Rounding, x: &[f32], out: &mut [u8]) -> usize {
        blocks::encode(format, rounding, x, out)
    }
    // SAFETY: the token proves that the CPU has AVX2.
    unsafe { run(format, rounding, x, out) }
}

/// See [`blocks::decode`].
pub(super) fn decode<const ADD: bool>(_: Avx2, format: CastFormat, bytes: &[u8], out: &mut [f32]) {
    #[target_feature(enable = "avx2")]
    fn run<const ADD: bool>(format: CastFormat, bytes: &[u8], out: &mut [f32]) {
        blocks::decode::<ADD>(format, bytes, out);
    }
    // SAFETY: the token proves that the CPU has AVX2.
    unsafe { run::<ADD>(format, bytes, out) }
}
