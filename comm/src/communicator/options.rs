//! How a communicator is to behave. The defaults need no environment variable to work.

use std::path::PathBuf;
use std::time::Duration;

use crate::rendezvous::Ports;

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

/// Options of a communicator. Every rank must give the same, apart from `interface` and `ports`; rank 0's
/// `tuning_file` counts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which wires to use.
    pub transport: TransportChoice,
    /// How long a call waits without finishing before it fails and names who has not come.
    pub timeout: Duration,
    /// How long a host may be silent before its ranks count as lost. The kernels of the hosts
    /// find out by themselves (TCP keepalive and user timeout); processes that end are noticed at
    /// once.
    pub host_timeout: Duration,
    /// Most bytes of staging memory this process uses for the communicator: pipes and scratch.
    pub staging_bytes_max: usize,
    /// Results depend on inputs by rank, operator, type and rank count only, to the last bit.
    pub reproducible: bool,
    /// Use this algorithm wherever it serves the collective, instead of the planner's choice.
    pub algorithm: Option<String>,
    /// Network interfaces for connections between hosts; by default the one that routes to the
    /// job's root. A comma-separated list of names (`eth0`, or `ib*` for all that begin so),
    /// addresses (`10.1.0.7`, `fd00::7`) and subnets (`10.1.0.0/16`). `^` before an item excludes
    /// it; before the first, it excludes the whole list: `^docker0,virbr0`.
    pub interface: Option<String>,
    /// TCP ports to listen on, for networks with a firewall; by default any that is free. A host
    /// needs one for each of its ranks.
    pub ports: Ports,
    /// Encrypt everything that goes over TCP, also between ranks of one host: the rendezvous, pipes
    /// and control. Shared memory stays as it is. Ranks that differ in this are told at `init`.
    pub encrypt: bool,
    /// Link constants to use instead of measuring: a TOML file as `collbench topo` prints.
    pub tuning_file: Option<PathBuf>,
    /// Folder that a [dump](super::Communicator::dump) is written to when an error ends the
    /// communicator; none writes none.
    pub dump_dir: Option<PathBuf>,
    /// How many of its last operations a communicator remembers for
    /// [`dump`](super::Communicator::dump), rounded up to a power of two; 64 bytes each.
    pub flight_records: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            transport: TransportChoice::Auto,
            timeout: Duration::from_secs(300),
            host_timeout: Duration::from_secs(5),
            staging_bytes_max: 32 << 20,
            reproducible: false,
            algorithm: None,
            interface: None,
            ports: Ports::ANY,
            encrypt: false,
            tuning_file: None,
            dump_dir: None,
            flight_records: 256,
        }
    }
}
