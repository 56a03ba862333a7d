//! One chunk: its header, and what is stored in which order.

use super::{Lossless, Width, scalar};
use crate::error::{DecodeError, corrupt, truncated};
use crate::lanes::get;
use crate::level::Level;
use crate::rans::{Model, histogram};

/// What the lower two bits of a chunk's header say: the data as they are.
const RAW: u32 = 0;
/// Coded symbols, all rests.
const CODED: u32 = 1;
/// Coded symbols, the rests of elements whose symbol is not 0.
const CODED_SPARSE: u32 = 2;

/// Elements a chunk must have to be worth a model.
const CODED_ELEMENTS_MIN: usize = 64;

/// Bytes of a chunk's header, and of the number of rests behind it.
const HEADER: usize = 4;
const RESTS: usize = 4;

impl Lossless {
    /// Encodes one chunk; bytes written. There is room for its header and the data as they are.
    pub(super) fn encode_chunk(&mut self, width: Width, data: &[u8], out: &mut [u8]) -> usize {
        let (kind, body) = match self.encode_body(width, data, &mut out[HEADER..]) {
            Some((kind, body)) if body < data.len() => (kind, body),
            _ => {
                out[HEADER..HEADER + data.len()].copy_from_slice(data);
                (RAW, data.len())
            }
        };
        out[..HEADER].copy_from_slice(&((body as u32) << 2 | kind).to_le_bytes());
        HEADER + body
    }

    /// Kind and size of the coded body of a chunk; none where coding does not pay.
    fn encode_body(&mut self, width: Width, data: &[u8], out: &mut [u8]) -> Option<(u32, usize)> {
        let elements = data.len() / width.bytes();
        if elements < CODED_ELEMENTS_MIN {
            return None;
        }
        if self.symbols.len() < elements {
            self.symbols.resize(elements, 0);
        }
        let symbols = &mut self.symbols[..elements];
        let rests = out.get_mut(RESTS..)?;
        let (kind, stored) = match split(self.level, width, true, data, symbols, rests) {
            Some(stored) if stored == elements => (CODED, elements),
            Some(stored) => (CODED_SPARSE, stored),
            None => (CODED, split(self.level, width, false, data, symbols, rests)?),
        };
        out[..RESTS].copy_from_slice(&(stored as u32).to_le_bytes());
        let mut at = RESTS + stored * width.rest();
        let counts = histogram(symbols);
        let Some(model) = Model::of(&counts) else {
            // One symbol needs no stream. No model begins with 0.
            out.get_mut(at..at + 2)?.copy_from_slice(&[0, symbols[0]]);
            return Some((kind, at + 2));
        };
        if !model.write(out, &mut at)
            || at as f64 + model.cost_bits(&counts) / 8.0 >= data.len() as f64
        {
            return None;
        }
        let stream = self.coder.encode(self.level, symbols, &model);
        let end = at + stream.len();
        out.get_mut(at..end)?.copy_from_slice(stream);
        Some((kind, end))
    }

    /// Decodes the body of a chunk.
    pub(super) fn decode_chunk(
        &mut self,
        width: Width,
        kind: u32,
        body: &[u8],
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        match kind {
            RAW if body.len() == out.len() => {
                out.copy_from_slice(body);
                return Ok(());
            }
            RAW => return Err(corrupt(0, "a raw chunk does not have the size of its data")),
            CODED | CODED_SPARSE => {}
            _ => return Err(corrupt(0, "a chunk of no known kind")),
        }
        let elements = out.len() / width.bytes();
        let stored = get(body, 0)
            .map(u32::from_le_bytes)
            .ok_or_else(|| truncated(RESTS, body.len()))? as usize;
        if stored > elements || (kind == CODED && stored != elements) {
            return Err(corrupt(0, "a chunk stores more or fewer elements than it has"));
        }
        let mut at = RESTS + stored * width.rest();
        let rests = body.get(RESTS..at).ok_or_else(|| truncated(at, body.len()))?;
        if self.symbols.len() < elements {
            self.symbols.resize(elements, 0);
        }
        let symbols = &mut self.symbols[..elements];
        if body.get(at) == Some(&0) {
            let &[symbol] = &body[at + 1..] else {
                return Err(corrupt(at, "a chunk of one symbol does not end with it"));
            };
            symbols.fill(symbol);
        } else {
            let model = Model::read(body, &mut at)?;
            self.coder
                .decode(self.level, &body[at..], &model, symbols)
                .map_err(|error| error.shifted(at))?;
        }
        if merge(self.level, width, kind == CODED_SPARSE, symbols, rests, out) {
            Ok(())
        } else {
            Err(corrupt(0, "the number of elements that are not zero is wrong"))
        }
    }
}

/// Takes elements apart. Number of rests stored; none if zeros cannot be left out, as `sparse`
/// asks, or there is no room.
fn split(
    level: Level,
    width: Width,
    sparse: bool,
    data: &[u8],
    symbols: &mut [u8],
    rests: &mut [u8],
) -> Option<usize> {
    let mut at = 0;
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if let Level::Avx2(token) = level {
        done = super::simd::split(token, width, sparse, data, symbols, rests, &mut at)?;
    }
    let (data, symbols) = (&data[done * width.bytes()..], &mut symbols[done..]);
    match width {
        Width::Two => scalar::split::<2>(sparse, data, symbols, rests, &mut at)?,
        Width::Four => scalar::split::<4>(sparse, data, symbols, rests, &mut at)?,
    }
    Some(at / width.rest())
}

/// Puts elements together; whether there were as many rests as that took.
fn merge(
    level: Level,
    width: Width,
    sparse: bool,
    symbols: &[u8],
    rests: &[u8],
    out: &mut [u8],
) -> bool {
    let mut at = 0;
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if let Level::Avx2(token) = level {
        done = super::simd::merge(token, width, sparse, symbols, rests, &mut at, out);
    }
    let (symbols, out) = (&symbols[done..], &mut out[done * width.bytes()..]);
    let all = match width {
        Width::Two => scalar::merge::<2>(sparse, symbols, rests, &mut at, out),
        Width::Four => scalar::merge::<4>(sparse, symbols, rests, &mut at, out),
    };
    all && at == rests.len()
}
