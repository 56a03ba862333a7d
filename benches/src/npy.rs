//! NumPy `.npy` files: little-endian float32, C order, one or two dimensions.
//!
//! The format is NumPy's NEP 1. Versions 1.0 and 2.0 differ in the width of the header's length.

use std::path::Path;

/// Rows of float32, as a `.npy` file holds them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Matrix {
    /// Number of rows; a one-dimensional file is one row.
    pub(crate) rows: usize,
    /// Elements per row.
    pub(crate) columns: usize,
    /// Row after row.
    pub(crate) values: Vec<f32>,
}

impl Matrix {
    /// Row `index`, counted modulo the number of rows.
    pub(crate) fn row(&self, index: usize) -> &[f32] {
        let start = index % self.rows * self.columns;
        &self.values[start..start + self.columns]
    }
}

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Reads a file; errors name it.
pub(crate) fn read(path: &Path) -> Result<Matrix, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    parse(&bytes).map_err(|reason| format!("{}: {reason}", path.display()))
}

/// Parses the bytes of a file.
pub(crate) fn parse(bytes: &[u8]) -> Result<Matrix, String> {
    let (text, data) = split(bytes)?;
    let header = Header::parse(text)?;
    if header.descr != "<f4" {
        return Err(format!(
            "its elements are '{}', not little-endian float32 ('<f4'); save it with \
             numpy.save(path, array.astype('<f4'))",
            header.descr
        ));
    }
    if header.fortran_order {
        return Err("it is in Fortran order; save it with \
                    numpy.save(path, numpy.ascontiguousarray(array))"
            .into());
    }
    let (rows, columns) = match header.shape[..] {
        [columns] => (1, columns),
        [rows, columns] => (rows, columns),
        _ => {
            return Err(format!(
                "it has {} dimensions; give one row per rank: array.reshape(ranks, -1)",
                header.shape.len()
            ));
        }
    };
    let elements = rows.checked_mul(columns).ok_or("its shape does not fit in memory")?;
    if elements == 0 {
        return Err("it holds no element".into());
    }
    if elements.checked_mul(4) != Some(data.len()) {
        return Err(format!(
            "its header promises {elements} elements of 4 bytes but {} bytes follow; the file is \
             cut short or damaged",
            data.len()
        ));
    }
    let values =
        data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(Matrix { rows, columns, values })
}

