//! A process that is one rank: started by collbench itself, or by a launcher.

use std::io::Write as _;

use syncline::communicator::LaunchEnvironment;

use crate::event::Event;
use crate::failure::{Failure, Outcome};
use crate::launch::{bind, die_with_parent, launched};
use crate::measure::measure;
use crate::plan::Plan;
use crate::session::Session;

/// Carries the plan, as JSON, to the ranks collbench starts.
pub(crate) const PLAN: &str = "COLLBENCH_PLAN";

/// The whole life of a rank that collbench started; rank 0 reports on stdout.
pub(crate) fn started() -> Outcome {
    let (plan, job) = own_plan()?;
    // What is wrong is in the reports; whoever reads them judges.
    measure_as(&plan, &job, &mut tell).map(drop)
}

/// What a process that collbench started shall do, and its place; ties it to collbench first.
pub(crate) fn own_plan() -> Outcome<(Plan, LaunchEnvironment)> {
    die_with_parent()?;
    bind();
    let internal = || Failure::usage("this is for collbench itself; use `collbench run`");
    let plan = std::env::var(PLAN).map_err(|_| internal())?;
    Ok((read_plan(&plan)?, launched()?.ok_or_else(internal)?))
}

/// Names this thread after its rank, for `top` and `ps` only.
pub(crate) fn give_name(rank: u32) {
    if let Ok(name) = std::ffi::CString::new(format!("collbench:{rank}")) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// What [`PLAN`] says.
pub(crate) fn read_plan(text: &str) -> Outcome<Plan> {
    serde_json::from_str(text).map_err(|e| Failure::run(format!("the plan is not understood: {e}")))
}

/// Joins the job, measures, and reports if this is rank 0. The answer is the number of wrong
/// elements over all ranks.
pub(crate) fn measure_as(
    plan: &Plan,
    job: &LaunchEnvironment,
    report: &mut dyn FnMut(Event) -> Outcome,
) -> Outcome<u64> {
    give_name(job.rank);
    let session = Session::join(plan, job).map_err(Failure::Run)?;
    let measured = measure(&session, plan, report);
    let dumped = session.dump(plan).map_err(Failure::Run);
    // A measurement that failed is the better reason.
    measured.and_then(|wrong| dumped.map(|()| wrong))
}

fn tell(event: Event) -> Outcome {
    let line = serde_json::to_string(&event).map_err(|e| Failure::run(e.to_string()))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|_| Failure::run("the process that started this rank does not listen any more"))
}
