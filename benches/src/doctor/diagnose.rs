//! What is wrong, and with whom it started.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use syncline::communicator::dump::{DumpKind, DumpOperation, DumpState};

use super::graph::{Wait, circles, named, waiting_for, waits};
use super::read::Group;
use super::show::list;
use super::table::latecomer;

/// An operation that all ranks are in, and that is under way for longer, has stopped.
const UNDER_WAY_MAX_S: f64 = 10.0;

/// A rank, and what it called, in words.
type Caller<'a> = (u32, &'a str);

/// What the dumps of one communicator tell.
#[derive(Debug, Serialize)]
pub(super) struct Diagnosis {
    pub(super) job: String,
    pub(super) communicator: String,
    pub(super) epoch: u32,
    pub(super) ranks: u32,
    /// Ranks without a dump.
    pub(super) absent: Vec<u32>,
    /// Worst first.
    pub(super) problems: Vec<Problem>,
    /// What is worth knowing and not wrong.
    pub(super) notes: Vec<String>,
    pub(super) waits: Vec<Wait>,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    /// Where it started.
    pub(super) ranks: Vec<u32>,
    /// Who waits because of it, directly or not.
    pub(super) waiting: Vec<u32>,
    pub(super) text: String,
}

/// Kinds of [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Ranks made different calls at one place.
    Mismatch,
    /// Ranks wait for each other in a circle.
    Circle,
    /// A rank has not made a call that others wait in.
    NotEntered,
    /// Others wait for a rank that left no dump.
    NoDump,
    /// A rank has done its part, or waits for nobody, and others wait for it all the same.
    Stuck,
    /// The communicator failed, and no dump shows why.
    Failed,
    /// Ranks run different versions of the library.
    Versions,
}

/// Where a rank is in what another one waits for.
enum Part<'a> {
    NoDump,
    Busy,
    NotEntered,
    Entered(&'a DumpOperation),
    /// It was so long ago that it is not remembered.
    Over,
}

pub(super) fn diagnose(group: &Group) -> Diagnosis {
    let any = group.any();
    let waits = waits(group);
    let absent: Vec<u32> =
        (0..group.ranks()).filter(|rank| !group.dumps.contains_key(rank)).collect();
    let mut problems = mismatches(group);
    let (mut stuck, mut notes) = circles_of(group, &waits);
    problems.append(&mut stuck);
    problems.extend(roots(group, &waits));
    problems.extend(versions(group));
    let failures = failures(group);
    if problems.is_empty() && !failures.is_empty() {
        let ranks = failures.iter().flat_map(|(_, ranks)| ranks.clone()).collect();
        let text = "the communicator failed, and no dump shows what it waited for".to_owned();
        problems.push(Problem { kind: Kind::Failed, ranks, waiting: Vec::new(), text });
    }
    notes.extend(
        failures.into_iter().map(|(text, ranks)| format!("{} failed with: {text}", list(&ranks))),
    );
    if !absent.is_empty() {
        notes.push(format!("no dump of {}", list(&absent)));
    }
    notes.extend(spread(group));
    notes.extend(latecomer(group));
    Diagnosis {
        job: any.job.clone(),
        communicator: any.communicator.clone(),
        epoch: any.epoch,
        ranks: group.ranks(),
        absent,
        problems,
        notes,
        waits,
    }
}

/// Where `on` is in the operation that `wait` is about.
fn part<'a>(group: &'a Group, wait: &Wait) -> Part<'a> {
    let Some(dump) = group.dumps.get(&wait.on) else { return Part::NoDump };
    if dump.busy {
        return Part::Busy;
    }
    let (kind, peer) = match wait.kind {
        DumpKind::Collective => (DumpKind::Collective, None),
        DumpKind::Send => (DumpKind::Recv, Some(wait.rank)),
        DumpKind::Recv => (DumpKind::Send, Some(wait.rank)),
    };
    if let Some(found) = group.find(wait.on, kind, peer, wait.sequence) {
        return Part::Entered(found);
    }
    let later = |operation: &DumpOperation| {
        operation.kind == kind && operation.peer == peer && operation.sequence > wait.sequence
    };
    let over = match kind {
        DumpKind::Collective => wait.sequence < dump.next_collective,
        DumpKind::Send | DumpKind::Recv => dump.operations.iter().any(later),
    };
    if over { Part::Over } else { Part::NotEntered }
}

