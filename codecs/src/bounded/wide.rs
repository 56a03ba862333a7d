//! Sums that planes cannot hold: exact fixed-point numbers.
//!
//! Every f32 is a multiple of 2^-149 below 2^128, and every code·step too, so that the sum of up
//! to 2^31 of them is an integer of 309 bits in that unit: ten 32-bit words in two's complement.
//! Exact sums do not depend on their order; only the result is rounded. What is not finite is
//! kept as three sets of elements.

use super::step::{Finish, Step};
use super::{BLOCK, Block};
use crate::error::DecodeError;

/// Words of an element.
pub(super) const WORDS: usize = 10;
/// Bytes in front of the words: the first word's index, and three sets.
pub(super) const HEAD_BYTES: usize = 16;
/// The unit is 2 to the power of minus this.
const UNIT: i32 = 149;

/// 32 exact sums.
pub(super) struct Wide {
    /// Word by word, least significant first.
    words: [[u32; BLOCK]; WORDS],
    /// Elements to which +infinity was added.
    positive: u32,
    /// Elements to which -infinity was added.
    negative: u32,
    /// Elements to which NaN was added.
    nan: u32,
}

impl Wide {
    pub(super) fn zero() -> Self {
        Self { words: [[0; BLOCK]; WORDS], positive: 0, negative: 0, nan: 0 }
    }

    /// Adds the block, whatever its form.
    pub(super) fn add(&mut self, block: Block<'_>, step: Step) -> Result<(), DecodeError> {
        match block {
            Block::Planes(planes) => {
                for (element, code) in planes.codes().into_iter().enumerate() {
                    self.deposit(element, step.step, i64::from(code));
                }
            }
            Block::Raw(bytes) => {
                for (element, bytes) in bytes.as_chunks().0.iter().enumerate() {
                    self.add_float(element, f32::from_le_bytes(*bytes));
                }
            }
            Block::Wide { bytes, offset } => self.add_wide(bytes, offset)?,
        }
        Ok(())
    }

    fn add_float(&mut self, element: usize, x: f32) {
        let bit = 1 << element;
        if x.is_nan() {
            self.nan |= bit;
        } else if x.is_infinite() {
            *(if x > 0.0 { &mut self.positive } else { &mut self.negative }) |= bit;
        } else {
            self.deposit(element, x, 1);
        }
    }

    /// Adds `times` · `x`, where `x` is finite and `times` below 2^31 in magnitude.
    fn deposit(&mut self, element: usize, x: f32, times: i64) {
        let bits = x.to_bits();
        let exponent = bits >> 23 & 0xff;
        let mantissa = i64::from(bits & 0x7f_ffff | u32::from(exponent != 0) << 23);
        let shift = exponent.max(1) - 1;
        let signed = if x.is_sign_negative() { -mantissa } else { mantissa };
        // 24 + 31 + 31 bits.
        let mut carry = i128::from(signed * times) << (shift % 32);
        for word in &mut self.words[(shift / 32) as usize..] {
            if carry == 0 {
                return;
            }
            carry += i128::from(word[element]);
            word[element] = carry as u32;
            carry >>= 32;
        }
    }

    /// Adds an encoded block; `offset` says where it stands, for the error.
    fn add_wide(&mut self, bytes: &[u8], offset: usize) -> Result<(), DecodeError> {
        let (head, words) = bytes.split_at(HEAD_BYTES);
        let head: [u32; 4] = std::array::from_fn(|i| word_at(head, i));
        let count = words.len() / (4 * BLOCK);
        let first = head[0] as usize;
        if first > WORDS - count {
            let why = "the words of a wide block lie beyond the highest";
            return Err(DecodeError::Corrupt { offset, why });
        }
        self.positive |= head[1];
        self.negative |= head[2];
        self.nan |= head[3];
        let Some(last) = count.checked_sub(1) else { return Ok(()) };
        for element in 0..BLOCK {
            let sign = word_at(words, last * BLOCK + element).cast_signed() >> 31;
            let mut carry = 0_u64;
            for (i, word) in self.words[first..].iter_mut().enumerate() {
                let other = match i > last {
                    true => sign.cast_unsigned(),
                    false => word_at(words, i * BLOCK + element),
                };
                carry += u64::from(word[element]) + u64::from(other);
                word[element] = carry as u32;
                carry >>= 32;
            }
        }
        Ok(())
    }

