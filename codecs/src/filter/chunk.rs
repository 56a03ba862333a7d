//! One chunk: its header, and what is stored in which order.

use super::codes::{BitReader, DIRECT, Meaning, meaning, symbols};
use super::{FilterSr, Grid};
use crate::error::{DecodeError, corrupt, truncated};
use crate::rans::{Model, histogram};

/// What the lower two bits of a chunk's header say: the data as they are.
const RAW: u32 = 0;
/// Coded symbols.
const CODED: u32 = 1;

/// Bytes of a chunk's header.
const HEADER: usize = 4;

impl FilterSr {
    /// Encodes one chunk, whose codes are there; bytes written. There is room for its header and
    /// the data as they are.
    pub(super) fn encode_chunk(&mut self, data: &[f32], out: &mut [u8]) -> usize {
        let raw = 4 * data.len();
        let (kind, body) = match self.encode_body(data, &mut out[HEADER..HEADER + raw]) {
            Some(body) => (CODED, body),
            None => {
                for (place, x) in out[HEADER..].as_chunks_mut().0.iter_mut().zip(data) {
                    *place = x.to_le_bytes();
                }
                (RAW, raw)
            }
        };
        out[..HEADER].copy_from_slice(&((body as u32) << 2 | kind).to_le_bytes());
        HEADER + body
    }

    /// Size of the coded body of a chunk; none if it does not fit `out`.
    fn encode_body(&mut self, data: &[f32], out: &mut [u8]) -> Option<usize> {
        if self.symbols.len() < data.len() {
            self.symbols.resize(data.len(), 0);
        }
        let coded = &mut self.symbols[..data.len()];
        symbols(&self.codes[..data.len()], data, coded, &mut self.extra);
        let mut at = 0;
        write_length(self.extra.bytes.len(), out, &mut at)?;
        let end = at + self.extra.bytes.len();
        out.get_mut(at..end)?.copy_from_slice(&self.extra.bytes);
        at = end;
        let Some(model) = Model::of(&histogram(coded)) else {
            // One symbol needs no stream. No model begins with 0.
            out.get_mut(at..at + 2)?.copy_from_slice(&[0, coded[0]]);
            return Some(at + 2);
        };
        if !model.write(out, &mut at) {
            return None;
        }
        let stream = self.coder.encode(self.level, coded, &model);
        let end = at + stream.len();
        out.get_mut(at..end)?.copy_from_slice(stream);
        Some(end)
    }

    /// Decodes the body of a chunk, or adds it.
    pub(super) fn decode_chunk<const ADD: bool>(
        &mut self,
        grid: Grid,
        kind: u32,
        body: &[u8],
        out: &mut [f32],
    ) -> Result<(), DecodeError> {
        match kind {
            RAW if body.len() == 4 * out.len() => {
                for (place, bytes) in out.iter_mut().zip(body.as_chunks().0) {
                    store::<ADD>(place, f32::from_le_bytes(*bytes));
                }
                return Ok(());
            }
            RAW => return Err(corrupt(0, "a raw chunk does not have the size of its data")),
            CODED => {}
            _ => return Err(corrupt(0, "a chunk of no known kind")),
        }
        let mut at = 0;
        let extra = read_length(body, &mut at)?;
        let end = at.saturating_add(extra);
        let extra = body.get(at..end).ok_or_else(|| truncated(end, body.len()))?;
        at = end;
        if self.symbols.len() < out.len() {
            self.symbols.resize(out.len(), 0);
        }
        let coded = &mut self.symbols[..out.len()];
        if body.get(at) == Some(&0) {
            let &[symbol] = &body[at + 1..] else {
                return Err(corrupt(at, "a chunk of one symbol does not end with it"));
            };
            coded.fill(symbol);
        } else {
            let model = Model::read(body, &mut at)?;
            let stream = &body[at..];
            let decoded = self.coder.decode(self.level, stream, &model, coded);
            decoded.map_err(|error| error.shifted(at))?;
        }
        expand::<ADD>(grid, coded, extra, out)
            .ok_or(corrupt(0, "the symbols of a chunk and the bits beside them do not match"))
    }
}

/// Stores what the symbols mean, or adds it.
fn expand<const ADD: bool>(
    grid: Grid,
    symbols: &[u8],
    extra: &[u8],
    out: &mut [f32],
) -> Option<()> {
    let mut extra = BitReader::new(extra);
    let mut values = [0.0; DIRECT as usize];
    for (symbol, value) in (0..DIRECT).zip(&mut values) {
        if let Some(Meaning::Code(code)) = meaning(symbol, &mut extra) {
            *value = grid.value(code);
        }
    }
    for (place, symbol) in out.iter_mut().zip(symbols) {
        let value = match values.get(usize::from(*symbol)) {
            Some(value) => *value,
            None => match meaning(*symbol, &mut extra)? {
                Meaning::Code(code) => grid.value(code),
                Meaning::Kept(x) => x,
            },
        };
        store::<ADD>(place, value);
    }
    extra.is_at_end().then_some(())
}

#[inline(always)]
fn store<const ADD: bool>(place: &mut f32, x: f32) {
    if ADD {
        let sum = *place + x;
        *place = if sum.is_nan() { f32::from_bits(0x7fc0_0000) } else { sum };
    } else {
        *place = x;
    }
}

/// Writes a length, seven bits a byte, the lowest first (LEB128).
fn write_length(length: usize, out: &mut [u8], at: &mut usize) -> Option<()> {
    let mut rest = length;
    loop {
        let more = rest >= 128;
        *out.get_mut(*at)? = (rest & 0x7f) as u8 | u8::from(more) << 7;
        *at += 1;
        rest >>= 7;
        if !more {
            return Some(());
        }
    }
}

/// Reads a length below 2^28.
fn read_length(body: &[u8], at: &mut usize) -> Result<usize, DecodeError> {
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let byte = *body.get(*at).ok_or_else(|| truncated(*at + 1, body.len()))?;
        *at += 1;
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 128 {
            return Ok(length);
        }
    }
    Err(corrupt(*at, "a length has more than four bytes"))
}
