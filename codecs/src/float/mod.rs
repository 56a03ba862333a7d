//! Small float formats, and their conversions from and to f32.
//!
//! | type | sign, exponent, mantissa bits | bias | largest | smallest > 0 | infinity | NaN here |
//! |---|---|---|---|---|---|---|
//! | f16 (IEEE 754 binary16) | 1, 5, 10 | 15 | 65504 | 2^-24 | yes | `0x7e00` |
//! | bf16 | 1, 8, 7 | 127 | 3.39e38 | 2^-133 | yes | `0x7fc0` |
//! | f8e5m2 (OCP OFP8, 2023) | 1, 5, 2 | 15 | 57344 | 2^-16 | yes | `0x7e` |
//! | f8e4m3 (OCP OFP8, 2023) | 1, 4, 3 | 7 | 448 | 2^-9 | no | `0x7f` |
//!
//! Every conversion is exact where it can be, and otherwise rounds to nearest, ties to even.
//! Subnormals are kept in both directions. Any NaN becomes the one canonical quiet NaN of the
//! target, the last column above and `0x7fc0_0000` for f32: sign and payload do not survive, so
//! that results never depend on them.
//!
//! # Overflow
//!
//! f16, bf16 and f8e5m2 go to infinity as IEEE 754 says: from half a step above the largest
//! finite value on. f8e4m3 has no infinity, and OCP allows either to saturate or to give NaN.
//! Here it gives **NaN**, from above 464 on (464 itself ties to the even 448), and so does an
//! infinite argument. That is what `tensor.to(torch.float8_e4m3fn)` does, and an overflowed
//! gradient that turns into a plausible 448 would be a silent error.
//!
//! # Form
//!
//! Plain integer arithmetic without branches or tables, `#[inline(always)]`: a loop over any of
//! them vectorises in a caller compiled for any instruction set, with the same bits everywhere.
//! They assume, as all Rust code does, that the thread rounds to nearest and keeps subnormals.

mod convert;
pub mod environment;
mod fp8;
#[cfg(test)]
mod oracle;

pub use convert::{
    bf16_from_f32, bf16_to_f32, f8e4m3_from_f32, f8e4m3_to_f32, f8e5m2_from_f32, f8e5m2_to_f32,
    f16_from_f32, f16_to_f32,
};
pub use fp8::{F8E4M3, F8E5M2};
