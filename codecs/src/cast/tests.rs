//! Against the conversions of [`crate::float`], which have an oracle of their own, and against
//! the definition of stochastic rounding.

mod golden;

use super::*;
use crate::float::{bf16_from_f32, f16_from_f32};
use crate::testing::{Random, gradient};

const FORMATS: [CastFormat; 4] =
    [CastFormat::Bf16, CastFormat::Fp16, CastFormat::Fp8E4M3, CastFormat::Fp8E5M2];

fn encoded(level: Level, format: CastFormat, rounding: Rounding, x: &[f32]) -> (Vec<u8>, usize) {
    let mut bytes = vec![0xaa; encoded_bytes(format, x.len())];
    let encoded = encode_with(level, format, rounding, x, &mut bytes).unwrap();
    assert_eq!(encoded.bytes, bytes.len());
    (bytes, encoded.saturated)
}

fn decoded(format: CastFormat, bytes: &[u8], count: usize) -> Vec<f32> {
    let mut x = vec![0.0; count];
    decode(format, bytes, &mut x).unwrap();
    x
}

fn stochastic(seed: u64) -> Rounding {
    Rounding::Stochastic { philox: Philox { seed, stream: 0 }, first: 0 }
}

/// Bit patterns from everywhere.
fn anything(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..count).map(|_| f32::from_bits(random.next() as u32)).collect()
}

#[test]
fn sixteen_bits_are_the_nearest_number_but_for_overflow() {
    let mut x = anything(100_000, 1);
    x.extend([65504.0, 65519.99, 65520.0, -65520.0, 1e30, f32::MAX, -f32::MAX, 3.39e38]);
    x.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, 0.0, -0.0, 1e-45]);
    for (format, from, max) in [
        (CastFormat::Bf16, bf16_from_f32 as fn(f32) -> u16, 0x7f7f),
        (CastFormat::Fp16, f16_from_f32, 0x7bff),
    ] {
        let (bytes, saturated) = encoded(Level::best(), format, Rounding::Nearest, &x);
        let mut overflows = 0;
        for (x, pair) in x.iter().zip(bytes.as_chunks().0) {
            let (code, nearest) = (u16::from_le_bytes(*pair), from(*x));
            if x.is_finite() && nearest & 0x7fff > max {
                overflows += 1;
                assert_eq!(code, max | nearest & 0x8000, "{x:e}");
            } else {
                assert_eq!(code, nearest, "{x:e}");
            }
        }
        assert_eq!(saturated, overflows);
        assert!(overflows >= 2);
    }
}

#[test]
fn every_level_gives_the_same_bytes() {
    for format in FORMATS {
        for (seed, count) in [(1, 0), (2, 1), (3, 31), (4, 32), (5, 1000), (6, 4099)] {
            let tensors = [anything(count, seed), gradient(count, seed)];
            for (x, rounding) in tensors.iter().zip([Rounding::Nearest, stochastic(9)]) {
                let want = encoded(Level::Scalar, format, rounding, x);
                let got = encoded(Level::best(), format, rounding, x);
                assert!(got == want, "{format:?} {rounding:?} {count}");
                let mut sums = [vec![0.5; count], vec![0.5; count]];
                decode_with::<true>(Level::Scalar, format, &got.0, &mut sums[0]).unwrap();
                decode_with::<true>(Level::best(), format, &got.0, &mut sums[1]).unwrap();
                let plain = decoded(format, &got.0, count);
                for ((a, b), x) in sums[0].iter().zip(&sums[1]).zip(plain) {
                    assert_eq!(a.to_bits(), b.to_bits());
                    assert!(*a == 0.5 + x || a.is_nan());
                }
            }
        }
    }
}

#[test]
fn fp8_is_within_half_a_step_and_never_saturates() {
    for (format, mantissa_bits, smallest) in
        [(CastFormat::Fp8E4M3, 3, 2f64.powi(-9)), (CastFormat::Fp8E5M2, 2, 2f64.powi(-16))]
    {
        let mut tensors = vec![gradient(5000, 1), anything(5000, 2)];
        for largest in [447.9_f32, 448.0, 448.1, 463.9, 465.0, 511.9, 512.0, 57344.1, f32::MAX] {
            tensors.push((0..64).map(|i| if i % 32 == 3 { largest } else { i as f32 }).collect());
        }
        tensors.push(vec![1e-45; 40]);
        tensors.push(vec![1e-40; 40]);
        for x in tensors {
            let (bytes, saturated) = encoded(Level::best(), format, Rounding::Nearest, &x);
            let huge = |x: &f32| x.is_finite() && x.abs() > 1.75 * 2f32.powi(127);
            assert!(saturated <= x.iter().filter(|x| huge(x)).count());
            let back = decoded(format, &bytes, x.len());
            for (i, (x, back)) in x.iter().zip(back).enumerate() {
                if !x.is_finite() {
                    assert!(x.is_nan() && back.is_nan() || *x == back);
                    continue;
                }
                if huge(x) {
                    assert_eq!(back.abs(), 1.75 * 2f32.powi(127));
                    continue;
                }
                let scale = 2f64.powi(i32::from(bytes[i / 32]) - 127);
                let (x, back) = (f64::from(*x), f64::from(back));
                let half = x.abs() * 2f64.powi(-mantissa_bits - 1);
                let allowed = half.max(smallest * scale / 2.0);
                assert!((x - back).abs() <= allowed, "{format:?}: {x:e} became {back:e}");
            }
        }
    }
}

