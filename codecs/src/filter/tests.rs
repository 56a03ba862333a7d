//! Bound, expectation, size against the entropy, levels against each other, damage, golden vectors.

use std::collections::HashMap;

use super::*;
use crate::testing::{Random, adversarial, golden, gradient};

const RANDOM: Philox = Philox { seed: 7, stream: 1 };

/// Encodes at every level, which must agree.
fn encoded(grid: Grid, random: Philox, index: u64, data: &[f32], chunk: usize) -> Vec<u8> {
    let mut all = Level::available().map(|level| {
        let mut out = vec![0xaa; worst_case_bytes(data.len(), chunk)];
        let mut filter = FilterSr::with_level(level);
        let bytes = filter.encode(grid, random, index, data, chunk, &mut out).unwrap();
        out.truncate(bytes);
        out
    });
    let first = all.next().unwrap();
    all.for_each(|other| assert!(other == first, "{grid:?}, {} elements", data.len()));
    first
}

fn decoded(bytes: &[u8], elements: usize) -> Vec<f32> {
    let mut out = vec![7.0; elements];
    FilterSr::new().decode(bytes, &mut out).unwrap();
    out
}

fn rms(data: &[f32]) -> f32 {
    let sum: f64 = data.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    (sum / data.len() as f64).sqrt() as f32
}

#[test]
fn the_bound_holds_and_what_is_beyond_the_grid_arrives() {
    for (name, data) in adversarial() {
        for (step, drop) in [(0.25_f32, 0.0), (1e-3, 4e-3), (1e-38, 0.0), (7e37, 8e37)] {
            let grid = Grid::new(step.max(f32::MIN_POSITIVE), drop).unwrap();
            for chunk in [33, CHUNK_ELEMENTS] {
                let bytes = encoded(grid, RANDOM, 3, &data, chunk);
                for (x, y) in data.iter().zip(decoded(&bytes, data.len())) {
                    if x.is_finite() {
                        let error = (f64::from(*x) - f64::from(y)).abs();
                        let rounded = f64::from(x.abs()) * 2_f64.powi(-22);
                        assert!(error <= grid.error_max() + rounded, "{name}: {x:e} became {y:e}");
                    } else {
                        assert_eq!(x.to_bits(), y.to_bits(), "{name}");
                    }
                }
            }
        }
    }
}

/// The mean over many seeds comes as near to the value as chance allows, also far below the step.
#[test]
fn the_expectation_is_the_value() {
    let grid = Grid::new(0.5, 1.25).unwrap();
    let values = [0.001, -0.01, 0.3, -0.7, 1.2, 1.25, 1.3, -1.6, 2.0, -9.9, 40.0, 63.1];
    let data: Vec<f32> = values.iter().cycle().take(1200).copied().collect();
    let seeds = 400;
    let mut sums = vec![0.0_f64; values.len()];
    for seed in 0..seeds {
        let bytes = encoded(grid, Philox { seed, stream: 0 }, 0, &data, CHUNK_ELEMENTS);
        for (i, y) in decoded(&bytes, data.len()).iter().enumerate() {
            sums[i % values.len()] += f64::from(*y);
        }
    }
    let samples = f64::from(seeds as u32) * (data.len() / values.len()) as f64;
    for (x, sum) in values.iter().zip(sums) {
        let x = f64::from(*x);
        let magnitude = x.abs();
        // Variance of a value between two points of the grid.
        let variance = if magnitude < 1.25 {
            magnitude * (1.25 - magnitude)
        } else {
            let over = (magnitude - 1.25) % 0.5;
            over * (0.5 - over)
        };
        let error = (sum / samples - x).abs();
        assert!(error <= 4.5 * (variance / samples).sqrt() + 1e-5, "{x}: off by {error}");
    }
}

#[test]
fn chunks_and_pieces_do_not_change_the_rounding() {
    let data = gradient(5000, 2);
    let grid = Grid::new(rms(&data), 0.0).unwrap();
    let whole = decoded(&encoded(grid, RANDOM, 100, &data, CHUNK_ELEMENTS), 5000);
    let chunked = decoded(&encoded(grid, RANDOM, 100, &data, 777), 5000);
    let pieces: Vec<f32> = [0..1234, 1234..5000]
        .into_iter()
        .flat_map(|piece| {
            let part = &data[piece.clone()];
            decoded(&encoded(grid, RANDOM, 100 + piece.start as u64, part, 999), part.len())
        })
        .collect();
    assert!(whole == chunked && whole == pieces);
}

/// The entropy per element of what was decoded, a point of the grid for each.
fn entropy(values: &[f32]) -> f64 {
    let mut counts: HashMap<u32, f64> = HashMap::new();
    for value in values {
        *counts.entry(value.to_bits()).or_default() += 1.0;
    }
    let total = values.len() as f64;
    counts.values().map(|count| -(count / total) * (count / total).log2()).sum()
}

