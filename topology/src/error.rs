//! What can go wrong: only files that a user names.

use std::path::PathBuf;

/// A tuning file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read or written.
    #[error(
        "{}: {reason}; check that the path exists and that this user may access it", file.display()
    )]
    File {
        /// Which file.
        file: PathBuf,
        /// The system's own words.
        reason: String,
    },
    /// It is not TOML, or has a key that is unknown or of another type.
    #[error("{}: {reason}", file.display())]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// What and where, and what would be right.
        reason: String,
    },
    /// A number makes no sense.
    #[error("{}: {key} is {found}; expected {expected}", file.display())]
    Value {
        /// Which file.
        file: PathBuf,
        /// The key, with its tables.
        key: String,
        /// What it says.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
}
