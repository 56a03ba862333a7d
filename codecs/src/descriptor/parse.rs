//! From text to [`Codec`].

use std::str::FromStr;

use super::{BlockBits, Bound, BoundMode, CastFormat, Codec, Rounding};
use crate::error::DescriptorError;

/// Elements per group where a block codec does not say.
const GROUP_DEFAULT: u32 = 64;

const TAKES_BOUND: &str = "one bound: abs=, rms= or max=, as in rms=0.01";
const TAKES_CAST: &str = "nothing, or `stochastic`, with seed= if it shall not be 0";
const TAKES_GROUP: &str = "group=32, 64, 128 or 256 (64 if left out)";
const TAKES_FRACTION: &str = "the share that is kept, as in 0.01";
const TAKES_THRESHOLD: &str = "the smallest magnitude that is kept, as in 1e-3";
const TAKES_FILTER: &str =
    "the step as abs=, rms= or max=, and may take drop= (the step if left out) and seed=";
const TAKES_NOTHING: &str = "no parameters";

/// A codec's name, its parameters, and what to say about them in an error.
struct Parts<'a> {
    codec: &'static str,
    takes: &'static str,
    parameters: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Parts<'a> {
    fn new(codec: &'static str, takes: &'static str, text: Option<&'a str>) -> Self {
        let split = |parameter: &'a str| match parameter.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (parameter, None),
        };
        let parameters = text.map(|text| text.split(',').map(split).collect());
        Self { codec, takes, parameters: parameters.unwrap_or_default() }
    }

    /// Takes the value of `name` away.
    fn value(&mut self, name: &'static str) -> Result<Option<&'a str>, DescriptorError> {
        let mut found = None;
        while let Some(at) = self.parameters.iter().position(|(n, v)| *n == name && v.is_some()) {
            let (_, value) = self.parameters.remove(at);
            if found.is_some() {
                return Err(self.repeated(name));
            }
            found = value;
        }
        Ok(found)
    }

    /// Takes the one parameter without a name away.
    fn bare(&mut self) -> Option<&'a str> {
        let at = self.parameters.iter().position(|(_, value)| value.is_none())?;
        Some(self.parameters.remove(at).0)
    }

    /// The bound among the parameters, if there is one.
    fn bound(&mut self) -> Result<Option<Bound>, DescriptorError> {
        let mut found = None;
        for mode in [BoundMode::Abs, BoundMode::Rms, BoundMode::Max] {
            let Some(text) = self.value(mode.name())? else { continue };
            if found.is_some() {
                return Err(self.repeated(mode.name()));
            }
            // What is no number is refused as the NaN is.
            let value = text.parse().unwrap_or(f64::NAN);
            found = Some(Bound::checked(self.codec, mode, value, text)?);
        }
        Ok(found)
    }

    fn seed(&mut self) -> Result<Option<u64>, DescriptorError> {
        let must = "a whole number from 0 to 2^64 - 1";
        let parse = |text: &str| text.parse().map_err(|_| self.bad("seed", text, must));
        // The borrow of `parse` ends before the parameter is taken.
        let text = self.parameters.iter().find(|(name, _)| *name == "seed").and_then(|(_, v)| *v);
        let seed = text.map(parse).transpose()?;
        self.value("seed")?;
        Ok(seed)
    }

    fn bad(
        &self,
        parameter: &'static str,
        value: impl Into<String>,
        must: &'static str,
    ) -> DescriptorError {
        DescriptorError::BadValue { codec: self.codec, parameter, value: value.into(), must }
    }

    fn repeated(&self, parameter: &str) -> DescriptorError {
        let parameter = parameter.to_owned();
        DescriptorError::RepeatedParameter { codec: self.codec, parameter, takes: self.takes }
    }

    fn missing(&self) -> DescriptorError {
        DescriptorError::MissingParameter { codec: self.codec, takes: self.takes }
    }

    /// `codec`, unless a parameter is left over.
    fn end(self, codec: Codec) -> Result<Codec, DescriptorError> {
        match self.parameters.first() {
            None => Ok(codec),
            Some((name, value)) => {
                let parameter = match value {
                    Some(value) => format!("{name}={value}"),
                    None => (*name).to_owned(),
                };
                let (codec, takes) = (self.codec, self.takes);
                Err(DescriptorError::UnknownParameter { codec, parameter, takes })
            }
        }
    }
}

