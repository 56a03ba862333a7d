//! `collbench codec`: what each codec makes of real tensors: ratio, error, and speed on one core.
//!
//! Ratio and error are those of the file's elements, encoded at once, headers included. Rates are
//! medians over several rounds of `--size` bytes of the file's elements, over and over again.

mod coder;
mod measure;
mod show;

use std::path::PathBuf;

use clap::Args;
use syncline_codecs::descriptor::Codec;

use crate::failure::{Failure, Outcome};
use crate::npy;
use crate::report::say;
use crate::size::parse_size;

/// Arguments of `codec`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER)]
pub(crate) struct CodecArgs {
    /// Tensors: .npy files of little-endian float32
    #[arg(required = true, value_name = "FILE.npy")]
    files: Vec<PathBuf>,
    /// Codecs with their parameters; none is the rate of a copy
    #[arg(long, num_args = 1.., value_name = "CODEC", default_values_t = codecs_default())]
    codec: Vec<String>,
    /// Bytes of float32 that rates are measured with
    #[arg(long, value_parser = parse_size, default_value = "64M", value_name = "SIZE")]
    size: u64,
    /// How often everything is timed; the median counts
    #[arg(long, default_value_t = 9, value_name = "N")]
    rounds: u32,
    /// Write the rows as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const AFTER: &str = "\
Codecs: none, bounded:abs=1e-4, bounded:rms=0.01, bounded:max=1e-3, block8:group=64, block6, block4, \
bf16, fp16, fp8_e4m3, fp8_e5m2 (each also with :stochastic), lossless, topk:0.01, threshold:1e-3, \
filter_sr:rms=1. Bounds relative to rms or max are relative to all elements of the file.

Columns: ratio against float32 and bf16, headers included; bound, largest error and rms error in the \
unit of the data; cosine of data and result; GB/s of float32 on one core, encoding, decoding, and \
adding an encoded tensor to a sum (for bounded: to an encoded sum).";

/// What is measured where nobody says.
fn codecs_default() -> Vec<String> {
    let codecs = [
        "none",
        "bf16",
        "fp8_e4m3",
        "bounded:rms=0.01",
        "bounded:rms=0.1",
        "block8",
        "block6",
        "block4",
        "lossless",
        "topk:0.01",
        "filter_sr:rms=1",
    ];
    codecs.map(String::from).into()
}

/// The largest tensor that rates are measured with.
const SIZE_MAX: u64 = 4 << 30;

/// Measures every codec on every file.
pub(crate) fn codec(args: &CodecArgs) -> Outcome {
    if args.rounds == 0 {
        return Err(Failure::usage("--rounds 0 measures nothing; give at least 1"));
    }
    if !(4..=SIZE_MAX).contains(&args.size) {
        return Err(Failure::usage(format!(
            "--size {} is not between 4 bytes and 4 GiB",
            args.size
        )));
    }
    let codecs = args.codec.iter().map(|text| parse(text)).collect::<Outcome<Vec<_>>>()?;
    let mut matrices = Vec::new();
    for path in &args.files {
        matrices.push((path, npy::read(path).map_err(Failure::usage)?));
    }
    say(&show::header(args.size, args.rounds))?;
    let mut rows = Vec::new();
    for (path, matrix) in &matrices {
        for (text, codec) in args.codec.iter().zip(&codecs) {
            let measured = measure::measure(*codec, &matrix.values, args.size, args.rounds)
                .map_err(|error| {
                    Failure::usage(format!("{text} on {}: {error}", path.display()))
                })?;
            let row = show::Row::new(path, text, measured);
            say(&row.line())?;
            rows.push(row);
        }
    }
    match &args.json {
        Some(path) => show::write_json(path, args.size, args.rounds, &rows),
        None => Ok(()),
    }
}

/// A codec that can be measured without a network.
fn parse(text: &str) -> Outcome<Codec> {
    let codec: Codec = text.parse().map_err(|error| Failure::usage(format!("--codec {error}")))?;
    match codec {
        Codec::Auto { .. } => Err(Failure::usage(format!(
            "--codec {text}: auto chooses among codecs by the speed of a link, and there is none \
             here; name the codecs to compare"
        ))),
        _ => Ok(codec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_codecs_exist() {
        for text in codecs_default() {
            assert!(parse(&text).is_ok(), "{text}");
        }
        let why = |text| parse(text).expect_err("refused").to_string();
        assert!(why("auto:rms=0.1").contains("there is none here"));
        assert!(why("zip").contains("no codec is called `zip`"));
    }
}
