//! Every bit survives: the exponents of floats are entropy-coded, the rest is kept as it is.
//!
//! For f32, f16 and bf16 alike, an element is a word of 32 or 16 bits; rotated left by one bit, its
//! most significant byte holds exponent bits (all eight of f32 and bf16; the five of f16 and three
//! of the mantissa), and the sign has moved to the end. That byte is the element's *symbol*, and
//! the other bytes are its *rest*. Symbols are coded by interleaved rANS with a model per chunk,
//! rests are noise and are stored. Where all elements of a chunk with symbol 0 are +0, as in the
//! gradients of units that were inactive, no rest is stored for these.
//!
//! Chunks are independent of each other. A chunk that would not become smaller is stored raw, so
//! that the result is at most 4 bytes per chunk and 4 bytes larger than the data. The format is
//! `docs/wire/lossless.md`.

mod chunk;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(test)]
mod tests;

use crate::error::{DecodeError, EncodeError, corrupt, truncated};
use crate::lanes::get;
use crate::level::Level;
use crate::rans::Coder;

/// Elements per chunk where nothing else is asked for: the symbols of a chunk stay in the
/// first-level cache, and its model and states cost about 0.1 bit per element.
pub const CHUNK_ELEMENTS: usize = 1 << 15;
/// The most elements of a chunk.
pub const CHUNK_ELEMENTS_MAX: usize = 1 << 20;

/// The size of an element; formats of the same size are coded in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// Two bytes: f16 and bf16.
    Two,
    /// Four bytes: f32.
    Four,
}

impl Width {
    /// Bytes per element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Bytes per element beside its symbol.
    const fn rest(self) -> usize {
        self.bytes() - 1
    }
}

/// The most bytes the encoding of `elements` elements takes.
pub const fn worst_case_bytes(width: Width, elements: usize, chunk_elements: usize) -> usize {
    4 + elements * width.bytes() + 4 * elements.div_ceil(chunk_elements)
}

/// The coder with the memory it needs, which grows with the largest chunk it sees (about 3 bytes
/// per element of a chunk) and is kept from call to call.
#[derive(Debug)]
pub struct Lossless {
    coder: Coder,
    symbols: Vec<u8>,
    level: Level,
}

impl Default for Lossless {
    fn default() -> Self {
        Self::new()
    }
}

impl Lossless {
    /// A coder that holds no memory yet.
    pub fn new() -> Self {
        Self::with_level(Level::best())
    }

    pub(crate) fn with_level(level: Level) -> Self {
        Self { coder: Coder::default(), symbols: Vec::new(), level }
    }

    /// Encodes `data`, little-endian elements, in chunks of `chunk_elements`; bytes written.
    ///
    /// # Errors
    /// `out` is smaller than [`worst_case_bytes`].
    ///
    /// # Panics
    /// If `data` is not whole elements, or `chunk_elements` not in 1 to [`CHUNK_ELEMENTS_MAX`].
    pub fn encode(
        &mut self,
        width: Width,
        data: &[u8],
        chunk_elements: usize,
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        assert!((1..=CHUNK_ELEMENTS_MAX).contains(&chunk_elements), "{chunk_elements} elements");
        assert!(data.len().is_multiple_of(width.bytes()), "{} bytes", data.len());
        let needed = worst_case_bytes(width, data.len() / width.bytes(), chunk_elements);
        if out.len() < needed {
            return Err(EncodeError::OutputTooSmall { needed, found: out.len() });
        }
        out[..4].copy_from_slice(&(chunk_elements as u32).to_le_bytes());
        let mut at = 4;
        for chunk in data.chunks(chunk_elements * width.bytes()) {
            at += self.encode_chunk(width, chunk, &mut out[at..]);
        }
        Ok(at)
    }

    /// Decodes `bytes`, all of what [`Self::encode`] made of `out.len()` bytes.
    ///
    /// # Errors
    /// They are not such an encoding. What is damaged may also decode to other elements: the
    /// format has no checksum, the standalone frame does.
    ///
    /// # Panics
    /// If `out` is not whole elements.
    pub fn decode(
        &mut self,
        width: Width,
        bytes: &[u8],
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        assert!(out.len().is_multiple_of(width.bytes()), "{} bytes", out.len());
        let word = |at| {
            get(bytes, at).map(u32::from_le_bytes).ok_or_else(|| truncated(at + 4, bytes.len()))
        };
        let chunk_elements = word(0)? as usize;
        if !(1..=CHUNK_ELEMENTS_MAX).contains(&chunk_elements) {
            return Err(corrupt(0, "the number of elements per chunk is out of range"));
        }
        let mut at = 4;
        for chunk in out.chunks_mut(chunk_elements * width.bytes()) {
            let header = word(at)?;
            let (start, end) = (at + 4, at + 4 + (header >> 2) as usize);
            let body = bytes.get(start..end).ok_or_else(|| truncated(end, bytes.len()))?;
            self.decode_chunk(width, header & 3, body, chunk).map_err(|e| e.shifted(start))?;
            at = end;
        }
        if at != bytes.len() {
            return Err(corrupt(at, "there are bytes after the last chunk"));
        }
        Ok(())
    }
}
