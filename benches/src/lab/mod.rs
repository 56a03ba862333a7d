//! `collbench lab`: a small cluster on one machine, made of network namespaces with shaped links.

mod link;
mod netns;
pub(crate) mod rate;
mod shape;
mod sweep;
mod tool;

pub(crate) use link::stream;
pub(crate) use netns::Lab;
pub(crate) use sweep::janitor;

use clap::Parser as _;

use crate::cli::{Cli, Command, LabArgs, RunArgs, TransportArg};
use crate::compare::{CompareArgs, Comparison, compare_at};
use crate::event::Row;
use crate::failure::{Failure, Outcome};
use crate::launch::{self, Placement};
use crate::operation::Operation;
use crate::plan::{Plan, check_ranks};
use crate::report::{Results, say};
use crate::size::human;
use netns::HOSTS_MAX;
use rate::Links;

/// Sizes from which the links, not latency, decide.
const LIMIT_BYTES_MIN: u64 = 256 << 10;

/// What to do in the lab.
enum Task {
    Run(Box<RunArgs>, Plan),
    Launch(Vec<std::ffi::OsString>),
    Compare(Box<CompareArgs>, Comparison),
}

/// Makes the lab, does the task, and removes the lab.
pub(crate) fn lab(args: &LabArgs, verbose: u8) -> Outcome {
    if args.clean {
        tool::check_requirements()?;
        let removed = sweep::sweep()?;
        return say(&format!("{removed} namespaces of labs whose owner is gone were removed"));
    }
    let ranks = ranks(args)?;
    let task = task(args, ranks)?;
    launch::heed_signals()?;
    let lab = Lab::build(args.hosts, args.rate)?;
    say(&format!(
        "# lab: {} hosts with {} ranks each, every link {}",
        args.hosts, args.ranks_per_host, args.rate
    ))?;
    let payload = if args.measure_link { Some(payload(&lab)?) } else { None };
    let placement =
        Placement { namespaces: lab.hosts().to_vec(), ranks_per_host: args.ranks_per_host };
    match task {
        Task::Launch(program) => launch::launch(&program, ranks, &placement),
        Task::Compare(args, comparison) => compare_at(&args, &comparison, &placement),
        Task::Run(run, plan) => {
            let results =
                crate::run::on_own_ranks(&run.files(), &plan, ranks, &placement, verbose)?;
            if plan.operation == Operation::AllReduce {
                show_limits(&results, args.rate, payload)?;
            }
            results.judge()
        }
    }
}

fn ranks(args: &LabArgs) -> Outcome<u32> {
    if args.hosts == 0 || args.hosts > HOSTS_MAX {
        return Err(Failure::usage(format!("--hosts {}: give 1 to {HOSTS_MAX}", args.hosts)));
    }
    if args.measure_link && args.hosts < 2 {
        return Err(Failure::usage("--measure-link needs at least --hosts 2"));
    }
    let ranks = args.hosts.saturating_mul(args.ranks_per_host);
    check_ranks(ranks)?;
    Ok(ranks)
}

/// Understands what stands after `--`, before anything is made.
fn task(args: &LabArgs, ranks: u32) -> Outcome<Task> {
    let say_what = "say what to do in the lab after `--`: run all_reduce ..., compare all_reduce ..., or \
         launch ... -- program";
    if args.command.is_empty() {
        return Err(Failure::usage(say_what));
    }
    let words = std::iter::once("collbench".into()).chain(args.command.iter().cloned());
    let command =
        Cli::try_parse_from(words).map_err(|error| crate::usage::explain(&error))?.command;
    let (given, task) = match command {
        Some(Command::Run(run)) => {
            run.files().check()?;
            let plan = Plan::check(&run, ranks)?;
            (run.ranks, Task::Run(Box::new(run), plan))
        }
        Some(Command::Compare(compare)) => {
            let comparison = compare.check(ranks)?;
            compare.files().check()?;
            if args.hosts > 1 && compare.transport == TransportArg::Shm {
                return Err(Failure::usage("--transport shm does not reach several hosts"));
            }
            (compare.ranks, Task::Compare(compare, comparison))
        }
        Some(Command::Launch(launch)) => (Some(launch.ranks), Task::Launch(launch.program)),
        _ => return Err(Failure::usage(say_what)),
    };
    match given {
        Some(given) if given != ranks => Err(Failure::usage(format!(
            "--ranks {given} does not go with {} hosts of {} ranks; leave it out or give {ranks}",
            args.hosts, args.ranks_per_host
        ))),
        _ => Ok(task),
    }
}

