//! Taking elements apart and putting them together by AVX2, 32 at a time.

use std::arch::x86_64::*;

use bytemuck::must_cast;

use super::Width;
use crate::lanes::{PACK_LOW, SPREAD, lanes_of};
use crate::level::Avx2;

/// Elements per step.
const STEP: usize = 32;
/// Elements that are moved together or apart at once.
const WIDE: usize = 8;
/// Bytes a step of f32 may touch behind its first rest: 32 of 3, and 4 beyond the last.
const TOUCHED_FOUR: usize = 3 * STEP + 4;

/// As [`super::scalar::split`] for whole steps; how many elements it did.
pub(super) fn split(
    _: Avx2,
    width: Width,
    sparse: bool,
    data: &[u8],
    symbols: &mut [u8],
    rests: &mut [u8],
    at: &mut usize,
) -> Option<usize> {
    // SAFETY: the token proves that the CPU has AVX2 and POPCNT.
    unsafe { split_steps(width, sparse, data, symbols.as_chunks_mut().0, rests, at) }
}

#[target_feature(enable = "avx2,popcnt")]
fn split_steps(
    width: Width,
    sparse: bool,
    data: &[u8],
    symbols: &mut [[u8; STEP]],
    rests: &mut [u8],
    at: &mut usize,
) -> Option<usize> {
    match (width, sparse) {
        (Width::Two, true) => split_two::<true>(data.as_chunks().0, symbols, rests, at),
        (Width::Two, false) => split_two::<false>(data.as_chunks().0, symbols, rests, at),
        (Width::Four, true) => split_four::<true>(data.as_chunks().0, symbols, rests, at),
        (Width::Four, false) => split_four::<false>(data.as_chunks().0, symbols, rests, at),
    }
}

/// As [`super::scalar::merge`] for whole steps while there are enough rests; how many elements it
/// did.
pub(super) fn merge(
    _: Avx2,
    width: Width,
    sparse: bool,
    symbols: &[u8],
    rests: &[u8],
    at: &mut usize,
    out: &mut [u8],
) -> usize {
    // SAFETY: the token proves that the CPU has AVX2 and POPCNT.
    unsafe { merge_steps(width, sparse, symbols.as_chunks().0, rests, at, out) }
}

#[target_feature(enable = "avx2,popcnt")]
fn merge_steps(
    width: Width,
    sparse: bool,
    symbols: &[[u8; STEP]],
    rests: &[u8],
    at: &mut usize,
    out: &mut [u8],
) -> usize {
    match (width, sparse) {
        (Width::Two, true) => merge_two::<true>(symbols, rests, at, out.as_chunks_mut().0),
        (Width::Two, false) => merge_two::<false>(symbols, rests, at, out.as_chunks_mut().0),
        (Width::Four, true) => merge_four::<true>(symbols, rests, at, out.as_chunks_mut().0),
        (Width::Four, false) => merge_four::<false>(symbols, rests, at, out.as_chunks_mut().0),
    }
}

/// The lower three bytes of four words together, in each half of a vector.
#[inline]
#[target_feature(enable = "avx2")]
fn three_of_four() -> __m256i {
    let half = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    _mm256_broadcastsi128_si256(half)
}

