//! Decoders of the codecs for which a tensor is what goes in and what comes out.

use crate::block::Block;
use crate::descriptor::BlockBits;
use crate::feedback::ErrorFeedback;
use crate::filter::{self, FilterSr, Grid};
use crate::frame::{self, ElementType, Elements, ElementsMut, Frames};
use crate::level::Level;
use crate::lossless::{self, Lossless, Width};
use crate::philox::Philox;
use crate::sparse::{self, Sparse};

/// A number of elements up to 5000, and the bytes behind it.
fn count(data: &[u8]) -> Option<(u8, usize, &[u8])> {
    let (&[choice, low, high], rest) = data.split_first_chunk()?;
    Some((choice, usize::from(u16::from_le_bytes([low, high])) % 5001, rest))
}

/// Whatever bytes are, they are also numbers.
fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// All levels accept the same encodings and make the same of them; as data, the bytes survive.
pub(super) fn lossless(data: &[u8]) {
    let Some((choice, elements, bytes)) = count(data) else { return };
    let width = if choice & 1 == 0 { Width::Two } else { Width::Four };
    let mut outcomes = Vec::new();
    for level in [Level::Scalar, Level::best()] {
        let mut out = vec![0; elements * width.bytes()];
        let decoded = Lossless::with_level(level).decode(width, bytes, &mut out);
        outcomes.push(decoded.is_ok().then_some(out));
    }
    assert!(outcomes[0] == outcomes[1]);
    let whole = &bytes[..bytes.len() - bytes.len() % width.bytes()];
    let chunk = 64 + usize::from(choice);
    let bytes_max = lossless::worst_case_bytes(width, whole.len() / width.bytes(), chunk);
    let mut encoded = vec![0; bytes_max];
    let mut lossless = Lossless::new();
    let used = lossless.encode(width, whole, chunk, &mut encoded).expect("room for the worst");
    let mut back = vec![0; whole.len()];
    lossless.decode(width, &encoded[..used], &mut back).expect("what was encoded");
    assert!(back == whole);
}

/// All levels make the same of codes, decoded and added; numbers are found again within a step.
pub(super) fn block(data: &[u8]) {
    let Some((choice, elements, bytes)) = count(data) else { return };
    let widths = [BlockBits::Four, BlockBits::Six, BlockBits::Eight];
    let group = [32, 64, 128, 256][usize::from(choice >> 2 & 3)];
    let block = Block::new(widths[usize::from(choice & 3) % 3], group).expect("a group size");
    // Enough bytes, so that most of the time codes are looked at.
    let mut codes = bytes.to_vec();
    if choice & 128 == 0 {
        codes.resize(block.encoded_bytes(elements), 0x41);
    }
    let outcomes = [Level::Scalar, Level::best()].map(|level| {
        let (mut out, mut sum) = (vec![0.0; elements], vec![1.0; elements]);
        let decoded = block.decode_with::<false>(level, &codes, &mut out).is_ok();
        assert_eq!(block.decode_with::<true>(level, &codes, &mut sum).is_ok(), decoded);
        (decoded, bits(&out), bits(&sum))
    });
    assert!(outcomes[0] == outcomes[1]);
    let numbers = numbers(bytes);
    let mut encoded = vec![0; block.encoded_bytes(numbers.len())];
    let mut back = vec![0.0; numbers.len()];
    block.encode(&numbers, &mut encoded).expect("room");
    block.decode(&encoded, &mut back).expect("what was encoded");
    for (x, y) in numbers.iter().zip(&back) {
        assert!(x.is_finite() == y.is_finite() && x.is_nan() == y.is_nan(), "{x} became {y}");
    }
}

