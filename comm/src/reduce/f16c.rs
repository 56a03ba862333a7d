//! f16 by the conversion instructions of x86, eight at a time: bit-identical to the portable
//! conversions once NaNs are made canonical, and several times as fast.

use std::arch::x86_64::{
    __m128i, __m256, _CMP_UNORD_Q, _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128, _mm_storeu_si128,
    _mm256_blendv_ps, _mm256_cmp_ps, _mm256_cvtph_ps, _mm256_cvtps_ph, _mm256_loadu_ps,
    _mm256_set1_ps, _mm256_storeu_ps,
};

use syncline_codecs::float::{f16_from_f32, f16_to_f32};

use super::kernel;
use super::one_pass::Through;
use super::ops::{Binary, F16};

const LANES: usize = 8;

/// `v` with the canonical NaN for every NaN.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn canonical(v: __m256) -> __m256 {
    let nan = _mm256_set1_ps(f32::from_bits(0x7fc0_0000));
    _mm256_blendv_ps(v, nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v))
}

/// f16 to f32.
///
/// # Safety
/// As [`super::kernel::Map`] says.
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn widen(dst: *mut u8, src: *const u8, count: usize, _: f64) {
    let (dst, src) = (dst.cast::<f32>(), src.cast::<u16>());
    let vectors = count - count % LANES;
    for i in (0..vectors).step_by(LANES) {
        // SAFETY: elements i to i + 8 lie below `count`; the load needs no alignment.
        let small = unsafe { _mm_loadu_si128(src.wrapping_add(i).cast()) };
        let wide = canonical(_mm256_cvtph_ps(small));
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(dst.wrapping_add(i), wide) };
    }
    for i in vectors..count {
        // SAFETY: `i < count`.
        let small = unsafe { src.wrapping_add(i).read_unaligned() };
        // SAFETY: `i < count`.
        unsafe { dst.wrapping_add(i).write_unaligned(f16_to_f32(small)) };
    }
}

/// f32 to f16, to nearest even.
///
/// # Safety
/// As [`super::kernel::Map`] says.
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn narrow(dst: *mut u8, src: *const u8, count: usize, _: f64) {
    let (dst, src) = (dst.cast::<u16>(), src.cast::<f32>());
    let vectors = count - count % LANES;
    for i in (0..vectors).step_by(LANES) {
        // SAFETY: elements i to i + 8 lie below `count`; the load needs no alignment.
        let wide = unsafe { _mm256_loadu_ps(src.wrapping_add(i)) };
        let small = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(canonical(wide));
        // SAFETY: as above.
        unsafe { _mm_storeu_si128(dst.wrapping_add(i).cast(), small) };
    }
    for i in vectors..count {
        // SAFETY: `i < count`.
        let wide = unsafe { src.wrapping_add(i).read_unaligned() };
        // SAFETY: `i < count`.
        unsafe { dst.wrapping_add(i).write_unaligned(f16_from_f32(wide)) };
    }
}

/// The operator on f16, each result rounded once, to nearest even. The NaN that operators return
/// is rounded to the canonical one.
///
/// # Safety
/// As [`super::kernel::Zip`] says.
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn zip<O: Binary<Value = f32>>(
    dst: *mut u8,
    a: *const u8,
    b: *const u8,
    count: usize,
    arg: f64,
) {
    let (dst, a, b) = (dst.cast::<u16>(), a.cast::<u16>(), b.cast::<u16>());
    let vectors = count - count % LANES;
    for i in (0..vectors).step_by(LANES) {
        // SAFETY: elements i to i + 8 lie below `count`; the load needs no alignment.
        let x = wide(unsafe { _mm_loadu_si128(a.wrapping_add(i).cast()) });
        // SAFETY: as above.
        let y = wide(unsafe { _mm_loadu_si128(b.wrapping_add(i).cast()) });
        let combined: [f32; LANES] = std::array::from_fn(|lane| O::apply(x[lane], y[lane], arg));
        // SAFETY: an array of that many.
        let combined = unsafe { _mm256_loadu_ps(combined.as_ptr()) };
        let small = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(combined);
        // SAFETY: as the loads; `dst` is `a` or overlaps neither.
        unsafe { _mm_storeu_si128(dst.wrapping_add(i).cast(), small) };
    }
    let rest = |of: *const u16| of.wrapping_add(vectors);
    // SAFETY: the elements from `vectors` on, by the same contract.
    unsafe {
        kernel::zip::<Through<F16, O>>(
            rest(dst).cast_mut(),
            rest(a),
            rest(b),
            count - vectors,
            arg,
        );
    }
}

/// Eight f16 as f32.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn wide(small: __m128i) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    let vector = _mm256_cvtph_ps(small);
    // SAFETY: an array of that many.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), vector) };
    lanes
}
