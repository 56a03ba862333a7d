//! What users write: tuning files, arrays, words of a command line.

use std::path::Path;

use syncline_topology::{Constants, CpuSet};

/// A tuning file over the built-in constants.
pub(crate) fn tuning(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let file = Path::new("tuning.toml");
    match Constants::default().overridden(text, file) {
        Ok(constants) => {
            let bytes = constants.to_bytes();
            assert_eq!(Constants::from_bytes(&bytes), Some(constants));
        }
        Err(error) => assert!(error.to_string().contains("tuning.toml")),
    }
}

/// A `.npy` file.
pub(crate) fn npy(data: &[u8]) {
    if let Ok(matrix) = crate::npy::parse(data) {
        assert_eq!(matrix.values.len(), matrix.rows * matrix.columns);
        for row in 0..matrix.rows {
            assert_eq!(matrix.row(row).len(), matrix.columns);
        }
    }
}

/// A size, a rate, a list of processors.
pub(crate) fn command_line(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(size) = crate::size::parse_size(text) {
        assert_eq!(crate::size::parse_size(&size.to_string()), Ok(size));
    }
    if let Ok(rate) = text.parse::<crate::rate::Rate>() {
        let again: crate::rate::Rate = rate.to_string().parse().expect("it was printed");
        assert_eq!(again.bits_per_second(), rate.bits_per_second());
    }
    let cpus = CpuSet::parse(text);
    assert_eq!(CpuSet::parse(&cpus.to_string()), cpus);
}
