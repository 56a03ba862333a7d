//! The coder with 32 lanes, as four vectors of eight.

use std::arch::x86_64::{
    __m256i, _mm_cvtsi64_si128, _mm256_add_epi32, _mm256_and_si256, _mm256_blendv_epi8,
    _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cmpgt_epi32, _mm256_cvtepi32_ps,
    _mm256_cvtepu8_epi32, _mm256_cvtepu16_epi32, _mm256_cvttps_epi32, _mm256_div_ps,
    _mm256_i32gather_epi32, _mm256_movemask_ps, _mm256_mul_ps, _mm256_mullo_epi32, _mm256_or_si256,
    _mm256_packus_epi16, _mm256_packus_epi32, _mm256_permute4x64_epi64,
    _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32,
    _mm256_slli_epi32, _mm256_srli_epi32, _mm256_sub_epi32,
};

use bytemuck::must_cast;

use super::{LANES_MAX, Model, SCALE, SCALE_BITS, STATE_MIN};
use crate::lanes::{PACK_HIGH, SPREAD, lanes_of};
use crate::level::Avx2;

/// Lanes of a vector, and vectors of a step.
const WIDE: usize = 8;
const VECTORS: usize = LANES_MAX / WIDE;

/// As [`super::scalar::encode`], for whole steps of 32 symbols. There are 16 bytes before `*at`
/// beyond what the encoding takes.
pub(super) fn encode(
    _: Avx2,
    symbols: &[u8],
    states: &mut [u32; LANES_MAX],
    model: &Model,
    stream: &mut [u8],
    at: &mut usize,
) {
    // SAFETY: the token proves that the CPU has AVX2 and POPCNT.
    unsafe { encode_steps(symbols.as_chunks().0, states, model.ranges(), stream, at) };
}

/// As [`super::scalar::decode`], for whole steps while the words of another one are surely there;
/// how many symbols it decoded.
pub(super) fn decode(
    _: Avx2,
    words: &[u8],
    at: &mut usize,
    states: &mut [u32; LANES_MAX],
    slots: &[u32; SCALE as usize],
    symbols: &mut [u8],
) -> usize {
    // SAFETY: the token proves that the CPU has AVX2 and POPCNT.
    unsafe { decode_steps(words, at, states, slots, symbols.as_chunks_mut().0) }
}

#[target_feature(enable = "avx2,popcnt")]
fn encode_steps(
    steps: &[[u8; LANES_MAX]],
    states: &mut [u32; LANES_MAX],
    ranges: &[u32; 256],
    stream: &mut [u8],
    at: &mut usize,
) {
    let mut lanes: [__m256i; VECTORS] = must_cast(*states);
    let mut end = *at;
    for step in steps.iter().rev() {
        for vector in (0..VECTORS).rev() {
            let bytes = i64::from_le_bytes(step.as_chunks().0[vector]);
            let symbols = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes));
            // SAFETY: the indexes are below 256, the length of the table.
            let range = unsafe { _mm256_i32gather_epi32::<4>(ranges.as_ptr().cast(), symbols) };
            let frequency = _mm256_and_si256(range, _mm256_set1_epi32(0xffff));
            // `state >= frequency << 19`, for numbers below 2^31.
            let below = _mm256_slli_epi32::<{ 31 - SCALE_BITS as i32 }>(frequency);
            let state = lanes[vector];
            let stays = _mm256_cmpgt_epi32(below, state);
            let gives = !_mm256_movemask_ps(_mm256_castsi256_ps(stays)) as usize & 0xff;
            let words = _mm256_permutevar8x32_epi32(state, lanes_of(&PACK_HIGH, gives));
            let words = _mm256_and_si256(words, _mm256_set1_epi32(0xffff));
            let words = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(words, words));
            let words: [u8; 16] = must_cast(_mm256_castsi256_si128(words));
            stream[end - 16..end].copy_from_slice(&words);
            end -= 2 * gives.count_ones() as usize;
            let state = _mm256_blendv_epi8(_mm256_srli_epi32::<16>(state), state, stays);
            lanes[vector] = step_back(state, range, frequency);
        }
    }
    *states = must_cast(lanes);
    *at = end;
}

