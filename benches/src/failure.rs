//! Why collbench stops, and with which exit status.

use std::fmt;

/// Why collbench stops before, or instead of, a good result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or an input file is wrong: exit status 2.
    Usage(String),
    /// A rank failed, a result was wrong, or the system refused: exit status 1.
    Run(String),
    /// Ctrl-C or SIGTERM: exit status 130.
    Interrupted,
    /// A launched program failed; its status becomes collbench's.
    Program {
        /// The program's exit status, or 128 + signal.
        status: u8,
        /// Which rank and how.
        message: String,
    },
}

/// `Result` with [`Failure`].
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// Wrong input.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// A failed run.
    pub(crate) fn run(message: impl Into<String>) -> Self {
        Self::Run(message.into())
    }

    /// The process exit status.
    pub(crate) const fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Run(_) => 1,
            Self::Interrupted => 130,
            Self::Program { status, .. } => *status,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Run(message) | Self::Program { message, .. } => {
                f.write_str(message)
            }
            Self::Interrupted => f.write_str("interrupted; all ranks were ended"),
        }
    }
}