#[target_feature(enable = "avx2,popcnt")]
fn split_four<const SPARSE: bool>(
    data: &[[u8; 4 * STEP]],
    symbols: &mut [[u8; STEP]],
    rests: &mut [u8],
    at: &mut usize,
) -> Option<usize> {
    let zero = _mm256_setzero_si256();
    let mut lost = zero;
    let mut done = 0;
    for (step, symbols) in data.iter().zip(symbols) {
        let Some(window) = rests.get_mut(*at..*at + TOUCHED_FOUR) else { break };
        let mut used = 0;
        let mut found = [zero; STEP / WIDE];
        for (eight, found) in step.as_chunks::<{ 4 * WIDE }>().0.iter().zip(&mut found) {
            let word: __m256i = must_cast(*eight);
            let word = _mm256_or_si256(_mm256_slli_epi32::<1>(word), _mm256_srli_epi32::<31>(word));
            *found = _mm256_srli_epi32::<24>(word);
            let mut packed = word;
            let mut stored = WIDE;
            if SPARSE {
                let is_zero = _mm256_cmpeq_epi32(*found, zero);
                lost = _mm256_or_si256(lost, _mm256_and_si256(is_zero, word));
                let set = !_mm256_movemask_ps(_mm256_castsi256_ps(is_zero)) as usize & 0xff;
                packed = _mm256_permutevar8x32_epi32(word, lanes_of(&PACK_LOW, set));
                stored = set.count_ones() as usize;
            }
            let packed = _mm256_shuffle_epi8(packed, three_of_four());
            let low: [u8; 16] = must_cast(_mm256_castsi256_si128(packed));
            let high: [u8; 16] = must_cast(_mm256_extracti128_si256::<1>(packed));
            window[used..used + 16].copy_from_slice(&low);
            window[used + 12..used + 28].copy_from_slice(&high);
            used += 3 * stored;
        }
        let a = _mm256_packus_epi32(found[0], found[1]);
        let b = _mm256_packus_epi32(found[2], found[3]);
        // Packing goes by halves of 128 bits: this puts the groups of four bytes in order.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        *symbols = must_cast(_mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), order));
        *at += used;
        done += STEP;
    }
    (_mm256_testz_si256(lost, lost) == 1).then_some(done)
}

#[target_feature(enable = "avx2,popcnt")]
fn merge_four<const SPARSE: bool>(
    symbols: &[[u8; STEP]],
    rests: &[u8],
    at: &mut usize,
    out: &mut [[u8; 4 * STEP]],
) -> usize {
    let zero = _mm256_setzero_si256();
    // The inverse of `three_of_four`, with zero in the place of the symbol.
    let apart = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    let apart = _mm256_broadcastsi128_si256(apart);
    let mut done = 0;
    for (symbols, step) in symbols.iter().zip(out) {
        let Some(window) = rests.get(*at..*at + TOUCHED_FOUR) else { break };
        let mut used = 0;
        for (symbols, eight) in symbols.as_chunks().0.iter().zip(step.as_chunks_mut().0) {
            let symbol = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*symbols)));
            let half = |at: usize| -> __m128i {
                let mut bytes = [0; 16];
                bytes.copy_from_slice(&window[at..at + 16]);
                must_cast(bytes)
            };
            let stored = _mm256_set_m128i(half(used + 12), half(used));
            let mut rest = _mm256_shuffle_epi8(stored, apart);
            let mut stored = WIDE;
            if SPARSE {
                let is_zero = _mm256_cmpeq_epi32(symbol, zero);
                let set = !_mm256_movemask_ps(_mm256_castsi256_ps(is_zero)) as usize & 0xff;
                let spread = _mm256_permutevar8x32_epi32(rest, lanes_of(&SPREAD, set));
                rest = _mm256_andnot_si256(is_zero, spread);
                stored = set.count_ones() as usize;
            }
            let word = _mm256_or_si256(rest, _mm256_slli_epi32::<24>(symbol));
            let word = _mm256_or_si256(_mm256_srli_epi32::<1>(word), _mm256_slli_epi32::<31>(word));
            *eight = must_cast::<__m256i, [u8; 4 * WIDE]>(word);
            used += 3 * stored;
        }
        *at += used;
        done += STEP;
    }
    done
}