/// `(state / frequency << 12) + state % frequency + start`.
#[inline]
#[target_feature(enable = "avx2")]
fn step_back(state: __m256i, range: __m256i, frequency: __m256i) -> __m256i {
    // The quotient is below 2^19, and the three roundings and the factor below one move it down
    // by less than 2^19 * 2^-20 in all, so that the integer part is right or one too small.
    let shrink = _mm256_set1_ps(1.0 - 1.0 / (1 << 21) as f32);
    let numerator = _mm256_mul_ps(_mm256_cvtepi32_ps(state), shrink);
    let quotient = _mm256_cvttps_epi32(_mm256_div_ps(numerator, _mm256_cvtepi32_ps(frequency)));
    let remainder = _mm256_sub_epi32(state, _mm256_mullo_epi32(quotient, frequency));
    // -1 where the quotient is one too small.
    let last = _mm256_sub_epi32(frequency, _mm256_set1_epi32(1));
    let small = _mm256_cmpgt_epi32(remainder, last);
    let quotient = _mm256_sub_epi32(quotient, small);
    let remainder = _mm256_sub_epi32(remainder, _mm256_and_si256(small, frequency));
    let start = _mm256_srli_epi32::<16>(range);
    let scaled = _mm256_slli_epi32::<{ SCALE_BITS as i32 }>(quotient);
    _mm256_add_epi32(_mm256_add_epi32(scaled, remainder), start)
}

#[target_feature(enable = "avx2,popcnt")]
fn decode_steps(
    words: &[u8],
    at: &mut usize,
    states: &mut [u32; LANES_MAX],
    slots: &[u32; SCALE as usize],
    steps: &mut [[u8; LANES_MAX]],
) -> usize {
    let mut lanes: [__m256i; VECTORS] = must_cast(*states);
    let mut next = *at;
    let mut done = 0;
    for step in steps {
        // Four vectors take at most 64 bytes, and are loaded from 16 bytes each.
        let Some(window) = words.get(next..).and_then(|rest| rest.first_chunk::<64>()) else {
            break;
        };
        let mut used = 0;
        let mut found = [_mm256_set1_epi32(0); VECTORS];
        for vector in 0..VECTORS {
            let state = lanes[vector];
            let slot = _mm256_and_si256(state, _mm256_set1_epi32(SCALE as i32 - 1));
            // SAFETY: the indexes are below 2^12, the length of the table.
            let slot = unsafe { _mm256_i32gather_epi32::<4>(slots.as_ptr().cast(), slot) };
            found[vector] = slot;
            let place = _mm256_srli_epi32::<8>(slot);
            let place = _mm256_and_si256(place, _mm256_set1_epi32(SCALE as i32 - 1));
            let frequency = _mm256_srli_epi32::<20>(slot);
            let whole = _mm256_srli_epi32::<{ SCALE_BITS as i32 }>(state);
            let state = _mm256_add_epi32(_mm256_mullo_epi32(frequency, whole), place);
            let takes = _mm256_cmpgt_epi32(_mm256_set1_epi32(STATE_MIN as i32), state);
            let set = _mm256_movemask_ps(_mm256_castsi256_ps(takes)) as usize;
            let Some(bytes) = window[used..].first_chunk::<16>() else { unreachable!() };
            let word = _mm256_cvtepu16_epi32(must_cast(*bytes));
            let word = _mm256_permutevar8x32_epi32(word, lanes_of(&SPREAD, set));
            let filled = _mm256_or_si256(_mm256_slli_epi32::<16>(state), word);
            lanes[vector] = _mm256_blendv_epi8(state, filled, takes);
            used += 2 * set.count_ones() as usize;
        }
        *step = bytes_of(&found);
        next += used;
        done += LANES_MAX;
    }
    *states = must_cast(lanes);
    *at = next;
    done
}

/// The lowest bytes of 32 numbers, in order.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes_of(vectors: &[__m256i; VECTORS]) -> [u8; LANES_MAX] {
    let byte = _mm256_set1_epi32(0xff);
    let a =
        _mm256_packus_epi32(_mm256_and_si256(vectors[0], byte), _mm256_and_si256(vectors[1], byte));
    let b =
        _mm256_packus_epi32(_mm256_and_si256(vectors[2], byte), _mm256_and_si256(vectors[3], byte));
    // Packing goes by halves of 128 bits: this puts the groups of four bytes in order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    must_cast(_mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), order))
}
