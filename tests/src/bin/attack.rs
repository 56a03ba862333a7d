//! A job under attack. `attack rank ...` is one of its ranks, `attack throw ...` the attackers, and
//! `attack measure SECONDS` runs both and compares the time of an iteration with that under the
//! same load on ports that have nothing to do with the job.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is the test's report")]

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use syncline_tests::attack::{Decoy, Load, attack, read_targets};
use syncline_tests::besieged::{Siege, Weapon, rank};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match text[..] {
        ["rank", ..] => rank(&text[1..]),
        ["throw", folder, weapon, seconds, rest_us] => throw(folder, weapon, seconds, rest_us),
        ["measure", seconds] => measure(seconds),
        _ => Err("usage: attack rank|throw|measure ...".to_owned()),
    };
    match outcome {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn throw(folder: &str, weapon: &str, seconds: &str, rest_us: &str) -> Result<String, String> {
    let folder = Path::new(folder);
    let targets = match weapon {
        "job" => read_targets(&folder.join("targets")),
        "decoy" => Decoy::open().map_err(|error| error.to_string())?.targets,
        other => return Err(format!("{other} is neither job nor decoy")),
    };
    let record = std::fs::read(folder.join("record")).map_err(|error| error.to_string())?;
    let rest = Duration::from_micros(number(rest_us)?);
    let load = Load { targets, record, threads: 3, rest, seed: 1 };
    // The job has the right of way: on a cluster the attackers would have machines of their own.
    rustix::process::nice(19).map_err(|error| error.to_string())?;
    let made = attack(&load, Duration::from_secs(number(seconds)?));
    Ok(format!("{made} connections"))
}

fn measure(seconds: &str) -> Result<String, String> {
    let rounds = 5;
    let each = Duration::from_secs(number(seconds)? / rounds);
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut lines = Vec::new();
    for round in 0..rounds {
        for (weapon, time) in [(Weapon::Decoy, each / 4), (Weapon::Job, each)] {
            let siege = Siege { ranks: 2, weapon, time, rest_us: 200, ..Siege::default() };
            let report = siege.run(&program)?;
            lines.push(format!("round {round} {weapon:?}: {report}"));
            println!("{}", lines[lines.len() - 1]);
        }
    }
    Ok(format!("{} runs", lines.len()))
}
