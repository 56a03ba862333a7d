//! The loop compiled for AVX2.

use super::Statistics;
use crate::level::Avx2;

/// See [`super::run`].
pub(super) fn run(_: Avx2, x: &[f32]) -> Statistics {
    #[target_feature(enable = "avx2")]
    fn run(x: &[f32]) -> Statistics {
        super::run(x)
    }
    // SAFETY: the token proves that the CPU has AVX2.
    unsafe { run(x) }
}