/// Operations in which ranks made different calls; the first of each kind of numbering.
fn mismatches(group: &Group) -> Vec<Problem> {
    let mut calls: BTreeMap<u64, BTreeMap<&str, Vec<Caller<'_>>>> = BTreeMap::new();
    for (&rank, dump) in &group.dumps {
        let collectives = dump.operations.iter().filter(|o| o.kind == DumpKind::Collective);
        for operation in collectives {
            let of = calls.entry(operation.sequence).or_default();
            of.entry(&operation.fingerprint).or_default().push((rank, &operation.call));
        }
    }
    let first = calls.into_iter().find(|(_, calls)| calls.len() > 1);
    let collective = first.map(|(sequence, calls)| {
        let mut sides: Vec<Vec<Caller<'_>>> = calls.into_values().collect();
        // The call that most ranks made stands first: the others are likely wrong.
        sides.sort_by_key(|side| (std::cmp::Reverse(side.len()), side[0].0));
        let words = sides.iter().map(|side| {
            let ranks: Vec<u32> = side.iter().map(|(rank, _)| *rank).collect();
            format!("{} called {}", list(&ranks), side[0].1)
        });
        let text = format!(
            "ranks disagree on operation #{sequence}: {}; make every rank's calls agree",
            words.collect::<Vec<_>>().join(", ")
        );
        let minority = sides[1..].iter().flatten().map(|(rank, _)| *rank).collect();
        Problem { kind: Kind::Mismatch, ranks: minority, waiting: Vec::new(), text }
    });
    collective.into_iter().chain(mismatched_messages(group)).collect()
}

fn mismatched_messages(group: &Group) -> Option<Problem> {
    for (&rank, dump) in &group.dumps {
        for sent in dump.operations.iter().filter(|o| o.kind == DumpKind::Send) {
            let Some(to) = sent.peer else { continue };
            let matching = group.find(to, DumpKind::Recv, Some(rank), sent.sequence);
            if let Some(received) = matching
                && received.fingerprint != sent.fingerprint
            {
                let text = format!(
                    "message #{} from rank {rank} to rank {to} differs: {rank} called {}, {to} \
                     called {}; make both agree in type and count",
                    sent.sequence, sent.call, received.call
                );
                let ranks = vec![rank, to];
                return Some(Problem { kind: Kind::Mismatch, ranks, waiting: Vec::new(), text });
            }
        }
    }
    None
}

/// Circles of ranks that wait for each other; one in which all are in the same operation may
/// simply be under way, and is a note then.
fn circles_of(group: &Group, waits: &[Wait]) -> (Vec<Problem>, Vec<String>) {
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    for circle in circles(waits) {
        let inside: Vec<&Wait> = waits
            .iter()
            .filter(|wait| circle.contains(&wait.rank) && circle.contains(&wait.on))
            .collect();
        let dead: Vec<&&Wait> =
            inside.iter().filter(|wait| matches!(part(group, wait), Part::NotEntered)).collect();
        let waiting = Vec::new();
        if !dead.is_empty() {
            let words = inside.iter().map(|wait| {
                format!(
                    "{} is in {} and waits for {}",
                    group.name(wait.rank),
                    wait.operation(),
                    wait.on
                )
            });
            let text = format!(
                "{} wait for each other in a circle: {}; make the order of calls the same on \
                 every rank, or start the messages together in a group",
                list(&circle),
                words.collect::<Vec<_>>().join("; ")
            );
            problems.push(Problem { kind: Kind::Circle, ranks: circle, waiting, text });
            continue;
        }
        let age = inside.iter().filter_map(|wait| age(group, wait)).fold(f64::MAX, f64::min);
        let stopped = age > UNDER_WAY_MAX_S && age < f64::MAX;
        let name = inside.first().map(|wait| wait.operation()).unwrap_or_default();
        let failed = circle
            .iter()
            .any(|rank| group.dumps.get(rank).is_some_and(|dump| dump.failure.is_some()));
        if stopped && !failed {
            let text = format!(
                "{} have all entered {name} and nothing has moved for {age:.1} s: what they sent \
                 is lost on the way, or the network has stopped",
                list(&circle)
            );
            problems.push(Problem { kind: Kind::Stuck, ranks: circle, waiting, text });
        } else if !failed {
            notes.push(format!("{} are in {name}; it may be under way", list(&circle)));
        }
    }
    (problems, notes)
}

/// How long before its dump the waiting rank entered.
fn age(group: &Group, wait: &Wait) -> Option<f64> {
    let dump = group.dumps.get(&wait.rank)?;
    let peer = (wait.kind != DumpKind::Collective).then_some(wait.on);
    let operation = group.find(wait.rank, wait.kind, peer, wait.sequence)?;
    Some(dump.taken_s - operation.started_s)
}

