//! The sum of two encoded chunks, encoded.

use super::kernel::Kernel;
use super::layout::{Chunk, EXTENDED, Extended, GROUP, WINDOW, Writer};
use super::scalar::{Scalar, store, sum_of};
use super::step::Step;
use super::wide::Wide;
use super::{BLOCK, Block, PLANES_MAX, PLANES_SHORT_MAX, worst_case_bytes};
use crate::error::{DecodeError, EncodeError};
use crate::level::Level;

/// Why two chunks could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// An operand is damaged.
    #[error(transparent)]
    Operand(#[from] DecodeError),
    /// The output is too small.
    #[error(transparent)]
    Output(#[from] EncodeError),
}

/// Adds two chunks of `count` elements, both made with `step`; the bytes written to `sum`.
///
/// The sum is exact, and its encoding as short as its values allow.
///
/// # Errors
/// If a chunk is damaged, or `sum` too small; [`worst_case_bytes`] for two ranks always suffices.
pub fn add(
    a: &[u8],
    b: &[u8],
    count: usize,
    step: Step,
    sum: &mut [u8],
) -> Result<usize, AddError> {
    add_with(Level::best(), [a, b], count, step, sum)
}

/// As [`add`], by the kernels of `level`.
pub(super) fn add_with(
    level: Level,
    operands: [&[u8]; 2],
    count: usize,
    step: Step,
    sum: &mut [u8],
) -> Result<usize, AddError> {
    let [a, b] = operands;
    let operands = [Chunk::parse(a, count)?, Chunk::parse(b, count)?];
    match level {
        Level::Scalar => run(Scalar, operands, count, step, sum),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(avx2) => super::simd::add(avx2, operands, count, step, sum),
    }
}

/// The loop over all blocks.
#[inline(always)]
pub(super) fn run<K: Kernel>(
    kernel: K,
    [a, b]: [Chunk<'_>; 2],
    count: usize,
    step: Step,
    sum: &mut [u8],
) -> Result<usize, AddError> {
    let blocks = count.div_ceil(BLOCK);
    let mut writer = Writer::new(sum, blocks, worst_case_bytes(count, 2))?;
    let (mut a_blocks, mut b_blocks) = (a.blocks(), b.blocks());
    for (index, (mut a_headers, mut b_headers)) in a.groups().zip(b.groups()).enumerate() {
        let mut headers = 0;
        for i in 0..GROUP.min(blocks - index * GROUP) {
            let (a_header, b_header) = (a_headers & 15, b_headers & 15);
            a_headers >>= 4;
            b_headers >>= 4;
            let mut header = EXTENDED;
            if a_header != EXTENDED && b_header != EXTENDED {
                let (before_a, before_b) = (a_blocks.mark(), b_blocks.mark());
                let (mut spare_a, mut spare_b) = ([0; WINDOW], [0; WINDOW]);
                let x = (a_blocks.short(a_header, &mut spare_a), a_header);
                let y = (b_blocks.short(b_header, &mut spare_b), b_header);
                header = writer.short(|window| kernel.add(x, y, window))?;
                if header > PLANES_SHORT_MAX {
                    a_blocks.back_to(before_a);
                    b_blocks.back_to(before_b);
                }
            }
            if header > PLANES_SHORT_MAX {
                let pair = (a_blocks.next(a_header), b_blocks.next(b_header));
                header = slow(pair, step, &mut writer)?;
            }
            headers |= header << (4 * i);
        }
        writer.group(index, headers);
    }
    Ok(writer.finish()?)
}

/// Blocks that the kernels leave over; the header of the sum.
#[cold]
#[inline(never)]
fn slow(
    (a, b): (Block<'_>, Block<'_>),
    step: Step,
    writer: &mut Writer<'_>,
) -> Result<u32, AddError> {
    if let (Block::Planes(a), Block::Planes(b)) = (&a, &b) {
        let (words, count) = sum_of(&a.words(), &b.words());
        if count <= PLANES_SHORT_MAX {
            return Ok(writer.short(|window| {
                store(&words, count, window);
                count
            })?);
        }
        if count <= PLANES_MAX {
            store(&words, count, writer.extended(Extended::Planes(count))?);
            return Ok(EXTENDED);
        }
    }
    let mut wide = Wide::zero();
    wide.add(a, step)?;
    wide.add(b, step)?;
    wide.store(writer.extended(Extended::Wide(wide.words()))?);
    Ok(EXTENDED)
}
