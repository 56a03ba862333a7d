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
    let mut sums = [[0; WINDOW]; GROUP];
    let (mut a_blocks, mut b_blocks) = (a.blocks(), b.blocks());
    for (index, (mut a_headers, mut b_headers)) in a.groups().zip(b.groups()).enumerate() {
        if blocks - index * GROUP >= GROUP
            && let (Some(x), Some(y)) = (a_blocks.group(a_headers), b_blocks.group(b_headers))
        {
            let (headers, [x_bytes, y_bytes]) =
                whole_group(kernel, (x, a_headers), (y, b_headers), &mut sums);
            let copy = |i: usize, _, window: &mut _| *window = sums[i];
            if headers.is_some_and(|headers| writer.whole_group(index, headers, copy)) {
                a_blocks.skip(x_bytes);
                b_blocks.skip(y_bytes);
                continue;
            }
        }
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

/// A group of blocks and their headers.
type Group<'a> = (&'a [u8; GROUP * WINDOW], u32);

/// Adds two groups of blocks into `sums`; the headers, unless a sum has too many planes for one,
/// and the bytes of either operand.
#[inline(always)]
fn whole_group<K: Kernel>(
    kernel: K,
    (a, a_headers): Group<'_>,
    (b, b_headers): Group<'_>,
    sums: &mut [[u8; WINDOW]; GROUP],
) -> (Option<u32>, [usize; 2]) {
    let (mut a_used, mut b_used) = (0, 0);
    let (mut headers, mut fits) = (0, true);
    for (i, sum) in sums.iter_mut().enumerate() {
        let (x, y) = (a_headers >> (4 * i) & 15, b_headers >> (4 * i) & 15);
        let windows = (a[a_used..].first_chunk(), b[b_used..].first_chunk());
        let (Some(a), Some(b)) = windows else { break };
        let planes = kernel.add((a, x), (b, y), sum);
        fits &= planes <= PLANES_SHORT_MAX;
        headers |= planes << (4 * i);
        a_used += 4 * x as usize;
        b_used += 4 * y as usize;
    }
    (fits.then_some(headers), [a_used, b_used])
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
