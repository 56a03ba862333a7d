//! Stochastic rounding to a coarse grid and entropy coding of what is left, for gradients that
//! bear a large error without bias, such as preconditioned ones (the pipeline of COMPSO: Sun et
//! al., PPoPP 2025, which filters small values, rounds the rest stochastically and codes).
//!
//! The grid is 0, ±d, ±(d + s), ±(d + 2 s), ... with a step s and d ≥ s. A value between two of
//! its points becomes one of them at random, such that the expectation is the value itself. That
//! includes what lies below d, which becomes 0 or ±d: nothing is dropped with a bias. The error is
//! below d, and below s for magnitudes above d. Random numbers are a function of seed, stream and
//! the element's index ([`crate::philox`]), so that chunks and order do not matter.
//!
//! The integers are coded by interleaved rANS with a model per chunk, the same coder as that of
//! [`crate::lossless`]. NaN, infinities, and what is beyond the grid (2^22 steps) arrive as they
//! are. The format is `docs/wire/filter.md`.

mod chunk;
mod codes;
mod quantize;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(test)]
mod tests;

use crate::error::{DecodeError, DescriptorError, EncodeError, corrupt, truncated};
use crate::float::environment::DefaultEnvironment;
use crate::lanes::get;
use crate::level::Level;
use crate::philox::Philox;
use crate::rans::Coder;
use codes::Bits;

/// Elements per chunk where nothing else is asked for.
pub const CHUNK_ELEMENTS: usize = 1 << 16;
/// The most elements of a chunk.
pub const CHUNK_ELEMENTS_MAX: usize = 1 << 20;

/// Bytes before the first chunk.
const HEADER: usize = 12;

/// The points values are rounded to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    step: f32,
    drop: f32,
}

impl Grid {
    /// The grid 0, ±d, ±(d + `step`), ±(d + 2 `step`), ..., where d is the larger of `drop` and
    /// `step`, in the unit of the data.
    ///
    /// # Errors
    /// `step` is not a normal number above zero and below a quarter of the largest f32, or `drop`
    /// not one between zero and that.
    pub fn new(step: f32, drop: f32) -> Result<Self, DescriptorError> {
        let bad = |parameter, value: f32, must| {
            let value = value.to_string();
            Err(DescriptorError::BadValue { codec: "filter_sr", parameter, value, must })
        };
        if !is_step(step) {
            return bad("step", step, "between 1.2e-38 and 8.5e37");
        }
        if !(drop == 0.0 || is_step(drop)) {
            return bad("drop", drop, "zero, or between 1.2e-38 and 8.5e37");
        }
        Ok(Self { step, drop: drop.max(step) })
    }

    /// The distance of neighbouring points.
    pub fn step(self) -> f32 {
        self.step
    }

    /// The point nearest to zero.
    pub fn drop(self) -> f32 {
        self.drop
    }

    /// No element's error is larger: d, and what f32 rounds in between.
    pub fn error_max(self) -> f64 {
        f64::from(self.drop) * (1.0 + 2_f64.powi(-20))
    }

    /// The value of a code.
    #[inline(always)]
    fn value(self, code: i32) -> f32 {
        let magnitude = self.drop + (code.unsigned_abs() as f32 - 1.0) * self.step;
        match code {
            0 => 0.0,
            1.. => magnitude,
            _ => -magnitude,
        }
    }
}

/// Whether a grid may have this step.
fn is_step(step: f32) -> bool {
    (f32::MIN_POSITIVE..=f32::MAX / 4.0).contains(&step)
}

/// The most bytes the encoding of `elements` elements takes.
pub const fn worst_case_bytes(elements: usize, chunk_elements: usize) -> usize {
    HEADER + 4 * elements + 4 * elements.div_ceil(chunk_elements)
}

/// The coder with the memory it needs, which grows with the largest chunk it sees (about 12 bytes
/// per element of a chunk) and is kept from call to call.
#[derive(Debug)]
pub struct FilterSr {
    coder: Coder,
    symbols: Vec<u8>,
    words: Vec<u32>,
    codes: Vec<i32>,
    extra: Bits,
    level: Level,
}

impl Default for FilterSr {
    fn default() -> Self {
        Self::new()
    }
}

impl FilterSr {
    /// A coder that holds no memory yet.
    pub fn new() -> Self {
        Self::with_level(Level::best())
    }

