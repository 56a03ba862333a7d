//! The diagnosis in words.

use std::fmt::Write as _;

use super::diagnose::Diagnosis;
use super::read::Group;

/// Waits that are listed one by one.
const WAITS_MAX: usize = 64;

/// `rank 3`, `ranks 0, 2-5`.
pub(super) fn list(ranks: &[u32]) -> String {
    let mut sorted = ranks.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for rank in sorted {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(rank) => *last = rank,
            _ => runs.push((rank, rank)),
        }
    }
    let run = |&(first, last): &(u32, u32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first}-{last}"),
    };
    let words = runs.iter().map(run).collect::<Vec<_>>().join(", ");
    let one = runs.len() == 1 && runs[0].0 == runs[0].1;
    format!("{} {words}", if one { "rank" } else { "ranks" })
}

/// The whole report on one communicator.
pub(super) fn words(group: &Group, diagnosis: &Diagnosis) -> String {
    let Diagnosis { job, communicator, epoch, ranks, problems, notes, waits, .. } = diagnosis;
    let mut text = format!(
        "communicator {communicator}, epoch {epoch}, of job {job}: {ranks} ranks, {} dumps\n",
        group.dumps.len()
    );
    // Writing to a String cannot fail.
    for problem in problems {
        let _ = writeln!(text, "problem: {}", problem.text);
    }
    if problems.is_empty() {
        let _ = writeln!(text, "no problem found");
    }
    for note in notes {
        let _ = writeln!(text, "note: {note}");
    }
    for wait in waits.iter().take(WAITS_MAX) {
        let why = if wait.awaits { "waits for data of" } else { "cannot send to" };
        let _ =
            writeln!(text, "  rank {} {why} rank {} in {}", wait.rank, wait.on, wait.operation());
    }
    if waits.len() > WAITS_MAX {
        let _ = writeln!(text, "  and {} more; --json lists all", waits.len() - WAITS_MAX);
    }
    text.trim_end().to_owned()
}
