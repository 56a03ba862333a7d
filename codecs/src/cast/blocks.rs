//! The loops over blocks, plain enough to be compiled for any instruction set.

use std::hint::select_unpredictable;

use super::round::{Bf16, E4M3, E5M2, Fp16, Small, narrow};
use super::{Rounding, SCALE_BLOCK};
use crate::descriptor::CastFormat;

/// Elements that are handled together.
const BLOCK: usize = SCALE_BLOCK;

/// Encodes into exactly as many bytes as that takes; how many elements were saturated.
#[inline(always)]
pub(super) fn encode(format: CastFormat, rounding: Rounding, x: &[f32], out: &mut [u8]) -> usize {
    match format {
        CastFormat::Bf16 => encode_16::<Bf16>(rounding, x, out),
        CastFormat::Fp16 => encode_16::<Fp16>(rounding, x, out),
        CastFormat::Fp8E4M3 => encode_8::<E4M3>(rounding, x, out),
        CastFormat::Fp8E5M2 => encode_8::<E5M2>(rounding, x, out),
    }
}

/// Decodes, or decodes and adds. The sizes fit.
#[inline(always)]
pub(super) fn decode<const ADD: bool>(format: CastFormat, bytes: &[u8], out: &mut [f32]) {
    match format {
        CastFormat::Bf16 => decode_16::<Bf16, ADD>(bytes, out),
        CastFormat::Fp16 => decode_16::<Fp16, ADD>(bytes, out),
        CastFormat::Fp8E4M3 => decode_8::<E4M3, ADD>(bytes, out),
        CastFormat::Fp8E5M2 => decode_8::<E5M2, ADD>(bytes, out),
    }
}

/// Codes of a block, and how many elements of it were saturated. `at` is the index of the block's
/// first element in the slice.
#[inline(always)]
fn codes<S: Small>(rounding: Rounding, at: usize, x: &[f32; BLOCK]) -> ([u32; BLOCK], usize) {
    let mut codes = [0; BLOCK];
    let mut saturated = 0;
    match rounding {
        Rounding::Nearest => {
            for (code, x) in codes.iter_mut().zip(x) {
                let (found, too_large) = narrow::<S, false>(*x, 0);
                *code = found;
                saturated += too_large;
            }
        }
        Rounding::Stochastic { philox, first } => {
            let mut random = [0; BLOCK];
            philox.fill(first.wrapping_add(at as u64), &mut random);
            for ((code, x), random) in codes.iter_mut().zip(x).zip(random) {
                let (found, too_large) = narrow::<S, true>(*x, random);
                *code = found;
                saturated += too_large;
            }
        }
    }
    (codes, saturated as usize)
}

#[inline(always)]
fn encode_16<S: Small>(rounding: Rounding, x: &[f32], out: &mut [u8]) -> usize {
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    let (out_blocks, out_rest) = out.as_chunks_mut::<{ 2 * BLOCK }>();
    let mut saturated = 0;
    for (i, (x, out)) in blocks.iter().zip(out_blocks).enumerate() {
        let (codes, too_large) = codes::<S>(rounding, i * BLOCK, x);
        for (out, code) in out.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
            *out = (code as u16).to_le_bytes();
        }
        saturated += too_large;
    }
    if !rest.is_empty() {
        let (codes, too_large) = codes::<S>(rounding, blocks.len() * BLOCK, &padded(rest));
        for (out, code) in out_rest.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
            *out = (code as u16).to_le_bytes();
        }
        saturated += too_large;
    }
    saturated
}

fn padded(rest: &[f32]) -> [f32; BLOCK] {
    let mut block = [0.0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

#[inline(always)]
fn decode_16<S: Small, const ADD: bool>(bytes: &[u8], out: &mut [f32]) {
    let (pairs, _) = bytes.as_chunks::<2>();
    for (out, pair) in out.iter_mut().zip(pairs) {
        put::<ADD>(out, S::widen(u16::from_le_bytes(*pair).into()));
    }
}

/// Stores or adds. Of a sum that is NaN, sign and payload depend on the machine; here they do not.
#[inline(always)]
fn put<const ADD: bool>(out: &mut f32, x: f32) {
    let sum = if ADD { *out + x } else { x };
    let nan = f32::from_bits(0x7fc0_0000);
    *out = if ADD { select_unpredictable(sum.is_nan(), nan, sum) } else { sum };
}

#[inline(always)]
fn encode_8<S: Small>(rounding: Rounding, x: &[f32], out: &mut [u8]) -> usize {
    let (scales, codes_out) = out.split_at_mut(x.len().div_ceil(BLOCK));
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    let (out_blocks, out_rest) = codes_out.as_chunks_mut::<BLOCK>();
    let mut saturated = 0;
    for (i, ((x, out), scale)) in blocks.iter().zip(out_blocks).zip(&mut *scales).enumerate() {
        *scale = scale_of::<S>(x);
        let (codes, too_large) = codes::<S>(rounding, i * BLOCK, &scaled(x, *scale));
        *out = codes.map(|code| code as u8);
        saturated += too_large;
    }
    if let (false, Some(scale)) = (rest.is_empty(), scales.last_mut()) {
        let x = padded(rest);
        *scale = scale_of::<S>(&x);
        let (codes, too_large) = codes::<S>(rounding, blocks.len() * BLOCK, &scaled(&x, *scale));
        out_rest.copy_from_slice(&codes.map(|code| code as u8)[..rest.len()]);
        saturated += too_large;
    }
    saturated
}

/// The scale of a block, as an exponent with bias 127: the smallest, but not below 2^-127, for
/// which no finite element is larger than the largest number, which is 1.75 times a power of two.
/// Elements above 1.75 · 2^127 do not get a larger one: they could be rounded to 2^128.
#[inline(always)]
fn scale_of<S: Small>(x: &[f32; BLOCK]) -> u8 {
    let finite = |x: &f32| {
        let magnitude = x.to_bits() & 0x7fff_ffff;
        select_unpredictable(magnitude < 0x7f80_0000, magnitude, 0)
    };
    let largest = x.iter().fold(0, |largest, x| finite(x).max(largest));
    // The exponent of the largest number: its field less the bias.
    let highest = (S::MAX >> S::MANTISSA) - (127 - S::REBIAS);
    // One more where the mantissa is above 1.75.
    let exponent = ((largest + 0x1f_ffff) >> 23).min(254);
    exponent.saturating_sub(highest) as u8
}

/// The block divided by its scale. Only what is far below the smallest number is not exact.
#[inline(always)]
fn scaled(x: &[f32; BLOCK], scale: u8) -> [f32; BLOCK] {
    let factor = f32::from_bits((254 - u32::from(scale)) << 23);
    x.map(|x| x * factor)
}

#[inline(always)]
fn decode_8<S: Small, const ADD: bool>(bytes: &[u8], out: &mut [f32]) {
    let (scales, codes) = bytes.split_at(out.len().div_ceil(BLOCK));
    let blocks = out.chunks_mut(BLOCK).zip(codes.chunks(BLOCK));
    for ((out, codes), scale) in blocks.zip(scales) {
        // 2^-127 is subnormal.
        let bits = if *scale == 0 { 1 << 22 } else { u32::from(*scale) << 23 };
        let factor = f32::from_bits(bits);
        for (out, code) in out.iter_mut().zip(codes) {
            put::<ADD>(out, S::widen((*code).into()) * factor);
        }
    }
}