    /// The words that say everything: from the first that is not zero everywhere, up to the first
    /// above which there are only copies of sign bits. Empty if all sums are zero.
    fn significant(&self) -> std::ops::Range<usize> {
        let first = self.words.iter().position(|word| *word != [0; BLOCK]);
        let Some(first) = first else { return 0..0 };
        let signs = |word: &[u32; BLOCK]| word.map(|w| (w.cast_signed() >> 31).cast_unsigned());
        let mut end = WORDS;
        while end > first + 1 && self.words[end - 1] == signs(&self.words[end - 2]) {
            end -= 1;
        }
        first..end
    }

    /// How many words [`Self::store`] will write per element.
    pub(super) fn words(&self) -> usize {
        self.significant().len()
    }

    /// Writes the block into `bytes`, which is as long as that takes.
    pub(super) fn store(&self, bytes: &mut [u8]) {
        let significant = self.significant();
        let head = [significant.start as u32, self.positive, self.negative, self.nan];
        let words = self.words[significant].iter().flatten();
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(head.iter().chain(words)) {
            *bytes = word.to_le_bytes();
        }
    }

    /// The results.
    pub(super) fn finish(&self, finish: Finish, out: &mut [f32; BLOCK]) {
        for (element, out) in out.iter_mut().enumerate() {
            let has = |set: u32| set >> element & 1 == 1;
            *out = match (has(self.positive), has(self.negative)) {
                _ if has(self.nan) => CANONICAL_NAN,
                (true, true) => CANONICAL_NAN,
                (true, false) => f32::INFINITY,
                (false, true) => f32::NEG_INFINITY,
                (false, false) => self.value(element, finish),
            };
        }
    }

    fn value(&self, element: usize, finish: Finish) -> f32 {
        let mut words: [u32; WORDS] = self.words.map(|word| word[element]);
        let negative = words[WORDS - 1] >> 31 == 1;
        if negative {
            negate(&mut words);
        }
        let (top, shift) = leading(&words);
        let power = power_of_two(shift - UNIT);
        // One rounding: the conversion. The product is exact, or beyond f32's largest.
        let magnitude = match finish {
            Finish::Sum => (f64::from(top as f32) * power) as f32,
            Finish::Average { .. } => finish.apply(top as f64 * power),
        };
        if negative { -magnitude } else { magnitude }
    }
}

const CANONICAL_NAN: f32 = f32::from_bits(0x7fc0_0000);

fn negate(words: &mut [u32; WORDS]) {
    let mut carry = true;
    for word in words {
        (*word, carry) = (!*word).overflowing_add(u32::from(carry));
    }
}

/// The number as `top`·2^`shift`, where the lowest bit of `top` is also set if bits below it were
/// cut off: a conversion of `top` to a float rounds as one of the whole number would.
fn leading(words: &[u32; WORDS]) -> (u64, i32) {
    let high = words.iter().rposition(|word| *word != 0).unwrap_or(0);
    if high < 2 {
        return (u64::from(words[1]) << 32 | u64::from(words[0]), 0);
    }
    let three = words[high - 2..=high].iter().rev().fold(0, |all, w| all << 32 | u128::from(*w));
    let cut = 32 - words[high].leading_zeros();
    let below = three & ((1 << cut) - 1) != 0 || words[..high - 2].iter().any(|word| *word != 0);
    ((three >> cut) as u64 | u64::from(below), 32 * (high as i32 - 2) + cut as i32)
}

fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// The word at index `i` of little-endian words.
fn word_at(bytes: &[u8], i: usize) -> u32 {
    bytes.as_chunks().0.get(i).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
