//! How often each byte comes: what encoder and decoder agree on.

use super::{SCALE, SCALE_BITS};
use crate::error::{DecodeError, corrupt, truncated};

/// Frequencies of all bytes: at least two of them are not zero, and they add up to 2^12.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    /// Per byte, the sum of the frequencies before it and its own, packed as `start << 16 | own`.
    ranges: [u32; 256],
}

/// The most bytes [`Model::write`] takes: the number of symbols, and for each a gap and two bytes.
pub(crate) const MODEL_BYTES_MAX: usize = 1 + 3 * 256;

impl Model {
    /// The model for bytes of which there are `counts`; none if there are not two different ones.
    ///
    /// Frequencies are counts scaled to 2^12 and rounded, but at least one; what is then missing
    /// or too much is taken one by one from whichever is largest, the first of equals.
    pub(crate) fn of(counts: &[u32; 256]) -> Option<Self> {
        let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        if counts.iter().filter(|&&count| count > 0).count() < 2 {
            return None;
        }
        let mut frequencies = [0_u32; 256];
        for (frequency, &count) in frequencies.iter_mut().zip(counts) {
            if count > 0 {
                let scaled = (2 * u64::from(count) * u64::from(SCALE) + total) / (2 * total);
                *frequency = (scaled as u32).max(1);
            }
        }
        let sum: u32 = frequencies.iter().sum();
        // More than half of the sum stays with frequencies above one: there are at most 256.
        for _ in 0..sum.abs_diff(SCALE) {
            let mut largest = 0;
            for (i, frequency) in frequencies.iter().enumerate() {
                if *frequency > frequencies[largest] {
                    largest = i;
                }
            }
            if sum > SCALE {
                frequencies[largest] -= 1;
            } else {
                frequencies[largest] += 1;
            }
        }
        Some(Self::from_frequencies(&frequencies))
    }

    fn from_frequencies(frequencies: &[u32; 256]) -> Self {
        let mut ranges = [0; 256];
        let mut start = 0;
        for (range, frequency) in ranges.iter_mut().zip(frequencies) {
            *range = start << 16 | frequency;
            start += frequency;
        }
        Self { ranges }
    }

    /// Sum of the frequencies of the bytes before `symbol`, and its own.
    #[inline(always)]
    pub(super) fn range(&self, symbol: u8) -> (u32, u32) {
        let range = self.ranges[usize::from(symbol)];
        (range >> 16, range & 0xffff)
    }

    /// All of [`Self::range`], as `start << 16 | frequency`.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn ranges(&self) -> &[u32; 256] {
        &self.ranges
    }

    /// For every slot of the scale `frequency << 20 | place in the range << 8 | symbol`.
    pub(super) fn slots(&self, slots: &mut Vec<u32>) {
        slots.clear();
        for symbol in 0..=u8::MAX {
            let (_, frequency) = self.range(symbol);
            let first = frequency << 20 | u32::from(symbol);
            slots.extend((0..frequency).map(|place| first | place << 8));
        }
    }

    /// The bits an encoding with this model takes per symbol, were they fractions, times `total`.
    pub(crate) fn cost_bits(&self, counts: &[u32; 256]) -> f64 {
        let bits = |(symbol, &count): (usize, &u32)| match count {
            0 => 0.0,
            _ => {
                let (_, frequency) = self.range(symbol as u8);
                f64::from(count) * (f64::from(SCALE_BITS) - f64::from(frequency).log2())
            }
        };
        counts.iter().enumerate().map(bits).sum()
    }

    /// Appends the model to `out[*at..]`; whether it fits.
    pub(crate) fn write(&self, out: &mut [u8], at: &mut usize) -> bool {
        let present = || (0..=u8::MAX).filter(|&symbol| self.range(symbol).1 > 0);
        let mut bytes = [0; MODEL_BYTES_MAX];
        bytes[0] = (present().count() - 1) as u8;
        let (mut used, mut next) = (1, 0);
        for symbol in present() {
            let frequency = self.range(symbol).1;
            bytes[used] = symbol - next;
            used += 1;
            next = symbol.wrapping_add(1);
            if frequency >= 128 {
                bytes[used] = (frequency >> 8) as u8 | 0x80;
                bytes[used + 1] = frequency as u8;
                used += 2;
            } else {
                bytes[used] = frequency as u8;
                used += 1;
            }
        }
        let Some(place) = out.get_mut(*at..*at + used) else { return false };
        place.copy_from_slice(&bytes[..used]);
        *at += used;
        true
    }

    /// The model at `bytes[*at..]`, behind which `at` is moved.
    ///
    /// # Errors
    /// It is cut short, or no encoder writes it.
    pub(crate) fn read(bytes: &[u8], at: &mut usize) -> Result<Self, DecodeError> {
        let mut take = || {
            let byte = bytes.get(*at).copied().ok_or_else(|| truncated(*at + 1, bytes.len()))?;
            *at += 1;
            Ok(u32::from(byte))
        };
        let symbols = take()? + 1;
        let mut frequencies = [0_u32; 256];
        let (mut next, mut sum) = (0, 0);
        for _ in 0..symbols {
            let symbol = next + take()?;
            let first = take()?;
            let frequency = if first < 128 { first } else { (first & 0x7f) << 8 | take()? };
            let Some(place) = frequencies.get_mut(symbol as usize) else {
                return Err(corrupt(*at, "a symbol of the model is above 255"));
            };
            if frequency == 0 {
                return Err(corrupt(*at, "a symbol of the model has frequency 0"));
            }
            *place = frequency;
            next = symbol + 1;
            sum += frequency;
        }
        if sum != SCALE || symbols < 2 {
            return Err(corrupt(*at, "the frequencies of the model do not add up"));
        }
        Ok(Self::from_frequencies(&frequencies))
    }
}
