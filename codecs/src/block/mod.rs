//! Integers of 8, 6 or 4 bits, scaled per group of 32 to 256 elements: a fixed size, and an error
//! relative to the largest element of the group.
//!
//! An element x becomes the integer q nearest to x / s, ties to even, and decodes to q s. The scale
//! s is a bf16 number: the smallest that keeps the group's largest magnitude within ±qmax, where
//! qmax is 127, 31 or 7, so that the largest element is not clipped. As q has at most 8 bits and s
//! has 8, q s is exact in f32: decoding rounds nothing. Against an f32 scale the error grows by at
//! most 2^-7 (0.4 % on average) and a group shrinks by two bytes, 11 % of `block4` at 32 elements.
//!
//! |x - q s| ≤ (1/2 + 2^-16) s, with s ≤ max|x| / qmax (1 + 2^-7), but never below 2^-126: groups
//! of tinier numbers have that step.
//!
//! A group with NaN or infinities says so by the sign bit of its scale. There, three codes are
//! NaN (-qmax - 1), +∞ (qmax) and -∞ (-qmax), and finite elements use one step less on either
//! side. NaN decodes to the canonical one. The format is `docs/wire/block.md`.

mod scalar;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(test)]
mod tests;

use crate::descriptor::BlockBits;
use crate::error::{DecodeError, DescriptorError, EncodeError, corrupt, truncated};
use crate::float::environment::DefaultEnvironment;
use crate::level::Level;

/// Elements per group where nothing else is asked for.
pub const GROUP: u32 = 64;

/// The scale's sign bit: the group has elements that are not numbers.
const SPECIAL: u16 = 0x8000;
/// The smallest scale, 2^-126.
const SCALE_MIN: u16 = 0x0080;
/// Scales end below this, infinity.
const SCALE_END: u16 = 0x7f80;
/// The first bits of an f32 that is infinite.
const INFINITY: u32 = 0x7f80_0000;
/// Where codes begin is a multiple of this, for vector loads of GPUs.
const ALIGN: usize = 16;

/// Block-scaled integers of one width and group size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    bits: u32,
    group: usize,
}

impl Block {
    /// Integers of `bits` in groups of `group` elements.
    ///
    /// # Errors
    /// `group` is not 32, 64, 128 or 256.
    pub fn new(bits: BlockBits, group: u32) -> Result<Self, DescriptorError> {
        if !(32..=256).contains(&group) || !group.is_power_of_two() {
            return Err(DescriptorError::BadValue {
                codec: bits.name(),
                parameter: "group",
                value: group.to_string(),
                must: "32, 64, 128 or 256",
            });
        }
        Ok(Self { bits: bits.bits(), group: group as usize })
    }

    /// The largest integer.
    const fn code_max(self) -> i32 {
        (1 << (self.bits - 1)) - 1
    }

    /// Bytes before the codes: the scales, rounded up.
    const fn scale_bytes(self, elements: usize) -> usize {
        (2 * elements.div_ceil(self.group)).next_multiple_of(ALIGN)
    }

    /// The size of an encoding, exactly.
    pub const fn encoded_bytes(self, elements: usize) -> usize {
        self.scale_bytes(elements) + (elements * self.bits as usize).div_ceil(8)
    }

    /// Encodes `data`; bytes written.
    ///
    /// # Errors
    /// `out` is smaller than [`Self::encoded_bytes`].
    pub fn encode(self, data: &[f32], out: &mut [u8]) -> Result<usize, EncodeError> {
        self.encode_with(Level::best(), data, out)
    }

