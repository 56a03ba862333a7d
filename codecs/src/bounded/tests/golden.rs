//! Golden vectors: the format cannot change by accident.

use super::*;
use crate::testing::golden;

/// Little-endian bytes.
fn bytes_of(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Encodings by themselves: name `BOUND/what`, input, chunk.
#[test]
fn encodings() {
    let ramp = |count: usize, unit: f32| (0..count).map(|i| (i as f32 - 10.0) * unit).collect();
    let mut special: Vec<f32> = ramp(40, 0.01);
    special[3] = f32::NAN;
    special[35] = f32::NEG_INFINITY;
    let inputs: [(&str, f64, Vec<f32>); 8] = [
        ("0.5/nothing", 0.5, vec![]),
        ("0.5/zeros", 0.5, vec![0.0; 33]),
        ("0.5/minus-one", 0.5, vec![-1.0; 32]),
        ("0.001/ramp", 1e-3, ramp(70, 0.01)),
        ("0.25/nine-planes", 0.25, ramp(32, 3.7)),
        ("0.001/fifteen-planes", 1e-3, ramp(32, 1.5)),
        ("0.001/special", 1e-3, special),
        ("1e-6/large", 1e-6, vec![123.0; 3]),
    ];
    let cases = inputs.map(|(name, bound, x)| {
        let step = Step::new(bound).unwrap();
        (name.to_owned(), bytes_of(&x), encoded(Level::best(), &x, step).0)
    });
    golden("bounded", &cases);
}

/// Sums: name `BOUND/what`, both inputs one after the other, the sum of their chunks.
#[test]
fn sums() {
    let inputs: [(&str, f64, Vec<f32>, Vec<f32>); 4] = [
        ("0.5/planes", 0.5, vec![1.0; 32], (0..32).map(|i| i as f32).collect()),
        ("0.5/carry", 0.5, vec![127.0; 5], vec![1.0; 5]),
        ("0.001/raw", 1e-3, vec![1e6, 1.0, f32::INFINITY], vec![0.25, -1.0, f32::NAN]),
        ("0.001/two-raw", 1e-3, vec![1e30, -1e30], vec![-1e30, 1e-30]),
    ];
    let cases = inputs.map(|(name, bound, a, b)| {
        let step = Step::new(bound).unwrap();
        let chunk = |x: &[f32]| encoded(Level::best(), x, step).0;
        let sum = added(Level::best(), &chunk(&a), &chunk(&b), a.len(), step);
        (name.to_owned(), [bytes_of(&a), bytes_of(&b)].concat(), sum)
    });
    golden("bounded-sums", &cases);
}

/// Steps: name, bound as f64, step and limit as f32.
#[test]
fn steps() {
    let bounds = [1.0, 0.5, 1e-3, 1e-4, 3.3e-7, f64::from(f32::MIN_POSITIVE), 8.5e37];
    let cases = bounds.map(|bound| {
        let step = Step::new(bound).unwrap();
        (format!("{bound:e}"), bound.to_le_bytes().to_vec(), bytes_of(&[step.step, step.limit]))
    });
    golden("bounded-steps", &cases);
}
