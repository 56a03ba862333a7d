//! The loops over blocks, plain enough to be compiled for any instruction set.

use std::hint::select_unpredictable;

use super::round::{Bf16, E4M3, E5M2, Fp16, Small, narrow};
use super::{Rounding, SCALE_BLOCK};
use crate::descriptor::CastFormat;

/// Elements that are handled together.
const BLOCK: usize = SCALE_BLOCK;
/// Blocks for which random words are made at once.
const BATCH: usize = 8;

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

/// Codes blocks, one after the other from the slice's first.
struct Coder {
    rounding: Rounding,
    /// Blocks coded so far.
    blocks: usize,
    /// Random words for the blocks from the last multiple of [`BATCH`] on.
    random: [[u32; BLOCK]; BATCH],
    saturated: usize,
}

impl Coder {
    fn new(rounding: Rounding) -> Self {
        Self { rounding, blocks: 0, random: [[0; BLOCK]; BATCH], saturated: 0 }
    }

    /// The codes of the next block.
    #[inline(always)]
    fn codes<S: Small>(&mut self, x: &[f32; BLOCK]) -> [u32; BLOCK] {
        match self.rounding {
            Rounding::Nearest => self.rounded::<S, false>(x, 0),
            Rounding::Stochastic { philox, first } => {
                let at = self.blocks % BATCH;
                if at == 0 {
                    let index = first.wrapping_add((self.blocks * BLOCK) as u64);
                    philox.fill(index, self.random.as_flattened_mut());
                }
                self.blocks += 1;
                self.rounded::<S, true>(x, at)
            }
        }
    }

    #[inline(always)]
    fn rounded<S: Small, const STOCHASTIC: bool>(
        &mut self,
        x: &[f32; BLOCK],
        at: usize,
    ) -> [u32; BLOCK] {
        let mut codes = [0; BLOCK];
        let mut saturated = 0;
        for ((code, x), random) in codes.iter_mut().zip(x).zip(&self.random[at]) {
            let (found, too_large) = narrow::<S, STOCHASTIC>(*x, *random);
            *code = found;
            saturated += too_large;
        }
        self.saturated += saturated as usize;
        codes
    }
}

#[inline(always)]
fn encode_16<S: Small>(rounding: Rounding, x: &[f32], out: &mut [u8]) -> usize {
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    let (out_blocks, out_rest) = out.as_chunks_mut::<{ 2 * BLOCK }>();
    let mut coder = Coder::new(rounding);
    for (x, out) in blocks.iter().zip(out_blocks) {
        let codes = coder.codes::<S>(x);
        for (out, code) in out.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
            *out = (code as u16).to_le_bytes();
        }
    }
    if !rest.is_empty() {
        let codes = coder.codes::<S>(&padded(rest));
        for (out, code) in out_rest.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
            *out = (code as u16).to_le_bytes();
        }
    }
    coder.saturated
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
    let mut coder = Coder::new(rounding);
    for ((x, out), scale) in blocks.iter().zip(out_blocks).zip(&mut *scales) {
        *scale = scale_of::<S>(x);
        *out = coder.codes::<S>(&scaled(x, *scale)).map(|code| code as u8);
    }
    if let (false, Some(scale)) = (rest.is_empty(), scales.last_mut()) {
        let x = padded(rest);
        *scale = scale_of::<S>(&x);
        let codes = coder.codes::<S>(&scaled(&x, *scale)).map(|code| code as u8);
        out_rest.copy_from_slice(&codes[..rest.len()]);
    }
    coder.saturated
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
    // Lanes side by side, for the compiler to make vectors of.
    let mut lanes = [0; 8];
    for x in x.as_chunks::<8>().0 {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = finite(x).max(*lane);
        }
    }
    let largest = lanes.into_iter().fold(0, u32::max);
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
