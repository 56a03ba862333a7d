//! From an encoded chunk to results.

use super::kernel::Kernel;
use super::layout::{Chunk, EXTENDED, GROUP, WINDOW};
use super::scalar::Scalar;
use super::step::{Finish, Scale, Step};
use super::wide::Wide;
use super::{BLOCK, Block};
use crate::error::DecodeError;
use crate::float::environment::DefaultEnvironment;
use crate::level::Level;

/// Decodes `bytes`, which hold exactly as many elements as `out`, and were made with `step`.
///
/// # Errors
/// If the bytes are not such a chunk. `out` may then have been written in part.
pub fn decode(
    bytes: &[u8],
    step: Step,
    finish: Finish,
    out: &mut [f32],
) -> Result<(), DecodeError> {
    decode_with(Level::best(), bytes, step, finish, out)
}

/// As [`decode`], by the kernels of `level`.
pub(super) fn decode_with(
    level: Level,
    bytes: &[u8],
    step: Step,
    finish: Finish,
    out: &mut [f32],
) -> Result<(), DecodeError> {
    let chunk = Chunk::parse(bytes, out.len())?;
    let _environment = DefaultEnvironment::enter();
    match level {
        Level::Scalar => run(Scalar, chunk, step, finish, out),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(avx2) => super::simd::decode(avx2, chunk, step, finish, out),
    }
}

/// The loop over all blocks.
#[inline(always)]
pub(super) fn run<K: Kernel>(
    kernel: K,
    chunk: Chunk<'_>,
    step: Step,
    finish: Finish,
    out: &mut [f32],
) -> Result<(), DecodeError> {
    let scale = Scale::new(step, finish);
    let mut blocks = chunk.blocks();
    for (mut headers, group) in chunk.groups().zip(out.chunks_mut(GROUP * BLOCK)) {
        let (whole, rest) = group.as_chunks_mut::<BLOCK>();
        if let (Some(whole), Some(windows)) =
            (whole.first_chunk_mut::<GROUP>(), blocks.group(headers))
        {
            let mut used = 0;
            for out in whole {
                let planes = headers & 15;
                headers >>= 4;
                let Some(window) = windows[used..].first_chunk() else { break };
                kernel.dequantise((window, planes), scale, out);
                used += 4 * planes as usize;
            }
            blocks.skip(used);
            continue;
        }
        let mut padded = [0.0; BLOCK];
        let last = (!rest.is_empty()).then_some(&mut padded);
        for out in whole.iter_mut().chain(last) {
            let header = headers & 15;
            headers >>= 4;
            if header == EXTENDED {
                slow(blocks.next(header), step, finish, scale, out)?;
            } else {
                let mut spare = [0; WINDOW];
                kernel.dequantise((blocks.short(header, &mut spare), header), scale, out);
            }
        }
        rest.copy_from_slice(&padded[..rest.len()]);
    }
    Ok(())
}

/// Blocks that the kernels leave over.
#[cold]
#[inline(never)]
fn slow(
    block: Block<'_>,
    step: Step,
    finish: Finish,
    scale: Scale,
    out: &mut [f32; BLOCK],
) -> Result<(), DecodeError> {
    match block {
        Block::Planes(planes) => *out = planes.codes().map(|code| scale.apply(code)),
        // One contribution and nothing to divide it by: every bit as it came.
        Block::Raw(bytes) if finish.is_identity() => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        block => {
            let mut wide = Wide::zero();
            wide.add(block, step)?;
            wide.finish(finish, out);
        }
    }
    Ok(())
}
