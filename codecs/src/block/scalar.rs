//! One group on any processor; groups with NaN or infinities on all.

use super::{Block, INFINITY, SPECIAL, scale_of, value};

/// Added to a number below 2^22, this rounds it to an integer, ties to even, which then stands in
/// the lower bits.
const ROUND: f32 = 12_582_912.0;

/// Encodes a group; its scale.
pub(super) fn encode(block: Block, data: &[f32], codes: &mut [u8]) -> u16 {
    let magnitude = |x: &f32| x.to_bits() & 0x7fff_ffff;
    let largest = data.iter().map(magnitude).max().unwrap_or(0);
    let code_max = block.code_max();
    if largest < INFINITY {
        let scale = scale_of(largest, code_max as f32);
        let inverse = 1.0 / value(scale);
        pack(block.bits, data, codes, |x| rounded(x, inverse));
        return scale;
    }
    let finite = data.iter().map(magnitude).filter(|&bits| bits < INFINITY).max().unwrap_or(0);
    let scale = scale_of(finite, (code_max - 1) as f32);
    let inverse = 1.0 / value(scale);
    pack(block.bits, data, codes, |x| match x {
        _ if x.is_nan() => -code_max - 1,
        f32::INFINITY => code_max,
        f32::NEG_INFINITY => -code_max,
        _ => rounded(x, inverse),
    });
    scale | SPECIAL
}

/// The integer nearest to `x * inverse`.
#[inline(always)]
fn rounded(x: f32, inverse: f32) -> i32 {
    (x * inverse + ROUND).to_bits().cast_signed() - ROUND.to_bits().cast_signed()
}

/// The codes of `data` one after the other, from the lowest bit of each byte.
#[inline(always)]
fn pack(bits: u32, data: &[f32], codes: &mut [u8], code: impl Fn(f32) -> i32) {
    let (mut waiting, mut count) = (0_u32, 0);
    let mut codes = codes.iter_mut();
    for x in data {
        waiting |= (code(*x).cast_unsigned() & ((1 << bits) - 1)) << count;
        count += bits;
        while count >= 8 {
            put(&mut codes, waiting);
            waiting >>= 8;
            count -= 8;
        }
    }
    if count > 0 {
        put(&mut codes, waiting);
    }
}

fn put<'a>(codes: &mut impl Iterator<Item = &'a mut u8>, waiting: u32) {
    // There is a byte for every eight bits of a group.
    if let Some(code) = codes.next() {
        *code = waiting as u8;
    }
}

/// Decodes a group, or adds it.
pub(super) fn decode<const ADD: bool>(block: Block, scale: u16, codes: &[u8], out: &mut [f32]) {
    let (bits, code_max) = (block.bits, block.code_max());
    let step = value(scale & !SPECIAL);
    let (mut waiting, mut count) = (0_u32, 0);
    let mut codes = codes.iter();
    for place in out {
        while count < bits {
            waiting |= u32::from(*codes.next().unwrap_or(&0)) << count;
            count += 8;
        }
        // The sign is the highest bit of a code.
        let code = (waiting << (32 - bits)).cast_signed() >> (32 - bits);
        waiting >>= bits;
        count -= bits;
        let number = code as f32 * step;
        let x = match scale & SPECIAL {
            0 => number,
            _ if code < -code_max => f32::NAN,
            _ if code == code_max => f32::INFINITY,
            _ if code == -code_max => f32::NEG_INFINITY,
            _ => number,
        };
        *place = if ADD { canonical(*place + x) } else { canonical(x) };
    }
}

/// The one NaN, or the number.
#[inline(always)]
fn canonical(x: f32) -> f32 {
    if x.is_nan() { f32::from_bits(0x7fc0_0000) } else { x }
}
