//! Selection against sorting, sizes, damage, golden vectors.

use super::*;
use crate::testing::{Random, adversarial, golden, gradient};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// What remains of the `kept` largest, by sorting.
fn largest_by_sorting(data: &[f32], kept: usize) -> Vec<f32> {
    let magnitude =
        |x: f32| if x.is_nan() { f64::INFINITY } else { f64::from(x.abs().min(f32::MAX)) };
    let class = |x: f32| (u8::from(x.is_nan()) * 2 + u8::from(x.is_infinite()), magnitude(x));
    let mut order: Vec<usize> = (0..data.len()).collect();
    // Stable, so that equal ones stay in order.
    order.sort_by(|&a, &b| class(data[b]).partial_cmp(&class(data[a])).unwrap());
    let mut out = vec![0.0; data.len()];
    order[..kept].iter().for_each(|&i| out[i] = data[i]);
    out
}

#[test]
fn the_largest_are_kept_ties_by_index() {
    let mut sparse = Sparse::new();
    for (name, data) in adversarial() {
        for fraction in [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 1.0] {
            let kept = kept(fraction, data.len());
            let mut bytes = vec![0xaa; worst_case_bytes(data.len(), kept)];
            let used = sparse.encode_largest(&data, kept, &mut bytes).unwrap();
            let mut out = vec![7.0; data.len()];
            decode(&bytes[..used], &mut out).unwrap();
            let want = largest_by_sorting(&data, kept);
            let count = kept_in(&bytes[..used], data.len()).unwrap();
            if count == data.len() {
                assert_eq!(bits(&out), bits(&data), "{name} at {fraction}");
            } else {
                assert_eq!(count, kept);
                assert_eq!(bits(&out), bits(&want), "{name} at {fraction}");
            }
        }
    }
}

#[test]
fn all_above_a_threshold_are_kept() {
    let mut sparse = Sparse::new();
    for (name, data) in adversarial() {
        for threshold in [1e-40, 1e-3, 0.5, 1e38, f32::INFINITY] {
            let mut bytes = vec![0xaa; worst_case_bytes(data.len(), data.len())];
            let used = sparse.encode_above(&data, threshold, &mut bytes).unwrap();
            let mut out = vec![7.0; data.len()];
            decode(&bytes[..used], &mut out).unwrap();
            let dense = kept_in(&bytes[..used], data.len()).unwrap() == data.len();
            for (x, y) in data.iter().zip(&out) {
                let want = if dense || x.abs() >= threshold || x.is_nan() { *x } else { 0.0 };
                assert_eq!(want.to_bits(), y.to_bits(), "{name} at {threshold}");
            }
        }
    }
}

#[test]
fn indices_cost_little_and_never_more_than_a_bitmap() {
    let mut sparse = Sparse::new();
    let data = gradient(50_000, 3);
    for (fraction, bits_max) in [(0.001, 14.0), (0.01, 11.0), (0.1, 7.5), (0.5, 2.1)] {
        let kept = kept(fraction, data.len());
        let mut bytes = vec![0; worst_case_bytes(data.len(), kept)];
        let used = sparse.encode_largest(&data, kept, &mut bytes).unwrap();
        let index_bits = 8.0 * (used - HEADER - 4 * kept) as f64 / kept as f64;
        assert!(index_bits < bits_max, "{fraction}: {index_bits} bits per index");
    }
    assert_eq!([kept(0.01, 0), kept(1e-9, 5), kept(0.5, 5), kept(1.0, 5)], [0, 1, 3, 5]);
    let error = sparse.encode_largest(&data[..80], 3, &mut [0; 29]).unwrap_err();
    assert_eq!(error, EncodeError::OutputTooSmall { needed: 30, found: 29 });
}

#[test]
fn adding_touches_what_was_kept_only() {
    let mut data = gradient(1000, 4);
    data[5] = f32::INFINITY;
    let mut sums = gradient(1000, 5);
    sums[5] = f32::NEG_INFINITY;
    let before = sums.clone();
    let mut bytes = vec![0; worst_case_bytes(1000, 30)];
    let used = Sparse::new().encode_largest(&data, 30, &mut bytes).unwrap();
    decode_add(&bytes[..used], &mut sums).unwrap();
    let kept = largest_by_sorting(&data, 30);
    for i in (0..1000).filter(|i| *i != 5) {
        assert_eq!(sums[i].to_bits(), (before[i] + kept[i]).to_bits());
    }
    assert_eq!(sums[5].to_bits(), 0x7fc0_0000);
}

#[test]
fn damage_is_refused_or_decodes_to_something() {
    let mut random = Random(1);
    let mut sparse = Sparse::new();
    for (elements, kept) in [(0, 0), (1, 1), (40, 3), (1003, 20), (1003, 400), (500, 499)] {
        let data = gradient(elements, 8);
        let mut bytes = vec![0; worst_case_bytes(elements, kept)];
        let used = sparse.encode_largest(&data, kept, &mut bytes).unwrap();
        bytes.truncate(used);
        let mut out = vec![0.0; elements];
        for cut in 0..used {
            assert!(decode(&bytes[..cut], &mut out).is_err(), "{kept} of {elements} cut to {cut}");
        }
        assert!(decode(&[bytes.as_slice(), &[0]].concat(), &mut out).is_err());
        for _ in 0..2000 {
            let mut damaged = bytes.clone();
            let end = if random.below(2) == 0 { 8 } else { used };
            damaged[random.below(end)] ^= 1 << random.below(8);
            let _ = decode(&damaged, &mut out);
            let _ = decode_add(&damaged, &mut out);
        }
    }
}

#[test]
fn golden_vectors() {
    let mut cases = Vec::new();
    for (elements, kept) in [(0, 0), (5, 1), (300, 2), (300, 40), (300, 120), (300, 300)] {
        let data = gradient(elements, 31);
        let mut bytes = vec![0; worst_case_bytes(elements, kept)];
        let used = Sparse::new().encode_largest(&data, kept, &mut bytes).unwrap();
        bytes.truncate(used);
        let input = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        cases.push((format!("largest-{kept}"), input, bytes));
    }
    golden("sparse", &cases);
}