#[target_feature(enable = "avx2,popcnt")]
fn split_two<const SPARSE: bool>(
    data: &[[u8; 2 * STEP]],
    symbols: &mut [[u8; STEP]],
    rests: &mut [u8],
    at: &mut usize,
) -> Option<usize> {
    let zero = _mm256_setzero_si256();
    let low_byte = _mm256_set1_epi16(0xff);
    let mut lost = zero;
    let mut done = 0;
    for (step, symbols) in data.iter().zip(symbols) {
        let Some(window) = rests.get_mut(*at..*at + STEP) else { break };
        let [a, b]: [__m256i; 2] = must_cast(*step);
        let a = _mm256_or_si256(_mm256_slli_epi16::<1>(a), _mm256_srli_epi16::<15>(a));
        let b = _mm256_or_si256(_mm256_slli_epi16::<1>(b), _mm256_srli_epi16::<15>(b));
        let symbol = _mm256_packus_epi16(_mm256_srli_epi16::<8>(a), _mm256_srli_epi16::<8>(b));
        let rest =
            _mm256_packus_epi16(_mm256_and_si256(a, low_byte), _mm256_and_si256(b, low_byte));
        // Packing goes by halves of 128 bits.
        let symbol = _mm256_permute4x64_epi64::<0b11_01_10_00>(symbol);
        let rest = _mm256_permute4x64_epi64::<0b11_01_10_00>(rest);
        *symbols = must_cast(symbol);
        let is_zero = _mm256_cmpeq_epi8(symbol, zero);
        let set = !_mm256_movemask_epi8(is_zero) as u32;
        done += STEP;
        if !SPARSE || set == u32::MAX {
            window.copy_from_slice(&must_cast::<__m256i, [u8; STEP]>(rest));
            *at += STEP;
            continue;
        }
        lost = _mm256_or_si256(lost, _mm256_and_si256(is_zero, rest));
        let eights: [i64; STEP / WIDE] = must_cast(rest);
        let mut used = 0;
        for (i, eight) in eights.into_iter().enumerate() {
            let set = (set >> (WIDE * i) & 0xff) as usize;
            let order = _mm_cvtsi64_si128(i64::from_le_bytes(PACK_LOW[set]));
            let packed = _mm_cvtsi128_si64(_mm_shuffle_epi8(_mm_cvtsi64_si128(eight), order));
            window[used..used + WIDE].copy_from_slice(&packed.to_le_bytes());
            used += set.count_ones() as usize;
        }
        *at += used;
    }
    (_mm256_testz_si256(lost, lost) == 1).then_some(done)
}

#[target_feature(enable = "avx2,popcnt")]
fn merge_two<const SPARSE: bool>(
    symbols: &[[u8; STEP]],
    rests: &[u8],
    at: &mut usize,
    out: &mut [[u8; 2 * STEP]],
) -> usize {
    let zero = _mm256_setzero_si256();
    let mut done = 0;
    for (symbols, step) in symbols.iter().zip(out) {
        let Some(window) = rests.get(*at..).and_then(|rests| rests.first_chunk::<STEP>()) else {
            break;
        };
        let symbol: __m256i = must_cast(*symbols);
        let is_zero = _mm256_cmpeq_epi8(symbol, zero);
        let set = !_mm256_movemask_epi8(is_zero) as u32;
        let mut rest: __m256i = must_cast(*window);
        let mut used = STEP;
        if SPARSE && set != u32::MAX {
            used = 0;
            let mut eights = [0_i64; STEP / WIDE];
            for (i, eight) in eights.iter_mut().enumerate() {
                let set = (set >> (WIDE * i) & 0xff) as usize;
                let order = _mm_cvtsi64_si128(i64::from_le_bytes(SPREAD[set]));
                let mut stored = [0; WIDE];
                stored.copy_from_slice(&window[used..used + WIDE]);
                let stored = _mm_cvtsi64_si128(i64::from_le_bytes(stored));
                *eight = _mm_cvtsi128_si64(_mm_shuffle_epi8(stored, order));
                used += set.count_ones() as usize;
            }
            rest = _mm256_andnot_si256(
                is_zero,
                _mm256_setr_epi64x(eights[0], eights[1], eights[2], eights[3]),
            );
        }
        // Unpacking goes by halves of 128 bits.
        let symbol = _mm256_permute4x64_epi64::<0b11_01_10_00>(symbol);
        let rest = _mm256_permute4x64_epi64::<0b11_01_10_00>(rest);
        let a = _mm256_unpacklo_epi8(rest, symbol);
        let b = _mm256_unpackhi_epi8(rest, symbol);
        let a = _mm256_or_si256(_mm256_srli_epi16::<1>(a), _mm256_slli_epi16::<15>(a));
        let b = _mm256_or_si256(_mm256_srli_epi16::<1>(b), _mm256_slli_epi16::<15>(b));
        *step = must_cast([a, b]);
        *at += used;
        done += STEP;
    }
    done
}
