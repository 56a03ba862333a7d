//! `collbench explain`: what will serve a call, asked of the library itself.
//!
//! It starts the ranks, as `run` does, and asks the communicator they make. Several hosts are
//! network namespaces, as in `lab`.

use crate::cli::{ExplainArgs, RunArgs};
use crate::event::Event;
use crate::failure::{Failure, Outcome};
use crate::lab::Lab;
use crate::launch::{Placement, heed_signals, run_ranks};
use crate::plan::Plan;
use crate::report::say;
use crate::size::human;

/// Prints the explanation.
pub(crate) fn explain(args: &ExplainArgs, verbose: u8) -> Outcome {
    let plan = Plan { explain: true, ..Plan::check(&as_run(args), args.ranks)? };
    if args.hosts == 0 || !args.ranks.is_multiple_of(args.hosts) {
        return Err(Failure::usage(format!(
            "--hosts {}: {} ranks cannot be spread evenly; give a --hosts that divides --ranks",
            args.hosts, args.ranks
        )));
    }
    heed_signals()?;
    let lab = (args.hosts > 1).then(|| Lab::build(args.hosts, args.rate)).transpose()?;
    let placement = lab.as_ref().map_or_else(Placement::default, |lab| Placement {
        namespaces: lab.hosts().to_vec(),
        ranks_per_host: args.ranks / args.hosts,
    });
    run_ranks(&plan, args.ranks, &placement, verbose, &mut |event| show(args, &event))
}

fn show(args: &ExplainArgs, event: &Event) -> Outcome {
    match event {
        Event::Explained { bytes, text } => say(&format!(
            "{} of {} ({}) on {} ranks, {} host{}\n{text}",
            args.collective.name(),
            human(*bytes),
            args.dtype,
            args.ranks,
            args.hosts,
            if args.hosts == 1 { "" } else { "s" },
        )),
        Event::Joined { .. } | Event::Row(_) => Ok(()),
    }
}

/// The measurement whose calls are explained.
fn as_run(args: &ExplainArgs) -> RunArgs {
    RunArgs {
        collective: args.collective,
        ranks: Some(args.ranks),
        transport: args.transport,
        begin: args.size,
        end: args.size,
        factor: 2,
        dtype: args.dtype.clone(),
        op: args.op.clone(),
        root: args.root,
        iters: None,
        warmup: None,
        input: None,
        algorithm: args.algorithm.clone(),
        tuning: args.tuning.clone(),
        reproducible: args.reproducible,
        encrypt: false,
        in_place: false,
        out_of_place: true,
        no_bind: false,
        timeout: 60.0,
        dump: None,
        json: None,
        plot: None,
    }
}
