//! Whole groups by AVX2, 32 elements at a time.

use std::arch::x86_64::*;

use bytemuck::must_cast;

use super::{Block, INFINITY, SPECIAL, scalar, scale_of, value};
use crate::level::Avx2;

/// Elements per step.
const STEP: usize = 32;
/// f32 of a vector.
const WIDE: usize = 8;

/// Encodes the whole groups of `data`; how many.
pub(super) fn encode(
    _: Avx2,
    block: Block,
    data: &[f32],
    scales: &mut [[u8; 2]],
    codes: &mut [u8],
) -> usize {
    // SAFETY: the token proves that the CPU has AVX2.
    unsafe { encode_groups(block, data, scales, codes) }
}

/// Decodes the whole groups of `out`, or adds them; how many.
pub(super) fn decode<const ADD: bool>(
    _: Avx2,
    block: Block,
    scales: &[[u8; 2]],
    codes: &[u8],
    out: &mut [f32],
) -> usize {
    // SAFETY: the token proves that the CPU has AVX2.
    unsafe { decode_groups::<ADD>(block, scales, codes, out) }
}

#[target_feature(enable = "avx2")]
fn encode_groups(block: Block, data: &[f32], scales: &mut [[u8; 2]], codes: &mut [u8]) -> usize {
    match block.bits {
        4 => encode_bits::<4, { 4 * 4 }>(block, data, scales, codes),
        6 => encode_bits::<6, { 4 * 6 }>(block, data, scales, codes),
        _ => encode_bits::<8, { 4 * 8 }>(block, data, scales, codes),
    }
}

#[target_feature(enable = "avx2")]
fn decode_groups<const ADD: bool>(
    block: Block,
    scales: &[[u8; 2]],
    codes: &[u8],
    out: &mut [f32],
) -> usize {
    match block.bits {
        4 => decode_bits::<ADD, 4, { 4 * 4 }>(block, scales, codes, out),
        6 => decode_bits::<ADD, 6, { 4 * 6 }>(block, scales, codes, out),
        _ => decode_bits::<ADD, 8, { 4 * 8 }>(block, scales, codes, out),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn encode_bits<const BITS: u32, const BYTES: usize>(
    block: Block,
    data: &[f32],
    scales: &mut [[u8; 2]],
    codes: &mut [u8],
) -> usize {
    let groups = data.chunks_exact(block.group);
    let all = codes.chunks_exact_mut(block.group_bytes());
    let done = groups.len();
    for ((group, scale), codes) in groups.zip(scales).zip(all) {
        let largest = largest(group);
        if largest >= INFINITY {
            *scale = scalar::encode(block, group, codes).to_le_bytes();
            continue;
        }
        let bits = scale_of(largest, block.code_max() as f32);
        *scale = bits.to_le_bytes();
        let inverse = _mm256_set1_ps(1.0 / value(bits));
        let steps = codes.as_chunks_mut::<BYTES>().0;
        for (step, codes) in group.as_chunks::<STEP>().0.iter().zip(steps) {
            pack::<BITS, BYTES>(quantized(step, inverse), codes);
        }
    }
    done
}

/// The largest magnitude, as bits, in which NaN are larger than all.
#[inline]
#[target_feature(enable = "avx2")]
fn largest(group: &[f32]) -> u32 {
    let magnitude = _mm256_set1_epi32(0x7fff_ffff);
    let mut most = [_mm256_setzero_si256(); 4];
    for step in group.as_chunks::<STEP>().0 {
        for (most, eight) in most.iter_mut().zip(step.as_chunks::<WIDE>().0) {
            let bits = _mm256_and_si256(must_cast(*eight), magnitude);
            *most = _mm256_max_epu32(*most, bits);
        }
    }
    let most =
        _mm256_max_epu32(_mm256_max_epu32(most[0], most[1]), _mm256_max_epu32(most[2], most[3]));
    let most = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256::<1>(most));
    let most = _mm_max_epu32(most, _mm_shuffle_epi32::<0b01_00_11_10>(most));
    let most = _mm_max_epu32(most, _mm_shuffle_epi32::<0b10_11_00_01>(most));
    _mm_cvtsi128_si32(most).cast_unsigned()
}

/// The codes of 32 elements as bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn quantized(step: &[f32; STEP], inverse: __m256) -> __m256i {
    let eights: [__m256; STEP / WIDE] = must_cast(*step);
    // Conversion rounds to nearest even, as Rust assumes of the thread.
    let code = |i: usize| _mm256_cvtps_epi32(_mm256_mul_ps(eights[i], inverse));
    let words = [_mm256_packs_epi32(code(0), code(1)), _mm256_packs_epi32(code(2), code(3))];
    // Packing goes by halves of 128 bits: this puts the groups of four bytes in order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words[0], words[1]), order)
}

