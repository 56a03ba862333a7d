//! `collbench trial`: what one way of using the library costs over another, in one run.
//!
//! Every rank is a process of `collbench launch` that runs the trial itself; rank 0 speaks. The two or
//! three ways take turns, and a turn counts as long as its slowest rank.

mod coalesced;
mod half;
mod overlap;
mod turns;

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, ValueEnum};
use syncline::communicator::{Communicator, Options, Rendezvous};

use crate::cli::TransportArg;
use crate::failure::{Failure, Outcome};
use crate::launch::{self, Placement, die_with_parent, launched};
use crate::plan::check_ranks;
use crate::rank::give_name;
use crate::report::say;

/// Ranks when the user does not say.
const RANKS_DEFAULT: u32 = 2;

/// Arguments of `trial`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER)]
pub(crate) struct TrialArgs {
    /// What to try
    #[arg(value_enum, value_name = "WHAT")]
    what: What,
    /// Ranks to start on this machine [default: 2; under a launcher: all it started]
    #[arg(short = 'n', long, value_name = "N")]
    ranks: Option<u32>,
    /// Which wires to use
    #[arg(short, long, value_enum, default_value_t)]
    transport: TransportArg,
    /// How often all ways take a turn
    #[arg(long, default_value_t = 15, value_name = "N")]
    rounds: u32,
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// 200 tensors of 1 to 64 KiB: all_reduce_coalesced against all_reduce of each
    Coalesced,
    /// all_reduce of bf16 against as many f32
    Bf16,
    /// A started all_reduce of 16 MiB with as much computation meanwhile, against the longer of both
    Overlap,
}

const AFTER: &str = "\
In a lab: collbench lab --hosts 2 --rate 1gbit -- launch -n 2 -- collbench trial overlap";

/// Starts the ranks, or is one of them.
pub(crate) fn trial(args: &TrialArgs) -> Outcome {
    if args.rounds == 0 {
        return Err(Failure::usage("--rounds 0 measures nothing; give at least 1"));
    }
    match launched()? {
        Some(job) => {
            die_with_parent()?;
            give_name(job.rank);
            let transport = args.transport.choice();
            let (rank, ranks) = (job.rank, job.ranks);
            let timeout = Duration::from_secs(60);
            let options = Options { transport, timeout, ..Options::default() };
            let comm = Communicator::init(&Rendezvous::Launched(job), rank, ranks, options);
            comm.and_then(|comm| play(args, &comm)).map_err(|e| Failure::run(e.to_string()))?
        }
        None => {
            let ranks = args.ranks.unwrap_or(RANKS_DEFAULT);
            check_ranks(ranks)?;
            let me = std::env::current_exe().map_err(|e| Failure::run(e.to_string()))?;
            let given = std::env::args_os().skip(1);
            let program: Vec<OsString> = std::iter::once(me.into()).chain(given).collect();
            launch::launch(&program, ranks, &Placement::default())
        }
    }
}

/// A rank's part; what rank 0 has to say is said.
fn play(args: &TrialArgs, comm: &Communicator) -> syncline::Result<Outcome> {
    let lines = match args.what {
        What::Coalesced => coalesced::play(comm, args.rounds)?,
        What::Bf16 => half::play(comm, args.rounds)?,
        What::Overlap => overlap::play(comm, args.rounds)?,
    };
    let head = format!(
        "# {} ranks on {} hosts, transport {}: medians of {} rounds, of the slowest rank",
        comm.ranks(),
        comm.hosts(),
        args.transport.name(),
        args.rounds
    );
    if comm.rank() != 0 {
        return Ok(Ok(()));
    }
    Ok(std::iter::once(head).chain(lines).try_for_each(|line| say(&line)))
}
