//! Entry points for fuzzers: one function per decoder. A function takes any bytes and must return;
//! it panics when the decoder does, or when what it promises does not hold. For nobody else.

mod tensors;

use crate::bounded::{self, Finish, Step};
use crate::cast::{self, Rounding};
use crate::descriptor::{CastFormat, Codec};

/// A name, and what to feed.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate's.
pub const TARGETS: &[Target] = &[
    ("codec_bounded", bounded),
    ("codec_cast", cast),
    ("codec_descriptor", descriptor),
    ("codec_lossless", tensors::lossless),
    ("codec_block", tensors::block),
    ("codec_filter", tensors::filter),
    ("codec_sparse", tensors::sparse),
    ("codec_feedback", tensors::feedback),
    ("codec_frame", tensors::frame),
];

/// The first bytes choose the number of elements and what is averaged; the rest is a chunk. What
/// is accepted can be added, and gives what the result says.
fn bounded(data: &[u8]) {
    let Some((&[low, high, ranks], chunk)) = data.split_first_chunk() else { return };
    let count = usize::from(u16::from_le_bytes([low, high])) % 700;
    let finish = match u32::from(ranks).try_into() {
        Ok(ranks) => Finish::Average { ranks },
        Err(_) => Finish::Sum,
    };
    let step = Step::new(1e-3).expect("a number above zero");
    let mut out = vec![0.0; count];
    let accepted = bounded::decode(chunk, step, finish, &mut out).is_ok();
    // A header, and zeros.
    let zeros = vec![0; 4 * count.div_ceil(8 * bounded::BLOCK)];
    let mut sum = vec![0; bounded::worst_case_bytes(count, 2)];
    let added = bounded::add(chunk, &zeros, count, step, &mut sum);
    assert!(accepted <= added.is_ok());
    let Ok(bytes) = added else { return };
    let mut from_sum = vec![0.0; count];
    let finished = bounded::decode(&sum[..bytes], step, finish, &mut from_sum);
    assert!(finished.is_ok());
    for (x, y) in out.iter().zip(&from_sum).filter(|_| accepted) {
        assert!(x == y || x.is_nan() && y.is_nan(), "{x} became {y} with a zero added");
    }
    let again = bounded::add(&sum[..bytes], chunk, count, step, &mut vec![0; 2 * sum.len()]);
    assert!(again.is_ok());
    // Whatever the bytes are, they are also numbers.
    let numbers: Vec<f32> =
        chunk.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let mut encoding = vec![0; bounded::worst_case_bytes(numbers.len(), 1)];
    let encoded = bounded::encode(&numbers, step, &mut encoding).expect("room for the worst");
    let mut back = vec![0.0; numbers.len()];
    let decoded = bounded::decode(&encoding[..encoded.bytes], step, Finish::Sum, &mut back);
    assert!(decoded.is_ok());
    for (x, back) in numbers.iter().zip(&back) {
        let error = (f64::from(*x) - f64::from(*back)).abs();
        assert!(x.to_bits() == back.to_bits() || error <= 1e-3, "{x} became {back}");
    }
}

/// The first bytes choose the format and the number of elements; the rest is a chunk.
fn cast(data: &[u8]) {
    let Some((&[format, count], chunk)) = data.split_first_chunk() else { return };
    let formats = [CastFormat::Bf16, CastFormat::Fp16, CastFormat::Fp8E4M3, CastFormat::Fp8E5M2];
    let format = formats[usize::from(format) % formats.len()];
    let mut out = vec![0.0; count.into()];
    if cast::decode(format, chunk, &mut out).is_err() {
        return;
    }
    // What a decoder gives, an encoder can say again, in 16 bits in the same way.
    let mut again = vec![0; cast::encoded_bytes(format, out.len())];
    let encoded = cast::encode(format, Rounding::Nearest, &out, &mut again);
    assert!(encoded.is_ok_and(|encoded| encoded.bytes == again.len()));
    let mut back = vec![0.0; out.len()];
    assert!(cast::decode(format, &again, &mut back).is_ok());
    if matches!(format, CastFormat::Bf16 | CastFormat::Fp16) {
        for (x, back) in out.iter().zip(&back) {
            assert!(x.to_bits() == back.to_bits() || x.is_nan() && back.is_nan());
        }
    }
}

/// Text of users.
fn descriptor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Codec>() {
        Ok(codec) => assert_eq!(codec.to_string().parse(), Ok(codec), "{text}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    /// The same on every run, so that no target rots unnoticed.
    #[test]
    fn every_target_takes_any_bytes() {
        let mut random = Random(1);
        for (_, target) in TARGETS {
            target(&[]);
            for _ in 0..300 {
                let count = random.below(400);
                let data: Vec<u8> = (0..count).map(|_| random.next() as u8).collect();
                target(&data);
            }
        }
    }
}
