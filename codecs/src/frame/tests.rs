//! Round trips with every codec, and what damaged, foreign and hostile frames meet.

use super::*;
use crate::testing::{Random, adversarial, golden, gradient};

const LOSSY: [&str; 15] = [
    "bf16",
    "fp16:stochastic,seed=3",
    "fp8_e4m3",
    "fp8_e5m2:stochastic",
    "bounded:abs=1e-4",
    "bounded:rms=0.01",
    "bounded:max=1e-3",
    "block8:group=64",
    "block6:group=32",
    "block4:group=128",
    "topk:0.1",
    "threshold:1e-3",
    "filter_sr:rms=1",
    "filter_sr:max=0.01,drop=0.02,seed=9",
    "filter_sr:abs=1e-3",
];

fn codec(text: &str) -> Codec {
    text.parse().unwrap()
}

fn compressed(codec: Codec, data: Elements<'_>) -> Vec<u8> {
    let bytes_max = worst_case_bytes(codec, data.shape()).unwrap();
    let mut out = vec![0xaa; bytes_max];
    let bytes = Frames::new().compress(codec, data, &mut out).unwrap();
    out.truncate(bytes);
    out
}

fn decompressed(bytes: &[u8]) -> Result<Vec<f32>, DecodeError> {
    let info = info(bytes)?;
    let mut out = vec![7.0; info.shape.elements];
    assert_eq!(Frames::new().decompress(bytes, ElementsMut::F32(&mut out))?, info);
    Ok(out)
}

#[test]
fn every_codec_goes_through_and_back() {
    for (name, data) in adversarial() {
        for text in LOSSY.into_iter().chain(["none", "lossless"]) {
            let bytes = compressed(codec(text), Elements::F32(&data));
            let info = info(&bytes).unwrap();
            assert_eq!((info.frame_bytes, info.shape.elements), (bytes.len(), data.len()));
            assert_eq!(info.codec.name(), codec(text).name());
            let back = decompressed(&bytes).unwrap();
            for (x, y) in data.iter().zip(&back) {
                if x.is_nan() && !text.starts_with("topk") {
                    assert!(y.is_nan(), "{name} by {text}");
                } else if matches!(text, "none" | "lossless") {
                    assert_eq!(x.to_bits(), y.to_bits(), "{name} by {text}");
                }
            }
            if let Codec::Bounded { bound } = info.codec {
                for (x, y) in data.iter().zip(&back).filter(|(x, _)| x.is_finite()) {
                    let error = (f64::from(*x) - f64::from(*y)).abs();
                    assert!(error <= bound.value(), "{name} by {text}: {x:e} became {y:e}");
                }
            }
        }
    }
}

#[test]
fn long_tensors_are_chunks_and_sixteen_bits_go_exactly() {
    let data = gradient(CHUNK_ELEMENTS + 4567, 3);
    for text in
        ["lossless", "bf16:stochastic", "bounded:rms=0.1", "block4", "topk:0.01", "filter_sr:rms=2"]
    {
        let codec = codec(text);
        let bytes = compressed(codec, Elements::F32(&data));
        let ratio = 4.0 * data.len() as f64 / bytes.len() as f64;
        assert!(ratio > if codec == Codec::Lossless { 1.18 } else { 1.9 }, "{text}: {ratio}");
        assert_eq!(decompressed(&bytes).unwrap().len(), data.len());
    }
    let words: Vec<u16> = data.iter().map(|x| crate::float::bf16_from_f32(*x)).collect();
    for (data, is_bf16) in [(Elements::F16(&words), false), (Elements::Bf16(&words), true)] {
        for text in ["none", "lossless"] {
            let bytes = compressed(codec(text), data);
            let mut back = vec![0; words.len() + 3];
            let out =
                if is_bf16 { ElementsMut::Bf16(&mut back) } else { ElementsMut::F16(&mut back) };
            let info = Frames::new().decompress(&bytes, out).unwrap();
            assert_eq!(info.shape, data.shape());
            assert!(back[..words.len()] == words && back[words.len()..] == [0; 3]);
        }
    }
}

