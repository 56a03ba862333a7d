//! `collbench launch`: any program, once per rank.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use super::{Group, Notice, Place, Placement, describe, heed_signals};
use crate::failure::{Failure, Outcome};
use crate::plan::check_ranks;
use crate::scratch::Scratch;

/// Runs `program` once per rank; output lines are prefixed with the rank.
pub(crate) fn launch(program: &[OsString], ranks: u32, placement: &Placement) -> Outcome {
    check_ranks(ranks)?;
    heed_signals()?;
    let scratch = Scratch::new().map_err(Failure::Run)?;
    let mut group = Group::spawn((0..ranks).map(|rank| {
        let mut arguments = vec![OsStr::new("__exec"), OsStr::new("--")];
        arguments.extend(program.iter().map(OsString::as_os_str));
        let mut command = placement.command(rank, &arguments);
        place(rank, ranks, placement, &scratch).tell(&mut command);
        command
    }))?;
    let width = (ranks - 1).to_string().len();
    let result = follow(&mut group, width);
    group.end();
    result
}

/// The place of `rank` in a job that meets in `scratch`.
pub(crate) fn place(rank: u32, ranks: u32, placement: &Placement, scratch: &Scratch) -> Place {
    let (local_rank, local_ranks) = placement.local(rank, ranks);
    let rendezvous = scratch.path().join("rendezvous");
    Place { rank, ranks, local_rank, local_ranks, rendezvous }
}

fn follow(group: &mut Group, width: usize) -> Outcome {
    while let Some(notice) = group.next(None)? {
        match notice {
            // A reader that went away, as `head` does, is no failure of the ranks.
            Notice::Out(rank, line) => {
                let _ = writeln!(std::io::stdout().lock(), "[{rank:>width$}] {line}");
            }
            Notice::Err(rank, line) => {
                let _ = writeln!(std::io::stderr().lock(), "[{rank:>width$}] {line}");
            }
            Notice::Exit(_, status) if status.success() => {}
            Notice::Exit(rank, status) => return Err(failed(rank, status)),
            Notice::Stop => return Err(Failure::Interrupted),
            Notice::Ready | Notice::Timeout => {}
        }
    }
    Ok(())
}

fn failed(rank: u32, status: ExitStatus) -> Failure {
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1);
    Failure::Program {
        status: u8::try_from(code).unwrap_or(1),
        message: format!("rank {rank} {}; the other ranks were ended", describe(status)),
    }
}