/// Ranks that others wait for and that wait for nobody themselves.
fn roots(group: &Group, waits: &[Wait]) -> Vec<Problem> {
    let wait: BTreeSet<u32> = waits.iter().map(|wait| wait.rank).collect();
    let mut roots: BTreeMap<u32, &Wait> = BTreeMap::new();
    for wait_on in waits.iter().filter(|w| !wait.contains(&w.on)) {
        let first = roots.entry(wait_on.on).or_insert(wait_on);
        if wait_on.sequence < first.sequence {
            *first = wait_on;
        }
    }
    roots.into_iter().map(|(root, wait)| root_cause(group, waits, root, wait)).collect()
}

fn root_cause(group: &Group, waits: &[Wait], root: u32, wait: &Wait) -> Problem {
    let waiting: Vec<u32> = waiting_for(waits, root).into_iter().collect();
    let (name, operation) = (group.name(root), wait.operation());
    let (kind, text) = match part(group, wait) {
        Part::NoDump => (
            Kind::NoDump,
            format!("{name} left no dump: it is dead, stopped or cut off, or writes no dumps"),
        ),
        Part::Busy => (Kind::Stuck, format!("{name} was computing when its dump was taken")),
        Part::NotEntered => {
            (Kind::NotEntered, format!("{name} has not entered {operation}{}", last(group, root)))
        }
        Part::Entered(theirs) => (
            Kind::Stuck,
            match theirs.state {
                DumpState::Done => {
                    format!("{name} has finished {operation}; what it sent is on the way or lost")
                }
                DumpState::Failed => format!("{name} gave up {operation}"),
                DumpState::Queued | DumpState::Running => format!(
                    "{name} is in {operation} and waits for nobody: it computes, waits behind an \
                     earlier operation, or needs staging memory (staging_bytes_max)"
                ),
            },
        ),
        Part::Over => (Kind::Stuck, format!("{name} has finished {operation} long ago")),
    };
    let text = format!("{text}; {} wait{} for it", list(&waiting), s(waiting.len()));
    Problem { kind, ranks: vec![root], waiting, text }
}

/// The verb's ending.
const fn s(subjects: usize) -> &'static str {
    if subjects == 1 { "s" } else { "" }
}

/// What a rank did last, as far as it is known.
fn last(group: &Group, rank: u32) -> String {
    let Some(dump) = group.dumps.get(&rank) else { return String::new() };
    let running = dump.operations.iter().rev().find(|o| o.state == DumpState::Running);
    if let Some(running) = running {
        let name = named(running.kind, running.sequence, &running.call);
        return format!(": it is in {name}");
    }
    match dump.operations.iter().rev().find(|o| o.state == DumpState::Done) {
        None => ": it has made no call yet".to_owned(),
        Some(done) => {
            let ago = dump.taken_s - done.ended_s.unwrap_or(done.started_s);
            let name = named(done.kind, done.sequence, &done.call);
            format!("; its last call, {name}, ended {ago:.1} s before its dump")
        }
    }
}

fn versions(group: &Group) -> Option<Problem> {
    let mut versions: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (&rank, dump) in &group.dumps {
        versions.entry(&dump.library).or_default().push(rank);
    }
    let words = versions.iter().map(|(version, ranks)| format!("{}: {version}", list(ranks)));
    (versions.len() > 1).then(|| Problem {
        kind: Kind::Versions,
        ranks: Vec::new(),
        waiting: Vec::new(),
        text: format!(
            "ranks run different versions of the library ({}); use one",
            words.collect::<Vec<_>>().join(", ")
        ),
    })
}

/// Why ranks say that their communicator failed, each reason with its ranks.
fn failures(group: &Group) -> Vec<(String, Vec<u32>)> {
    let mut failures: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (&rank, dump) in &group.dumps {
        if let Some(failure) = &dump.failure {
            failures.entry(failure).or_default().push(rank);
        }
    }
    failures.into_iter().map(|(text, ranks)| (text.to_owned(), ranks)).collect()
}

/// Ranks that are at different places.
fn spread(group: &Group) -> Option<String> {
    let mut places: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for (&rank, dump) in group.dumps.iter().filter(|(_, dump)| !dump.busy) {
        places.entry(dump.next_collective).or_default().push(rank);
    }
    let words = places.iter().map(|(next, ranks)| match next.checked_sub(1) {
        Some(last) => format!("{} at #{last}", list(ranks)),
        None => format!("{} at no operation yet", list(ranks)),
    });
    (places.len() > 1).then(|| {
        format!("ranks are at different operations: {}", words.collect::<Vec<_>>().join(", "))
    })
}
