//! How the peers are started: every one as somebody who knows it would.

mod agent;
mod mpi;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::args::PeerArg;
use super::protocol::CONTROL;
use crate::cli::TransportArg;
use crate::launch::{Placement, bind, place};
use crate::plan::Plan;
use crate::rank::PLAN;
use crate::scratch::Scratch;

/// The processors of all ranks, for programs that MPI's launchers start.
const RANK_CPUS: &str = "COLLBENCH_RANK_CPUS";
/// The network interface that Gloo and the sockets shall use.
const INTERFACE: &str = "COLLBENCH_INTERFACE";
/// The folder in which the ranks of such peers meet.
const STORE: &str = "COLLBENCH_STORE";

/// Where contestants run, and with what.
pub(crate) struct Site<'a> {
    /// What Syncline is told; its wires and binding are everybody's.
    pub(crate) plan: &'a Plan,
    /// Ranks of every contestant.
    pub(crate) ranks: u32,
    /// Where they run.
    pub(crate) placement: &'a Placement,
    /// Temporary files.
    pub(crate) scratch: &'a Scratch,
    /// Where `benches/peers/setup` has put the peers.
    pub(crate) peers_dir: &'a Path,
}

impl Site<'_> {
    /// Where the ranks of `name` find collbench.
    pub(crate) fn control(&self, name: &str) -> PathBuf {
        self.scratch.path().join(format!("{name}.socket"))
    }

    /// Syncline itself.
    pub(crate) fn syncline(&self, name: &str) -> Vec<Command> {
        self.every_rank(name, &[OsStr::new("__contestant")], self.plan.bind)
    }

    /// The processes of a peer, or why it cannot take part.
    pub(crate) fn peer(&self, peer: &PeerArg) -> Result<Vec<Command>, String> {
        match peer {
            PeerArg::OpenMpi => self.open_mpi(),
            PeerArg::Mpich => self.mpich(),
            PeerArg::Impi => self.intel_mpi(),
            PeerArg::Gloo => self.gloo(),
            PeerArg::Sockets => self.sockets(),
            PeerArg::Stream => self.stream(),
            PeerArg::Program { name, path } => {
                let program = existing(path)?;
                let arguments = ["__exec", "--"].map(OsStr::new);
                let own = [program.as_os_str(), OsStr::new("__contestant")];
                Ok(self.every_rank(name, &[&arguments[..], &own].concat(), self.plan.bind))
            }
        }
    }

    /// `collbench ARGUMENTS` once per rank, each on processors of its own if `is_bound`.
    fn every_rank(&self, name: &str, arguments: &[&OsStr], is_bound: bool) -> Vec<Command> {
        let json = serde_json::to_string(self.plan).expect("a plan is plain data");
        let command = |rank| {
            let mut command = self.placement.command(rank, arguments);
            let mut own = place(rank, self.ranks, self.placement, self.scratch);
            // Every contestant is a job of its own.
            own.rendezvous.set_file_name(format!("{name}.rendezvous"));
            own.tell(&mut command);
            if is_bound {
                bind::tell(&mut command, rank, self.ranks, self.placement);
            }
            command.env(PLAN, &json);
            self.tell(&mut command, name, is_bound);
            command
        };
        (0..self.ranks).map(command).collect()
    }

    /// What every contestant is told.
    fn tell(&self, command: &mut Command, name: &str, is_bound: bool) {
        let cpus =
            if is_bound { bind::of_all_ranks(self.ranks, self.placement) } else { String::new() };
        command.env(CONTROL, self.control(name)).env(RANK_CPUS, cpus);
    }

    fn gloo(&self) -> Result<Vec<Command>, String> {
        if self.plan.transport == TransportArg::Shm {
            return Err("Gloo has no shared memory; compare with it over --transport tcp".into());
        }
        // Its second thread moves the bytes, and spins until somebody asks for them: kept to one
        // core the two take turns by the scheduler's tick, 4 ms for 256 KiB.
        self.meeting_in_a_folder("gloo", false)
    }

    fn sockets(&self) -> Result<Vec<Command>, String> {
        if self.plan.transport == TransportArg::Shm {
            return Err("it shows what TCP can do; compare with it over --transport tcp".into());
        }
        self.meeting_in_a_folder("sockets", self.plan.bind)
    }

    fn stream(&self) -> Result<Vec<Command>, String> {
        if self.plan.transport == TransportArg::Tcp {
            return Err("it shows what memory can do; compare with it over --transport shm".into());
        }
        self.meeting_in_a_folder("stream", self.plan.bind)
    }

    /// A program of `setup`, once per rank, that uses one interface and a folder that all share.
    fn meeting_in_a_folder(&self, name: &str, is_bound: bool) -> Result<Vec<Command>, String> {
        let program = self.built(name)?;
        let store = self.scratch.path().join(format!("{name}.store"));
        std::fs::create_dir_all(&store).map_err(|e| format!("cannot make its store: {e}"))?;
        let arguments = [OsStr::new("__exec"), OsStr::new("--"), program.as_os_str()];
        let mut commands = self.every_rank(name, &arguments, is_bound);
        for command in &mut commands {
            command.env(STORE, &store).env(INTERFACE, self.interface());
        }
        Ok(commands)
    }

    /// A program that `setup` has built.
    fn built(&self, name: &str) -> Result<PathBuf, String> {
        existing(&self.peers_dir.join(name))
    }

    const fn interface(&self) -> &'static str {
        if self.placement.namespaces.is_empty() { "lo" } else { "eth0" }
    }
}

/// `path`, if there is such a file.
fn existing(path: &Path) -> Result<PathBuf, String> {
    match std::fs::canonicalize(path) {
        Ok(path) if path.is_file() => Ok(path),
        _ => Err(format!("there is no {}; run benches/peers/setup", path.display())),
    }
}
