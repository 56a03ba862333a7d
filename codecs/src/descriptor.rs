//! Which codec a call uses and with which parameters: what users write, as in
//! `bounded:rms=0.01`, and what all ranks must agree on.
//!
//! ```
//! use syncline_codecs::descriptor::{Bound, BoundMode, Codec};
//!
//! let codec: Codec = "bounded:rms=0.01".parse()?;
//! assert_eq!(codec, Codec::Bounded { bound: Bound::new(BoundMode::Rms, 0.01)? });
//! assert_eq!(codec.to_string(), "bounded:rms=0.01");
//! assert!("bounded:rms=-1".parse::<Codec>().is_err());
//! # Ok::<(), syncline_codecs::error::DescriptorError>(())
//! ```

mod parse;

use std::fmt;

use crate::error::DescriptorError;

/// A codec with its parameters. `to_string` gives the canonical form, which parses to the same.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Codec {
    /// The bytes as they are.
    #[default]
    None,
    /// A cast to a smaller float type; fp8 with a power-of-two scale per 32 elements.
    Cast {
        /// The smaller type.
        format: CastFormat,
        /// How values between two numbers of that type are rounded.
        rounding: Rounding,
    },
    /// Shared-step integers with a bound on the result.
    Bounded {
        /// The bound.
        bound: Bound,
    },
    /// Integers scaled per group.
    Block {
        /// Their width.
        bits: BlockBits,
        /// Elements per group: 32, 64, 128 or 256.
        group: u32,
    },
    /// Every bit survives.
    Lossless,
    /// The largest elements only.
    TopK {
        /// The share that is kept, in (0, 1].
        fraction: f64,
    },
    /// The elements of at least this magnitude only.
    Threshold {
        /// The magnitude.
        value: f64,
    },
    /// Drops what is negligible, rounds the rest stochastically, and entropy-codes the integers.
    FilterSr {
        /// The rounding step, the unit of which is that of `drop`, too.
        step: Bound,
        /// Magnitudes below this become zero or this, at random; at least the step.
        drop: f64,
        /// Of the random numbers.
        seed: u64,
    },
    /// Whatever is fastest and keeps the bound.
    Auto {
        /// The bound.
        bound: Bound,
    },
}

/// A smaller float type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CastFormat {
    /// The upper half of an f32.
    Bf16,
    /// IEEE 754 binary16.
    Fp16,
    /// OCP OFP8 E4M3 with block scales.
    Fp8E4M3,
    /// OCP OFP8 E5M2 with block scales.
    Fp8E5M2,
}

/// How a value between two representable ones is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// To the nearest, ties to even.
    #[default]
    Nearest,
    /// Up or down at random, such that the expectation is the value itself. The random numbers
    /// are a function of the seed and the element's index ([`crate::philox`]).
    Stochastic {
        /// Of the random numbers.
        seed: u64,
    },
}

/// The width of block-scaled integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockBits {
    /// 4 bits.
    Four,
    /// 6 bits.
    Six,
    /// 8 bits.
    Eight,
}

/// What a bound is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BoundMode {
    /// Nothing: the bound is in the unit of the data.
    Abs,
    /// The root mean square of all elements of all ranks.
    Rms,
    /// The largest magnitude of all elements of all ranks.
    Max,
}

/// A bound on the error of the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    mode: BoundMode,
    value: f64,
}

impl Bound {
    /// A bound of `value`, in the unit that `mode` says.
    ///
    /// # Errors
    /// If `value` is not a positive finite number, or an absolute bound does not fit f32's normal
    /// numbers.
    pub fn new(mode: BoundMode, value: f64) -> Result<Self, DescriptorError> {
        Self::checked("bounded", mode, value, value)
    }

    /// As [`Self::new`], for the codec `codec`, where the value was written as `text`.
    fn checked(
        codec: &'static str,
        mode: BoundMode,
        value: f64,
        text: impl fmt::Display,
    ) -> Result<Self, DescriptorError> {
        let bad = |must| {
            let value = text.to_string();
            Err(DescriptorError::BadValue { codec, parameter: mode.name(), value, must })
        };
        if !(value > 0.0 && value.is_finite()) {
            return bad("a number above zero, as in 1e-4");
        }
        let normal = f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX) / 4.0;
        if mode == BoundMode::Abs && !normal.contains(&value) {
            return bad("between 1.2e-38 and 8.5e37: f32 holds nothing finer or coarser");
        }
        Ok(Self { mode, value })
    }

    /// What it is relative to.
    pub fn mode(self) -> BoundMode {
        self.mode
    }

    /// In the unit that the mode says.
    pub fn value(self) -> f64 {
        self.value
    }
}

impl BoundMode {
    /// How it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Abs => "abs",
            Self::Rms => "rms",
            Self::Max => "max",
        }
    }
}

impl CastFormat {
    /// How it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
            Self::Fp8E4M3 => "fp8_e4m3",
            Self::Fp8E5M2 => "fp8_e5m2",
        }
    }
}

impl BlockBits {
    /// Bits per integer.
    pub fn bits(self) -> u32 {
        match self {
            Self::Four => 4,
            Self::Six => 6,
            Self::Eight => 8,
        }
    }

    /// The codec of this width, as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Four => "block4",
            Self::Six => "block6",
            Self::Eight => "block8",
        }
    }
}

impl Codec {
    /// The name in front of the parameters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cast { format, .. } => format.name(),
            Self::Bounded { .. } => "bounded",
            Self::Block { bits, .. } => bits.name(),
            Self::Lossless => "lossless",
            Self::TopK { .. } => "topk",
            Self::Threshold { .. } => "threshold",
            Self::FilterSr { .. } => "filter_sr",
            Self::Auto { .. } => "auto",
        }
    }
}

/// A number as short as it parses back to the same.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value) = *self;
        if (0.01..1e6).contains(&value.abs()) {
            write!(f, "{value}")
        } else {
            write!(f, "{value:e}")
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.mode.name(), Short(self.value))
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match *self {
            Self::None | Self::Lossless => Ok(()),
            Self::Cast { rounding: Rounding::Nearest, .. } => Ok(()),
            Self::Cast { rounding: Rounding::Stochastic { seed: 0 }, .. } => {
                f.write_str(":stochastic")
            }
            Self::Cast { rounding: Rounding::Stochastic { seed }, .. } => {
                write!(f, ":stochastic,seed={seed}")
            }
            Self::Bounded { bound } | Self::Auto { bound } => write!(f, ":{bound}"),
            Self::Block { group, .. } => write!(f, ":group={group}"),
            Self::TopK { fraction } => write!(f, ":{}", Short(fraction)),
            Self::Threshold { value } => write!(f, ":{}", Short(value)),
            Self::FilterSr { step, drop, seed } => {
                write!(f, ":{step},drop={}", Short(drop))?;
                if seed == 0 { Ok(()) } else { write!(f, ",seed={seed}") }
            }
        }
    }
}

#[cfg(test)]
mod tests;
