//! `bounded`: sums with a bound on their error, the same to the last bit for every algorithm,
//! order, topology and chunking. The format to the bit: `docs/wire/bounded.md`.
//!
//! All ranks share one [`Step`]. A contribution x becomes the integer round(x / step), and
//! integers are added exactly. What an integer cannot stand for within the bound (NaN, infinities,
//! magnitudes beyond 2^22 steps) travels as it is, and is added in fixed point, exactly as well.
//! So an encoded sum is always exact, and the result, rounded once, is a function of the real
//! number alone.
//!
//! ```
//! use syncline_codecs::bounded::{self, Finish, Step};
//!
//! let step = Step::new(1e-3)?;
//! let (a, b) = ([0.5_f32; 100], [0.25_f32; 100]);
//! let mut x = vec![0; bounded::worst_case_bytes(100, 1)];
//! let mut y = x.clone();
//! let x_bytes = bounded::encode(&a, step, &mut x)?.bytes;
//! let y_bytes = bounded::encode(&b, step, &mut y)?.bytes;
//! let mut sum = vec![0; bounded::worst_case_bytes(100, 2)];
//! let bytes = bounded::add(&x[..x_bytes], &y[..y_bytes], 100, step, &mut sum)?;
//! let mut result = [0.0; 100];
//! bounded::decode(&sum[..bytes], step, Finish::Sum, &mut result)?;
//! assert!((result[7] - 0.75).abs() <= 2e-3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod add;
mod decode;
mod encode;
mod kernel;
mod layout;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod simd;
mod step;
#[cfg(test)]
mod tests;
mod wide;

pub use add::{AddError, add};
pub use decode::decode;
pub use encode::{Encoded, encode};
pub use step::{Finish, Step};

use layout::{RAW_BYTES, header_bytes};

/// Elements of a block.
pub const BLOCK: usize = 32;
/// Planes of a block whose header needs no extension.
const PLANES_SHORT_MAX: u32 = 14;
/// Planes of any block of integers.
const PLANES_MAX: u32 = 29;

/// Enough bytes for `count` elements to which `ranks` ranks contributed (1: as encoded).
///
/// [`encode`] and [`add`] do with less where the data do, and say so where they do not.
pub fn worst_case_bytes(count: usize, ranks: usize) -> usize {
    let blocks = count.div_ceil(BLOCK);
    let block = if ranks > 1 { wide::HEAD_BYTES + wide::WORDS * RAW_BYTES } else { RAW_BYTES };
    header_bytes(blocks) + blocks * block + blocks.next_multiple_of(4)
}

/// A block of an encoded chunk.
enum Block<'a> {
    Planes(Planes<'a>),
    /// The elements as f32.
    Raw(&'a [u8]),
    /// Exact sums, and where they stand in the chunk.
    Wide {
        bytes: &'a [u8],
        offset: usize,
    },
}

/// Integers as bit planes: word p holds bit p of all 32, element i in bit i, in two's complement
/// with the highest plane as sign.
#[derive(Clone, Copy)]
struct Planes<'a>(&'a [u8]);

impl Planes<'_> {
    /// The planes, and copies of the sign above them.
    fn words(self) -> [u32; 32] {
        let mut words = [0; 32];
        let mut sign = 0;
        for (word, bytes) in words.iter_mut().zip(self.0.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
            sign = *word;
        }
        words[self.0.len() / 4..].fill(sign);
        words
    }

    /// The integers.
    fn codes(self) -> [i32; BLOCK] {
        scalar::unpack(&self.words(), self.0.len() as u32 / 4)
    }
}
