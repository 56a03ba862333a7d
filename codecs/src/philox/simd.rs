//! The cipher by AVX2, twice eight counters at a time: one chain of rounds waits for its products
//! while the other goes on.

use std::arch::x86_64::*;

use super::Philox;
use super::scalar::{M, ROUNDS, W};
use crate::level::Avx2;

/// Counters of a vector, and words they give.
const LANES: usize = 8;
const WORDS: usize = 4 * LANES;
/// Vectors per step.
const CHAINS: usize = 2;
/// Words per step.
const STEP: usize = CHAINS * WORDS;

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
    for (step, counter) in steps.iter_mut().zip((counter..).step_by(CHAINS * LANES)) {
        rounds(philox, counter, step);
    }
    filled
}

/// The words of the counters from `counter` on, in the order of the elements.
#[inline]
#[target_feature(enable = "avx2")]
fn rounds(philox: Philox, counter: u64, out: &mut [u32; STEP]) {
    let low = |wide: u64| wide as u32;
    let high = |wide: u64| (wide >> 32) as u32;
    let mut chains = [[_mm256_setzero_si256(); 4]; CHAINS];
    for (i, chain) in chains.iter_mut().enumerate() {
        let first = counter.wrapping_add((i * LANES) as u64);
        let each: [u64; LANES] = std::array::from_fn(|lane| first.wrapping_add(lane as u64));
        *chain = [
            loaded(&each.map(low)),
            loaded(&each.map(high)),
            _mm256_set1_epi32(low(philox.stream).cast_signed()),
            _mm256_set1_epi32(high(philox.stream).cast_signed()),
        ];
    }
    let mut key = [low(philox.seed), high(philox.seed)];
    for _ in 0..ROUNDS {
        let keys = key.map(|key| _mm256_set1_epi32(key.cast_signed()));
        for c in &mut chains {
            let (high0, low0) = product(c[0], M[0]);
            let (high1, low1) = product(c[2], M[1]);
            let first = _mm256_xor_si256(_mm256_xor_si256(high1, c[1]), keys[0]);
            let third = _mm256_xor_si256(_mm256_xor_si256(high0, c[3]), keys[1]);
            *c = [first, low1, third, low0];
        }
        key = [key[0].wrapping_add(W[0]), key[1].wrapping_add(W[1])];
    }
    for (chain, words) in chains.into_iter().zip(out.as_chunks_mut::<WORDS>().0) {
        in_order(chain, words);
    }
}

/// Writes counter by counter what is there word by word: a transposition of 4 x 8.
#[inline]
#[target_feature(enable = "avx2")]
fn in_order(c: [__m256i; 4], out: &mut [u32; WORDS]) {
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
