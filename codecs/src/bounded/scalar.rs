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
        // Saturates, and makes NaN an accepted 0: its error fails the comparison below.
        let codes = x.map(|x| (x * step.inverse).round_ties_even() as i32);
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

/// Writes codes as planes.
pub(super) fn pack(codes: &[i32; BLOCK], count: u32, planes: &mut [u8]) {
    for (p, bytes) in planes.as_chunks_mut().0.iter_mut().take(count as usize).enumerate() {
        let bits = codes
            .iter()
            .rev()
            .fold(0_u32, |bits, code| bits << 1 | (code.cast_unsigned() >> p & 1));
        *bytes = bits.to_le_bytes();
    }
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