#[test]
fn what_cannot_be_compressed_says_so() {
    let shape = Shape { element_type: ElementType::Bf16, elements: 10 };
    for text in LOSSY {
        let error = worst_case_bytes(codec(text), shape).unwrap_err();
        assert!(error.to_string().contains("does not compress bf16 tensors"), "{error}");
    }
    let error = worst_case_bytes(codec("auto:rms=0.1"), shape).unwrap_err();
    assert!(error.to_string().contains("compares the speeds of links"), "{error}");
    let data = [1.0; 100];
    let needed = worst_case_bytes(Codec::None, Elements::F32(&data).shape()).unwrap();
    let mut out = vec![0; needed - 1];
    let error = Frames::new().compress(Codec::None, Elements::F32(&data), &mut out).unwrap_err();
    assert_eq!(error, EncodeError::OutputTooSmall { needed, found: needed - 1 }.into());
    let huge = Shape { element_type: ElementType::F32, elements: 1 << 40 };
    assert_eq!(worst_case_bytes(codec("topk:0.1"), huge), Err(FrameError::TooMany(1 << 40)));
}

#[test]
fn every_damaged_bit_every_cut_and_every_addition_is_refused() {
    for text in ["lossless", "none", "block8", "filter_sr:rms=1"] {
        let bytes = compressed(codec(text), Elements::F32(&gradient(200, 1)));
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decompressed(&damaged).is_err(), "{text}: bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(decompressed(&bytes[..cut]).is_err(), "{text}: cut to {cut}");
        }
        assert!(decompressed(&[bytes.as_slice(), &[0]].concat()).is_err());
    }
}

#[test]
fn other_versions_types_and_rooms_are_refused() {
    let data = gradient(100, 1);
    let bytes = compressed(Codec::Lossless, Elements::F32(&data));
    let mut newer = bytes.clone();
    newer[4] = 2;
    let want = DecodeError::UnsupportedVersion { found: 2, supported: 1 };
    assert_eq!(info(&newer), Err(want));
    let mut small = [0.0; 99];
    let error = Frames::new().decompress(&bytes, ElementsMut::F32(&mut small)).unwrap_err();
    assert_eq!(error, DecodeError::TooLarge { needed: 100, max: 99, unit: "elements" });
    let error = Frames::new().decompress(&bytes, ElementsMut::F16(&mut [0; 100])).unwrap_err();
    assert!(matches!(error, DecodeError::Corrupt { .. }));
}

/// Frames whose checksums are right and whose words are not.
#[test]
fn hostile_frames_with_right_checksums_are_refused_or_decode() {
    let mut random = Random(17);
    for text in LOSSY.into_iter().chain(["none", "lossless"]) {
        let bytes = compressed(codec(text), Elements::F32(&gradient(300, 1)));
        let table_at = 24 + usize::from(bytes[7]);
        for _ in 0..400 {
            let mut hostile = bytes.clone();
            for _ in 0..=random.below(3) {
                let end = if random.below(3) == 0 { table_at } else { hostile.len() };
                let at = random.below(end);
                hostile[at] =
                    if random.below(2) == 0 { random.next() as u8 } else { hostile[at] ^ 1 };
            }
            let chunk_at = (24 + usize::from(hostile[7]) + 8).min(hostile.len());
            let sum = crc32fast::hash(&hostile[chunk_at..]);
            if let Some(place) = hostile.get_mut(chunk_at - 4..chunk_at) {
                place.copy_from_slice(&sum.to_le_bytes());
            }
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&hostile[..20]);
            hasher.update(&hostile[24..chunk_at]);
            hostile[20..24].copy_from_slice(&hasher.finalize().to_le_bytes());
            let mut out = vec![0.0; 1000];
            let _ = info(&hostile);
            let _ = Frames::new().decompress(&hostile, ElementsMut::F32(&mut out));
        }
    }
}

#[test]
fn golden_vectors() {
    let data = gradient(70, 8);
    let mut cases = Vec::new();
    for text in
        ["none", "lossless", "bf16", "bounded:abs=1e-4", "block8", "topk:0.1", "filter_sr:abs=0.01"]
    {
        let input = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        cases.push((text.to_owned(), input, compressed(codec(text), Elements::F32(&data))));
    }
    golden("frame", &cases);
}
