//! Proves schedules: runs all ranks' programs on symbolic values, exactly as the engine would.
//!
//! For one set of schedules the checker establishes, or names what stands against it:
//!
//! * Every message has its two ends, which agree in blocks, order and format.
//! * No step waits for itself under rendezvous semantics (a send completes only together with its
//!   receive), hence none does with buffering either, where a send waits for less.
//! * Reads find what they name: that block and segment, in that format, and initialised. Slots
//!   are in bounds and made for their block. `Input` is never written.
//! * Every output block holds each contribution it should exactly once, in data format, after the
//!   operator's last step; a finished value is never combined again.
//! * All ranks that hold the same result have combined it in the same tree up to commutation
//!   (equal bits everywhere), in reproducible mode in the canonical tree.
//! * A barrier lets nobody leave before everybody has come.
//! * The counted cost is the stated cost.
//!
//! Reductions must end in a `Copy` from `Work` to `Output` even where there is nothing to combine
//! (one rank, the first of a scan): that copy is the operator's last step. Moves must not go
//! through `Work`.
//!
//! The proof holds for buffers as [`Shape::in_place`] says, with `Work` in memory of its own and,
//! where [`Schedule::work_in_output`] allows it, with `Work` lying in `Output`.

mod barrier;
mod compile;
mod contract;
mod count;
mod execute;
mod graph;
mod value;
mod violation;

pub use violation::{At, Violation, Wait, Why};

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::algorithm::Algorithm;
use super::ir::{Collective, Cost, Schedule, Shape};
use crate::error::Rank;

/// What the checker counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The cost of the schedules as they are.
    pub cost: Cost,
    /// Steps of all ranks together.
    pub steps: u64,
}

/// How a stated cost is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stated<'a> {
    /// Nothing is stated.
    #[default]
    Nothing,
    /// Every number must be met exactly.
    Exactly(&'a Cost),
    /// No number may be exceeded.
    AtMost(&'a Cost),
}

/// Which topology level a message or a local reduction is charged to.
pub struct Links<'a> {
    levels: usize,
    between: &'a dyn Fn(Rank, Rank) -> usize,
    stage: &'a dyn Fn(u32) -> usize,
}

impl<'a> Links<'a> {
    /// One level.
    pub const FLAT: Links<'static> = Links { levels: 1, between: &|_, _| 0, stage: &|_| 0 };

    /// `levels` levels; `between` gives that of the link between two ranks, `stage` that of the
    /// local reductions in a stage of the schedule.
    pub const fn new(
        levels: usize,
        between: &'a dyn Fn(Rank, Rank) -> usize,
        stage: &'a dyn Fn(u32) -> usize,
    ) -> Self {
        Self { levels, between, stage }
    }

    fn between(&self, a: Rank, b: Rank) -> usize {
        (self.between)(a, b).min(self.levels - 1)
    }

    fn local(&self, stage: u32) -> usize {
        (self.stage)(stage).min(self.levels - 1)
    }
}

/// What to check beyond correctness.
pub struct Options<'a> {
    /// Topology levels, for the counts.
    pub links: Links<'a>,
    /// The cost to hold the schedules to.
    pub stated: Stated<'a>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { links: Links::FLAT, stated: Stated::Nothing }
    }
}

/// Checks the schedules of all ranks, in order of ranks.
///
/// # Errors
/// The first violation found.
pub fn check(
    shape: &Shape,
    schedules: &[Schedule],
    options: &Options<'_>,
) -> Result<Report, Violation> {
    if schedules.len() != shape.ranks as usize {
        let reason = format!("{} schedules for {} ranks", schedules.len(), shape.ranks);
        return Err(Violation::Head { rank: 0, reason });
    }
    check_with(shape, options, &|rank| Cow::Borrowed(&schedules[rank as usize]))
}

/// Builds the schedules of all ranks, checks them, and compares the stated cost.
///
/// # Errors
/// The first violation found.
pub fn prove(algorithm: &dyn Algorithm, shape: &Shape) -> Result<Report, Violation> {
    let cost = algorithm.cost(shape);
    let between = |a, b| algorithm.level(a, b);
    let stage = |stage| algorithm.stage_level(shape, stage);
    let options = Options {
        links: Links::new(cost.levels.len().max(1), &between, &stage),
        stated: if algorithm.cost_is_exact(shape) {
            Stated::Exactly(&cost)
        } else {
            Stated::AtMost(&cost)
        },
    };
    check_with(shape, &options, &|rank| Cow::Owned(algorithm.build(shape, rank)))
}

/// Runs both memory layouts, building schedules one at a time: only their compact form of all
/// ranks is ever in memory at once.
fn check_with<'s>(
    shape: &Shape,
    options: &Options<'_>,
    schedule: &dyn Fn(Rank) -> Cow<'s, Schedule>,
) -> Result<Report, Violation> {
    let mut alias = false;
    let mut report = run(shape, options, false, &|rank| schedule(rank), &mut alias)?;
    if alias {
        let aliased = run(shape, options, true, &|rank| schedule(rank), &mut false)
            .map_err(|violation| Violation::Aliased(Box::new(violation)))?;
        for (own, other) in report.cost.levels.iter_mut().zip(&aliased.cost.levels) {
            *own = count::max(*own, *other);
        }
    }
    match options.stated {
        Stated::Nothing => {}
        Stated::Exactly(stated) => count::compare(stated, &report.cost, true)?,
        Stated::AtMost(stated) => count::compare(stated, &report.cost, false)?,
    }
    Ok(report)
}

fn run<'s>(
    shape: &Shape,
    options: &Options<'_>,
    aliased: bool,
    schedule: &dyn Fn(Rank) -> Cow<'s, Schedule>,
    can_alias: &mut bool,
) -> Result<Report, Violation> {
    let mut plan = compile::Plan::new(shape, aliased);
    let mut space = None;
    for rank in 0..shape.ranks {
        let schedule = schedule(rank);
        *can_alias |= schedule.work_in_output.is_some();
        space.get_or_insert(schedule.space);
        plan.add(&schedule)?;
    }
    let Some(space) = space else {
        return Err(Violation::Head { rank: 0, reason: "no ranks".to_owned() });
    };
    let mut graph = graph::Graph::new(&plan)?;
    let mut order = Vec::new();
    graph.order(&plan, &mut order)?;
    let mut machine = execute::Machine::new(&plan)?;
    let mut counter = count::Counter::new(&plan, &options.links);
    for &unit in &order {
        machine.run(&graph, unit)?;
        counter.run(&graph, unit);
    }
    machine.judge()?;
    if shape.collective == Collective::Barrier {
        barrier::check(&plan, &graph, &order)?;
    }
    let cost = counter.cost(space);
    Ok(Report { cost, steps: plan.ops.len() as u64 })
}
