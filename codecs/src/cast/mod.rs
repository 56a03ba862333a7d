//! Casts to smaller floats: `bf16`, `fp16`, and `fp8` with a scale per 32 elements. The formats
//! to the bit: `docs/wire/cast.md`.
//!
//! The size is fixed by the number of elements. A finite number never becomes infinite: bf16 and
//! fp16 saturate at their largest number and count how often, and the scales of fp8 are chosen
//! such that only elements beyond 1.75·2^127 have to. Infinities and NaN arrive as such; a NaN's
//! sign and payload do not survive.
//!
//! Rounding is to nearest, ties to even, or stochastic: up with a probability equal to the
//! distance from the lower neighbour, so that the expectation is the number itself. The random
//! numbers belong to the element's index, and chunks to whom they are given as `first` give
//! the same bytes as the whole.

mod blocks;
mod round;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(test)]
mod tests;

use crate::descriptor::CastFormat;
use crate::error::{DecodeError, EncodeError};
use crate::float::environment::DefaultEnvironment;
use crate::level::Level;
use crate::philox::Philox;

/// Elements that share a scale in fp8, as in OCP Microscaling Formats (MX) 1.0.
pub const SCALE_BLOCK: usize = 32;

/// How to round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even.
    Nearest,
    /// At random.
    Stochastic {
        /// Where the random numbers come from.
        philox: Philox,
        /// The index of the slice's first element in the whole tensor.
        first: u64,
    },
}

/// What encoding gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Bytes of the output that are used.
    pub bytes: usize,
    /// Finite elements beyond the largest number of the format, which became that number.
    pub saturated: usize,
}

/// The bytes of `count` elements.
pub fn encoded_bytes(format: CastFormat, count: usize) -> usize {
    match format {
        CastFormat::Bf16 | CastFormat::Fp16 => 2 * count,
        CastFormat::Fp8E4M3 | CastFormat::Fp8E5M2 => count + count.div_ceil(SCALE_BLOCK),
    }
}

/// Encodes `x`. In fp8, chunks of a tensor must begin at multiples of [`SCALE_BLOCK`].
///
/// # Errors
/// If `out` is smaller than [`encoded_bytes`].
pub fn encode(
    format: CastFormat,
    rounding: Rounding,
    x: &[f32],
    out: &mut [u8],
) -> Result<Encoded, EncodeError> {
    encode_with(Level::best(), format, rounding, x, out)
}

/// As [`encode`], by the kernels of `level`.
fn encode_with(
    level: Level,
    format: CastFormat,
    rounding: Rounding,
    x: &[f32],
    out: &mut [u8],
) -> Result<Encoded, EncodeError> {
    let (needed, found) = (encoded_bytes(format, x.len()), out.len());
    let Some(out) = out.get_mut(..needed) else {
        return Err(EncodeError::OutputTooSmall { needed, found });
    };
    let _environment = DefaultEnvironment::enter();
    let saturated = match level {
        Level::Scalar => blocks::encode(format, rounding, x, out),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(avx2) => simd::encode(avx2, format, rounding, x, out),
    };
    Ok(Encoded { bytes: needed, saturated })
}

/// Decodes `bytes`, which hold exactly as many elements as `out`.
///
/// # Errors
/// If the bytes are not that many, or hold a scale that is not a number.
pub fn decode(format: CastFormat, bytes: &[u8], out: &mut [f32]) -> Result<(), DecodeError> {
    decode_with::<false>(Level::best(), format, bytes, out)
}

/// Decodes `bytes` and adds them to `sum`, in f32.
///
/// # Errors
/// As [`decode`].
pub fn decode_add(format: CastFormat, bytes: &[u8], sum: &mut [f32]) -> Result<(), DecodeError> {
    decode_with::<true>(Level::best(), format, bytes, sum)
}

fn decode_with<const ADD: bool>(
    level: Level,
    format: CastFormat,
    bytes: &[u8],
    out: &mut [f32],
) -> Result<(), DecodeError> {
    check(format, bytes, out.len())?;
    let _environment = DefaultEnvironment::enter();
    match level {
        Level::Scalar => blocks::decode::<ADD>(format, bytes, out),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(avx2) => simd::decode::<ADD>(avx2, format, bytes, out),
    }
    Ok(())
}

/// Whether `bytes` can be `count` elements.
fn check(format: CastFormat, bytes: &[u8], count: usize) -> Result<(), DecodeError> {
    let (needed, found) = (encoded_bytes(format, count), bytes.len());
    if found < needed {
        return Err(DecodeError::Truncated { needed, found });
    }
    if found > needed {
        let why = "bytes are left over behind the last element";
        return Err(DecodeError::Corrupt { offset: needed, why });
    }
    match bytes[..needed - count.min(needed)].iter().position(|scale| *scale == 0xff) {
        Some(offset) if matches!(format, CastFormat::Fp8E4M3 | CastFormat::Fp8E5M2) => {
            Err(DecodeError::Corrupt { offset, why: "a scale that is not a number" })
        }
        _ => Ok(()),
    }
}
