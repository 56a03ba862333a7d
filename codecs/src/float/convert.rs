//! The conversions, on bit patterns.

use std::hint::select_unpredictable as select;

/// The canonical quiet NaN of f32.
const NAN_F32: u32 = 0x7fc0_0000;
/// Infinity of f32, and the largest magnitude that is not a NaN.
const INFINITY_F32: u32 = 0x7f80_0000;

/// The f32 of an f16 bit pattern.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    widen::<5, 10>(u32::from(bits), 0x7c00, 0x7c00)
}

/// The f16 bit pattern nearest to `x`.
#[inline(always)]
pub fn f16_from_f32(x: f32) -> u16 {
    narrow::<5, 10>(x, 0x7c00, 0x7e00) as u16
}

/// The f32 of a bf16 bit pattern.
#[inline(always)]
pub fn bf16_to_f32(bits: u16) -> f32 {
    let wide = u32::from(bits) << 16;
    f32::from_bits(select(wide & 0x7fff_ffff > INFINITY_F32, NAN_F32, wide))
}

/// The bf16 bit pattern nearest to `x`.
#[inline(always)]
pub fn bf16_from_f32(x: f32) -> u16 {
    let bits = x.to_bits();
    let odd = bits >> 16 & 1;
    let rounded = bits.wrapping_add(0x7fff + odd) >> 16;
    select(bits & 0x7fff_ffff > INFINITY_F32, 0x7fc0, rounded) as u16
}

/// The f32 of an f8e5m2 bit pattern.
#[inline(always)]
pub fn f8e5m2_to_f32(bits: u8) -> f32 {
    widen::<5, 2>(u32::from(bits), 0x7c, 0x7c)
}

/// The f8e5m2 bit pattern nearest to `x`.
#[inline(always)]
pub fn f8e5m2_from_f32(x: f32) -> u8 {
    narrow::<5, 2>(x, 0x7c, 0x7e) as u8
}

/// The f32 of an f8e4m3 bit pattern.
#[inline(always)]
pub fn f8e4m3_to_f32(bits: u8) -> f32 {
    widen::<4, 3>(u32::from(bits), u32::MAX, 0x7e)
}

/// The f8e4m3 bit pattern nearest to `x`; NaN (`0x7f`) when `x` is too large, see the module.
#[inline(always)]
pub fn f8e4m3_from_f32(x: f32) -> u8 {
    let code = narrow::<4, 3>(x, 0x7f, 0x7f);
    // A negative overflow is a NaN too, and there is only one of those.
    select(code & 0x7f == 0x7f, 0x7f, code) as u8
}

/// How far the exponent field of a value moves between a format with `EXPONENT` bits and f32.
const fn rebias<const EXPONENT: u32>() -> u32 {
    127 - ((1 << (EXPONENT - 1)) - 1)
}

/// The value of `code`, whose magnitudes from `infinity` on are infinite, and above `number_max`
/// NaN.
#[inline(always)]
fn widen<const EXPONENT: u32, const MANTISSA: u32>(
    code: u32,
    infinity: u32,
    number_max: u32,
) -> f32 {
    let magnitude = code & ((1 << (EXPONENT + MANTISSA)) - 1);
    let sign = (code ^ magnitude) << (31 - EXPONENT - MANTISSA);
    let shifted = magnitude << (23 - MANTISSA);
    let normal = shifted + (rebias::<EXPONENT>() << 23);
    // A subnormal counts steps above zero. The same count above the smallest normal number, less
    // that number, is the same value, and the subtraction is exact.
    let smallest_normal = (rebias::<EXPONENT>() + 1) << 23;
    let subnormal =
        (f32::from_bits(smallest_normal + shifted) - f32::from_bits(smallest_normal)).to_bits();
    let finite = select(magnitude >> MANTISSA == 0, subnormal, normal);
    let number = select(magnitude >= infinity, INFINITY_F32, finite) | sign;
    f32::from_bits(select(magnitude > number_max, NAN_F32, number))
}

/// The code nearest to `x`, where magnitudes beyond the largest finite one are `overflow`.
#[inline(always)]
fn narrow<const EXPONENT: u32, const MANTISSA: u32>(x: f32, overflow: u32, nan: u32) -> u32 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let sign = (bits ^ magnitude) >> (31 - EXPONENT - MANTISSA);
    let drop = 23 - MANTISSA;
    let odd = magnitude >> drop & 1;
    let normal = (magnitude.wrapping_add((1 << (drop - 1)) - 1 + odd) >> drop)
        .wrapping_sub(rebias::<EXPONENT>() << MANTISSA);
    // Adding the number whose last bit weighs one subnormal step makes the hardware round there.
    let anchor = (rebias::<EXPONENT>() + 1 + drop) << 23;
    let subnormal =
        (f32::from_bits(magnitude) + f32::from_bits(anchor)).to_bits().wrapping_sub(anchor);
    let is_subnormal = magnitude < (rebias::<EXPONENT>() + 1) << 23;
    let rounded = select(is_subnormal, subnormal, normal).min(overflow);
    select(magnitude > INFINITY_F32, nan, rounded | sign)
}