    pub(crate) fn with_level(level: Level) -> Self {
        Self {
            coder: Coder::default(),
            symbols: Vec::new(),
            words: Vec::new(),
            codes: Vec::new(),
            extra: Bits::default(),
            level,
        }
    }

    /// Encodes `data`, whose first element has the index `index` of `random`, in chunks of
    /// `chunk_elements`; bytes written.
    ///
    /// # Errors
    /// `out` is smaller than [`worst_case_bytes`].
    ///
    /// # Panics
    /// If `chunk_elements` is not in 1 to [`CHUNK_ELEMENTS_MAX`].
    pub fn encode(
        &mut self,
        grid: Grid,
        random: Philox,
        index: u64,
        data: &[f32],
        chunk_elements: usize,
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        assert!((1..=CHUNK_ELEMENTS_MAX).contains(&chunk_elements), "{chunk_elements} elements");
        let needed = worst_case_bytes(data.len(), chunk_elements);
        if out.len() < needed {
            return Err(EncodeError::OutputTooSmall { needed, found: out.len() });
        }
        let _environment = DefaultEnvironment::enter();
        out[..4].copy_from_slice(&(chunk_elements as u32).to_le_bytes());
        out[4..8].copy_from_slice(&grid.step.to_le_bytes());
        out[8..HEADER].copy_from_slice(&grid.drop.to_le_bytes());
        let mut at = HEADER;
        for (chunk, i) in data.chunks(chunk_elements).zip((0_u64..).step_by(chunk_elements)) {
            self.quantize(grid, random, index.wrapping_add(i), chunk);
            at += self.encode_chunk(chunk, &mut out[at..]);
        }
        Ok(at)
    }

    /// Decodes `bytes`, all of what [`Self::encode`] made of `out.len()` elements.
    ///
    /// # Errors
    /// They are not such an encoding. What is damaged may also decode to other elements: the
    /// format has no checksum, the standalone frame does.
    pub fn decode(&mut self, bytes: &[u8], out: &mut [f32]) -> Result<(), DecodeError> {
        self.decode_all::<false>(bytes, out)
    }

    /// Decodes `bytes` and adds the elements to those of `sum`, in f32. A sum that is not a number
    /// is the canonical NaN.
    ///
    /// # Errors
    /// They are not the encoding of `sum.len()` elements; part of them may be added then.
    pub fn decode_add(&mut self, bytes: &[u8], sum: &mut [f32]) -> Result<(), DecodeError> {
        self.decode_all::<true>(bytes, sum)
    }

    fn decode_all<const ADD: bool>(
        &mut self,
        bytes: &[u8],
        out: &mut [f32],
    ) -> Result<(), DecodeError> {
        let _environment = DefaultEnvironment::enter();
        let word = |at| get::<4>(bytes, at).ok_or_else(|| truncated(at + 4, bytes.len()));
        let chunk_elements = u32::from_le_bytes(word(0)?) as usize;
        if !(1..=CHUNK_ELEMENTS_MAX).contains(&chunk_elements) {
            return Err(corrupt(0, "the number of elements per chunk is out of range"));
        }
        let grid = Grid { step: f32::from_le_bytes(word(4)?), drop: f32::from_le_bytes(word(8)?) };
        if !is_step(grid.step) || !is_step(grid.drop) || grid.drop < grid.step {
            return Err(corrupt(4, "the grid is not one of two steps"));
        }
        let mut at = HEADER;
        for chunk in out.chunks_mut(chunk_elements) {
            let header = u32::from_le_bytes(word(at)?);
            let (start, end) = (at + 4, at + 4 + (header >> 2) as usize);
            let body = bytes.get(start..end).ok_or_else(|| truncated(end, bytes.len()))?;
            self.decode_chunk::<ADD>(grid, header & 3, body, chunk)
                .map_err(|error| error.shifted(start))?;
            at = end;
        }
        if at != bytes.len() {
            return Err(corrupt(at, "there are bytes after the last chunk"));
        }
        Ok(())
    }

    /// The codes of a chunk, into `self.codes`.
    fn quantize(&mut self, grid: Grid, random: Philox, index: u64, data: &[f32]) {
        if self.codes.len() < data.len() {
            self.codes.resize(data.len(), 0);
            self.words.resize(data.len(), 0);
        }
        let (codes, words) = (&mut self.codes[..data.len()], &mut self.words[..data.len()]);
        random.fill_with(self.level, index, words);
        match self.level {
            Level::Scalar => quantize::quantize(grid, data, words, codes),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(token) => simd::quantize(token, grid, data, words, codes),
        }
    }
}
