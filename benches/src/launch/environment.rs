//! The environment by which a launcher tells a process its place in the job.

use std::path::PathBuf;
use std::process::Command;

use syncline::communicator::{LaunchEnvironment, Launcher};

use crate::failure::{Failure, Outcome};

/// Rank of the process.
pub(crate) const RANK: &str = "SYNCLINE_RANK";
/// Number of ranks.
pub(crate) const WORLD_SIZE: &str = "SYNCLINE_WORLD_SIZE";
/// A path that all ranks share.
pub(crate) const RENDEZVOUS: &str = "SYNCLINE_RENDEZVOUS";

/// The place of one process.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Its rank.
    pub(crate) rank: u32,
    /// Number of ranks.
    pub(crate) ranks: u32,
    /// Its number on its host.
    pub(crate) local_rank: u32,
    /// Number of ranks on its host.
    pub(crate) local_ranks: u32,
    /// Where ranks find each other.
    pub(crate) rendezvous: PathBuf,
}

impl Place {
    /// Tells `command` its place, in Syncline's names and in torchrun's.
    pub(crate) fn tell(&self, command: &mut Command) {
        command.env(RANK, self.rank.to_string());
        command.env(WORLD_SIZE, self.ranks.to_string());
        command.env(RENDEZVOUS, &self.rendezvous);
        command.env("RANK", self.rank.to_string());
        command.env("WORLD_SIZE", self.ranks.to_string());
        command.env("LOCAL_RANK", self.local_rank.to_string());
        command.env("LOCAL_WORLD_SIZE", self.local_ranks.to_string());
        command.env(super::child::PARENT, std::process::id().to_string());
    }
}

/// The job that a launcher started this process as part of.
pub(crate) fn launched() -> Outcome<Option<LaunchEnvironment>> {
    let found = LaunchEnvironment::detect().map_err(|e| Failure::usage(e.to_string()))?;
    // An interactive shell under `srun --pty` is a task, too, but not one of collbench's ranks.
    Ok(found.filter(|job| job.ranks > 1 || job.launcher != Launcher::Slurm))
}
