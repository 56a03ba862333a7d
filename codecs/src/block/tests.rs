//! Bounds, numbers that are none, sizes, levels against each other, golden vectors, damage.

use super::*;
use crate::testing::{Random, adversarial, golden, gradient};

fn blocks() -> impl Iterator<Item = Block> {
    let widths = [BlockBits::Four, BlockBits::Six, BlockBits::Eight];
    widths.into_iter().flat_map(|bits| [32, 64, 128, 256].map(|g| Block::new(bits, g).unwrap()))
}

/// Encodes at every level, which must agree.
fn encoded(block: Block, data: &[f32]) -> Vec<u8> {
    let mut all = Level::available().map(|level| {
        let mut out = vec![0xaa; block.encoded_bytes(data.len())];
        assert_eq!(block.encode_with(level, data, &mut out), Ok(out.len()));
        out
    });
    let first = all.next().unwrap();
    all.for_each(|other| assert!(other == first, "{block:?}, {} elements", data.len()));
    first
}

/// Decodes at every level, which must agree to the bit.
fn decoded<const ADD: bool>(block: Block, bytes: &[u8], onto: &[f32]) -> Vec<f32> {
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let mut all = Level::available().map(|level| {
        let mut out = onto.to_vec();
        block.decode_with::<ADD>(level, bytes, &mut out).unwrap();
        out
    });
    let first = all.next().unwrap();
    all.for_each(|other| assert!(bits(&other) == bits(&first), "{block:?}"));
    first
}

/// The stated bound of the error in a group.
fn bound(block: Block, group: &[f32]) -> f64 {
    let largest = group.iter().filter(|x| x.is_finite()).fold(0.0, |m: f32, x| m.max(x.abs()));
    let all_finite = group.iter().all(|x| x.is_finite());
    let code_max = if all_finite { block.code_max() } else { block.code_max() - 1 };
    let step = f64::from(largest) / f64::from(code_max) * (1.0 + 2_f64.powi(-7));
    step.max(2_f64.powi(-126)) * (0.5 + 2_f64.powi(-16))
}

#[test]
fn the_bound_holds_and_what_is_no_number_arrives() {
    for (name, data) in adversarial() {
        for block in blocks() {
            let bytes = encoded(block, &data);
            let out = decoded::<false>(block, &bytes, &vec![7.0; data.len()]);
            for (group, out) in data.chunks(block.group).zip(out.chunks(block.group)) {
                let bound = bound(block, group);
                for (x, y) in group.iter().zip(out) {
                    if x.is_nan() {
                        assert_eq!(y.to_bits(), 0x7fc0_0000, "{name}");
                    } else if x.is_infinite() {
                        assert_eq!(x, y, "{name}");
                    } else {
                        let error = (f64::from(*x) - f64::from(*y)).abs();
                        assert!(error <= bound, "{name}, {block:?}: {x:e} became {y:e}");
                    }
                }
            }
        }
    }
}

/// Codes must fit without clamping, for every magnitude near the ends and many between; and the
/// largest magnitude must not lose more than half a step.
#[test]
fn scales_keep_the_largest_element_within_the_codes() {
    let mut random = Random(5);
    let ends = (0..70_000).flat_map(|i| [i, INFINITY - 1 - 7 * i, 0x0080_0000 - 35_000 + i]);
    let between: Vec<u32> = (0..200_000).map(|_| random.below(INFINITY as usize) as u32).collect();
    for largest in ends.chain(between) {
        for code_max in [127.0, 126.0, 31.0, 30.0, 7.0, 6.0] {
            let scale = scale_of(largest, code_max);
            assert!(is_scale(scale));
            let x = f64::from(f32::from_bits(largest)) / f64::from(value(scale));
            assert!(x < f64::from(code_max) + 0.12, "{largest:#x} gives {x}");
            assert!((value(scale) * code_max).is_finite());
            let code = (f32::from_bits(largest) * (1.0 / value(scale))).round_ties_even();
            assert!(code <= code_max && (x - f64::from(code)).abs() < 0.5 + 1e-4);
        }
    }
}