/// Packs 32 codes.
#[inline]
#[target_feature(enable = "avx2")]
fn pack<const BITS: u32, const BYTES: usize>(codes: __m256i, out: &mut [u8; BYTES]) {
    let packed = match BITS {
        4 => {
            let codes = _mm256_and_si256(codes, _mm256_set1_epi8(0x0f));
            // The first of a pair times 1 and the second times 16.
            let pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x1001));
            _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi16(pairs, pairs))
        }
        6 => {
            let codes = _mm256_and_si256(codes, _mm256_set1_epi8(0x3f));
            let pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x4001));
            let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x1000_0001));
            let half = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
            let threes = _mm256_shuffle_epi8(fours, _mm256_broadcastsi128_si256(half));
            _mm256_permutevar8x32_epi32(threes, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7))
        }
        _ => codes,
    };
    let packed: [u8; STEP] = must_cast(packed);
    out.copy_from_slice(&packed[..BYTES]);
}

/// Unpacks 32 codes to bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn unpack<const BITS: u32, const BYTES: usize>(codes: &[u8; BYTES]) -> __m256i {
    let half = |at: usize| -> __m128i {
        let mut bytes = [0; 16];
        let there = (BYTES - at).min(16);
        bytes[..there].copy_from_slice(&codes[at..at + there]);
        must_cast(bytes)
    };
    match BITS {
        4 => {
            let bytes = half(0);
            let low = _mm_and_si128(bytes, _mm_set1_epi8(0x0f));
            let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), _mm_set1_epi8(0x0f));
            let nibbles =
                _mm256_set_m128i(_mm_unpackhi_epi8(low, high), _mm_unpacklo_epi8(low, high));
            let sign = _mm256_set1_epi8(0x08);
            _mm256_sub_epi8(_mm256_xor_si256(nibbles, sign), sign)
        }
        6 => {
            // Twelve bytes are 16 codes: the second twelve begin in the middle of these 16.
            let apart = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
            let bytes = _mm256_set_m128i(half(12), half(0));
            let v = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(apart));
            let code = |v: __m256i, mask: i32| _mm256_and_si256(v, _mm256_set1_epi32(mask));
            let low = _mm256_or_si256(code(v, 0x3f), code(_mm256_slli_epi32::<2>(v), 0x3f00));
            let high = _mm256_or_si256(
                code(_mm256_slli_epi32::<4>(v), 0x3f_0000),
                code(_mm256_slli_epi32::<6>(v), 0x3f00_0000),
            );
            let sign = _mm256_set1_epi8(0x20);
            _mm256_sub_epi8(_mm256_xor_si256(_mm256_or_si256(low, high), sign), sign)
        }
        _ => _mm256_set_m128i(half(16), half(0)),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn decode_bits<const ADD: bool, const BITS: u32, const BYTES: usize>(
    block: Block,
    scales: &[[u8; 2]],
    codes: &[u8],
    out: &mut [f32],
) -> usize {
    let groups = out.chunks_exact_mut(block.group);
    let done = groups.len();
    let all = codes.chunks_exact(block.group_bytes());
    for ((group, scale), codes) in groups.zip(scales).zip(all) {
        let scale = u16::from_le_bytes(*scale);
        if scale & SPECIAL != 0 {
            scalar::decode::<ADD>(block, scale, codes, group);
            continue;
        }
        let step = _mm256_set1_ps(value(scale));
        let steps = codes.as_chunks::<BYTES>().0;
        for (out, codes) in group.as_chunks_mut::<STEP>().0.iter_mut().zip(steps) {
            expand::<ADD>(unpack::<BITS, BYTES>(codes), step, out);
        }
    }
    done
}

/// Multiplies 32 codes by the scale; stores them or adds them.
#[inline]
#[target_feature(enable = "avx2")]
fn expand<const ADD: bool>(codes: __m256i, step: __m256, out: &mut [f32; STEP]) {
    let low = _mm256_castsi256_si128(codes);
    let high = _mm256_extracti128_si256::<1>(codes);
    let eights = [low, _mm_unpackhi_epi64(low, low), high, _mm_unpackhi_epi64(high, high)];
    for (place, eight) in out.as_chunks_mut::<WIDE>().0.iter_mut().zip(eights) {
        let code = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
        let mut x = _mm256_mul_ps(code, step);
        if ADD {
            x = _mm256_add_ps(must_cast(*place), x);
            let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x);
            x = _mm256_blendv_ps(x, _mm256_set1_ps(f32::from_bits(0x7fc0_0000)), nan);
        }
        *place = must_cast(x);
    }
}
