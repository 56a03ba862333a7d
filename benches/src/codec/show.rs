//! The table and the JSON of `collbench codec`.

use std::path::Path;

use serde::Serialize;

use super::measure::Measured;
use crate::failure::{Failure, Outcome};

/// One codec on one file; scripts rely on the names.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    file: String,
    codec: String,
    elements: usize,
    encoded_bytes: usize,
    ratio_f32: f64,
    ratio_bf16: f64,
    /// None for codecs that promise none.
    bound: Option<f64>,
    max_error: f64,
    rms_error: f64,
    cosine: f64,
    encode_gbps: f64,
    decode_gbps: f64,
    add_gbps: f64,
}

impl Row {
    pub(super) fn new(path: &Path, codec: &str, measured: Measured) -> Self {
        let per_byte = measured.elements as f64 / measured.encoded_bytes as f64;
        Self {
            file: path.display().to_string(),
            codec: codec.to_owned(),
            elements: measured.elements,
            encoded_bytes: measured.encoded_bytes,
            ratio_f32: 4.0 * per_byte,
            ratio_bf16: 2.0 * per_byte,
            bound: measured.bound,
            max_error: measured.error.max,
            rms_error: measured.error.rms,
            cosine: measured.error.cosine,
            encode_gbps: measured.encode_gbps,
            decode_gbps: measured.decode_gbps,
            add_gbps: measured.add_gbps,
        }
    }

    /// The row of the table.
    pub(super) fn line(&self) -> String {
        let name = Path::new(&self.file).file_name().unwrap_or_default().to_string_lossy();
        let bound = self.bound.map_or_else(|| "-".to_owned(), |bound| format!("{bound:.2e}"));
        format!(
            "  {:<26} {:<22} {:>7.3} {:>7.3} {:>9} {:>9.2e} {:>9.2e} {:>8.5} {:>7.2} {:>7.2} {:>7.2}",
            name,
            self.codec,
            self.ratio_f32,
            self.ratio_bf16,
            bound,
            self.max_error,
            self.rms_error,
            self.cosine,
            self.encode_gbps,
            self.decode_gbps,
            self.add_gbps,
        )
    }
}

/// What is measured, and the names of the columns.
pub(super) fn header(size: u64, rounds: u32) -> String {
    format!(
        "# one core; rates in GB/s of f32, medians of {rounds} rounds of {size} bytes\n\
         # {:<26} {:<22} {:>7} {:>7} {:>9} {:>9} {:>9} {:>8} {:>7} {:>7} {:>7}",
        "file",
        "codec",
        "/f32",
        "/bf16",
        "bound",
        "max err",
        "rms err",
        "cosine",
        "encode",
        "decode",
        "add"
    )
}

/// The document; scripts rely on its names.
#[derive(Serialize)]
struct Document<'a> {
    bytes: u64,
    rounds: u32,
    rows: &'a [Row],
}

/// Writes all rows as one indented JSON object.
pub(super) fn write_json(path: &Path, bytes: u64, rounds: u32, rows: &[Row]) -> Outcome {
    let failed = |error: String| Failure::run(format!("cannot write {}: {error}", path.display()));
    let text = serde_json::to_string_pretty(&Document { bytes, rounds, rows });
    let text = text.map_err(|error| failed(error.to_string()))?;
    std::fs::write(path, text + "\n").map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::measure::Error;
    use super::*;

    #[test]
    fn the_names_that_scripts_rely_on() {
        let measured = Measured {
            elements: 100,
            encoded_bytes: 50,
            bound: None,
            error: Error { max: 0.5, rms: 0.25, cosine: 0.75 },
            encode_gbps: 1.0,
            decode_gbps: 2.0,
            add_gbps: 3.0,
        };
        let row = Row::new(Path::new("a/b.npy"), "block8", measured);
        assert!(row.line().contains("b.npy") && row.line().contains("8.000"));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.json");
        write_json(&path, 64, 3, &[row]).expect("written");
        let text = std::fs::read_to_string(path).expect("there");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let row = &json["rows"][0];
        assert_eq!((&row["file"], &row["codec"]), (&"a/b.npy".into(), &"block8".into()));
        assert_eq!((row["ratio_f32"].as_f64(), row["ratio_bf16"].as_f64()), (Some(8.0), Some(4.0)));
        assert!(row["bound"].is_null());
        for name in ["max_error", "rms_error", "cosine", "encode_gbps", "decode_gbps", "add_gbps"] {
            assert!(row[name].is_f64(), "{name}");
        }
    }
}
