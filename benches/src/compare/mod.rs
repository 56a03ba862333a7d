//! `collbench compare`: Syncline and other libraries, interleaved in one run.
//!
//! Every contestant is a set of ranks, each connected to this process by a Unix socket
//! (`protocol`). The processes are started once (`peers`, `contestant`); then for every size all
//! take turns (`contest`), and the medians are compared (`summary`, `show`).

mod args;
mod contest;
mod contestant;
mod cores;
mod json;
mod peers;
mod protocol;
mod show;
mod summary;
mod svg;
mod values;
mod waiting;
mod worker;

pub(crate) use args::{CompareArgs, Comparison};
pub(crate) use worker::contest;

use std::path::PathBuf;

use contest::{Lane, Race};
use contestant::{Contestant, Start};
use peers::Site;
use show::Report;
use summary::SYNCLINE;

use crate::failure::{Failure, Outcome};
use crate::launch::{Placement, heed_signals, launched};
use crate::plan::{Input, Plan, check_tuning};
use crate::scratch::Scratch;

/// Compares on this machine.
pub(crate) fn compare(args: &CompareArgs) -> Outcome {
    if let Some(job) = launched()? {
        return Err(Failure::usage(format!(
            "compare starts its contestants itself; run it outside {}",
            job.launcher
        )));
    }
    let comparison = args.check(args.own_ranks())?;
    args.files().check()?;
    compare_at(args, &comparison, &Placement::default())
}

/// Compares where `placement` says.
pub(crate) fn compare_at(
    args: &CompareArgs,
    comparison: &Comparison,
    placement: &Placement,
) -> Outcome {
    heed_signals()?;
    let scratch = Scratch::new().map_err(Failure::Run)?;
    let plan = plan(args)?;
    let race = &comparison.race;
    let peers_dir = args.peers_dir.clone().unwrap_or_else(default_peers_dir);
    let ranks = race.ranks;
    let site = Site { plan: &plan, ranks, placement, scratch: &scratch, peers_dir: &peers_dir };
    let mut report = Report::new(race, args.transport, placement);
    let mut lanes = start(args, race, &site)?;
    report.begin(&lanes, comparison.counts.len())?;
    for &count in &comparison.counts {
        let row = race.one_size(&mut lanes, count)?;
        report.add(row, &lanes)?;
    }
    let results = report.finish(&args.files(), &lanes)?;
    for contestant in lanes.into_iter().filter_map(|lane| lane.runner.ok()) {
        contestant.quit();
    }
    results.judge()
}

/// What Syncline's ranks are told.
fn plan(args: &CompareArgs) -> Outcome<Plan> {
    Ok(Plan {
        explain: false,
        bind: !args.no_bind,
        operation: args.collective,
        dtype: args.dtype.clone(),
        op: "sum".into(),
        root: 0,
        input: Input::Generated(Vec::new()),
        transport: args.transport,
        algorithm: args.algorithm.clone(),
        tuning: args.tuning.as_deref().map(check_tuning).transpose()?,
        reproducible: false,
        encrypt: false,
        in_place: false,
        iters: None,
        warmup: None,
        timeout_s: args.timeout,
        dump: None,
    })
}

/// Starts everybody, one after the other: while one starts the others sleep.
fn start(args: &CompareArgs, race: &Race, site: &Site<'_>) -> Outcome<Vec<Lane>> {
    let mut lanes = vec![Lane::start(SYNCLINE, Ok(site.syncline(SYNCLINE)), race, site)?];
    if let Err(reason) = &lanes[0].runner {
        return Err(Failure::run(format!("{SYNCLINE}: {reason}")));
    }
    for peer in &args.peers {
        let lane = Lane::start(peer.name(), site.peer(peer), race, site)?;
        lanes.push(Lane { is_yardstick: peer.is_yardstick(), ..lane });
    }
    Ok(lanes)
}

impl Lane {
    /// Starts `commands`, if there is something to start.
    fn start(
        name: &str,
        commands: Result<Vec<std::process::Command>, String>,
        race: &Race,
        site: &Site<'_>,
    ) -> Outcome<Self> {
        let name = name.to_owned();
        let started = commands.map_err(Failure::Run).and_then(|commands| {
            let control = site.control(&name);
            Contestant::start(Start { control, commands }, race.ranks, race.patience)
        });
        let runner = match started {
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            other => other.map_err(|failure| failure.to_string()),
        };
        let version = runner.as_ref().ok().map(|c| c.version().to_owned());
        Ok(Self { runner, name, is_yardstick: false, version, waiting_cores: 0.0 })
    }
}

/// Where `benches/peers/setup` puts the peers: beside the folder this program is built in.
fn default_peers_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let target = exe.parent().and_then(|profile| profile.parent());
    target.map_or_else(|| PathBuf::from("target/peers"), |target| target.join("peers"))
}