/// The slower direction's payload rate in bytes per second.
fn payload(lab: &Lab) -> Outcome<f64> {
    let [there, back] = link::measure_link(lab)?;
    let mbit = |rate: f64| rate * 8.0 / 1e6;
    say(&format!(
        "# link: one TCP stream carries {:.1} Mbit/s of payload one way, {:.1} the other",
        mbit(there),
        mbit(back)
    ))?;
    Ok(there.min(back))
}

/// Compares all_reduce with what the links allow.
fn show_limits(results: &Results, links: Links, measured: Option<f64>) -> Outcome {
    let nominal = match links {
        Links::Shaped(rate) => Some(rate.payload_bytes_per_second()),
        Links::Unshaped => None,
    };
    let Some(payload) = measured.or(nominal) else { return Ok(()) };
    let source = if measured.is_some() { "measured" } else { "nominal" };
    for row in results.rows.iter().filter(|row| row.bytes >= LIMIT_BYTES_MIN) {
        let Some(limit_us) = limit_us(row, results.hosts, payload) else { continue };
        say(&format!(
            "# limit at {}: {limit_us:.0} us = 2({h}-1)/{h} * bytes / {:.1} Mbit/s ({source} \
             payload); p50 {:.0} us is {:.3} times that",
            human(row.bytes),
            payload * 8.0 / 1e6,
            row.latency.p50_us,
            row.latency.p50_us / limit_us,
            h = results.hosts,
        ))?;
    }
    Ok(())
}

/// The shortest time in which an all_reduce can pass the links of `hosts` hosts: each must send
/// and receive 2(H-1)/H of the vector (Patarasuk and Yuan, 2009, with hosts in place of ranks).
fn limit_us(row: &Row, hosts: u32, payload_bytes_per_second: f64) -> Option<f64> {
    let hosts = f64::from(hosts);
    let bytes = 2.0 * (hosts - 1.0) / hosts * row.bytes as f64;
    (bytes > 0.0).then(|| bytes / payload_bytes_per_second * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::example_row;

    fn args(line: &str) -> LabArgs {
        let words = ["collbench", "lab"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).expect(line).command {
            Some(Command::Lab(args)) => args,
            _ => panic!("not a lab"),
        }
    }

    #[test]
    fn what_a_lab_cannot_do_is_said_before_it_is_built() {
        for (line, expected) in [
            ("--hosts 0 -- run barrier", "1 to 200"),
            ("--hosts 2 --ranks-per-host 0 -- run barrier", "from 1 to"),
            ("--hosts 200 --ranks-per-host 4000000000 -- run barrier", "from 1 to"),
            ("--hosts 1 --measure-link -- run barrier", "at least --hosts 2"),
            ("--hosts 2", "after `--`"),
            ("--hosts 2 -- topo", "after `--`"),
            ("--hosts 2 -- run barrier -n 3", "leave it out or give 2"),
            ("--hosts 2 -- run all_reduce --op xor", "integer type"),
            ("--hosts 2 -- compare all_reduce -n 3", "leave it out or give 2"),
            ("--hosts 2 -- compare all_reduce --transport shm", "several hosts"),
        ] {
            let failure = lab(&args(line), 0).expect_err(line);
            assert_eq!(failure.status(), 2, "{line}");
            assert!(failure.to_string().contains(expected), "{line}: {failure}");
        }
    }

    #[test]
    fn the_limit_of_four_hosts() {
        let row = example_row(16 << 20, 1.0);
        let limit = limit_us(&row, 4, 125e6).expect("several hosts");
        assert!((limit - 1.5 * 16.777_216e6 / 125.0).abs() < 1e-6, "{limit}");
        assert_eq!(limit_us(&row, 1, 125e6), None);
    }
}
