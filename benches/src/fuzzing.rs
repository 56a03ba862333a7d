//! Entry points for fuzzers: what users write (files, words of a command line), what ranks leave
//! (flight dumps) and what collbench's own processes tell each other. See `syncline::fuzzing`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use clap::Parser as _;
use syncline::fuzzing::{Feed, Target};
use syncline_topology::{Constants, CpuSet};

use crate::cli::{Cli, Command, SeedRange};
use crate::event::Event;
use crate::failure::Outcome;
use crate::lab::rate::Rate;
use crate::plan::Plan;
use crate::size::parse_size;
use crate::{doctor, launch, npy, usage};

/// All of collbench's.
pub const TARGETS: &[Target] = &[
    ("tuning", tuning),
    ("npy", npy),
    ("command_line", words),
    ("arguments", arguments),
    ("plan", plan),
    ("dump", doctor::fuzzing::dump),
    ("doctor", doctor::fuzzing::doctor),
];

/// A tuning file over the built-in constants.
fn tuning(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let file = Path::new("tuning.toml");
    match Constants::default().overridden(text, file) {
        Ok(constants) => {
            let bytes = constants.to_bytes();
            assert_eq!(Constants::from_bytes(&bytes), Some(constants));
        }
        Err(error) => assert!(error.to_string().contains("tuning.toml")),
    }
}

/// A `.npy` file.
fn npy(data: &[u8]) {
    if let Ok(matrix) = npy::parse(data) {
        assert_eq!(matrix.values.len(), matrix.rows * matrix.columns);
        for row in 0..matrix.rows {
            assert_eq!(matrix.row(row).len(), matrix.columns);
        }
    }
}

/// A size, a rate, a range of seeds, a list of processors.
fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(size) = parse_size(text) {
        assert_eq!(parse_size(&size.to_string()), Ok(size));
    }
    if let Ok(rate) = text.parse::<Rate>() {
        let again: Rate = rate.to_string().parse().expect("it was printed");
        assert_eq!(again.bits_per_second(), rate.bits_per_second());
    }
    if let Ok(seeds) = text.parse::<SeedRange>() {
        assert!(seeds.from < seeds.to);
    }
    let cpus = CpuSet::parse(text);
    assert_eq!(CpuSet::parse(&cpus.to_string()), cpus);
    launch::processors(text);
}

/// A whole command line, its words apart by NUL, as far as it can be checked without starting
/// anything. What a wrong one is answered with is one line.
fn arguments(data: &[u8]) {
    let mut feed = Feed::new(data);
    let ranks = u32::from(feed.u16());
    let words = feed.rest().split(|&byte| byte == 0).map(<[u8]>::to_vec);
    let line = std::iter::once(b"collbench".to_vec()).chain(words).map(OsString::from_vec);
    let command = match Cli::try_parse_from(line) {
        Ok(cli) => cli.command,
        Err(error) if !error.use_stderr() => return,
        Err(error) => return one_line(&Err(usage::explain(&error))),
    };
    let Some(Command::Run(mut run)) = command else { return };
    // Files have targets of their own.
    (run.input, run.tuning, run.dump) = (None, None, None);
    match Plan::check(&run, ranks) {
        Ok(plan) => holds(&plan, ranks),
        Err(failure) => one_line(&Err(failure)),
    }
}

fn one_line(outcome: &Outcome) {
    let Err(failure) = outcome else { return };
    assert_eq!(failure.status(), 2, "a wrong command line is the user's");
    assert!(!failure.to_string().is_empty());
}

/// A plan that was checked says what to measure, and survives the way to the ranks.
fn holds(plan: &Plan, ranks: u32) {
    assert!(plan.dtype().is_ok() && plan.op().is_ok() && !plan.timeout().is_zero());
    let counts = plan.counts(ranks).expect("it was checked");
    assert!(!counts.is_empty() && plan.root < ranks);
    let json = serde_json::to_string(plan).expect("plain");
    let again: Plan = serde_json::from_str(&json).expect("it was written by us");
    assert_eq!(again, *plan);
}

/// What the launching process tells its ranks by the environment, and rank 0 tells it by lines.
fn plan(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(plan) = crate::rank::read_plan(text) {
        // A rank says what is wrong with a plan that nobody checked.
        let _ = (plan.dtype(), plan.op());
    }
    if let Ok(event) = serde_json::from_str::<Event>(text) {
        let line = serde_json::to_string(&event).expect("plain");
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Event>(&line).expect("it was written by us"), event);
    }
}