    pub(crate) fn encode_with(
        self,
        level: Level,
        data: &[f32],
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let _environment = DefaultEnvironment::enter();
        let needed = self.encoded_bytes(data.len());
        let found = out.len();
        let Some(out) = out.get_mut(..needed) else {
            return Err(EncodeError::OutputTooSmall { needed, found });
        };
        let (scales, codes) = out.split_at_mut(self.scale_bytes(data.len()));
        let (scales, padding) = scales.split_at_mut(2 * data.len().div_ceil(self.group));
        padding.fill(0);
        let scales = scales.as_chunks_mut().0;
        let done = match level {
            Level::Scalar => 0,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(token) => simd::encode(token, self, data, scales, codes),
        };
        let data = data[done * self.group..].chunks(self.group);
        let codes = codes[done * self.group_bytes()..].chunks_mut(self.group_bytes());
        for ((data, scale), codes) in data.zip(&mut scales[done..]).zip(codes) {
            *scale = scalar::encode(self, data, codes).to_le_bytes();
        }
        Ok(needed)
    }

    /// Decodes `bytes`, the encoding of `out.len()` elements.
    ///
    /// # Errors
    /// They are not such an encoding.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) -> Result<(), DecodeError> {
        self.decode_with::<false>(Level::best(), bytes, out)
    }

    /// Decodes `bytes` and adds the elements to those of `sum`, in f32. A sum that is not a number
    /// is the canonical NaN.
    ///
    /// # Errors
    /// They are not the encoding of `sum.len()` elements; part of them may be added then.
    pub fn decode_add(self, bytes: &[u8], sum: &mut [f32]) -> Result<(), DecodeError> {
        self.decode_with::<true>(Level::best(), bytes, sum)
    }

    pub(crate) fn decode_with<const ADD: bool>(
        self,
        level: Level,
        bytes: &[u8],
        out: &mut [f32],
    ) -> Result<(), DecodeError> {
        let _environment = DefaultEnvironment::enter();
        let needed = self.encoded_bytes(out.len());
        if bytes.len() < needed {
            return Err(truncated(needed, bytes.len()));
        }
        if bytes.len() > needed {
            return Err(corrupt(needed, "there are bytes after the last group"));
        }
        let (scales, codes) = bytes.split_at(self.scale_bytes(out.len()));
        let scales = &scales.as_chunks().0[..out.len().div_ceil(self.group)];
        if let Some(group) = scales.iter().position(|scale| !is_scale(u16::from_le_bytes(*scale))) {
            return Err(corrupt(2 * group, "a group's scale is zero, subnormal or not finite"));
        }
        let done = match level {
            Level::Scalar => 0,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(token) => simd::decode::<ADD>(token, self, scales, codes, out),
        };
        let out = out[done * self.group..].chunks_mut(self.group);
        let codes = codes[done * self.group_bytes()..].chunks(self.group_bytes());
        for ((out, scale), codes) in out.zip(&scales[done..]).zip(codes) {
            scalar::decode::<ADD>(self, u16::from_le_bytes(*scale), codes, out);
        }
        Ok(())
    }

    /// Bytes of a group's codes.
    const fn group_bytes(self) -> usize {
        self.group * self.bits as usize / 8
    }
}

/// Whether an encoder writes this scale.
fn is_scale(bits: u16) -> bool {
    (SCALE_MIN..SCALE_END).contains(&(bits & !SPECIAL))
}

/// The bf16 scale that takes magnitudes up to that of bits `largest` to `code_max`.
///
/// The quotient is rounded up. Where `code_max` times that would overflow, the bf16 below serves:
/// this happens in the last 2^-7 below the largest f32 only, where the quotient exceeds
/// `code_max` by less than 0.12 (tested for all), so that codes need no clamping in either case.
#[inline(always)]
fn scale_of(largest: u32, code_max: f32) -> u16 {
    let quotient = (f32::from_bits(largest) / code_max).to_bits();
    let up = (((quotient + 0xffff) >> 16) as u16).max(SCALE_MIN);
    if (value(up) * code_max).is_finite() { up } else { up - 1 }
}

/// The value of a bf16 that is not special.
#[inline(always)]
fn value(scale: u16) -> f32 {
    f32::from_bits(u32::from(scale) << 16)
}
