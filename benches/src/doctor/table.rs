//! One operation on every rank, and who comes last in most of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use syncline::communicator::dump::{DumpKind, DumpOperation, DumpState};

use super::read::Group;
use super::show::list;

/// Waits shorter than this say nothing about a rank.
const LATE_MIN_S: f64 = 0.001;

/// Collective `sequence` on every rank; `None` when no dump remembers it.
pub(super) fn table(group: &Group, sequence: u64) -> Option<String> {
    let mut text = format!(
        "collective #{sequence}\n{:>6}  {:<20} {:<12} {:>10}  {}\n",
        "rank", "host", "state", "took", "call"
    );
    let mut known = false;
    for rank in 0..group.ranks() {
        let host = &group.any().members[rank as usize].host;
        let found = group.find(rank, DumpKind::Collective, None, sequence);
        known |= found.is_some();
        let (state, took, call) = match (group.dumps.get(&rank), found) {
            (_, Some(operation)) => {
                let took = operation.ended_s.map(|end| end - operation.started_s);
                let took = took.map_or_else(|| "-".to_owned(), |took| format!("{took:.6} s"));
                (operation.state.name(), took, call(operation))
            }
            (None, None) => ("no dump", "-".to_owned(), String::new()),
            (Some(dump), None) if dump.busy => ("busy", "-".to_owned(), String::new()),
            (Some(dump), None) if sequence >= dump.next_collective => {
                ("not entered", "-".to_owned(), String::new())
            }
            (Some(_), None) => ("forgotten", "-".to_owned(), String::new()),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{rank:>6}  {host:<20} {state:<12} {took:>10}  {call}");
    }
    known.then(|| text.trim_end().to_owned())
}

fn call(operation: &DumpOperation) -> String {
    let Some(waiting) = &operation.waiting else { return operation.call.clone() };
    let mut text = operation.call.clone();
    if !waiting.awaits.is_empty() {
        let _ = write!(text, "; waits for {}", list(&waiting.awaits));
    }
    if !waiting.refused_by.is_empty() {
        let _ = write!(text, "; cannot send to {}", list(&waiting.refused_by));
    }
    let _ = write!(
        text,
        "; {} of {} bytes sent, {} of {} received",
        waiting.sent_bytes, waiting.to_send_bytes, waiting.received_bytes, waiting.to_receive_bytes
    );
    text
}

/// The rank that the others wait for longest, over all operations that every dump remembers: an
/// operation that all leave together takes longest on the rank that came first.
pub(super) fn latecomer(group: &Group) -> Option<String> {
    let mut took: BTreeMap<u64, Vec<(u32, f64)>> = BTreeMap::new();
    for (&rank, dump) in &group.dumps {
        let done = dump.operations.iter().filter(|operation| {
            operation.kind == DumpKind::Collective && operation.state == DumpState::Done
        });
        for operation in done {
            let time = operation.ended_s.unwrap_or(operation.started_s) - operation.started_s;
            took.entry(operation.sequence).or_default().push((rank, time));
        }
    }
    took.retain(|_, times| times.len() == group.dumps.len() && times.len() > 1);
    let mut late: BTreeMap<u32, (f64, usize)> = BTreeMap::new();
    for times in took.values() {
        let longest = times.iter().map(|(_, time)| *time).fold(0.0, f64::max);
        let last = times.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
        if longest - last.1 > LATE_MIN_S {
            let (total, count) = late.entry(last.0).or_default();
            *total += longest - last.1;
            *count += 1;
        }
    }
    let (rank, (total, count)) = late.into_iter().max_by(|a, b| a.1.0.total_cmp(&b.1.0))?;
    Some(format!(
        "{} comes last in {count} of {} operations: the others waited {total:.3} s for it",
        group.name(rank),
        took.len()
    ))
}
