//! Codes as symbols of the entropy coder, and the bits that large ones have beside.
//!
//! Codes from -64 to 63 are symbols of their own, in the order 0, -1, 1, -2, 2, ... A larger
//! magnitude m has the symbol of its sign and binary logarithm, and the lower bits of m beside. A
//! value that is kept has one symbol for all, and its 32 bits beside.

use super::quantize::ESCAPE;

/// Symbols below this stand for one code each.
pub(super) const DIRECT: u8 = 128;
/// Binary logarithms of magnitudes with the first symbol after those, and with the last.
const LOG_MIN: u32 = 6;
const LOG_MAX: u32 = 21;
/// The symbol of values that are kept.
pub(super) const KEPT: u8 = 255;

/// A stream of bits, from the lowest bit of each byte.
#[derive(Debug, Default)]
pub(super) struct Bits {
    pub(super) bytes: Vec<u8>,
    waiting: u64,
    count: u32,
}

impl Bits {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        (self.waiting, self.count) = (0, 0);
    }

    fn put(&mut self, value: u32, bits: u32) {
        self.waiting |= u64::from(value) << self.count;
        self.count += bits;
        while self.count >= 8 {
            self.bytes.push(self.waiting as u8);
            self.waiting >>= 8;
            self.count -= 8;
        }
    }

    /// Fills the last byte with zeros.
    pub(super) fn end(&mut self) {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
    }
}

/// Reads what [`Bits`] wrote.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    waiting: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, waiting: 0, count: 0 }
    }

    fn take(&mut self, bits: u32) -> Option<u32> {
        while self.count < bits {
            let (first, rest) = self.bytes.split_first()?;
            self.waiting |= u64::from(*first) << self.count;
            self.count += 8;
            self.bytes = rest;
        }
        let value = self.waiting & ((1 << bits) - 1);
        self.waiting >>= bits;
        self.count -= bits;
        Some(value as u32)
    }

    /// Whether all bytes are used, and what is left of the last one is zero.
    pub(super) fn is_at_end(&self) -> bool {
        self.bytes.is_empty() && self.count < 8 && self.waiting == 0
    }
}

/// 0, -1, 1, -2, 2, ... as 0, 1, 2, ...
#[inline(always)]
fn folded(code: i32) -> u32 {
    (code << 1 ^ code >> 31).cast_unsigned()
}

/// The inverse.
fn unfolded(folded: u32) -> i32 {
    (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed()
}

/// The symbols of `codes`, and the bits beside them.
pub(super) fn symbols(codes: &[i32], data: &[f32], symbols: &mut [u8], extra: &mut Bits) {
    extra.clear();
    let mut all = 0;
    for (code, symbol) in codes.iter().zip(symbols.iter_mut()) {
        let folded = folded(*code);
        all |= folded;
        *symbol = folded as u8;
    }
    if all >= u32::from(DIRECT) {
        for ((code, symbol), x) in codes.iter().zip(symbols).zip(data) {
            if folded(*code) >= u32::from(DIRECT) {
                *symbol = large(*code, *x, extra);
            }
        }
    }
    extra.end();
}

/// The symbol of a code that has bits beside, which it writes.
fn large(code: i32, x: f32, extra: &mut Bits) -> u8 {
    if code == ESCAPE {
        extra.put(x.to_bits(), 32);
        return KEPT;
    }
    let magnitude = code.unsigned_abs();
    let log = magnitude.ilog2();
    extra.put(magnitude - (1 << log), log);
    DIRECT + 2 * (log - LOG_MIN) as u8 + u8::from(code < 0)
}

/// What a symbol stands for.
pub(super) enum Meaning {
    Code(i32),
    Kept(f32),
}

/// The meaning of a symbol. None if no encoder writes it or there are no bits left for it.
pub(super) fn meaning(symbol: u8, extra: &mut BitReader<'_>) -> Option<Meaning> {
    if symbol < DIRECT {
        return Some(Meaning::Code(unfolded(u32::from(symbol))));
    }
    if symbol == KEPT {
        return extra.take(32).map(|bits| Meaning::Kept(f32::from_bits(bits)));
    }
    let log = LOG_MIN + u32::from((symbol - DIRECT) / 2);
    if log > LOG_MAX {
        return None;
    }
    let magnitude = (1_i32 << log) + extra.take(log)?.cast_signed();
    Some(Meaning::Code(if symbol & 1 == 1 { -magnitude } else { magnitude }))
}
