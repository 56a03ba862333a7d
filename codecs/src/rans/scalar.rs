//! The coder for any processor and any number of lanes.

use super::{Model, SCALE, SCALE_BITS, STATE_MIN};
use crate::error::{DecodeError, truncated};

/// Encodes `symbols`, which begin at a multiple of the number of lanes, before `at`.
pub(super) fn encode(
    symbols: &[u8],
    states: &mut [u32],
    model: &Model,
    stream: &mut [u8],
    at: &mut usize,
) {
    let lanes = states.len();
    for (i, &symbol) in symbols.iter().enumerate().rev() {
        let (start, frequency) = model.range(symbol);
        let state = &mut states[i % lanes];
        if *state >= frequency << (31 - SCALE_BITS) {
            *at -= 2;
            stream[*at..*at + 2].copy_from_slice(&(*state as u16).to_le_bytes());
            *state >>= 16;
        }
        *state = ((*state / frequency) << SCALE_BITS) + *state % frequency + start;
    }
}

/// Decodes the last of a chunk's symbols from `words[*at..]`; the first of them belongs to lane 0.
pub(super) fn decode(
    words: &[u8],
    at: &mut usize,
    states: &mut [u32],
    slots: &[u32; SCALE as usize],
    symbols: &mut [u8],
) -> Result<(), DecodeError> {
    for step in symbols.chunks_mut(states.len()) {
        for (symbol, state) in step.iter_mut().zip(states.iter_mut()) {
            let slot = slots[(*state % SCALE) as usize];
            *symbol = slot as u8;
            *state = (slot >> 20) * (*state >> SCALE_BITS) + (slot >> 8 & (SCALE - 1));
            if *state < STATE_MIN {
                let word =
                    crate::lanes::get(words, *at).ok_or_else(|| truncated(*at + 2, words.len()))?;
                *state = *state << 16 | u32::from(u16::from_le_bytes(word));
                *at += 2;
            }
        }
    }
    Ok(())
}
