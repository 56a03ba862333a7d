//! Size, error and speed of one codec on one tensor.

use std::time::Instant;

use syncline_codecs::descriptor::Codec;
use syncline_codecs::frame::{self, Elements};

use super::coder::Coder;

/// What a codec made of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    pub(super) elements: usize,
    pub(super) encoded_bytes: usize,
    /// The largest error promised, if one is.
    pub(super) bound: Option<f64>,
    pub(super) error: Error,
    /// GB/s of f32.
    pub(super) encode_gbps: f64,
    pub(super) decode_gbps: f64,
    pub(super) add_gbps: f64,
}

/// How the result differs from the data, over the elements that are finite in both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Error {
    pub(super) max: f64,
    pub(super) rms: f64,
    /// 1 for data and results that are all zero.
    pub(super) cosine: f64,
}

impl Error {
    fn of(data: &[f32], result: &[f32]) -> Self {
        let (mut max, mut squares, mut count) = (0.0_f64, 0.0, 0_u64);
        let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
        let pairs = data.iter().zip(result).filter(|(x, y)| x.is_finite() && y.is_finite());
        for (x, y) in pairs.map(|(x, y)| (f64::from(*x), f64::from(*y))) {
            let error = x - y;
            max = max.max(error.abs());
            squares += error * error;
            count += 1;
            (xy, xx, yy) = (xy + x * y, xx + x * x, yy + y * y);
        }
        let cosine = match (xx > 0.0, yy > 0.0) {
            (true, true) => xy / (xx * yy).sqrt(),
            (false, false) => 1.0,
            _ => 0.0,
        };
        Self { max, rms: (squares / count.max(1) as f64).sqrt(), cosine }
    }
}

/// Encodes, decodes and adds.
pub(super) fn measure(
    codec: Codec,
    data: &[f32],
    size: u64,
    rounds: u32,
) -> Result<Measured, String> {
    let codec = frame::resolved(codec, Elements::F32(data)).map_err(|error| error.to_string())?;
    let mut coder = Coder::new(codec)?;
    let mut encoded = vec![0; coder.worst_case_bytes(data.len())];
    let encoded_bytes = coder.encode(data, &mut encoded)?;
    let mut result = vec![0.0; data.len()];
    coder.decode(&encoded[..encoded_bytes], &mut result)?;
    let error = Error::of(data, &result);
    drop((encoded, result));
    let long: Vec<f32> = data.iter().cycle().take((size / 4) as usize).copied().collect();
    let [encode, decode, add] = rates(&mut coder, &long, rounds)?;
    Ok(Measured {
        elements: data.len(),
        encoded_bytes,
        bound: coder.bound(),
        error,
        encode_gbps: encode,
        decode_gbps: decode,
        add_gbps: add,
    })
}

/// Medians of the rates at which `coder` encodes, decodes and adds `data`, in GB/s of f32.
fn rates(coder: &mut Coder, data: &[f32], rounds: u32) -> Result<[f64; 3], String> {
    let room = coder.worst_case_bytes(data.len());
    let (mut encoded, mut scratch) = (vec![0_u8; room], vec![0_u8; room]);
    let (mut result, mut sum) = (vec![0.0; data.len()], vec![0.0; data.len()]);
    let mut seconds: [Vec<f64>; 3] = Default::default();
    // The first round touches the memory and counts only if there is no other.
    for _ in 0..=rounds {
        let start = Instant::now();
        let bytes = coder.encode(data, &mut encoded)?;
        let encoded_at = Instant::now();
        coder.decode(&encoded[..bytes], &mut result)?;
        let decoded_at = Instant::now();
        coder.add(&encoded[..bytes], &mut sum, &mut scratch)?;
        let end = Instant::now();
        let times = [encoded_at - start, decoded_at - encoded_at, end - decoded_at];
        for (all, time) in seconds.iter_mut().zip(times) {
            all.push(time.as_secs_f64());
        }
    }
    Ok(seconds.map(|mut all| {
        all.remove(0);
        all.sort_by(f64::total_cmp);
        let median = f64::midpoint(all[(all.len() - 1) / 2], all[all.len() / 2]);
        4e-9 * data.len() as f64 / median
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_is_measured_and_keeps_its_bound() {
        let data: Vec<f32> = (0..5000_u32).map(|i| ((i * i % 997) as f32 - 498.0) / 99.0).collect();
        for text in [
            "none",
            "bf16",
            "fp8_e5m2:stochastic",
            "bounded:abs=0.01",
            "bounded:rms=0.1",
            "block8",
            "block4:group=32",
            "lossless",
            "topk:0.1",
            "threshold:1",
            "filter_sr:max=0.3",
        ] {
            let codec: Codec = text.parse().expect("a codec");
            let measured = measure(codec, &data, 40_000, 2).expect("measured");
            assert_eq!(measured.elements, 5000);
            assert!(measured.encode_gbps > 0.0 && measured.decode_gbps > 0.0, "{text}");
            assert!(measured.add_gbps > 0.0, "{text}");
            let within = measured.bound.is_none_or(|bound| measured.error.max <= bound);
            assert!(within, "{text}: {measured:?}");
            assert!(measured.error.cosine > 0.4, "{text}: {measured:?}");
            let exact = matches!(text, "none" | "lossless");
            assert_eq!(measured.error.max == 0.0, exact, "{text}");
        }
    }

    #[test]
    fn errors_are_those_of_finite_elements() {
        let error = Error::of(&[3.0, f32::NAN, 4.0], &[3.0, f32::NAN, 0.0]);
        assert_eq!((error.max, error.cosine), (4.0, 0.6));
        assert!((error.rms - 8.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!(Error::of(&[0.0], &[0.0]), Error { max: 0.0, rms: 0.0, cosine: 1.0 });
        assert_eq!(Error::of(&[1.0], &[0.0]).cosine, 0.0);
    }
}
