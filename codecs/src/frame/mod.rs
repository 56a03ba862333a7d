//! A compressed tensor that stands for itself: activations, weights, checkpoints, in a file or a
//! message. A frame says which codec it is of, of how many elements of which type, and carries
//! checksums, so that whoever reads it needs to know nothing and trusts nothing.
//!
//! ```
//! use syncline_codecs::frame::{self, Elements, ElementsMut, Frames};
//!
//! let weights = vec![0.25_f32; 1000];
//! let codec = "lossless".parse()?;
//! let mut frames = Frames::new();
//! let mut bytes = vec![0; frame::worst_case_bytes(codec, Elements::F32(&weights).shape())?];
//! let used = frames.compress(codec, Elements::F32(&weights), &mut bytes)?;
//!
//! let info = frame::info(&bytes[..used])?;
//! let mut back = vec![0.0; info.shape.elements];
//! frames.decompress(&bytes[..used], ElementsMut::F32(&mut back))?;
//! assert_eq!(back, weights);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Bounds relative to the largest magnitude or the rms are resolved when the frame is made: its
//! codec says the absolute bound. The format is `docs/wire/frame.md`.

mod chunk;
mod header;
#[cfg(test)]
mod tests;

use crate::descriptor::{Bound, BoundMode, Codec};
use crate::error::{DecodeError, DescriptorError, EncodeError, corrupt, truncated};
use crate::filter::FilterSr;
use crate::lossless::Lossless;
use crate::sparse::Sparse;
use crate::statistics::Statistics;

pub use header::{Info, info};

use header::Header;

/// Elements per chunk of a frame: chunks have checksums of their own, and a decoder needs memory
/// for one at a time.
pub const CHUNK_ELEMENTS: usize = 1 << 18;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl ElementType {
    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// What a tensor is, as far as a frame knows: its elements in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The type of the elements.
    pub element_type: ElementType,
    /// How many.
    pub elements: usize,
}

