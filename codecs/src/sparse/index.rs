//! Ascending indices as a bitmap, or as gaps in blocks of 32 with a width of their own.

use crate::error::{DecodeError, corrupt, truncated};

/// Gaps of one width.
const BLOCK: usize = 32;

/// The gaps of a block: how many indices lie between one and the one before it.
fn gaps(block: &[u32], next: u32) -> impl Iterator<Item = u32> {
    block.iter().scan(next, |next, index| {
        let gap = index - *next;
        *next = index + 1;
        Some(gap)
    })
}

/// The bits the largest of some gaps takes.
fn width(gaps: impl Iterator<Item = u32>) -> u32 {
    32 - gaps.fold(0, |all, gap| all | gap).leading_zeros()
}

/// Blocks of indices, each with the index its first gap counts from.
fn blocks(indices: &[u32]) -> impl Iterator<Item = (&[u32], u32)> {
    let firsts = indices.chunks(BLOCK).map(|block| block[block.len() - 1] + 1);
    indices.chunks(BLOCK).zip(std::iter::once(0).chain(firsts))
}

/// The bytes of [`write_gaps`].
pub(super) fn gap_bytes(indices: &[u32]) -> usize {
    let bits = |(block, next): (&[u32], u32)| block.len() * width(gaps(block, next)) as usize;
    blocks(indices).map(|block| 1 + bits(block).div_ceil(8)).sum()
}

pub(super) fn write_gaps(indices: &[u32], out: &mut [u8]) {
    let mut out = out.iter_mut();
    // There is a byte for everything, as `gap_bytes` counted.
    let mut put = |byte: u8| {
        if let Some(place) = out.next() {
            *place = byte;
        }
    };
    for (block, next) in blocks(indices) {
        let width = width(gaps(block, next));
        put(width as u8);
        let (mut waiting, mut count) = (0_u64, 0);
        for gap in gaps(block, next) {
            waiting |= u64::from(gap) << count;
            count += width;
            while count >= 8 {
                put(waiting as u8);
                waiting >>= 8;
                count -= 8;
            }
        }
        if count > 0 {
            put(waiting as u8);
        }
    }
}

/// Hands every index and its number to `place`.
pub(super) fn read_gaps(
    bytes: &[u8],
    elements: usize,
    kept: usize,
    mut place: impl FnMut(usize, usize),
) -> Result<(), DecodeError> {
    let (mut at, mut next) = (0, 0_u64);
    for first in (0..kept).step_by(BLOCK) {
        let count = (kept - first).min(BLOCK);
        let width = u32::from(*bytes.get(at).ok_or_else(|| truncated(at + 1, bytes.len()))?);
        if width > 32 {
            return Err(corrupt(at, "gaps are wider than 32 bits"));
        }
        let end = at + 1 + (count * width as usize).div_ceil(8);
        let packed = bytes.get(at + 1..end).ok_or_else(|| truncated(end, bytes.len()))?;
        let (mut packed, mut waiting, mut there) = (packed.iter(), 0_u64, 0);
        for number in first..first + count {
            while there < width {
                waiting |= u64::from(*packed.next().unwrap_or(&0)) << there;
                there += 8;
            }
            let index = next + (waiting & ((1 << width) - 1));
            waiting >>= width;
            there -= width;
            if index >= elements as u64 {
                return Err(corrupt(at, "an index is beyond the last element"));
            }
            place(index as usize, number);
            next = index + 1;
        }
        at = end;
    }
    if at == bytes.len() { Ok(()) } else { Err(corrupt(at, "there are bytes after the last gap")) }
}

pub(super) fn write_bitmap(indices: &[u32], out: &mut [u8]) {
    out.fill(0);
    for index in indices {
        out[*index as usize / 8] |= 1 << (index % 8);
    }
}

/// Hands every index and its number to `place`.
pub(super) fn read_bitmap(
    bytes: &[u8],
    elements: usize,
    kept: usize,
    mut place: impl FnMut(usize, usize),
) -> Result<(), DecodeError> {
    let needed = elements.div_ceil(8);
    if bytes.len() < needed {
        return Err(truncated(needed, bytes.len()));
    }
    let set: usize = bytes.iter().map(|byte| byte.count_ones() as usize).sum();
    let beyond = !elements.is_multiple_of(8) && bytes[needed - 1] >> (elements % 8) != 0;
    if bytes.len() > needed || beyond || set != kept {
        return Err(corrupt(0, "a bitmap does not fit the elements"));
    }
    let mut number = 0;
    for (i, byte) in bytes.iter().enumerate() {
        let mut left = *byte;
        while left != 0 {
            place(8 * i + left.trailing_zeros() as usize, number);
            number += 1;
            left &= left - 1;
        }
    }
    Ok(())
}