#[test]
fn adding_is_decoding_and_an_addition() {
    for block in blocks() {
        for elements in [1, 31, 64, 300, 1024] {
            let data = gradient(elements, 3);
            let onto: Vec<f32> = gradient(elements, 4);
            let bytes = encoded(block, &data);
            let plain = decoded::<false>(block, &bytes, &onto);
            let sums = decoded::<true>(block, &bytes, &onto);
            for ((sum, x), y) in sums.iter().zip(&plain).zip(&onto) {
                assert_eq!(sum.to_bits(), (x + y).to_bits());
            }
        }
        let mut data = vec![1.0; 64];
        (data[0], data[1]) = (f32::INFINITY, f32::NAN);
        let mut onto = vec![2.0; 64];
        (onto[0], onto[2]) = (f32::NEG_INFINITY, f32::from_bits(0xffff_ffff));
        let sums = decoded::<true>(block, &encoded(block, &data), &onto);
        assert!(sums[..3].iter().all(|sum| sum.to_bits() == 0x7fc0_0000));
        assert!(sums[3..].iter().all(|sum| (sum - 3.0).abs() < 0.1));
    }
}

#[test]
fn sizes_are_fixed_and_checked() {
    let block = Block::new(BlockBits::Six, 64).unwrap();
    assert_eq!([0, 1, 64, 65, 576].map(|n| block.encoded_bytes(n)), [0, 17, 64, 65, 464]);
    let data = gradient(65, 1);
    let error = block.encode(&data, &mut [0; 64]).unwrap_err();
    assert_eq!(error, EncodeError::OutputTooSmall { needed: 65, found: 64 });
    let bytes = encoded(block, &data);
    let mut out = [0.0; 65];
    assert_eq!(block.decode(&bytes[..64], &mut out), Err(truncated(65, 64)));
    assert!(block.decode(&[bytes.as_slice(), &[0]].concat(), &mut out).is_err());
    for scale in [0_u16, 0x007f, 0x7f80, 0xff80, 0x8000, 0x7fff] {
        let mut bytes = bytes.clone();
        bytes[2..4].copy_from_slice(&scale.to_le_bytes());
        let why = "a group's scale is zero, subnormal or not finite";
        assert_eq!(block.decode(&bytes, &mut out), Err(corrupt(2, why)));
    }
    for group in [0, 16, 33, 96, 512] {
        assert!(Block::new(BlockBits::Four, group).is_err());
    }
}

#[test]
fn any_codes_decode_alike() {
    let mut random = Random(6);
    for block in blocks() {
        let elements = 3 * block.group + 5;
        let mut bytes: Vec<u8> =
            (0..block.encoded_bytes(elements)).map(|_| random.next() as u8).collect();
        for group in 0..elements.div_ceil(block.group) {
            let scale = SCALE_MIN + random.below(usize::from(SCALE_END - SCALE_MIN)) as u16;
            let scale = scale | if random.below(2) == 0 { SPECIAL } else { 0 };
            bytes[2 * group..2 * group + 2].copy_from_slice(&scale.to_le_bytes());
        }
        decoded::<false>(block, &bytes, &vec![0.0; elements]);
        decoded::<true>(block, &bytes, &gradient(elements, 1));
    }
}

#[test]
fn golden_vectors() {
    let mut special = gradient(70, 5);
    (special[3], special[64], special[69]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    let mut cases = Vec::new();
    for block in blocks().filter(|block| block.group <= 64) {
        for (name, data) in
            [("one", vec![-0.3]), ("gradient", gradient(70, 4)), ("special", special.clone())]
        {
            let input = data.iter().flat_map(|x| x.to_le_bytes()).collect();
            let name = format!("block{}-{}-{name}", block.bits, block.group);
            cases.push((name, input, encoded(block, &data)));
        }
    }
    golden("block", &cases);
}
