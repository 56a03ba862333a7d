//! How a communicator is to behave. The defaults need no environment variable to work.

use std::path::PathBuf;
use std::time::Duration;

/// Which wires to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TransportChoice {
    /// Shared memory inside a host, TCP between hosts.
    #[default]
    Auto,
    /// Shared memory only; ranks on several hosts are an error.
    Shm,
    /// TCP only, also inside a host.
    Tcp,
}

impl TransportChoice {
    /// The name used by the CLI and in errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Shm => "shm",
            Self::Tcp => "tcp",
        }
    }

    /// The choice called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Auto, Self::Shm, Self::Tcp].into_iter().find(|choice| choice.name() == name)
    }
}

/// Options of a communicator. Every rank must give the same, apart from `interface`; rank 0's
/// `tuning_file` counts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which wires to use.
    pub transport: TransportChoice,
    /// How long a call waits without finishing before it fails and names who has not come.
    pub timeout: Duration,
    /// Most bytes of staging memory this process uses for the communicator: pipes and scratch.
    pub staging_bytes_max: usize,
    /// Results depend on inputs by rank, operator, type and rank count only, to the last bit.
    pub reproducible: bool,
    /// Use this algorithm wherever it serves the collective, instead of the planner's choice.
    pub algorithm: Option<String>,
    /// Network interface, by name or address, for connections between hosts; by default the one
    /// that routes to the job's root.
    pub interface: Option<String>,
    /// Link constants to use instead of measuring: a TOML file as `collbench topo` prints.
    pub tuning_file: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            transport: TransportChoice::Auto,
            timeout: Duration::from_secs(300),
            staging_bytes_max: 32 << 20,
            reproducible: false,
            algorithm: None,
            interface: None,
            tuning_file: None,
        }
    }
}