/// The elements of a tensor; 16-bit floats as bit patterns.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// f32.
    F32(&'a [f32]),
    /// f16.
    F16(&'a [u16]),
    /// bf16.
    Bf16(&'a [u16]),
}

impl<'a> Elements<'a> {
    /// Type and number.
    pub const fn shape(self) -> Shape {
        let (element_type, elements) = match self {
            Self::F32(x) => (ElementType::F32, x.len()),
            Self::F16(x) => (ElementType::F16, x.len()),
            Self::Bf16(x) => (ElementType::Bf16, x.len()),
        };
        Shape { element_type, elements }
    }

    fn bytes(self) -> &'a [u8] {
        match self {
            Self::F32(x) => bytemuck::cast_slice(x),
            Self::F16(x) | Self::Bf16(x) => bytemuck::cast_slice(x),
        }
    }
}

/// Where the elements of a tensor go; 16-bit floats as bit patterns.
#[derive(Debug)]
pub enum ElementsMut<'a> {
    /// f32.
    F32(&'a mut [f32]),
    /// f16.
    F16(&'a mut [u16]),
    /// bf16.
    Bf16(&'a mut [u16]),
}

impl ElementsMut<'_> {
    /// Type and number.
    pub const fn shape(&self) -> Shape {
        let (element_type, elements) = match self {
            Self::F32(x) => (ElementType::F32, x.len()),
            Self::F16(x) => (ElementType::F16, x.len()),
            Self::Bf16(x) => (ElementType::Bf16, x.len()),
        };
        Shape { element_type, elements }
    }

    fn bytes(&mut self) -> &mut [u8] {
        match self {
            Self::F32(x) => bytemuck::cast_slice_mut(x),
            Self::F16(x) | Self::Bf16(x) => bytemuck::cast_slice_mut(x),
        }
    }
}

/// Why a tensor was not compressed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// The output is too small.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A parameter of the codec makes no sense for this tensor.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// The codec is not for tensors of this type.
    #[error("`{codec}` does not compress {element_type} tensors; `none` and `lossless` do")]
    Type {
        /// The codec.
        codec: &'static str,
        /// The type.
        element_type: &'static str,
    },
    /// The codec needs to know a link.
    #[error("`{0}` compares the speeds of links and has no meaning for a frame; name a codec")]
    NoLink(&'static str),
    /// One chunk, of a sparse tensor all of it, would have 2^32 bytes or more.
    #[error("{0} elements are too many for one sparse frame; compress parts of the tensor")]
    TooMany(usize),
}

/// The most bytes a frame takes.
///
/// # Errors
/// The codec is not for such tensors.
pub fn worst_case_bytes(codec: Codec, shape: Shape) -> Result<usize, FrameError> {
    chunk::check(codec, shape)?;
    let chunk_elements = chunk::elements(codec, shape.elements);
    let full = shape.elements / chunk_elements;
    let rest = shape.elements % chunk_elements;
    let size = |elements| chunk::worst_case_bytes(codec, shape.element_type, elements);
    let chunks = full * size(chunk_elements) + if rest > 0 { size(rest) } else { 0 };
    Ok(header::bytes_max(full + usize::from(rest > 0)) + chunks)
}

/// What codecs need of memory, kept from frame to frame.
#[derive(Debug, Default)]
pub struct Frames {
    lossless: Lossless,
    filter: FilterSr,
    sparse: Sparse,
}

impl Frames {
    /// Holds no memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses `data` into `out`; the size of the frame.
    ///
    /// # Errors
    /// The codec is not for such tensors, or `out` smaller than [`worst_case_bytes`].
    pub fn compress(
        &mut self,
        codec: Codec,
        data: Elements<'_>,
        out: &mut [u8],
    ) -> Result<usize, FrameError> {
        let shape = data.shape();
        let needed = worst_case_bytes(codec, shape)?;
        if out.len() < needed {
            return Err(EncodeError::OutputTooSmall { needed, found: out.len() }.into());
        }
        let codec = resolved(codec, data)?;
        let chunk_elements = chunk::elements(codec, shape.elements);
        let header = Header { codec, shape, chunk_elements };
        let text = codec.to_string();
        let mut at = header.table_at(&text) + header::ENTRY * header.chunks();
        for chunk in 0..header.chunks() {
            let range = header.range(chunk);
            let bytes = self.encode(codec, data, range, &mut out[at..])?;
            let sum = crc32fast::hash(&out[at..at + bytes]);
            header.write_entry(&text, chunk, bytes, sum, out);
            at += bytes;
        }
        header.write(&text, out);
        Ok(at)
    }

    /// Decompresses the frame `bytes` into the front of `out`; what it is.
    ///
    /// # Errors
    /// The bytes are not one whole and undamaged frame of a version this library knows, `out` has
    /// another element type, or is too small. Nothing was allocated for what they claim; `out` may
    /// have been written in part.
    pub fn decompress(
        &mut self,
        bytes: &[u8],
        mut out: ElementsMut<'_>,
    ) -> Result<Info, DecodeError> {
        let (header, table) = header::parse(bytes)?;
        let info = header.info(bytes.len());
        let room = out.shape();
        if room.element_type != info.shape.element_type {
            return Err(corrupt(header::TYPE_AT, "the frame's elements have another type"));
        }
        if room.elements < info.shape.elements {
            let (needed, max) = (info.shape.elements as u64, room.elements as u64);
            return Err(DecodeError::TooLarge { needed, max, unit: "elements" });
        }
        let mut at = bytes.len() - table.iter().map(|entry| entry.bytes()).sum::<usize>();
        for (chunk, entry) in table.iter().enumerate() {
            let end = at + entry.bytes();
            let encoded = bytes.get(at..end).ok_or_else(|| truncated(end, bytes.len()))?;
            if crc32fast::hash(encoded) != entry.sum() {
                return Err(corrupt(at, "a chunk's checksum does not fit"));
            }
            self.decode(info.codec, encoded, &mut out, header.range(chunk))
                .map_err(|error| error.shifted(at))?;
            at = end;
        }
        Ok(info)
    }
}

/// The codec with its bound, if it has one, in the unit of the data.
///
/// # Errors
/// A parameter is out of range, which none is that was parsed.
pub fn resolved(codec: Codec, data: Elements<'_>) -> Result<Codec, DescriptorError> {
    let Elements::F32(data) = data else { return Ok(codec) };
    // One pass over the data, if any.
    let unit = |bound: Bound| match bound.mode() {
        BoundMode::Abs => 1.0,
        BoundMode::Rms => Statistics::of(data).rms(),
        BoundMode::Max => Statistics::of(data).max.into(),
    };
    // Nothing finer or coarser makes sense for f32; so do zeros, whose largest magnitude is zero.
    let within = |value: f64| value.clamp(f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX) / 4.0);
    let absolute = |value: f64| Bound::new(BoundMode::Abs, within(value));
    Ok(match codec {
        Codec::Bounded { bound } => {
            Codec::Bounded { bound: absolute(bound.value() * unit(bound))? }
        }
        Codec::FilterSr { step, drop, seed } => {
            let unit = unit(step);
            let drop = if drop == 0.0 { 0.0 } else { within(drop * unit) };
            Codec::FilterSr { step: absolute(step.value() * unit)?, drop, seed }
        }
        other => other,
    })
}