/// Header text and data.
fn split(bytes: &[u8]) -> Result<(&str, &[u8]), String> {
    let cut = || "it ends inside its header; the file is cut short or damaged".to_owned();
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or("it is not a .npy file (numpy.save writes those; .npz and text are not read)")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
    let (length, rest) = match version {
        [1, 0] => {
            let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        [2, 0] => {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        [major, minor] => {
            return Err(format!(".npy version {major}.{minor} is not supported (1.0 and 2.0 are)"));
        }
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    let text = std::str::from_utf8(header).map_err(|_| "its header is not text")?;
    Ok((text, data))
}

/// The dictionary in front of the data.
#[derive(Debug, PartialEq)]
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Parses the Python dictionary literal: exactly the three keys of NEP 1, in any order.
    fn parse(text: &str) -> Result<Self, String> {
        let damaged = || format!("its header is not understood: {}", text.trim());
        let inner =
            text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(damaged)?;
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        let mut rest = inner.trim_start();
        while !rest.is_empty() {
            let (key, after) = quoted(rest).ok_or_else(damaged)?;
            let value = after.trim_start().strip_prefix(':').ok_or_else(damaged)?.trim_start();
            let after = match key {
                "descr" if descr.is_none() => {
                    if value.starts_with('[') {
                        return Err(
                            "its elements are records; one plain float32 array is read".into()
                        );
                    }
                    let (text, after) = quoted(value).ok_or_else(damaged)?;
                    descr = Some(text.to_owned());
                    after
                }
                "fortran_order" if fortran_order.is_none() => {
                    let (flag, after) = boolean(value).ok_or_else(damaged)?;
                    fortran_order = Some(flag);
                    after
                }
                "shape" if shape.is_none() => {
                    let (dims, after) = tuple(value).ok_or_else(damaged)?;
                    shape = Some(dims);
                    after
                }
                _ => return Err(damaged()),
            };
            rest = after.trim_start();
            match rest.strip_prefix(',') {
                Some(next) => rest = next.trim_start(),
                None if rest.is_empty() => {}
                None => return Err(damaged()),
            }
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => {
                Ok(Self { descr, fortran_order, shape })
            }
            _ => Err(damaged()),
        }
    }
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

fn boolean(text: &str) -> Option<(bool, &str)> {
    let no = text.strip_prefix("False").map(|rest| (false, rest));
    no.or_else(|| text.strip_prefix("True").map(|rest| (true, rest)))
}

fn tuple(text: &str) -> Option<(Vec<usize>, &str)> {
    let (inside, rest) = text.strip_prefix('(')?.split_once(')')?;
    let inside = inside.trim();
    let inside = inside.strip_suffix(',').unwrap_or(inside);
    if inside.is_empty() {
        return Some((Vec::new(), rest));
    }
    let dims = inside.split(',').map(|dim| dim.trim().parse().ok()).collect::<Option<_>>()?;
    Some((dims, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, header: &str, data: &[f32]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend(u16::try_from(header.len()).expect("short").to_le_bytes()),
            _ => bytes.extend(u32::try_from(header.len()).expect("short").to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(data.iter().flat_map(|v| v.to_le_bytes()));
        bytes
    }

    #[test]
    fn both_versions_and_both_dimensions() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n";
        let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.5];
        for version in [1, 2] {
            let matrix = parse(&file(version, header, &data)).expect("valid");
            assert_eq!((matrix.rows, matrix.columns), (2, 3));
            assert_eq!(matrix.row(0), [1.0, 2.0, 3.0]);
            assert_eq!(matrix.row(3), [4.0, 5.0, 6.5], "rows repeat");
        }
        let flat = "{\"shape\": (6,), 'fortran_order': False, 'descr': '<f4'}";
        let matrix = parse(&file(1, flat, &data)).expect("valid");
        assert_eq!((matrix.rows, matrix.columns), (1, 6));
    }

    #[test]
    fn each_fault_is_told_apart() {
        let dict = |descr: &str, order: &str, shape: &str| {
            format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n")
        };
        let four = [0.0; 4];
        let cases = [
            (dict("'<f8'", "False", "(4,)"), "astype('<f4')"),
            (dict("'>f4'", "False", "(4,)"), "astype('<f4')"),
            (dict("[('a', '<f4')]", "False", "(4,)"), "records"),
            (dict("'<f4'", "True", "(2, 2)"), "Fortran"),
            (dict("'<f4'", "False", "(1, 2, 2)"), "3 dimensions"),
            (dict("'<f4'", "False", "()"), "0 dimensions"),
            (dict("'<f4'", "False", "(0, 4)"), "no element"),
            (dict("'<f4'", "False", "(5,)"), "cut short"),
            (dict("'<f4'", "False", "(3,)"), "cut short"),
            (dict("'<f4'", "False", "(-4,)"), "not understood"),
            (dict("'<f4'", "No", "(4,)"), "not understood"),
            (dict("'<f4'", "False", "(18446744073709551615, 2)"), "does not fit"),
            ("{'descr': '<f4', 'fortran_order': False}".into(), "not understood"),
            ("{'descr': '<f4', 'descr': '<f4', 'shape': (4,)}".into(), "not understood"),
            ("{'descr' '<f4'}".into(), "not understood"),
            (String::new(), "not understood"),
        ];
        for (header, expected) in cases {
            let error = parse(&file(1, &header, &four)).expect_err(&header);
            assert!(error.contains(expected), "{header}: {error}");
        }
    }

    #[test]
    fn every_prefix_of_a_file_is_refused() {
        let whole = file(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", &[1., 2.]);
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err(), "{end} bytes");
        }
        assert!(parse(&whole).is_ok());
    }

    #[test]
    fn foreign_files_and_versions() {
        assert!(parse(b"PK\x03\x04").expect_err("zip").contains("not a .npy file"));
        let mut bytes = file(1, "{}", &[]);
        bytes[6] = 3;
        assert!(parse(&bytes).expect_err("version").contains("version 3.0"));
    }
}
