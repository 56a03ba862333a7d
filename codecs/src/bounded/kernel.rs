//! What is done to whole blocks of few planes, once per instruction set.

use super::BLOCK;
use super::layout::WINDOW;
use super::step::{Scale, Step};

/// The planes of a block in front of whatever follows them, and their number: at most 14.
pub(super) type Short<'a> = (&'a [u8; WINDOW], u32);

/// Codes between the two halves of encoding. Doing each half for a whole group of blocks keeps
/// several blocks in the processor's window instead of one long chain of dependent instructions.
pub(super) type Codes = [i16; BLOCK];

/// An instruction set. All give the same bits.
pub(super) trait Kernel: Copy {
    /// The largest error so far, per lane.
    type Worst: Copy;

    /// No error so far.
    fn no_error(self) -> Self::Worst;

    /// The largest of all.
    fn largest(self, worst: Self::Worst) -> f32;

    /// Codes a block, in an order of the kernel's own, and returns the number of planes; or more
    /// than 14 if the block has a larger code or an error above the step's limit: then nothing of
    /// the output counts.
    fn quantise(
        self,
        x: &[f32; BLOCK],
        step: &Step,
        worst: &mut Self::Worst,
        codes: &mut Codes,
    ) -> u32;

    /// Puts the codes of [`Self::quantise`] into planes.
    fn pack(self, codes: &Codes, count: u32, planes: &mut [u8; WINDOW]);

    /// The results of a block.
    fn dequantise(self, block: Short<'_>, scale: Scale, out: &mut [f32; BLOCK]);

    /// The sum of two blocks in as few planes as hold it, up to 15.
    fn add(self, a: Short<'_>, b: Short<'_>, sum: &mut [u8; WINDOW]) -> u32;
}
