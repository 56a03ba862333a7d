//! Real tensors, where there are any.

use super::*;
use crate::statistics::Statistics;

/// The f32 of a version 1 `.npy` file of little-endian f32.
fn npy(bytes: &[u8]) -> Vec<f32> {
    assert_eq!(&bytes[..7], b"\x93NUMPY\x01");
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert!(String::from_utf8_lossy(&bytes[10..header]).contains("<f4"));
    bytes[header..].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The files of the folder that `SYNCLINE_GRADIENTS` names.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn files() -> Vec<(String, Vec<f32>)> {
    let Some(folder) = std::env::var_os("SYNCLINE_GRADIENTS") else {
        eprintln!("skipped: SYNCLINE_GRADIENTS does not name a folder of .npy files");
        return Vec::new();
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "npy") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            files.push((name, npy(&std::fs::read(path).unwrap())));
        }
    }
    assert!(!files.is_empty());
    files
}

#[test]
fn the_bound_holds_on_real_tensors() {
    for (name, x) in files() {
        let statistics = Statistics::of(&x);
        let rms = statistics.rms();
        for bound in
            [0.1 * rms, 0.01 * rms, 1e-3 * rms, 1e-5 * rms, f64::from(statistics.max) / 1e3]
        {
            let step = Step::new(bound).unwrap();
            let (bytes, report) = encoded(Level::best(), &x, step);
            let back = decoded(Level::best(), &bytes, x.len(), step, Finish::Sum);
            let error = |(x, y): (&f32, &f32)| (f64::from(*x) - f64::from(*y)).abs();
            let error_max = x.iter().zip(&back).map(error).fold(0.0, f64::max);
            assert!(error_max <= bound, "{name} {bound}: {error_max}");
            assert_eq!(error_max, f64::from(report.error_max), "{name} {bound}");
        }
    }
}

/// Eight ranks' gradients: the bound on sum and average, and ratios with all headers.
#[test]
fn sums_of_real_gradients_keep_the_bound_and_the_ratios() {
    let gradients = files().into_iter().filter(|(name, _)| name.starts_with("grads_cnn"));
    for (name, x) in gradients {
        let count = x.len() / 8;
        let rms = Statistics::of(&x).rms();
        for (part, ratio_min) in [(0.1, 8.0), (0.01, 4.8), (0.001, 3.3)] {
            let step = Step::new(part * rms).unwrap();
            let ranks: Vec<&[f32]> = x.chunks(count).collect();
            let chunks: Vec<Vec<u8>> =
                ranks.iter().map(|x| encoded(Level::best(), x, step).0).collect();
            let bytes: usize = chunks.iter().map(Vec::len).sum();
            let ratio = (4 * x.len()) as f64 / bytes as f64;
            assert!(ratio >= ratio_min, "{name} {part}: {ratio}");
            let add = |sum: Vec<u8>, next: Vec<u8>| added(Level::best(), &sum, &next, count, step);
            let sum = chunks.into_iter().reduce(add).unwrap();
            for (finish, parts) in [(Finish::Sum, 1.0), (average(8), 8.0)] {
                let results = decoded(Level::best(), &sum, count, step, finish);
                for (i, result) in results.iter().enumerate() {
                    let exact = ranks.iter().map(|x| f64::from(x[i])).sum::<f64>() / parts;
                    let error = (f64::from(*result) - exact).abs() * parts;
                    assert!(error <= 8.0 * step.bound(), "{name} {part}: {result} for {exact}");
                }
            }
        }
    }
}
