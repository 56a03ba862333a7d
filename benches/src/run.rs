//! `collbench run`, and what collbench does without arguments.

use syncline::communicator::LaunchEnvironment;

use crate::cli::{RunArgs, TransportArg};
use crate::failure::{Failure, Outcome};
use crate::launch::{Placement, launched, run_ranks};
use crate::operation::Operation;
use crate::plan::{Input, Plan};
use crate::rank::measure_as;
use crate::report::{Files, Reporter, Results, say};
use crate::size::sweep;

/// Ranks when the user does not say.
const RANKS_DEFAULT: u32 = 2;
/// Most ranks of a first look.
const FIRST_LOOK_RANKS_MAX: usize = 4;

impl RunArgs {
    /// Where the results go.
    pub(crate) fn files(&self) -> Files {
        Files { json: self.json.clone(), plot: self.plot.clone() }
    }
}

/// Measures with ranks of its own, or joins the job that a launcher started.
pub(crate) fn run(args: &RunArgs, verbose: u8) -> Outcome {
    let files = args.files();
    files.check()?;
    let Some(job) = launched()? else {
        let ranks = args.ranks.unwrap_or(RANKS_DEFAULT);
        let plan = Plan::check(args, ranks)?;
        return on_own_ranks(&files, &plan, ranks, &Placement::default(), verbose)?.judge();
    };
    if args.ranks.is_some_and(|ranks| ranks != job.ranks) {
        return Err(Failure::usage(format!(
            "--ranks {} but {} started {}; leave out --ranks",
            args.ranks.unwrap_or_default(),
            job.launcher,
            job.ranks
        )));
    }
    let plan = Plan::check(args, job.ranks)?;
    join(&files, &plan, &job)
}

/// Starts `ranks` ranks, shows what they find, and leaves none behind.
pub(crate) fn on_own_ranks(
    files: &Files,
    plan: &Plan,
    ranks: u32,
    placement: &Placement,
    verbose: u8,
) -> Outcome<Results> {
    let mut reporter = Reporter::new(plan);
    run_ranks(plan, ranks, placement, verbose, &mut |event| reporter.receive(event))?;
    reporter.finish(files)
}

/// Is one rank of a launcher's job; rank 0 shows the results, and every rank's status tells.
fn join(files: &Files, plan: &Plan, job: &LaunchEnvironment) -> Outcome {
    if job.rank != 0 {
        return match measure_as(plan, job, &mut |_| Ok(()))? {
            0 => Ok(()),
            wrong => Err(Failure::run(format!("{wrong} elements were wrong"))),
        };
    }
    let mut reporter = Reporter::new(plan);
    measure_as(plan, job, &mut |event| reporter.receive(event))?;
    reporter.finish(files)?.judge()
}

/// A first look: all_reduce from 8 B to 64 MiB on local ranks, then real gradients.
pub(crate) fn first_look(verbose: u8) -> Outcome {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let ranks = cores.clamp(RANKS_DEFAULT as usize, FIRST_LOOK_RANKS_MAX) as u32;
    let plan = Plan {
        explain: false,
        bind: true,
        operation: Operation::AllReduce,
        dtype: "f32".into(),
        op: "sum".into(),
        root: 0,
        input: Input::Generated(sweep(8, 64 << 20, 2)),
        transport: TransportArg::Auto,
        algorithm: None,
        tuning: None,
        reproducible: false,
        encrypt: false,
        in_place: false,
        iters: None,
        warmup: None,
        timeout_s: 60.0,
        dump: None,
    };
    let (files, here) = (Files::default(), Placement::default());
    say(&format!("# collbench {}: a first look; see collbench --help", env!("CARGO_PKG_VERSION")))?;
    on_own_ranks(&files, &plan, ranks, &here, verbose)?.judge()?;
    say("")?;
    let gradients = Plan { input: Input::Bundled, ..plan };
    on_own_ranks(&files, &gradients, ranks, &here, verbose)?.judge()
}
