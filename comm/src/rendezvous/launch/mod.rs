//! Jobs that a launcher has started: recognised by their environment, and how their ranks meet.
//!
//! Nothing here needs an environment variable: without any there is just no job to be found.

mod detect;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod job_secret;
mod meet;
mod nodelist;
mod pmi1;
mod pmi_client;
mod resolve;
mod talk;
mod tcp_store;
#[cfg(test)]
mod tests;
mod torch_store;

use std::fmt;
use std::path::PathBuf;

pub(crate) use meet::join;

pub use job_secret::JobSecret;

use super::UniqueId;
use super::ports::Ports;
use crate::error::{Error, Rank, Result};

/// Who started the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Launcher {
    /// `collbench launch`, or whoever sets `SYNCLINE_RANK` and its like.
    Syncline,
    /// torchrun, with its agent's store.
    Torchrun,
    /// Open MPI's mpirun, or PRRTE's prterun.
    OpenMpi,
    /// A process manager that speaks PMI-1: Hydra of MPICH and Intel MPI, or
    /// `srun --mpi=pmi2`.
    Pmi,
    /// HPE's PALS (mpiexec, aprun).
    Pals,
    /// Slurm's srun.
    Slurm,
    /// `RANK`, `WORLD_SIZE` and `MASTER_ADDR`, as PyTorch's `env://` has them, without an agent.
    Torch,
}

impl Launcher {
    /// Its name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syncline => "Syncline",
            Self::Torchrun => "torchrun",
            Self::OpenMpi => "Open MPI",
            Self::Pmi => "PMI-1",
            Self::Pals => "PALS",
            Self::Slurm => "Slurm",
            Self::Torch => "env://",
        }
    }
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a PMI-1 server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PmiServer {
    /// At the other end of this descriptor, which the process inherited.
    Descriptor(i32),
    /// At this host and port, where the process goes by `id`.
    Port {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// What the process is to introduce itself as.
        id: String,
    },
}

/// How the ranks of a launched job meet: what carries the id that one of them makes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Meeting {
    /// There is nobody to meet.
    Alone,
    /// The launcher carried the id.
    Id(UniqueId),
    /// A file. The root creates its folder, for this user alone, unless it is there.
    File(PathBuf),
    /// The store of torchrun's agent.
    AgentStore {
        /// Name or address of its host.
        host: String,
        /// Its port; only ever connected to.
        port: u16,
        /// Goes before the key.
        namespace: String,
    },
    /// The key space of a PMI-1 server.
    Pmi(PmiServer),
    /// No id: the root listens on the job's first host, at ports that follow from the job's
    /// name, and the secret was given to the job.
    FirstHost {
        /// Name or address of that host.
        host: String,
        /// Ports to try.
        ports: Ports,
        /// What all ranks know and nobody else.
        secret: JobSecret,
    },
}

impl fmt::Display for Meeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone => f.write_str("alone"),
            Self::Id(id) => write!(f, "by id at {:?}", id.addresses()),
            Self::File(path) => write!(f, "by the file {}", path.display()),
            Self::AgentStore { host, port, .. } => {
                write!(f, "through torchrun's store at {host} port {port}")
            }
            Self::Pmi(PmiServer::Descriptor(fd)) => write!(f, "through PMI-1 on descriptor {fd}"),
            Self::Pmi(PmiServer::Port { host, port, .. }) => {
                write!(f, "through PMI-1 at {host} port {port}")
            }
            Self::FirstHost { host, ports, .. } => {
                write!(f, "at the first host, {host}, ports {ports}")
            }
        }
    }
}

/// A job that a launcher has started this process as part of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaunchEnvironment {
    /// Who started it.
    pub launcher: Launcher,
    /// This process's rank.
    pub rank: Rank,
    /// Ranks in the job.
    pub ranks: Rank,
    /// This process's number on its host, if the launcher says.
    pub local_rank: Option<Rank>,
    /// Ranks on this host, if the launcher says.
    pub local_ranks: Option<Rank>,
    /// How the ranks meet.
    pub meeting: Meeting,
    /// Whether this process is the root of the meeting.
    pub leads: bool,
}

impl LaunchEnvironment {
    /// What the environment variables of this process say; `None` when no launcher started it.
    /// Of several launchers the one that started the process last counts: `SYNCLINE_*`, torchrun,
    /// Open MPI, PMI-1, PALS, Slurm, `env://`, in this order.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when a launcher's variables are incomplete or contradict each
    /// other, naming them.
    pub fn detect() -> Result<Option<Self>> {
        Self::detect_with(|name| std::env::var(name).ok())
    }

    /// Like [`detect`](Self::detect), with another source of variables.
    ///
    /// # Errors
    /// As there.
    pub fn detect_with(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        detect::detect(&detect::Variables::new(&lookup)).map_err(|reason| Error::InvalidArgument {
            operation: "LaunchEnvironment::detect",
            reason,
        })
    }
}

impl fmt::Display for LaunchEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { launcher, rank, ranks, meeting, .. } = self;
        write!(f, "rank {rank} of {ranks} under {launcher}, meeting {meeting}")
    }
}
