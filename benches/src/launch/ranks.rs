//! Starting the ranks of a measurement and following rank 0's reports.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::program::place;
use super::{Group, Notice, Placement, bind, describe, heed_signals};
use crate::event::Event;
use crate::failure::{Failure, Outcome};
use crate::plan::Plan;
use crate::rank::PLAN;
use crate::scratch::Scratch;

/// After one rank failed: how long the others get to report what they saw.
const AFTERMATH: Duration = Duration::from_millis(700);
/// Lines of stderr that are kept of every rank.
const TAIL_LINES: usize = 8;

/// What became of one rank.
#[derive(Default)]
struct Record {
    tail: VecDeque<String>,
    status: Option<ExitStatus>,
}

/// Starts `ranks` processes with `plan` and hands every report of rank 0 to `on_event`.
///
/// With `verbose` above 0 the ranks log, and what they write to stderr is passed on.
pub(crate) fn run_ranks(
    plan: &Plan,
    ranks: u32,
    placement: &Placement,
    verbose: u8,
    on_event: &mut dyn FnMut(Event) -> Outcome,
) -> Outcome {
    heed_signals()?;
    let scratch = Scratch::new().map_err(Failure::Run)?;
    let json = serde_json::to_string(plan).map_err(|e| Failure::run(e.to_string()))?;
    let mut group = Group::spawn((0..ranks).map(|rank| {
        let mut arguments = vec![OsStr::new("__rank")];
        arguments.extend(std::iter::repeat_n(OsStr::new("-v"), verbose.into()));
        let mut command = placement.command(rank, &arguments);
        place(rank, ranks, placement, &scratch).tell(&mut command);
        if plan.bind {
            bind::tell(&mut command, rank, ranks, placement);
        }
        command.env(PLAN, &json);
        command
    }))?;
    let mut records: Vec<Record> = (0..ranks).map(|_| Record::default()).collect();
    let result = follow(&mut group, &mut records, verbose > 0, on_event);
    group.end();
    result?;
    judge(&records)
}

/// Follows the ranks to their end, or, once one failed, a little longer.
fn follow(
    group: &mut Group,
    records: &mut [Record],
    echo: bool,
    on_event: &mut dyn FnMut(Event) -> Outcome,
) -> Outcome {
    let mut deadline = None;
    while let Some(notice) = group.next(deadline)? {
        match notice {
            Notice::Out(0, line) => {
                let event = serde_json::from_str(&line).map_err(|e| {
                    Failure::run(format!("rank 0 reported what is not understood ({e}): {line}"))
                })?;
                on_event(event)?;
            }
            Notice::Out(rank, line) | Notice::Err(rank, line) => {
                if echo {
                    crate::complain(&format!("[{rank}] {line}"));
                }
                let tail = &mut records[rank as usize].tail;
                tail.push_back(line);
                if tail.len() > TAIL_LINES {
                    tail.pop_front();
                }
            }
            Notice::Exit(rank, status) => {
                records[rank as usize].status = Some(status);
                if !status.success() && deadline.is_none() {
                    deadline = Some(Instant::now() + AFTERMATH);
                }
            }
            Notice::Stop => return Err(Failure::Interrupted),
            Notice::Ready | Notice::Timeout => break,
        }
    }
    Ok(())
}

/// Names the rank that failed: one that crashed before one that reported an error, because the
/// errors are likely to be about the crash.
fn judge(records: &[Record]) -> Outcome {
    let failed = |r: &Record| r.status.is_some_and(|s| !s.success());
    let crashed = |r: &Record| r.status.is_some_and(|s| !matches!(s.code(), Some(0..=2)));
    let culprit = records.iter().position(crashed).or_else(|| records.iter().position(failed));
    let Some(rank) = culprit else { return Ok(()) };
    let record = &records[rank];
    let how = record.status.map_or_else(String::new, describe);
    let mut message = format!("rank {rank} {how}");
    if record.tail.is_empty() {
        message.push_str(" and wrote nothing to stderr");
    }
    for line in &record.tail {
        message.push_str("\n  ");
        message.push_str(line);
    }
    match records.iter().filter(|r| failed(r)).count() {
        1 => {}
        2 => message.push_str("\n  (one other rank failed, too)"),
        failed => message.push_str(&format!("\n  ({} other ranks failed, too)", failed - 1)),
    }
    Err(Failure::Run(message))
}
