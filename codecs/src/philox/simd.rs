//! The cipher by AVX2, eight counters at a time.

use std::arch::x86_64::*;

use super::Philox;
use super::scalar::{M, ROUNDS, W};
use crate::level::Avx2;

/// Words per step: eight counters of four.
const STEP: usize = 32;

/// Fills whole steps from the start of `out`, whose first word belongs to `counter`; the number
/// of words filled.
pub(super) fn fill(_: Avx2, philox: Philox, counter: u64, out: &mut [u32]) -> usize {
    // SAFETY: the token proves that the CPU has AVX2.
    unsafe { fill_avx2(philox, counter, out) }
}

#[target_feature(enable = "avx2")]
fn fill_avx2(philox: Philox, counter: u64, out: &mut [u32]) -> usize {
    let (steps, _) = out.as_chunks_mut::<STEP>();
    let filled = steps.len() * STEP;
    for (step, counter) in steps.iter_mut().zip((counter..).step_by(8)) {
        eight(philox, counter, step);
    }
    filled
}

/// The words of eight counters from `counter` on, in the order of the elements.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn eight(philox: Philox, counter: u64, out: &mut [u32; STEP]) {
    let low = |wide: u64| wide as u32;
    let high = |wide: u64| (wide >> 32) as u32;
    let each: [u64; 8] = std::array::from_fn(|i| counter.wrapping_add(i as u64));
    let mut c = [
        loaded(&each.map(low)),
        loaded(&each.map(high)),
        _mm256_set1_epi32(low(philox.stream).cast_signed()),
        _mm256_set1_epi32(high(philox.stream).cast_signed()),
    ];
    let mut key = [low(philox.seed), high(philox.seed)];
    for _ in 0..ROUNDS {
        let (high0, low0) = product(c[0], M[0]);
        let (high1, low1) = product(c[2], M[1]);
        let key_of = |k: u32| _mm256_set1_epi32(k.cast_signed());
        let first = _mm256_xor_si256(_mm256_xor_si256(high1, c[1]), key_of(key[0]));
        let third = _mm256_xor_si256(_mm256_xor_si256(high0, c[3]), key_of(key[1]));
        c = [first, low1, third, low0];
        key = [key[0].wrapping_add(W[0]), key[1].wrapping_add(W[1])];
    }
    // Counter by counter instead of word by word: a transposition of 4 x 8.
    let (a, b) = (_mm256_unpacklo_epi32(c[0], c[1]), _mm256_unpackhi_epi32(c[0], c[1]));
    let (d, e) = (_mm256_unpacklo_epi32(c[2], c[3]), _mm256_unpackhi_epi32(c[2], c[3]));
    let (r0, r1) = (_mm256_unpacklo_epi64(a, d), _mm256_unpackhi_epi64(a, d));
    let (r2, r3) = (_mm256_unpacklo_epi64(b, e), _mm256_unpackhi_epi64(b, e));
    let quarters = [
        _mm256_permute2x128_si256::<0x20>(r0, r1),
        _mm256_permute2x128_si256::<0x20>(r2, r3),
        _mm256_permute2x128_si256::<0x31>(r0, r1),
        _mm256_permute2x128_si256::<0x31>(r2, r3),
    ];
    for (words, quarter) in out.as_chunks_mut::<8>().0.iter_mut().zip(quarters) {
        // SAFETY: eight words are 32 bytes; the store needs no alignment.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), quarter) };
    }
}

/// Upper and lower halves of the products with `by`.
#[inline]
#[target_feature(enable = "avx2")]
fn product(words: __m256i, by: u32) -> (__m256i, __m256i) {
    let by = _mm256_set1_epi32(by.cast_signed());
    let even = _mm256_mul_epu32(words, by);
    let odd = _mm256_mul_epu32(_mm256_srli_epi64::<32>(words), by);
    let low = _mm256_blend_epi32::<0b1010_1010>(even, _mm256_slli_epi64::<32>(odd));
    let high = _mm256_blend_epi32::<0b1010_1010>(_mm256_srli_epi64::<32>(even), odd);
    (high, low)
}

#[inline]
#[target_feature(enable = "avx2")]
fn loaded(words: &[u32; 8]) -> __m256i {
    // SAFETY: eight words are 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}