/// All levels accept the same encodings and make the same of them; the bound holds.
pub(super) fn filter(data: &[u8]) {
    let Some((choice, elements, bytes)) = count(data) else { return };
    let outcomes = [Level::Scalar, Level::best()].map(|level| {
        let mut out = vec![0.0; elements];
        let decoded = FilterSr::with_level(level).decode(bytes, &mut out);
        decoded.is_ok().then(|| bits(&out))
    });
    assert!(outcomes[0] == outcomes[1]);
    let numbers = numbers(bytes);
    let grid = Grid::new(0.01 + f32::from(choice), 0.5).expect("a grid");
    let mut encoded = vec![0; filter::worst_case_bytes(numbers.len(), 99)];
    let mut filter = FilterSr::new();
    let random = Philox { seed: u64::from(choice), stream: 0 };
    let used = filter.encode(grid, random, 1, &numbers, 99, &mut encoded).expect("room");
    let mut back = vec![0.0; numbers.len()];
    filter.decode(&encoded[..used], &mut back).expect("what was encoded");
    for (x, y) in numbers.iter().zip(&back) {
        let error = (f64::from(*x) - f64::from(*y)).abs();
        let rounding = f64::from(x.abs()) * 2_f64.powi(-22);
        let kept = x.to_bits() == y.to_bits();
        assert!(kept || error <= grid.error_max() + rounding, "{x} became {y}");
    }
}

/// What is kept is kept exactly.
pub(super) fn sparse(data: &[u8]) {
    let Some((choice, elements, bytes)) = count(data) else { return };
    let mut out = vec![0.0; elements];
    let decoded = sparse::decode(bytes, &mut out).is_ok();
    assert_eq!(sparse::decode_add(bytes, &mut out).is_ok(), decoded);
    let numbers = numbers(bytes);
    let kept = sparse::kept(f64::from(choice) / 255.0, numbers.len());
    let mut encoded = vec![0; sparse::worst_case_bytes(numbers.len(), kept)];
    let used = Sparse::new().encode_largest(&numbers, kept, &mut encoded).expect("room");
    let encoded = &encoded[..used];
    assert!(sparse::kept_in(encoded, numbers.len()).is_ok_and(|there| there >= kept));
    let mut back = vec![0.0; numbers.len()];
    sparse::decode(encoded, &mut back).expect("what was encoded");
    for (x, y) in numbers.iter().zip(&back) {
        assert!(y.to_bits() == 0 || x.to_bits() == y.to_bits(), "{x} became {y}");
    }
}

/// A saved state that is accepted is saved as the same bytes.
pub(super) fn feedback(data: &[u8]) {
    if let Ok(state) = ErrorFeedback::restore(data) {
        assert_eq!(state.save(), data);
    }
}

/// A frame; and a frame with right checksums, which a fuzzer would hardly find.
pub(super) fn frame(data: &[u8]) {
    read_frame(data);
    let mut frame = data.to_vec();
    let Some(length) = frame.get(7).copied() else { return };
    let chunks_at = 24 + usize::from(length) + 8;
    if frame.len() < chunks_at {
        return;
    }
    let sum = crc32fast::hash(&frame[chunks_at..]);
    frame[chunks_at - 4..chunks_at].copy_from_slice(&sum.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..20]);
    hasher.update(&frame[24..chunks_at]);
    frame[20..24].copy_from_slice(&hasher.finalize().to_le_bytes());
    read_frame(&frame);
}

fn read_frame(frame: &[u8]) {
    const ELEMENTS_MAX: usize = 1 << 20;
    let Ok(info) = frame::info(frame) else { return };
    assert_eq!(info.frame_bytes, frame.len());
    let elements = info.shape.elements.min(ELEMENTS_MAX);
    let mut frames = Frames::new();
    let (mut wide, mut narrow) = (Vec::new(), Vec::new());
    let out = match info.shape.element_type {
        ElementType::F32 => {
            wide.resize(elements, 0.0);
            ElementsMut::F32(&mut wide)
        }
        ElementType::F16 => {
            narrow.resize(elements, 0);
            ElementsMut::F16(&mut narrow)
        }
        ElementType::Bf16 => {
            narrow.resize(elements, 0);
            ElementsMut::Bf16(&mut narrow)
        }
    };
    if frames.decompress(frame, out).is_err() || wide.is_empty() {
        return;
    }
    // What came out can be compressed again by the same codec.
    let data = Elements::F32(&wide);
    let bytes_max = frame::worst_case_bytes(info.codec, data.shape()).expect("a frame has it");
    let mut again = vec![0; bytes_max];
    let used = frames.compress(info.codec, data, &mut again).expect("a frame has it");
    assert_eq!(frame::info(&again[..used]).map(|again| again.codec), Ok(info.codec));
}
