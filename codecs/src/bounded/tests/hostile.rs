//! Bytes from anyone.

use super::*;
use crate::error::{DecodeError, EncodeError};

#[test]
fn damaged_bytes_are_refused_or_decoded_never_worse() {
    let mut random = Random(7);
    let step = Step::new(1e-3).unwrap();
    let mut refused = 0;
    for round in 0..3000 {
        let count = random.below(400);
        let mut x = random.gradient(count);
        if let Some(x) = x.first_mut() {
            *x = [f32::NAN, 1e9, 0.0, 2000.0][round % 4];
        }
        let good = encoded(Level::best(), &x, step).0;
        let sum = added(Level::best(), &good, &good, count, step);
        let mut bad = if round % 2 == 0 { good.clone() } else { sum };
        for _ in 0..=random.below(3) {
            match random.below(4) {
                0 => bad.truncate(random.below(bad.len() + 1)),
                1 => bad.extend(vec![random.next() as u8; random.below(9)]),
                _ if bad.is_empty() => {}
                _ => {
                    let at = random.below(bad.len());
                    bad[at] = random.next() as u8;
                }
            }
        }
        let mut out = vec![0.0; count];
        let mut room = vec![0; worst_case_bytes(count, 2)];
        for level in Level::available() {
            let got = decode_with(level, &bad, step, average(3), &mut out);
            refused += u32::from(got.is_err());
            let summed = add_with(level, [&bad, &good], count, step, &mut room);
            assert!(!matches!(summed, Err(AddError::Output(_))));
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn errors_say_what_is_wrong() {
    let step = Step::new(1e-3).unwrap();
    let x: Vec<f32> = (0..100).map(|i| if i == 40 { f32::NAN } else { 0.01 * i as f32 }).collect();
    let bytes = encoded(Level::best(), &x, step).0;
    let error = |bytes: &[u8]| {
        let mut out = [0.0; 100];
        decode(bytes, step, Finish::Sum, &mut out).unwrap_err()
    };
    let found = bytes.len();
    assert_eq!(error(&[]), DecodeError::Truncated { needed: 4, found: 0 });
    let needed = found;
    let cut = error(&bytes[..found - 4]);
    assert!(matches!(cut, DecodeError::Truncated { .. } | DecodeError::Corrupt { .. }), "{cut}");
    let mut longer = bytes.clone();
    longer.extend([0; 4]);
    assert!(matches!(error(&longer), DecodeError::Corrupt { .. }));
    let mut stray = bytes.clone();
    stray[2] = 1;
    assert_eq!(
        error(&stray).to_string(),
        "the encoded bytes are damaged at offset 2: a header of \
        a block beyond the last"
    );
    let mut form = bytes.clone();
    form[needed - 4] = 0x33;
    assert!(error(&form).to_string().contains("an extended header that means nothing"));
    let mut padding = bytes;
    padding[needed - 1] = 1;
    assert!(error(&padding).to_string().contains("padding"));
}

#[test]
fn wide_blocks_must_fit() {
    let step = Step::new(1e-3).unwrap();
    let chunk = encoded(Level::best(), &[1e30; 32], step).0;
    let sum = added(Level::best(), &chunk, &chunk, 32, step);
    let mut out = [0.0; 32];
    decode(&sum, step, Finish::Sum, &mut out).unwrap();
    assert_eq!(out, [2e30; 32]);
    for first in [10, 11, u32::MAX] {
        let mut bad = sum.clone();
        bad[4..8].copy_from_slice(&first.to_le_bytes());
        let error = decode(&bad, step, Finish::Sum, &mut out).unwrap_err();
        assert!(matches!(error, DecodeError::Corrupt { offset: 4, .. }), "{error}");
    }
}

#[test]
fn too_little_room_is_an_error_and_enough_is_not() {
    let mut random = Random(8);
    let step = Step::new(1e-3).unwrap();
    for count in [1, 31, 32, 33, 300] {
        let mut x = random.gradient(count);
        x[0] = f32::NAN;
        let (bytes, _) = encoded(Level::best(), &x, step);
        let sum = added(Level::best(), &bytes, &bytes, count, step);
        for level in Level::available() {
            for room in 0..bytes.len() {
                let error = encode_with(level, &x, step, &mut vec![0; room]).unwrap_err();
                let needed = worst_case_bytes(count, 1);
                assert_eq!(error, EncodeError::OutputTooSmall { needed, found: room });
            }
            let mut exact = vec![0; bytes.len()];
            encode_with(level, &x, step, &mut exact).unwrap();
            assert_eq!(exact, bytes);
            for room in 0..sum.len() {
                let error = add_with(level, [&bytes, &bytes], count, step, &mut vec![0; room]);
                assert!(matches!(error, Err(AddError::Output(_))));
            }
            let mut exact = vec![0; sum.len()];
            add_with(level, [&bytes, &bytes], count, step, &mut exact).unwrap();
            assert_eq!(exact, sum);
        }
    }
}
