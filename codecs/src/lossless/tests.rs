//! Round trips to the bit, sizes, levels against each other, golden vectors, damage.

use super::*;
use crate::float::{bf16_from_f32, f16_from_f32};
use crate::testing::{Random, adversarial, golden, gradient};

/// The same numbers as f32, bf16 and f16, as bytes.
fn forms(values: &[f32]) -> [(Width, Vec<u8>); 3] {
    let narrow = |of: fn(f32) -> u16| values.iter().flat_map(|x| of(*x).to_le_bytes()).collect();
    let wide = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    [(Width::Four, wide), (Width::Two, narrow(bf16_from_f32)), (Width::Two, narrow(f16_from_f32))]
}

/// Encodes at every level, which must agree, decodes at every level, and compares.
fn round_trip(width: Width, data: &[u8], chunk: usize) -> Vec<u8> {
    let bytes_max = worst_case_bytes(width, data.len() / width.bytes(), chunk);
    let mut first: Option<Vec<u8>> = None;
    for level in Level::available() {
        let mut lossless = Lossless::with_level(level);
        let mut encoded = vec![0xaa; bytes_max];
        let bytes = lossless.encode(width, data, chunk, &mut encoded).unwrap();
        encoded.truncate(bytes);
        for level in Level::available() {
            let mut decoded = vec![0x55; data.len()];
            Lossless::with_level(level).decode(width, &encoded, &mut decoded).unwrap();
            assert!(decoded == data, "{width:?}, {} bytes in chunks of {chunk}", data.len());
        }
        assert!(first.as_ref().is_none_or(|first| *first == encoded), "{level:?} differs");
        first = Some(encoded);
    }
    first.unwrap()
}

#[test]
fn every_bit_survives() {
    for (name, values) in adversarial() {
        for (width, data) in forms(&values) {
            for chunk in [1, 33, 64, 100, CHUNK_ELEMENTS] {
                let encoded = round_trip(width, &data, chunk);
                assert!(encoded.len() <= worst_case_bytes(width, values.len(), chunk), "{name}");
            }
        }
    }
}

#[test]
fn payloads_and_signs_of_nan_survive_in_a_coded_chunk() {
    let mut values = gradient(10_000, 3);
    for (i, bits) in [0x7f80_0001, 0xffff_ffff, 0x8000_0000, 1, 0x807f_ffff].iter().enumerate() {
        values[i * 1999] = f32::from_bits(*bits);
    }
    for (width, data) in forms(&values) {
        assert!(round_trip(width, &data, CHUNK_ELEMENTS).len() < data.len());
    }
}

#[test]
fn long_tensors_shrink_and_noise_does_not_grow() {
    for ((width, data), least) in forms(&gradient(100_003, 1)).into_iter().zip([1.18, 1.45, 1.1]) {
        let ratio = data.len() as f64 / round_trip(width, &data, CHUNK_ELEMENTS).len() as f64;
        assert!(ratio > least, "{width:?}: {ratio}");
    }
    let mut random = Random(4);
    let noise: Vec<u8> = (0..400_000).map(|_| random.next() as u8).collect();
    for width in [Width::Two, Width::Four] {
        let encoded = round_trip(width, &noise, 10_000);
        assert!(encoded.len() <= worst_case_bytes(width, noise.len() / width.bytes(), 10_000));
    }
}

#[test]
fn all_bit_patterns_of_sixteen_bits_survive() {
    let mut random = Random(8);
    // Small ones often, so that chunks are coded.
    let word = |random: &mut Random| (random.next() as u16) >> (random.next() % 16);
    let mut words: Vec<u16> =
        (0..=u16::MAX).chain((0..200_000).map(|_| word(&mut random))).collect();
    for i in 0..words.len() {
        let other = random.below(words.len());
        words.swap(i, other);
    }
    let data: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert!(round_trip(Width::Two, &data, CHUNK_ELEMENTS).len() < data.len());
}

#[test]
fn too_little_room_is_an_error() {
    let mut lossless = Lossless::new();
    let error = lossless.encode(Width::Four, &[0; 400], 50, &mut [0; 411]).unwrap_err();
    assert_eq!(error, EncodeError::OutputTooSmall { needed: 412, found: 411 });
}

#[test]
fn damage_is_refused_or_decodes_to_something_alike_on_every_level() {
    let mut random = Random(11);
    for (width, data) in forms(&gradient(9000, 2)) {
        let encoded = round_trip(width, &data, 4500);
        let decode = |bytes: &[u8]| {
            let mut results = Level::available().map(|level| {
                let mut out = vec![0; data.len()];
                Lossless::with_level(level).decode(width, bytes, &mut out).map(|()| out)
            });
            let first = results.next().unwrap();
            results.for_each(|other| assert!(other.is_ok() == first.is_ok()));
            first
        };
        for cut in (0..encoded.len()).step_by(487).chain(encoded.len() - 5..encoded.len()) {
            assert!(decode(&encoded[..cut]).is_err(), "cut to {cut}");
        }
        assert!(decode(&[encoded.as_slice(), &[0]].concat()).is_err());
        assert!(Lossless::new().decode(width, &encoded, &mut vec![0; data.len() - 4]).is_err());
        for _ in 0..300 {
            let mut damaged = encoded.clone();
            for _ in 0..=random.below(3) {
                let at = if random.below(2) == 0 {
                    random.below(600)
                } else {
                    random.below(damaged.len())
                };
                damaged[at] = random.next() as u8;
            }
            let _ = decode(&damaged);
        }
        for _ in 0..300 {
            let mut noise: Vec<u8> = (0..random.below(400)).map(|_| random.next() as u8).collect();
            if let Some(chunk) = noise.first_chunk_mut::<4>() {
                *chunk = 9000_u32.to_le_bytes();
            }
            let _ = decode(&noise);
        }
    }
}

#[test]
fn golden_vectors() {
    let mut cases = Vec::new();
    for elements in [0, 5, 300, 4200] {
        // All 32 lanes need 4096 elements.
        let values = gradient(elements, 21);
        for ((width, data), form) in forms(&values).into_iter().zip(["f32", "bf16", "f16"]) {
            if elements < 1000 || form == "bf16" {
                let encoded = round_trip(width, &data, 4160);
                cases.push((format!("{form}-{elements}"), data, encoded));
            }
        }
    }
    golden("lossless", &cases);
}