impl FromStr for Codec {
    type Err = DescriptorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, parameters) = match text.split_once(':') {
            Some((name, parameters)) => (name, Some(parameters)),
            None => (text, None),
        };
        let cast = |format: CastFormat| cast(format, parameters);
        let block = |bits, name| block(bits, Parts::new(name, TAKES_GROUP, parameters));
        match name {
            "none" => Parts::new("none", TAKES_NOTHING, parameters).end(Self::None),
            "lossless" => Parts::new("lossless", TAKES_NOTHING, parameters).end(Self::Lossless),
            "bounded" => {
                let mut parts = Parts::new("bounded", TAKES_BOUND, parameters);
                let bound = parts.bound()?;
                finish(parts, bound.map(|bound| Self::Bounded { bound }))
            }
            "auto" => {
                let mut parts = Parts::new("auto", TAKES_BOUND, parameters);
                let bound = parts.bound()?;
                finish(parts, bound.map(|bound| Self::Auto { bound }))
            }
            "bf16" => cast(CastFormat::Bf16),
            "fp16" => cast(CastFormat::Fp16),
            "fp8_e4m3" => cast(CastFormat::Fp8E4M3),
            "fp8_e5m2" => cast(CastFormat::Fp8E5M2),
            "block4" => block(BlockBits::Four, "block4"),
            "block6" => block(BlockBits::Six, "block6"),
            "block8" => block(BlockBits::Eight, "block8"),
            "topk" => top_k(Parts::new("topk", TAKES_FRACTION, parameters)),
            "threshold" => threshold(Parts::new("threshold", TAKES_THRESHOLD, parameters)),
            "filter_sr" => filter_sr(Parts::new("filter_sr", TAKES_FILTER, parameters)),
            name => Err(DescriptorError::UnknownCodec { name: name.to_owned() }),
        }
    }
}

/// `codec`, or the error that says which parameter is too many or missing.
fn finish(parts: Parts<'_>, codec: Option<Codec>) -> Result<Codec, DescriptorError> {
    let missing = parts.missing();
    let codec = parts.end(codec.unwrap_or_default()).map(|_| codec)?;
    codec.ok_or(missing)
}

fn cast(format: CastFormat, parameters: Option<&str>) -> Result<Codec, DescriptorError> {
    let mut parts = Parts::new(format.name(), TAKES_CAST, parameters);
    let stochastic = parts.parameters.iter().position(|p| *p == ("stochastic", None));
    let Some(at) = stochastic else {
        return parts.end(Codec::Cast { format, rounding: Rounding::Nearest });
    };
    parts.parameters.remove(at);
    let seed = parts.seed()?.unwrap_or(0);
    parts.end(Codec::Cast { format, rounding: Rounding::Stochastic { seed } })
}

fn block(bits: BlockBits, mut parts: Parts<'_>) -> Result<Codec, DescriptorError> {
    let group = match parts.value("group")? {
        None => GROUP_DEFAULT,
        Some(text) => match text.parse() {
            Ok(group @ (32 | 64 | 128 | 256)) => group,
            _ => return Err(parts.bad("group", text, "32, 64, 128 or 256")),
        },
    };
    parts.end(Codec::Block { bits, group })
}

fn top_k(mut parts: Parts<'_>) -> Result<Codec, DescriptorError> {
    let codec = match parts.bare() {
        None => None,
        Some(text) => match text.parse() {
            Ok(fraction) if fraction > 0.0 && fraction <= 1.0 => Some(Codec::TopK { fraction }),
            _ => return Err(parts.bad("the share", text, "a number above 0 and at most 1")),
        },
    };
    finish(parts, codec)
}

fn threshold(mut parts: Parts<'_>) -> Result<Codec, DescriptorError> {
    let codec = match parts.bare() {
        None => None,
        Some(text) => match text.parse::<f64>() {
            Ok(value) if value > 0.0 && value.is_finite() => Some(Codec::Threshold { value }),
            _ => return Err(parts.bad("the magnitude", text, "a finite number above zero")),
        },
    };
    finish(parts, codec)
}

fn filter_sr(mut parts: Parts<'_>) -> Result<Codec, DescriptorError> {
    let step = parts.bound()?;
    let drop = match parts.value("drop")? {
        None => None,
        Some(text) => match text.parse::<f64>() {
            Ok(drop) if drop >= 0.0 && drop.is_finite() => Some(drop),
            _ => return Err(parts.bad("drop", text, "a finite number, zero or above")),
        },
    };
    let seed = parts.seed()?.unwrap_or(0);
    let codec = step.map(|step| {
        let drop = drop.unwrap_or_else(|| step.value());
        Codec::FilterSr { step, drop, seed }
    });
    finish(parts, codec)
}