#[test]
fn sizes_come_near_the_entropy() {
    // A model costs two or three bytes per symbol: short tensors are worth a coarse grid only.
    for (elements, finest) in [(2000, 1.0), (20_000, 0.01), (100_000, 0.01)] {
        let data = gradient(elements, 6);
        for relative in [0.01, 0.1, 1.0, 3.0, 10.0].into_iter().filter(|r| *r >= finest) {
            for drop in [1.0, 2.0] {
                let grid = Grid::new(relative * rms(&data), drop * relative * rms(&data)).unwrap();
                let bytes = encoded(grid, RANDOM, 0, &data, CHUNK_ELEMENTS);
                let bits = 8.0 * bytes.len() as f64 / elements as f64;
                let least = entropy(&decoded(&bytes, elements));
                assert!(bits < least + 0.5, "{elements} at {relative}: {bits}, entropy {least}");
            }
        }
    }
}

#[test]
fn adding_is_decoding_and_an_addition() {
    let mut data = gradient(3000, 1);
    (data[3], data[4]) = (f32::NAN, 1e30);
    let onto = gradient(3000, 2);
    let bytes = encoded(Grid::new(1e-4, 0.0).unwrap(), RANDOM, 0, &data, 1000);
    let plain = decoded(&bytes, 3000);
    let mut sums = onto.clone();
    FilterSr::new().decode_add(&bytes, &mut sums).unwrap();
    for (i, sum) in sums.iter().enumerate().filter(|(i, _)| *i != 3) {
        assert_eq!(sum.to_bits(), (onto[i] + plain[i]).to_bits());
    }
    assert_eq!(sums[3].to_bits(), 0x7fc0_0000);
}

#[test]
fn bad_grids_and_too_little_room_are_errors() {
    for step in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-39, 1e38] {
        assert!(Grid::new(step, 0.0).is_err(), "{step}");
    }
    for drop in [-1.0, f32::NAN, f32::INFINITY, 1e-39, 1e38] {
        assert!(Grid::new(1.0, drop).is_err(), "{drop}");
    }
    let grid = Grid::new(1.0, 0.0).unwrap();
    let error = FilterSr::new().encode(grid, RANDOM, 0, &[0.0; 100], 50, &mut [0; 419]);
    assert_eq!(error, Err(EncodeError::OutputTooSmall { needed: 420, found: 419 }));
}

#[test]
fn damage_is_refused_or_decodes_to_something() {
    let mut random = Random(12);
    let data = gradient(9000, 2);
    for step in [0.01, 1.0] {
        let grid = Grid::new(step * rms(&data), 0.0).unwrap();
        let bytes = encoded(grid, RANDOM, 0, &data, 4500);
        let mut out = vec![0.0; data.len()];
        for cut in (0..bytes.len()).step_by(97).chain(bytes.len() - 5..bytes.len()) {
            assert!(FilterSr::new().decode(&bytes[..cut], &mut out).is_err(), "cut to {cut}");
        }
        assert!(FilterSr::new().decode(&[bytes.as_slice(), &[0]].concat(), &mut out).is_err());
        assert!(FilterSr::new().decode(&bytes, &mut out[1..]).is_err());
        for _ in 0..1000 {
            let mut damaged = bytes.clone();
            for _ in 0..=random.below(3) {
                let end = if random.below(2) == 0 { 100 } else { damaged.len() };
                damaged[random.below(end)] = random.next() as u8;
            }
            let mut results = Level::available().map(|level| {
                let outcome = FilterSr::with_level(level).decode(&damaged, &mut out);
                outcome.is_ok().then(|| out.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
            });
            let first = results.next().unwrap();
            results.for_each(|other| assert!(other == first));
        }
    }
}

#[test]
fn golden_vectors() {
    let mut special = gradient(300, 5);
    (special[3], special[64], special[69]) = (f32::NAN, f32::INFINITY, -1e37);
    let mut cases = Vec::new();
    for (name, data, step, drop) in [
        ("none", vec![], 1.0, 0.0),
        ("zeros", vec![0.0; 40], 1.0, 0.0),
        ("coarse", gradient(300, 4), 0.02, 0.0),
        ("fine", gradient(300, 4), 1e-5, 1e-4),
        ("special", special, 0.01, 0.02),
        ("lanes", gradient(4200, 4), 0.05, 0.0),
    ] {
        let grid = Grid::new(step, drop).unwrap();
        let input = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        cases.push((name.to_owned(), input, encoded(grid, RANDOM, 5, &data, 4160)));
    }
    golden("filter", &cases);
}
