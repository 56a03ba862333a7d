//! collbench: measures and checks Syncline's collectives.
//!
//! The process the user starts is the coordinator. It checks the command line (`cli`, `plan`),
//! starts one process per rank (`launch`), possibly in namespaces (`lab`), follows rank 0's
//! reports (`event`) and shows them (`report`). A rank (`rank`) joins the job (`session`),
//! makes the calls (`measure`) and compares results with an arithmetic of its own (`oracle`,
//! `pattern`, `number`).

mod buffer;
mod cli;
mod codec;
mod compare;
mod doctor;
mod event;
mod explain;
mod failure;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod lab;
mod launch;
mod measure;
mod npy;
mod number;
mod operation;
mod oracle;
mod owner;
mod pattern;
mod plan;
mod rank;
mod report;
mod run;
mod runner;
mod scratch;
mod session;
mod sim;
mod size;
mod stats;
mod topo;
mod trial;
mod usage;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};
use failure::Outcome;

/// The program.
pub fn main() -> ExitCode {
    let outcome = Cli::try_parse().map_err(|error| usage::explain(&error)).and_then(|cli| {
        show_log(cli.verbose);
        dispatch(&cli)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&format!("collbench: {failure}"));
            ExitCode::from(failure.status())
        }
    }
}

fn dispatch(cli: &Cli) -> Outcome {
    match &cli.command {
        None => run::first_look(cli.verbose),
        Some(Command::Run(args)) => run::run(args, cli.verbose),
        Some(Command::Compare(args)) => compare::compare(args),
        Some(Command::Trial(args)) => trial::trial(args),
        Some(Command::Codec(args)) => codec::codec(args),
        Some(Command::Launch(args)) => {
            launch::launch(&args.program, args.ranks, &launch::Placement::default())
        }
        Some(Command::Lab(args)) => lab::lab(args, cli.verbose),
        Some(Command::Explain(args)) => explain::explain(args, cli.verbose),
        Some(Command::Doctor(args)) => doctor::doctor(args),
        Some(Command::Topo) => topo::topo(),
        Some(Command::Sim(args)) => sim::sim(args),
        Some(Command::Rank) => rank::started(),
        Some(Command::Contestant) => compare::contest(),
        Some(Command::Exec { program }) => launch::execute(program),
        Some(Command::Janitor) => lab::janitor(),
        Some(Command::Stream { to, seconds, listen }) => lab::stream(*to, *listen, *seconds),
    }
}

/// Writes one message to stderr; when that is closed there is nobody to tell.
fn complain(message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{message}");
}

/// Shows the library's log on stderr.
fn show_log(verbose: u8) {
    use tracing_subscriber::filter::LevelFilter;
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
}