#[test]
fn infinities_and_nan_arrive() {
    let mut x = vec![0.25_f32; 64];
    x[1] = f32::INFINITY;
    x[2] = f32::NEG_INFINITY;
    x[3] = f32::NAN;
    x[4] = -0.0;
    for format in FORMATS {
        for rounding in [Rounding::Nearest, stochastic(3)] {
            let (bytes, saturated) = encoded(Level::best(), format, rounding, &x);
            let back = decoded(format, &bytes, 64);
            assert_eq!(saturated, 0);
            assert_eq!(back[1], f32::INFINITY, "{format:?}");
            assert_eq!(back[2], f32::NEG_INFINITY, "{format:?}");
            assert!(back[3].is_nan(), "{format:?}");
            assert_eq!(back[4], 0.0, "{format:?}");
            assert_eq!((back[0], &back[5..]), (0.25, &x[5..]), "{format:?}");
        }
    }
}

/// Each draw is one of the two neighbours, and their mean is the number: within five standard
/// deviations of a mean of so many draws.
#[test]
fn stochastic_rounding_is_unbiased() {
    const DRAWS: usize = 1 << 14;
    // Normal and subnormal in fp16 and, at scale 1 because of the 448 or 57344, in fp8.
    let values: [f32; 9] = [1.0 + 3.7e-3, 0.3, -7.77, 1e-5, -3.3e-6, 2.9e-8, 0.001, 3e-5, 17.3];
    for format in FORMATS {
        // Where draws of the upper neighbour are to be expected at all.
        let smallest = if format == CastFormat::Fp8E4M3 { 1e-4 } else { 1e-8 };
        for x in values.into_iter().filter(|x| x.abs() > smallest) {
            let mut block = vec![x; DRAWS];
            let anchor = if format == CastFormat::Fp8E4M3 { 448.0 } else { 57344.0 };
            block.iter_mut().step_by(32).for_each(|x| *x = anchor);
            let back =
                decoded(format, &encoded(Level::best(), format, stochastic(5), &block).0, DRAWS);
            let draws: Vec<f64> = back
                .iter()
                .enumerate()
                .filter(|(i, _)| i % 32 != 0)
                .map(|(_, x)| f64::from(*x))
                .collect();
            let low = draws.iter().copied().fold(f64::INFINITY, f64::min);
            let high = draws.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert!(draws.iter().all(|draw| *draw == low || *draw == high), "{format:?} {x}");
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let x = f64::from(x);
            let deviation = (high - low) / 2.0 / (draws.len() as f64).sqrt();
            assert!((mean - x).abs() <= 5.0 * deviation, "{format:?} {x}: {mean}, {low} to {high}");
        }
    }
}

#[test]
fn chunks_get_the_random_numbers_of_the_whole() {
    let x = gradient(4096, 8);
    let philox = Philox { seed: 1, stream: 2 };
    for format in FORMATS {
        let at = |first| Rounding::Stochastic { philox, first };
        let whole = decoded(format, &encoded(Level::best(), format, at(77), &x).0, x.len());
        let mut parts = Vec::new();
        for (i, part) in x.chunks(96).enumerate() {
            let bytes = encoded(Level::best(), format, at(77 + 96 * i as u64), part).0;
            parts.extend(decoded(format, &bytes, part.len()));
        }
        assert_eq!(parts, whole, "{format:?}");
    }
}

#[test]
fn stochastic_overflow_saturates() {
    let x = [65519.0_f32; 320];
    let (bytes, saturated) = encoded(Level::best(), CastFormat::Fp16, stochastic(1), &x);
    assert!(decoded(CastFormat::Fp16, &bytes, 320).iter().all(|x| *x == 65504.0));
    assert!(saturated > 100 && saturated < 320, "{saturated}");
    let x = [f32::MAX; 320];
    let (bytes, _) = encoded(Level::best(), CastFormat::Bf16, stochastic(1), &x);
    assert!(decoded(CastFormat::Bf16, &bytes, 320).iter().all(|x| x.is_finite()));
}

#[test]
fn what_does_not_fit_is_refused() {
    for format in FORMATS {
        let needed = encoded_bytes(format, 40);
        let mut out = vec![0; needed - 1];
        let error = encode(format, Rounding::Nearest, &[0.0; 40], &mut out).unwrap_err();
        assert_eq!(error, EncodeError::OutputTooSmall { needed, found: needed - 1 });
        let mut x = [0.0; 40];
        let error = decode(format, &out, &mut x).unwrap_err();
        assert_eq!(error, DecodeError::Truncated { needed, found: needed - 1 });
        out.extend([0, 0]);
        let error = decode(format, &out, &mut x).unwrap_err();
        assert!(matches!(error, DecodeError::Corrupt { .. }));
    }
    let mut bytes = vec![0; encoded_bytes(CastFormat::Fp8E5M2, 40)];
    bytes[1] = 0xff;
    let error = decode(CastFormat::Fp8E5M2, &bytes, &mut [0.0; 40]).unwrap_err();
    assert!(error.to_string().contains("offset 1: a scale that is not a number"), "{error}");
}
