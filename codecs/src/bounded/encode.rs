//! From numbers to an encoded chunk.

use super::kernel::Kernel;
use super::layout::{EXTENDED, Extended, GROUP, Writer};
use super::scalar::{Scalar, pack, plane_count};
use super::step::Step;
use super::{BLOCK, PLANES_SHORT_MAX, worst_case_bytes};
use crate::error::EncodeError;
use crate::float::environment::DefaultEnvironment;
use crate::level::Level;

/// What encoding gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoded {
    /// Bytes of the output that are used.
    pub bytes: usize,
    /// The largest difference between an element and what a decoder makes of it alone.
    pub error_max: f32,
    /// Blocks that are stored as they are, because some element cannot be coded within the bound.
    pub escaped_blocks: usize,
}

/// Encodes `x`.
///
/// The error of every element is at most the step's bound, less what rounding its share of a
/// result may cost; an element is checked for that, and its block is stored as it is if it fails.
///
/// # Errors
/// If `out` is too small; [`worst_case_bytes`] always suffices.
pub fn encode(x: &[f32], step: Step, out: &mut [u8]) -> Result<Encoded, EncodeError> {
    encode_with(Level::best(), x, step, out)
}

/// As [`encode`], by the kernels of `level`.
pub(super) fn encode_with(
    level: Level,
    x: &[f32],
    step: Step,
    out: &mut [u8],
) -> Result<Encoded, EncodeError> {
    let _environment = DefaultEnvironment::enter();
    match level {
        Level::Scalar => run(Scalar, x, step, out),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(avx2) => super::simd::encode(avx2, x, step, out),
    }
}

/// The loop over all blocks.
#[inline(always)]
pub(super) fn run<K: Kernel>(
    kernel: K,
    x: &[f32],
    step: Step,
    out: &mut [u8],
) -> Result<Encoded, EncodeError> {
    let blocks = x.len().div_ceil(BLOCK);
    let mut writer = Writer::new(out, blocks, worst_case_bytes(x.len(), 1))?;
    let mut worst = kernel.no_error();
    let mut codes = [[0; BLOCK]; GROUP];
    let mut slow = Slow { step, error_max: 0.0, escaped_blocks: 0 };
    for (index, group) in x.chunks(GROUP * BLOCK).enumerate() {
        let (whole, rest) = group.as_chunks::<BLOCK>();
        if let Some(whole) = whole.first_chunk::<GROUP>() {
            let mut headers = 0;
            let mut fits = true;
            for (i, (block, codes)) in whole.iter().zip(&mut codes).enumerate() {
                let planes = kernel.quantise(block, &step, &mut worst, codes);
                fits &= planes <= PLANES_SHORT_MAX;
                headers |= (planes & 15) << (4 * i);
            }
            let pack = |i: usize, planes, window: &mut _| kernel.pack(&codes[i], planes, window);
            if fits && writer.whole_group(index, headers, pack) {
                continue;
            }
        }
        let mut headers = 0;
        let mut padded = [0.0; BLOCK];
        padded[..rest.len()].copy_from_slice(rest);
        let last = (!rest.is_empty()).then_some(&padded);
        for (i, block) in whole.iter().chain(last).enumerate() {
            let planes = kernel.quantise(block, &step, &mut worst, &mut codes[0]);
            let header = match planes {
                0..=PLANES_SHORT_MAX => writer.short(|window| {
                    kernel.pack(&codes[0], planes, window);
                    planes
                })?,
                _ => slow.encode(block, &mut writer)?,
            };
            headers |= header << (4 * i);
        }
        writer.group(index, headers);
    }
    let error_max = kernel.largest(worst).max(slow.error_max);
    Ok(Encoded { bytes: writer.finish()?, error_max, escaped_blocks: slow.escaped_blocks })
}

/// Blocks that the kernels leave over.
struct Slow {
    step: Step,
    error_max: f32,
    escaped_blocks: usize,
}

impl Slow {
    /// Codes a block in f64, or stores it as it is; its header.
    #[cold]
    #[inline(never)]
    fn encode(&mut self, x: &[f32; BLOCK], writer: &mut Writer<'_>) -> Result<u32, EncodeError> {
        let coded = x.map(|x| self.step.code(x));
        if coded.iter().any(Option::is_none) {
            self.escaped_blocks += 1;
            let raw = writer.extended(Extended::Raw)?;
            for (bytes, x) in raw.as_chunks_mut().0.iter_mut().zip(x) {
                *bytes = x.to_le_bytes();
            }
            return Ok(EXTENDED);
        }
        let codes = coded.map(Option::unwrap_or_default);
        for (x, code) in x.iter().zip(&codes) {
            // Both are f32 within a factor of two, or one of them is 0: exact.
            let value = f64::from(*code) * f64::from(self.step.step);
            self.error_max = self.error_max.max((x - value as f32).abs());
        }
        let count = plane_count(&codes);
        if count > PLANES_SHORT_MAX {
            pack(&codes, count, writer.extended(Extended::Planes(count))?);
            return Ok(EXTENDED);
        }
        writer.short(|window| {
            pack(&codes, count, window);
            count
        })
    }
}
