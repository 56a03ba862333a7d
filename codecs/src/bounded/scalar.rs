//! The kernels in plain Rust.

use super::kernel::{Codes, Kernel, Short};
use super::layout::WINDOW;
use super::step::{Scale, Step};
use super::{BLOCK, PLANES_SHORT_MAX, Planes};

/// Any CPU.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

impl Kernel for Scalar {
    type Worst = f32;

    fn no_error(self) -> f32 {
        0.0
    }

    fn largest(self, worst: f32) -> f32 {
        worst
    }

    fn quantise(self, x: &[f32; BLOCK], step: &Step, worst: &mut f32, out: &mut Codes) -> u32 {
        let codes = x.map(|x| rounded(x * step.inverse));
        let count = plane_count(&codes);
        if count > PLANES_SHORT_MAX {
            return u32::MAX;
        }
        let error = |(x, code): (&f32, &i32)| (x - *code as f32 * step.step).abs();
        let errors = x.iter().zip(&codes).map(error);
        let Some(largest) = errors.into_iter().try_fold(0.0_f32, |largest, error| {
            (error <= step.limit).then_some(largest.max(error))
        }) else {
            return u32::MAX;
        };
        *worst = worst.max(largest);
        *out = codes.map(|code| code as i16);
        count
    }

    fn pack(self, codes: &Codes, count: u32, planes: &mut [u8; WINDOW]) {
        pack(&codes.map(i32::from), count, planes);
    }

    fn dequantise(self, (planes, count): Short<'_>, scale: Scale, out: &mut [f32; BLOCK]) {
        let codes = Planes(&planes[..4 * count as usize]).codes();
        *out = codes.map(|code| scale.apply(code));
    }

    fn add(self, a: Short<'_>, b: Short<'_>, sum: &mut [u8; WINDOW]) -> u32 {
        let planes = |(planes, count): Short<'_>| Planes(&planes[..4 * count as usize]).words();
        let (words, count) = sum_of(&planes(a), &planes(b));
        store(&words, count, sum);
        count
    }
}

/// Planes that hold these codes.
pub(super) fn plane_count(codes: &[i32; BLOCK]) -> u32 {
    // -1 is 1 here, 1 is 2, -2 is 3: magnitudes that need as many bits as the code does.
    let all = codes.iter().fold(0, |all, code| all | (code << 1 ^ code >> 31));
    32 - all.leading_zeros()
}

/// The nearest integer, ties to even; i32::MIN, which no block can have, for what is far from
/// having 14 bits.
fn rounded(x: f32) -> i32 {
    // Its last bit weighs 1: adding it makes the hardware round there.
    let anchor = 12_582_912.0_f32;
    let near = (x + anchor).to_bits().wrapping_sub(anchor.to_bits()).cast_signed();
    if x.abs() < 65_536.0 { near } else { i32::MIN }
}

/// Transposes 8 x 8 bits: bit c of byte r becomes bit r of byte c (Warren, Hacker's Delight, 7-3).
fn transposed(bits: u64) -> u64 {
    let swapped = |bits: u64, shift: u32, mask: u64| {
        let different = (bits ^ bits >> shift) & mask;
        bits ^ different ^ different << shift
    };
    let bits = swapped(bits, 7, 0x00aa_00aa_00aa_00aa);
    let bits = swapped(bits, 14, 0x0000_cccc_0000_cccc);
    swapped(bits, 28, 0x0000_0000_f0f0_f0f0)
}

/// Writes codes as planes.
pub(super) fn pack(codes: &[i32; BLOCK], count: u32, planes: &mut [u8]) {
    let planes = &mut planes[..4 * count as usize];
    // Eight planes of eight elements at a time.
    for (k, planes) in planes.chunks_mut(32).enumerate() {
        for (e, codes) in codes.as_chunks::<8>().0.iter().enumerate() {
            let bytes = codes.map(|code| (code >> (8 * k)) as u8);
            let bits = transposed(u64::from_le_bytes(bytes)).to_le_bytes();
            for (plane, byte) in planes.as_chunks_mut::<4>().0.iter_mut().zip(bits) {
                plane[e] = byte;
            }
        }
    }
}

/// The codes in planes above which there are copies of the sign.
pub(super) fn unpack(words: &[u32; 32], count: u32) -> [i32; BLOCK] {
    let mut codes = [0; BLOCK];
    let rows = words.as_chunks::<8>().0.iter().take(count as usize / 8 + 1);
    for (k, words) in rows.enumerate() {
        for (e, codes) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let bits = u64::from_le_bytes(words.map(|word| (word >> (8 * e)) as u8));
            for (code, byte) in codes.iter_mut().zip(transposed(bits).to_le_bytes()) {
                // The highest byte so far decides on all bits above it.
                let above = i32::from(byte.cast_signed()) << (8 * k);
                *code = *code & ((1 << (8 * k)) - 1) | above;
            }
        }
    }
    codes
}

/// Adds plane by plane, all 32 elements at once; the sum, and the planes that hold it. Neither
/// operand has more than 29 planes.
pub(super) fn sum_of(a: &[u32; 32], b: &[u32; 32]) -> ([u32; 32], u32) {
    let mut carry = 0;
    let mut sum = [0; 32];
    for (sum, (a, b)) in sum.iter_mut().zip(a.iter().zip(b)) {
        let different = a ^ b;
        *sum = different ^ carry;
        carry = a & b | different & carry;
    }
    let sign = sum[31];
    let count = match sum.iter().rposition(|word| *word != sign) {
        Some(highest) => highest as u32 + 2,
        None => u32::from(sign != 0),
    };
    (sum, count)
}

/// Writes the first `count` planes.
pub(super) fn store(words: &[u32; 32], count: u32, planes: &mut [u8]) {
    for (bytes, word) in planes.as_chunks_mut().0.iter_mut().zip(&words[..count as usize]) {
        *bytes = word.to_le_bytes();
    }
}
