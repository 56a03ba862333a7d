//! What can be wrong with a request to encode, and with bytes to decode.

/// Why bytes were refused. Nothing was read or written out of bounds, and no memory was taken
/// for what they claim; the output may have been written in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before what they announce.
    #[error("the encoded bytes end early: {needed} bytes are needed, {found} are there")]
    Truncated {
        /// Bytes needed, as far as is known where they end.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
    /// The bytes contradict themselves or the format.
    #[error("the encoded bytes are damaged at offset {offset}: {why}")]
    Corrupt {
        /// Where, in bytes from the start.
        offset: usize,
        /// What is wrong there.
        why: &'static str,
    },
    /// Written by another version of the format.
    #[error("format version {found} is not known here; this library reads version {supported}")]
    UnsupportedVersion {
        /// The version the bytes state.
        found: u32,
        /// The version this library reads.
        supported: u32,
    },
    /// The result would be larger than the caller or the format allows.
    #[error("the result takes {needed} {unit}, and there is room for {max}")]
    TooLarge {
        /// What is needed.
        needed: u64,
        /// What is allowed.
        max: u64,
        /// Of what: `"elements"` or `"bytes"`.
        unit: &'static str,
    },
}

impl DecodeError {
    /// The same error, seen from `by` bytes further to the front.
    pub(crate) fn shifted(self, by: usize) -> Self {
        match self {
            Self::Truncated { needed, found } => truncated(needed + by, found + by),
            Self::Corrupt { offset, why } => corrupt(offset + by, why),
            other => other,
        }
    }
}

/// Bytes that end early.
pub(crate) const fn truncated(needed: usize, found: usize) -> DecodeError {
    DecodeError::Truncated { needed, found }
}

/// Bytes that contradict themselves at `offset`.
pub(crate) const fn corrupt(offset: usize, why: &'static str) -> DecodeError {
    DecodeError::Corrupt { offset, why }
}

/// Why a tensor could not be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The output slice is smaller than what the codec may need. Ask its `worst_case_bytes`.
    #[error("the encoded bytes may need {needed} bytes, and there is room for {found}")]
    OutputTooSmall {
        /// Bytes that may be needed.
        needed: usize,
        /// Bytes of the output slice.
        found: usize,
    },
}

/// Why a codec's description was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// No codec has this name.
    #[error("no codec is called `{name}`; there are {CODECS}")]
    UnknownCodec {
        /// The name given.
        name: String,
    },
    /// The codec has no such parameter.
    #[error("`{codec}` has no parameter `{parameter}`; it takes {takes}")]
    UnknownParameter {
        /// The codec.
        codec: &'static str,
        /// The parameter given.
        parameter: String,
        /// What the codec takes.
        takes: &'static str,
    },
    /// A parameter the codec cannot do without.
    #[error("`{codec}` needs {takes}")]
    MissingParameter {
        /// The codec.
        codec: &'static str,
        /// What the codec takes.
        takes: &'static str,
    },
    /// A parameter that is given twice, or in two ways that exclude each other.
    #[error("`{codec}`: `{parameter}` is given more than once; it takes {takes}")]
    RepeatedParameter {
        /// The codec.
        codec: &'static str,
        /// The second one.
        parameter: String,
        /// What the codec takes.
        takes: &'static str,
    },
    /// A value that is not a number, or not one that makes sense here.
    #[error("`{codec}`: {parameter} is `{value}`; it must be {must}")]
    BadValue {
        /// The codec.
        codec: &'static str,
        /// The parameter.
        parameter: &'static str,
        /// The value given.
        value: String,
        /// What it must be.
        must: &'static str,
    },
}

/// The codecs and how they are written, for error texts and help.
pub const CODECS: &str = "none, bounded:abs=1e-4, bounded:rms=0.01, bounded:max=1e-3, \
    block8:group=64, block6, block4, bf16, fp16, fp8_e4m3, fp8_e5m2 (each also with \
    :stochastic[,seed=N]), lossless, topk:0.01, threshold:1e-3, \
    filter_sr:rms=0.1[,drop=0.1][,seed=N], auto:rms=0.01";
