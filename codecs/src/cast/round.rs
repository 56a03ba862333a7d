//! One number at a time. Branch-free, so that loops over these vectorise.

use std::hint::select_unpredictable as select;

use crate::float::{bf16_to_f32, f8e4m3_to_f32, f8e5m2_to_f32, f16_to_f32};

/// Infinity of f32: larger magnitudes are NaN, smaller ones finite.
const INFINITY: u32 = 0x7f80_0000;

/// A small float as its codes are made: magnitudes count its numbers from zero up.
pub(super) trait Small {
    /// Exponent bits.
    const EXPONENT: u32;
    /// Mantissa bits.
    const MANTISSA: u32;
    /// The magnitude of the largest finite number.
    const MAX: u32;
    /// The code of +infinity.
    const INFINITY: u32;
    /// The code of NaN.
    const NAN: u32;
    /// Whether the code with only the sign set is zero, and not [`Self::NAN`].
    const MINUS_ZERO: bool = true;
    /// The number with this code.
    fn widen(code: u32) -> f32;

    /// The sign in a code.
    const SIGN: u32 = 1 << (Self::EXPONENT + Self::MANTISSA);
    /// Bits of an f32's mantissa that are dropped.
    const DROP: u32 = 23 - Self::MANTISSA;
    /// How far the exponent field moves.
    const REBIAS: u32 = 127 - ((1 << (Self::EXPONENT - 1)) - 1);
}

pub(super) struct Bf16;
pub(super) struct Fp16;
pub(super) struct E4M3;
pub(super) struct E5M2;

impl Small for Bf16 {
    const EXPONENT: u32 = 8;
    const MANTISSA: u32 = 7;
    const MAX: u32 = 0x7f7f;
    const INFINITY: u32 = 0x7f80;
    const NAN: u32 = 0x7fc0;

    #[inline(always)]
    fn widen(code: u32) -> f32 {
        bf16_to_f32(code as u16)
    }
}

impl Small for Fp16 {
    const EXPONENT: u32 = 5;
    const MANTISSA: u32 = 10;
    const MAX: u32 = 0x7bff;
    const INFINITY: u32 = 0x7c00;
    const NAN: u32 = 0x7e00;

    #[inline(always)]
    fn widen(code: u32) -> f32 {
        f16_to_f32(code as u16)
    }
}

impl Small for E5M2 {
    const EXPONENT: u32 = 5;
    const MANTISSA: u32 = 2;
    const MAX: u32 = 0x7b;
    const INFINITY: u32 = 0x7c;
    const NAN: u32 = 0x7e;

    #[inline(always)]
    fn widen(code: u32) -> f32 {
        f8e5m2_to_f32(code as u8)
    }
}

/// E4M3 has two codes for NaN and none for infinity. Here those two are the infinities, and the
/// code of minus zero is NaN, as it is in E4M3FNUZ.
impl Small for E4M3 {
    const EXPONENT: u32 = 4;
    const MANTISSA: u32 = 3;
    const MAX: u32 = 0x7e;
    const INFINITY: u32 = 0x7f;
    const NAN: u32 = 0x80;
    const MINUS_ZERO: bool = false;

    #[inline(always)]
    fn widen(code: u32) -> f32 {
        let number = f8e4m3_to_f32(code as u8).to_bits();
        let sign = (code & 0x80) << 24;
        let special = select(code == 0x80, 0x7fc0_0000, INFINITY | sign);
        f32::from_bits(select(code == 0x80 || code & 0x7f == 0x7f, special, number))
    }
}

/// The code of `x`, and 1 if `x` is finite and had to be saturated. With `STOCHASTIC`, it is
/// rounded by `random`, which is uniform over all words.
#[inline(always)]
pub(super) fn narrow<S: Small, const STOCHASTIC: bool>(x: f32, random: u32) -> (u32, u32) {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let sign = (bits >> 31) * S::SIGN;
    // Within a binade, and from one to the next, bit patterns grow with the numbers.
    let up = match STOCHASTIC {
        true => random >> (32 - S::DROP),
        false => (1 << (S::DROP - 1)) - 1 + (magnitude >> S::DROP & 1),
    };
    let normal = (magnitude.wrapping_add(up) >> S::DROP).wrapping_sub(S::REBIAS << S::MANTISSA);
    let rounded = match S::REBIAS {
        // bf16 has f32's exponents, and its subnormals count like all others.
        0 => normal,
        _ => {
            let small = subnormal::<S, STOCHASTIC>(magnitude, random);
            select(magnitude < (S::REBIAS + 1) << 23, small, normal)
        }
    };
    let saturated = u32::from(rounded > S::MAX && magnitude < INFINITY);
    let finite = rounded.min(S::MAX) | sign;
    let finite = select(!S::MINUS_ZERO && finite == S::SIGN, 0, finite);
    let number = select(magnitude >= INFINITY, S::INFINITY | sign, finite);
    (select(magnitude > INFINITY, S::NAN, number), saturated)
}

/// Counts subnormal steps in a magnitude below the smallest normal number.
#[inline(always)]
fn subnormal<S: Small, const STOCHASTIC: bool>(magnitude: u32, random: u32) -> u32 {
    let x = f32::from_bits(magnitude);
    // The number whose last bit weighs one step: adding it makes the hardware round there.
    let anchor = f32::from_bits((S::REBIAS + 1 + S::DROP) << 23);
    let nearest = (x + anchor).to_bits().wrapping_sub(anchor.to_bits());
    if !STOCHASTIC {
        return nearest;
    }
    // Steps as a number below 2^10. Its whole part, by going down where the nearest is above;
    // what is left is exact, and compared with a uniform number of 24 bits.
    let steps = x * f32::from_bits((254 - (S::REBIAS + 1 - S::MANTISSA)) << 23);
    let whole = nearest.wrapping_sub(u32::from(nearest.cast_signed() as f32 > steps));
    let rest = steps - whole.cast_signed() as f32;
    let uniform = (random >> 8).cast_signed() as f32 * (1.0 / 16_777_216.0);
    whole.wrapping_add(u32::from(uniform < rest))
}
