//! Golden vectors: the formats cannot change by accident.

use super::*;
use crate::testing::golden;

/// Name `FORMAT/ROUNDING/what`; stochastic with seed 7, stream 3, from element 96 on.
#[test]
fn encodings() {
    let ramp: Vec<f32> = (0..35).map(|i| (i as f32 - 17.0) * 0.37).collect();
    let small: Vec<f32> = (0..33).map(|i| 2f32.powi(-i) * 1.3).collect();
    let special =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MAX, -f32::MAX, 1e-45, 65520.0];
    let philox = Philox { seed: 7, stream: 3 };
    let roundings =
        [("nearest", Rounding::Nearest), ("random", Rounding::Stochastic { philox, first: 96 })];
    let mut cases = Vec::new();
    for format in FORMATS {
        for (rounding_name, rounding) in roundings {
            for (what, x) in [("ramp", &ramp[..]), ("small", &small), ("special", &special)] {
                let input = x.iter().flat_map(|x| x.to_le_bytes()).collect();
                let bytes = encoded(Level::best(), format, rounding, x).0;
                cases.push((format!("{}/{rounding_name}/{what}", format.name()), input, bytes));
            }
        }
    }
    golden("cast", &cases);
}
