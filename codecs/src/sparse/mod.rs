//! A few elements of a tensor, exactly, and none of the others: the largest, or those above a
//! threshold. What is not sent is meant to be sent later, see [`crate::feedback`].
//!
//! Indices are coded as bit-packed gaps, or as a bitmap where that is smaller; where neither pays,
//! all elements are sent. The size is bounded by [`worst_case_bytes`]. The format is
//! `docs/wire/sparse.md`.

mod index;
mod select;
#[cfg(test)]
mod tests;

use crate::error::{DecodeError, EncodeError, corrupt, truncated};
use crate::float::environment::DefaultEnvironment;
use crate::lanes::get;

/// What the lower two bits of the header say: all elements, no indices.
const DENSE: u64 = 0;
/// Indices as a bitmap.
const BITMAP: u64 = 1;
/// Indices as gaps.
const GAPS: u64 = 2;

/// Bytes of the header.
const HEADER: usize = 8;

/// How many elements `fraction` of them is: rounded up, and at least one of any.
pub fn kept(fraction: f64, elements: usize) -> usize {
    let wanted = (fraction * elements as f64).ceil() as usize;
    wanted.clamp(elements.min(1), elements)
}

/// The most bytes the encoding of `kept` of `elements` elements takes.
pub const fn worst_case_bytes(elements: usize, kept: usize) -> usize {
    let (dense, bitmap) = (4 * elements, 4 * kept + elements.div_ceil(8));
    HEADER + if dense < bitmap { dense } else { bitmap }
}

/// The coder with the memory it needs (4 bytes per element of the largest tensor it sees), which
/// is kept from call to call.
#[derive(Debug, Default)]
pub struct Sparse {
    indices: Vec<u32>,
}

impl Sparse {
    /// A coder that holds no memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes the `kept` elements of largest magnitude; bytes written. Of equal ones those with
    /// the lowest indices are taken. NaN are larger than all others and equal to each other.
    ///
    /// # Errors
    /// `out` is smaller than [`worst_case_bytes`].
    ///
    /// # Panics
    /// If `kept` is more than all, or there are 2^32 elements.
    pub fn encode_largest(
        &mut self,
        data: &[f32],
        kept: usize,
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        assert!(kept <= data.len(), "{kept} of {} elements", data.len());
        let needed = worst_case_bytes(data.len(), kept);
        if out.len() < needed {
            return Err(EncodeError::OutputTooSmall { needed, found: out.len() });
        }
        self.reserve(data.len());
        let count = select::largest(data, kept, &mut self.indices);
        Ok(self.write(data, count, out))
    }

    /// Encodes the elements with a magnitude of at least `threshold`, and NaN; bytes written.
    ///
    /// # Errors
    /// `out` is smaller than [`worst_case_bytes`] for all elements.
    ///
    /// # Panics
    /// If there are 2^32 elements.
    pub fn encode_above(
        &mut self,
        data: &[f32],
        threshold: f32,
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let needed = worst_case_bytes(data.len(), data.len());
        if out.len() < needed {
            return Err(EncodeError::OutputTooSmall { needed, found: out.len() });
        }
        self.reserve(data.len());
        let count = select::above(data, threshold, &mut self.indices);
        Ok(self.write(data, count, out))
    }

    fn reserve(&mut self, elements: usize) {
        assert!(u32::try_from(elements).is_ok(), "{elements} elements");
        if self.indices.len() < elements {
            self.indices.resize(elements, 0);
        }
    }

    /// Writes the elements at the first `count` indices.
    fn write(&self, data: &[f32], count: usize, out: &mut [u8]) -> usize {
        let indices = &self.indices[..count];
        let bitmap = data.len().div_ceil(8);
        let gaps = index::gap_bytes(indices);
        let dense = 4 * data.len();
        let (kind, index_bytes) = match bitmap.min(gaps) {
            least if 4 * count + least >= dense => (DENSE, 0),
            least if least == gaps => (GAPS, gaps),
            _ => (BITMAP, bitmap),
        };
        let count = if kind == DENSE { data.len() } else { count };
        out[..HEADER].copy_from_slice(&((count as u64) << 2 | kind).to_le_bytes());
        let (values, index) = out[HEADER..].split_at_mut(4 * count);
        let values = values.as_chunks_mut().0;
        if kind == DENSE {
            values.iter_mut().zip(data).for_each(|(value, x)| *value = x.to_le_bytes());
        } else {
            for (value, i) in values.iter_mut().zip(indices) {
                *value = data[*i as usize].to_le_bytes();
            }
        }
        let index = &mut index[..index_bytes];
        match kind {
            BITMAP => index::write_bitmap(indices, index),
            GAPS => index::write_gaps(indices, index),
            _ => {}
        }
        HEADER + 4 * count + index_bytes
    }
}

/// Decodes `bytes`, all of an encoding of `out.len()` elements; those that were not kept are zero.
///
/// # Errors
/// They are not such an encoding.
pub fn decode(bytes: &[u8], out: &mut [f32]) -> Result<(), DecodeError> {
    out.fill(0.0);
    each(bytes, out, |place, x| *place = x)
}

/// Decodes `bytes` and adds what was kept to the elements of `sum`, in f32. A sum that is not a
/// number is the canonical NaN.
///
/// # Errors
/// They are not the encoding of `sum.len()` elements; part of them may be added then.
pub fn decode_add(bytes: &[u8], sum: &mut [f32]) -> Result<(), DecodeError> {
    let _environment = DefaultEnvironment::enter();
    each(bytes, sum, |place, x| {
        let sum = *place + x;
        *place = if sum.is_nan() { f32::from_bits(0x7fc0_0000) } else { sum };
    })
}

/// How many elements an encoding of `elements` elements keeps.
///
/// # Errors
/// It has no such header.
pub fn kept_in(bytes: &[u8], elements: usize) -> Result<usize, DecodeError> {
    let header = get(bytes, 0).map(u64::from_le_bytes);
    let header = header.ok_or_else(|| truncated(HEADER, bytes.len()))?;
    match usize::try_from(header >> 2) {
        Ok(kept) if kept <= elements => Ok(kept),
        _ => Err(corrupt(0, "more elements are kept than there are")),
    }
}

/// Hands every kept element and its place to `put`.
fn each(bytes: &[u8], out: &mut [f32], put: impl Fn(&mut f32, f32)) -> Result<(), DecodeError> {
    let kept = kept_in(bytes, out.len())?;
    let index_at = HEADER + 4 * kept;
    let values = bytes.get(HEADER..index_at);
    let values = values.ok_or_else(|| truncated(index_at, bytes.len()))?.as_chunks().0;
    let index = &bytes[index_at..];
    let elements = out.len();
    let mut place = |i: usize, at: usize| put(&mut out[i], f32::from_le_bytes(values[at]));
    let result = match u64::from(bytes[0] & 3) {
        DENSE if kept == elements && index.is_empty() => {
            (0..kept).for_each(|i| place(i, i));
            Ok(())
        }
        DENSE => return Err(corrupt(0, "all elements are kept, and they are not all there")),
        BITMAP => index::read_bitmap(index, elements, kept, place),
        GAPS => index::read_gaps(index, elements, kept, place),
        _ => return Err(corrupt(0, "indices of no known kind")),
    };
    result.map_err(|error| error.shifted(index_at))
}
