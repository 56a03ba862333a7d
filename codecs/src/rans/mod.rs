//! An entropy coder for bytes: interleaved range asymmetric numeral systems (rANS: J. Duda,
//! "Asymmetric numeral systems", arXiv 1311.2540, 2013; interleaved and for SIMD: F. Giesen,
//! "Interleaved entropy coders", arXiv 1402.3392, 2014).
//!
//! Byte `i` of a chunk belongs to lane `i % lanes`. A lane is a state of 31 bits. All lanes share
//! one stream of 16-bit words: decoding goes forward through the bytes, and a lane whose state
//! falls below 2^15 takes the next word. Encoding goes backward through the bytes and writes the
//! words from the end. `docs/wire/lossless.md` has the format to the bit.

mod histogram;
mod model;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(test)]
mod tests;

pub(crate) use histogram::histogram;
pub(crate) use model::Model;

use crate::error::{DecodeError, corrupt, truncated};
use crate::level::Level;

/// Binary logarithm of the sum of all frequencies of a model.
const SCALE_BITS: u32 = 12;
/// The sum of all frequencies of a model.
const SCALE: u32 = 1 << SCALE_BITS;
/// A state between two steps lies in `STATE_MIN..STATE_MIN << 16`.
const STATE_MIN: u32 = 1 << 15;
/// The most lanes.
const LANES_MAX: usize = 32;

/// How many lanes the bytes of a chunk are dealt to: each costs four bytes, so that small chunks
/// have few.
pub(crate) const fn lanes(count: usize) -> usize {
    let wanted = count / 128;
    if wanted >= LANES_MAX {
        return LANES_MAX;
    }
    if wanted < 2 { 1 } else { 1 << wanted.ilog2() }
}

/// The most bytes the encoding of `count` bytes takes.
const fn encoded_max(count: usize) -> usize {
    4 * lanes(count) + 2 * count
}

/// Memory the coder needs, kept between chunks.
#[derive(Debug, Default)]
pub(crate) struct Coder {
    /// Where an encoding is written, from the end.
    stream: Vec<u8>,
    /// The model of the chunk, by slot.
    slots: Vec<u32>,
}

impl Coder {
    /// The encoding of `symbols`, all of which have a frequency in `model`.
    pub(crate) fn encode(&mut self, level: Level, symbols: &[u8], model: &Model) -> &[u8] {
        // A vector is written whole, before the part of it that counts.
        let bytes = encoded_max(symbols.len()) + 16;
        if self.stream.len() < bytes {
            self.stream.resize(bytes, 0);
        }
        let stream = &mut self.stream[..bytes];
        let lanes = lanes(symbols.len());
        let mut states = [STATE_MIN; LANES_MAX];
        let mut at = bytes;
        let whole = symbols.len() - symbols.len() % lanes;
        let (front, rest) = symbols.split_at(whole);
        scalar::encode(rest, &mut states[..lanes], model, stream, &mut at);
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(token) if lanes == LANES_MAX => {
                simd::encode(token, front, &mut states, model, stream, &mut at);
            }
            _ => scalar::encode(front, &mut states[..lanes], model, stream, &mut at),
        }
        finish(stream, at, &states[..lanes])
    }

    /// Decodes `stream`, which must be all of an encoding of `symbols.len()` bytes.
    ///
    /// # Errors
    /// The stream is not an encoding of that many bytes with this model.
    pub(crate) fn decode(
        &mut self,
        level: Level,
        stream: &[u8],
        model: &Model,
        symbols: &mut [u8],
    ) -> Result<(), DecodeError> {
        let lanes = lanes(symbols.len());
        let Some((head, words)) = stream.split_at_checked(4 * lanes) else {
            return Err(truncated(4 * lanes, stream.len()));
        };
        let mut states = [STATE_MIN; LANES_MAX];
        for (state, bytes) in states.iter_mut().zip(head.as_chunks().0) {
            *state = u32::from_le_bytes(*bytes);
            if !(STATE_MIN..STATE_MIN << 16).contains(state) {
                return Err(corrupt(0, "a state of the entropy coder is out of range"));
            }
        }
        model.slots(&mut self.slots);
        let slots = self.slots.as_slice().try_into().expect("one entry per slot");
        let mut at = 0;
        let done = match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(token) if lanes == LANES_MAX => {
                simd::decode(token, words, &mut at, &mut states, slots, symbols)
            }
            _ => 0,
        };
        scalar::decode(words, &mut at, &mut states[..lanes], slots, &mut symbols[done..])?;
        if at != words.len() || states[..lanes].iter().any(|state| *state != STATE_MIN) {
            return Err(corrupt(4 * lanes + at, "the entropy coder did not end where it began"));
        }
        Ok(())
    }
}

/// Puts the states before the words; the encoding.
fn finish<'a>(stream: &'a mut [u8], at: usize, states: &[u32]) -> &'a [u8] {
    let start = at - 4 * states.len();
    for (place, state) in stream[start..at].as_chunks_mut().0.iter_mut().zip(states) {
        *place = state.to_le_bytes();
    }
    &stream[start..]
}
