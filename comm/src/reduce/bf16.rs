//! bf16 by AVX2, sixteen at a time: what the compiler makes of the plain loop packs the results
//! one by one.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_castps_si256, _mm256_castsi256_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_packus_epi32, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_srli_epi32, _mm256_storeu_ps, _mm256_storeu_si256,
    _mm256_unpackhi_epi16, _mm256_unpacklo_epi16,
};

use super::kernel;
use super::one_pass::Through;
use super::ops::{BF16, Binary};

/// bf16 in a vector, and half of them, as f32.
const LANES: usize = 16;
const WIDE: usize = LANES / 2;

/// The operator on bf16, each result rounded once, to nearest even.
///
/// # Safety
/// As [`super::kernel::Zip`] says.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn zip<O: Binary<Value = f32>>(
    dst: *mut u8,
    a: *const u8,
    b: *const u8,
    count: usize,
    arg: f64,
) {
    let (dst, a, b) = (dst.cast::<u16>(), a.cast::<u16>(), b.cast::<u16>());
    let vectors = count - count % LANES;
    let zero = _mm256_setzero_si256();
    for i in (0..vectors).step_by(LANES) {
        // SAFETY: elements i to i + 16 lie below `count`; the load needs no alignment.
        let x = unsafe { _mm256_loadu_si256(a.wrapping_add(i).cast()) };
        // SAFETY: as above.
        let y = unsafe { _mm256_loadu_si256(b.wrapping_add(i).cast()) };
        // Widening is a shift. Both halves of each vector are taken apart here, and put together
        // in the same order below.
        let low = (_mm256_unpacklo_epi16(zero, x), _mm256_unpacklo_epi16(zero, y));
        let high = (_mm256_unpackhi_epi16(zero, x), _mm256_unpackhi_epi16(zero, y));
        let low = rounded(combined::<O>(low, arg));
        let high = rounded(combined::<O>(high, arg));
        let small = _mm256_packus_epi32(low, high);
        // SAFETY: as the loads; `dst` is `a` or overlaps neither.
        unsafe { _mm256_storeu_si256(dst.wrapping_add(i).cast(), small) };
    }
    let rest = |of: *const u16| of.wrapping_add(vectors);
    // SAFETY: the elements from `vectors` on, by the same contract.
    unsafe {
        kernel::zip::<Through<BF16, O>>(
            rest(dst).cast_mut(),
            rest(a),
            rest(b),
            count - vectors,
            arg,
        );
    }
}

/// The operator on eight pairs of f32.
#[inline]
#[target_feature(enable = "avx2")]
fn combined<O: Binary<Value = f32>>((x, y): (__m256i, __m256i), arg: f64) -> __m256i {
    let (x, y) = (_mm256_castsi256_ps(x), _mm256_castsi256_ps(y));
    let (mut a, mut b) = ([0.0_f32; WIDE], [0.0_f32; WIDE]);
    // SAFETY: an array of that many.
    unsafe { _mm256_storeu_ps(a.as_mut_ptr(), x) };
    // SAFETY: as above.
    unsafe { _mm256_storeu_ps(b.as_mut_ptr(), y) };
    let results: [f32; WIDE] = std::array::from_fn(|lane| O::apply(a[lane], b[lane], arg));
    // SAFETY: an array of that many.
    let results = unsafe { _mm256_loadu_ps(results.as_ptr()) };
    _mm256_castps_si256(results)
}

/// The upper halves of eight f32, rounded to nearest even. The NaN that operators return rounds
/// to the canonical one.
#[inline]
#[target_feature(enable = "avx2")]
fn rounded(bits: __m256i) -> __m256i {
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, half))
}
