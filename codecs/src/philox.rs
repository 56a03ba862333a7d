//! Random numbers that are a function of a seed and an element's index, so that chunking, order
//! and thread count cannot change them: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel
//! Random Numbers: As Easy as 1, 2, 3; SC'11).
//!
//! The cipher turns 128 bits of counter into 128 random bits under a 64-bit key. Here the key is
//! the seed; the counter's lower half is the element's index divided by 4, its upper half the
//! stream; and the element takes word `index % 4`. A GPU thread that owns four neighbouring
//! elements so calls the cipher once.

mod scalar;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(test)]
mod tests;

use crate::level::Level;

pub use scalar::philox4x32_10;

/// A stream of random words, one per element index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    /// The key.
    pub seed: u64,
    /// The upper half of the counter: keeps apart what one seed is used for (the sequence number
    /// of a call, say), so that two tensors are not rounded alike.
    pub stream: u64,
}

impl Philox {
    /// The random word of the element at `index`.
    #[inline]
    pub fn at(self, index: u64) -> u32 {
        self.four(index / 4)[(index % 4) as usize]
    }

    /// The words of the elements from `index` on, into `out`.
    pub fn fill(self, index: u64, out: &mut [u32]) {
        self.fill_with(Level::best(), index, out);
    }

    /// As [`Self::fill`]; every level gives the same words.
    pub(crate) fn fill_with(self, level: Level, index: u64, out: &mut [u32]) {
        // Up to a whole counter, then whole counters, then the rest.
        let head = (index.wrapping_neg() % 4).min(out.len() as u64) as usize;
        let (head, middle) = out.split_at_mut(head);
        for (word, i) in head.iter_mut().zip(index..) {
            *word = self.at(i);
        }
        let index = index.wrapping_add(head.len() as u64);
        let done = match level {
            Level::Scalar => 0,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(token) => simd::fill(token, self, index / 4, middle),
        };
        let index = index.wrapping_add(done as u64);
        for (words, counter) in middle[done..].chunks_mut(4).zip(index / 4..) {
            words.copy_from_slice(&self.four(counter)[..words.len()]);
        }
    }

    /// The words of the elements `4 * counter` to `4 * counter + 3`.
    #[inline]
    fn four(self, counter: u64) -> [u32; 4] {
        let halves = |wide: u64| [wide as u32, (wide >> 32) as u32];
        let ([c0, c1], [c2, c3]) = (halves(counter), halves(self.stream));
        philox4x32_10([c0, c1, c2, c3], halves(self.seed))
    }
}
