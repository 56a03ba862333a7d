//! The 8-bit floats as types.

use std::cmp::Ordering;
use std::fmt;

use super::convert::{f8e4m3_from_f32, f8e4m3_to_f32, f8e5m2_from_f32, f8e5m2_to_f32};

/// An 8-bit float with 4 exponent and 3 mantissa bits (OCP OFP8 E4M3; PyTorch's
/// `float8_e4m3fn`): no infinity, overflow is NaN.
///
/// Compares as a number: NaN equals nothing, and -0 equals +0.
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct F8E4M3(u8);

/// An 8-bit float with 5 exponent and 2 mantissa bits (OCP OFP8 E5M2; PyTorch's `float8_e5m2`).
///
/// Compares as a number: NaN equals nothing, and -0 equals +0.
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct F8E5M2(u8);

macro_rules! impl_fp8 {
    ($type:ident, $from:ident, $to:ident, nan: $nan:literal, max: $max:literal) => {
        impl $type {
            /// The canonical NaN.
            pub const NAN: Self = Self($nan);
            /// The largest finite value.
            pub const MAX: Self = Self($max);

            /// The value with this bit pattern.
            pub const fn from_bits(bits: u8) -> Self {
                Self(bits)
            }

            /// Its bit pattern.
            pub const fn to_bits(self) -> u8 {
                self.0
            }

            /// The value nearest to `x`, ties to even; overflow as the module describes.
            pub fn from_f32(x: f32) -> Self {
                Self($from(x))
            }

            /// The same value as f32, exactly.
            pub fn to_f32(self) -> f32 {
                $to(self.0)
            }

            /// Whether it is not a number.
            pub fn is_nan(self) -> bool {
                self.to_f32().is_nan()
            }
        }

        impl From<$type> for f32 {
            fn from(x: $type) -> Self {
                x.to_f32()
            }
        }

        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.to_f32() == other.to_f32()
            }
        }

        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                self.to_f32().partial_cmp(&other.to_f32())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.to_f32(), f)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.to_f32(), f)
            }
        }
    };
}

impl_fp8!(F8E4M3, f8e4m3_from_f32, f8e4m3_to_f32, nan: 0x7f, max: 0x7e);
impl_fp8!(F8E5M2, f8e5m2_from_f32, f8e5m2_to_f32, nan: 0x7e, max: 0x7b);

impl F8E5M2 {
    /// Positive infinity.
    pub const INFINITY: Self = Self(0x7c);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_mean_what_they_say() {
        assert_eq!(F8E4M3::MAX.to_f32(), 448.0);
        assert_eq!(F8E5M2::MAX.to_f32(), 57344.0);
        assert_eq!(F8E5M2::INFINITY.to_f32(), f32::INFINITY);
        assert!(F8E4M3::NAN.is_nan() && F8E5M2::NAN.is_nan());
    }

    #[test]
    fn they_compare_and_print_as_numbers() {
        assert_ne!(F8E4M3::NAN, F8E4M3::NAN);
        assert_eq!(F8E5M2::from_bits(0x80), F8E5M2::from_bits(0));
        assert!(F8E4M3::from_f32(-1.5) < F8E4M3::from_f32(0.25));
        assert_eq!(F8E4M3::from_f32(1.5).to_string(), "1.5");
        assert_eq!(f32::from(F8E5M2::from_f32(-3.0)), -3.0);
    }

    #[test]
    fn overflow_is_nan_without_infinity_and_infinity_with() {
        assert_eq!(F8E4M3::from_f32(464.0).to_bits(), 0x7e);
        assert_eq!(F8E4M3::from_f32(464.1).to_bits(), 0x7f);
        assert_eq!(F8E4M3::from_f32(-1e9).to_bits(), 0x7f);
        assert_eq!(F8E4M3::from_f32(f32::NEG_INFINITY).to_bits(), 0x7f);
        assert_eq!(F8E5M2::from_f32(61439.0).to_bits(), 0x7b);
        assert_eq!(F8E5M2::from_f32(61440.0).to_bits(), 0x7c);
        assert_eq!(F8E5M2::from_f32(f32::NEG_INFINITY).to_bits(), 0xfc);
    }
}
