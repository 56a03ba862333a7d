//! The conversions against an oracle: exact values in f64 from the definition of the formats,
//! and a search for the nearest.

use super::*;

/// A format as its standard defines it.
struct Definition {
    name: &'static str,
    exponent_bits: u32,
    mantissa_bits: u32,
    /// Whether the largest exponent is kept for infinity and NaN.
    has_infinity: bool,
    nan: u32,
    to_f32: fn(u32) -> f32,
    from_f32: fn(f32) -> u32,
}

const FORMATS: [Definition; 4] = [
    Definition {
        name: "f16",
        exponent_bits: 5,
        mantissa_bits: 10,
        has_infinity: true,
        nan: 0x7e00,
        to_f32: |c| f16_to_f32(c as u16),
        from_f32: |x| u32::from(f16_from_f32(x)),
    },
    Definition {
        name: "bf16",
        exponent_bits: 8,
        mantissa_bits: 7,
        has_infinity: true,
        nan: 0x7fc0,
        to_f32: |c| bf16_to_f32(c as u16),
        from_f32: |x| u32::from(bf16_from_f32(x)),
    },
    Definition {
        name: "f8e5m2",
        exponent_bits: 5,
        mantissa_bits: 2,
        has_infinity: true,
        nan: 0x7e,
        to_f32: |c| f8e5m2_to_f32(c as u8),
        from_f32: |x| u32::from(f8e5m2_from_f32(x)),
    },
    Definition {
        name: "f8e4m3",
        exponent_bits: 4,
        mantissa_bits: 3,
        has_infinity: false,
        nan: 0x7f,
        to_f32: |c| f8e4m3_to_f32(c as u8),
        from_f32: |x| u32::from(f8e4m3_from_f32(x)),
    },
];

impl Definition {
    fn sign(&self) -> u32 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    /// The first magnitude that is not finite.
    fn finite_end(&self) -> u32 {
        if self.has_infinity { self.sign() - (1 << self.mantissa_bits) } else { self.sign() - 1 }
    }

    /// The value of a magnitude as if exponents went on for ever.
    fn value(&self, magnitude: u32) -> f64 {
        let bias = (1i32 << (self.exponent_bits - 1)) - 1;
        let exponent = (magnitude >> self.mantissa_bits) as i32;
        let fraction = f64::from(magnitude & ((1 << self.mantissa_bits) - 1))
            / f64::from(1u32 << self.mantissa_bits);
        if exponent == 0 {
            fraction * 2f64.powi(1 - bias)
        } else {
            (1.0 + fraction) * 2f64.powi(exponent - bias)
        }
    }

    /// What `x` must become.
    fn nearest(&self, x: f32) -> u32 {
        if x.is_nan() {
            return self.nan;
        }
        let sign = if x.is_sign_negative() { self.sign() } else { 0 };
        let target = f64::from(x.abs());
        let (mut low, mut high) = (0, self.finite_end());
        if target >= self.value(high) {
            low = high;
        }
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.value(middle) <= target {
                low = middle;
            } else {
                high = middle;
            }
        }
        // Both values have few bits, so that their mean is exact.
        let mean = (self.value(low) + self.value(high)) / 2.0;
        let up = target > mean || (target == mean && low % 2 == 1);
        let magnitude = if low != high && up { high } else { low };
        match (magnitude == self.finite_end(), self.has_infinity) {
            (true, false) => self.nan,
            _ => magnitude | sign,
        }
    }

    fn check(&self, x: f32) {
        let (got, want) = ((self.from_f32)(x), self.nearest(x));
        assert_eq!(got, want, "{} of {x:e} ({:#010x})", self.name, x.to_bits());
    }
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn every_code_widens_to_its_value_and_comes_back() {
    for format in &FORMATS {
        for code in 0..2 * format.sign() {
            let magnitude = code & (format.sign() - 1);
            let wide = (format.to_f32)(code);
            let back = (format.from_f32)(wide);
            if magnitude < format.finite_end() {
                assert_eq!(f64::from(wide.abs()), format.value(magnitude), "{}", format.name);
                assert_eq!(wide.is_sign_negative(), code != magnitude, "{}", format.name);
                assert_eq!(back, code, "{}", format.name);
            } else if format.has_infinity && magnitude == format.finite_end() {
                assert!(wide.is_infinite() && wide.is_sign_negative() == (code != magnitude));
                assert_eq!(back, code, "{}", format.name);
            } else {
                assert_eq!(wide.to_bits(), 0x7fc0_0000, "{} {code:#x}", format.name);
                assert_eq!(back, format.nan, "{} {code:#x}", format.name);
            }
        }
    }
}

#[test]
fn midpoints_tie_to_even_and_their_neighbours_do_not() {
    for format in &FORMATS {
        for magnitude in 0..format.finite_end() {
            let (low, high) = (format.value(magnitude), format.value(magnitude + 1));
            let mean = ((low + high) / 2.0) as f32;
            for x in [low as f32, mean, mean.next_up(), mean.next_down(), high as f32] {
                format.check(x);
                format.check(-x);
            }
        }
    }
}

#[test]
fn special_and_random_values_go_to_the_nearest() {
    let special = [0, 1, 2, 0x007f_ffff, 0x0080_0000, 0x7f7f_ffff, 0x7f80_0000, 0x7f80_0001];
    let mut state = 7;
    for format in &FORMATS {
        for bits in special.into_iter().chain([0x7fbf_ffff, 0x7fc0_0000, 0x7fff_ffff]) {
            format.check(f32::from_bits(bits));
            format.check(f32::from_bits(bits | 0x8000_0000));
        }
        for _ in 0..200_000 {
            format.check(f32::from_bits(splitmix(&mut state) as u32));
            // Exponents around the format's own range.
            let random = splitmix(&mut state) as u32;
            let exponent = 127 - 30 + (random >> 23 & 63);
            format.check(f32::from_bits(random & 0x807f_ffff | exponent << 23));
        }
    }
}

#[test]
fn f16_and_bf16_agree_with_the_half_crate() {
    let mut state = 11;
    for code in 0..=u16::MAX {
        let (f16, bf16) = (half::f16::from_bits(code), half::bf16::from_bits(code));
        if !f16.is_nan() {
            assert_eq!(f16_to_f32(code).to_bits(), f16.to_f32().to_bits());
        }
        if !bf16.is_nan() {
            assert_eq!(bf16_to_f32(code).to_bits(), bf16.to_f32().to_bits());
        }
    }
    for _ in 0..500_000 {
        let x = f32::from_bits(splitmix(&mut state) as u32);
        if !x.is_nan() {
            assert_eq!(f16_from_f32(x), half::f16::from_f32(x).to_bits(), "{x:e}");
            assert_eq!(bf16_from_f32(x), half::bf16::from_f32(x).to_bits(), "{x:e}");
        }
    }
}
