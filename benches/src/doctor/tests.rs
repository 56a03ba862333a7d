//! Diagnoses of made dumps.

use std::path::PathBuf;

use syncline::communicator::FlightDump;
use syncline::communicator::dump::{
    DumpKind, DumpMember, DumpOperation, DumpState, DumpWaiting, FORMAT, VERSION,
};

use super::diagnose::{Diagnosis, Kind, diagnose};
use super::read::{Group, read};
use super::{show, table};
use crate::failure::Failure;

fn dump(rank: u32, ranks: u32, operations: Vec<DumpOperation>) -> FlightDump {
    let member = |rank| DumpMember { rank, host: format!("n{rank}"), pid: 100 + rank, wire: None };
    let next = operations.iter().filter(|o| o.kind == DumpKind::Collective);
    FlightDump {
        format: FORMAT.into(),
        version: VERSION,
        library: "0.1.0".into(),
        job: "00000000000000aa".into(),
        communicator: "0000000000000000".into(),
        epoch: 0,
        rank,
        members: (0..ranks).map(member).collect(),
        taken_unix_s: 1000.0,
        taken_s: 100.0,
        timeout_s: 300.0,
        failure: None,
        busy: false,
        operations_total: operations.len() as u64,
        next_collective: next.map(|o| o.sequence + 1).max().unwrap_or(0),
        strangers_dropped: 0,
        stragglers_dropped: 0,
        operations,
    }
}

fn done(sequence: u64, started_s: f64, ended_s: f64) -> DumpOperation {
    DumpOperation {
        kind: DumpKind::Collective,
        peer: None,
        sequence,
        call: "all_reduce(f32 x 8, sum, ring)".into(),
        fingerprint: "0000000000000001".into(),
        state: DumpState::Done,
        started_s,
        ended_s: Some(ended_s),
        waiting: None,
    }
}

fn running(sequence: u64, awaits: &[u32]) -> DumpOperation {
    let waiting = DumpWaiting { awaits: awaits.to_vec(), ..DumpWaiting::default() };
    let state = DumpState::Running;
    DumpOperation { state, ended_s: None, waiting: Some(waiting), ..done(sequence, 50.0, 0.0) }
}

fn recv(peer: u32, sequence: u64) -> DumpOperation {
    let call = format!("recv(f32 x 8 from rank {peer})");
    DumpOperation { kind: DumpKind::Recv, peer: Some(peer), call, ..running(sequence, &[peer]) }
}

fn send(peer: u32, sequence: u64) -> DumpOperation {
    let call = format!("send(f32 x 8 to rank {peer})");
    let kind = DumpKind::Send;
    DumpOperation { kind, peer: Some(peer), call, ..done(sequence, 1.0, 2.0) }
}

fn group(dumps: Vec<FlightDump>) -> Group {
    Group { dumps: dumps.into_iter().map(|dump| (dump.rank, dump)).collect() }
}

fn kinds(diagnosis: &Diagnosis) -> Vec<Kind> {
    diagnosis.problems.iter().map(|problem| problem.kind).collect()
}

#[test]
fn a_rank_that_has_not_entered_is_the_root_for_all_who_wait() {
    let group = group(vec![
        dump(0, 4, vec![done(6, 1.0, 2.0), running(7, &[3])]),
        dump(1, 4, vec![done(6, 1.0, 2.0), running(7, &[0])]),
        dump(2, 4, vec![done(6, 1.0, 2.0), running(7, &[1])]),
        dump(3, 4, vec![done(6, 1.0, 88.0)]),
    ]);
    let found = diagnose(&group);
    assert_eq!(kinds(&found), [Kind::NotEntered]);
    assert_eq!(
        (&found.problems[0].ranks[..], &found.problems[0].waiting[..]),
        (&[3][..], &[0, 1, 2][..])
    );
    let text = show::words(&group, &found);
    assert!(
        text.contains("rank 3 on n3 (pid 103) has not entered #7 all_reduce(f32 x 8"),
        "{text}"
    );
    assert!(
        text.contains("its last call, #6 all_reduce(f32 x 8, sum, ring), ended 12.0 s"),
        "{text}"
    );
    assert!(text.contains("ranks 0-2 wait for it"), "{text}");
    assert!(text.contains("ranks 0-2 at #7"), "{text}");
    let table = table::table(&group, 7).unwrap();
    assert!(table.contains("not entered") && table.contains("waits for rank 3"), "{table}");
    assert!(table::table(&group, 9).is_none());
}

#[test]
fn a_chain_over_a_message_leads_to_its_end() {
    // 0 waits in a collective for 1, which waits for a message of 2, which has sent none.
    let group = group(vec![
        dump(0, 3, vec![running(0, &[1])]),
        dump(1, 3, vec![recv(2, 0)]),
        dump(2, 3, vec![running(0, &[])]),
    ]);
    let found = diagnose(&group);
    assert_eq!(kinds(&found), [Kind::NotEntered]);
    assert_eq!(found.problems[0].ranks, [2]);
    let text = &found.problems[0].text;
    assert!(text.contains("has not entered message #0 recv(f32 x 8 from rank 2)"), "{text}");
    assert!(text.contains("it is in #0 all_reduce"), "{text}");
    assert!(text.contains("ranks 0, 1 wait for it"), "{text}");
}

#[test]
fn a_rank_without_a_dump_is_named() {
    let mut zero = dump(0, 3, vec![running(0, &[1])]);
    zero.failure = Some("all_reduce #0: lost rank 1".into());
    let found = diagnose(&group(vec![zero, dump(2, 3, vec![running(0, &[1])])]));
    assert_eq!(kinds(&found), [Kind::NoDump]);
    assert_eq!((&found.problems[0].ranks[..], &found.absent[..]), (&[1][..], &[1][..]));
    assert!(found.problems[0].text.contains("rank 1 on n1 (pid 101) left no dump"));
    assert!(found.notes.iter().any(|note| note.contains("lost rank 1")), "{:?}", found.notes);
}

#[test]
fn different_calls_are_told_with_who_made_them() {
    let mut odd = running(4, &[0]);
    odd.call = "broadcast(f32 x 8, root 0, ring)".into();
    odd.fingerprint = "0000000000000002".into();
    let found = diagnose(&group(vec![
        dump(0, 3, vec![running(4, &[2])]),
        dump(1, 3, vec![odd]),
        dump(2, 3, vec![running(4, &[1])]),
    ]));
    assert_eq!(found.problems[0].kind, Kind::Mismatch);
    assert_eq!(found.problems[0].ranks, [1]);
    let text = &found.problems[0].text;
    let wanted = "operation #4: ranks 0, 2 called all_reduce(f32 x 8, sum, ring), rank 1 called \
                  broadcast(f32 x 8, root 0, ring)";
    assert!(text.contains(wanted), "{text}");
}

#[test]
fn messages_that_differ_are_told() {
    let mut sent = send(1, 0);
    sent.fingerprint = "0000000000000009".into();
    let found = diagnose(&group(vec![dump(0, 2, vec![sent]), dump(1, 2, vec![recv(0, 0)])]));
    assert_eq!(found.problems[0].kind, Kind::Mismatch);
    assert!(found.problems[0].text.contains("message #0 from rank 0 to rank 1 differs"));
}

#[test]
fn two_receives_that_face_each_other_are_a_circle() {
    let found = diagnose(&group(vec![dump(0, 2, vec![recv(1, 0)]), dump(1, 2, vec![recv(0, 0)])]));
    assert_eq!(kinds(&found), [Kind::Circle]);
    assert_eq!(found.problems[0].ranks, [0, 1]);
    let text = &found.problems[0].text;
    assert!(text.contains("rank 0 on n0 (pid 100) is in message #0 recv"), "{text}");
    assert!(text.contains("wait for each other in a circle"), "{text}");
}

#[test]
fn an_operation_that_all_are_in_is_only_a_problem_when_it_is_old() {
    let young = |rank, on| {
        let mut dump = dump(rank, 2, vec![running(3, &[on])]);
        dump.taken_s = 50.5;
        dump
    };
    let found = diagnose(&group(vec![young(0, 1), young(1, 0)]));
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    assert!(found.notes[0].contains("may be under way"), "{:?}", found.notes);
    let old = |rank, on| dump(rank, 2, vec![running(3, &[on])]);
    let found = diagnose(&group(vec![old(0, 1), old(1, 0)]));
    assert_eq!(kinds(&found), [Kind::Stuck]);
    assert!(found.problems[0].text.contains("nothing has moved for 50.0 s"));
}

#[test]
fn nothing_wrong_names_the_latecomer() {
    let ops = |late: f64| {
        (0..4_u32).map(move |n| done(n.into(), f64::from(n) + late, f64::from(n) + 0.5))
    };
    let found =
        diagnose(&group(vec![dump(0, 2, ops(0.0).collect()), dump(1, 2, ops(0.4).collect())]));
    assert!(found.problems.is_empty());
    let late = "rank 1 on n1 (pid 101) comes last in 4 of 4 operations: the others waited 1.600 s";
    assert!(found.notes.iter().any(|note| note.contains(late)), "{:?}", found.notes);
}

#[test]
fn a_failure_that_nothing_explains_and_versions_are_problems() {
    let mut failed = dump(0, 2, vec![done(0, 1.0, 2.0)]);
    failed.failure = Some("aborted by the user".into());
    let found = diagnose(&group(vec![failed.clone(), dump(1, 2, vec![done(0, 1.0, 2.0)])]));
    assert_eq!(kinds(&found), [Kind::Failed]);
    let mut other = dump(1, 2, vec![done(0, 1.0, 2.0)]);
    other.library = "0.2.0".into();
    let found = diagnose(&group(vec![dump(0, 2, vec![done(0, 1.0, 2.0)]), other]));
    assert_eq!(kinds(&found), [Kind::Versions]);
    assert!(found.problems[0].text.contains("rank 0: 0.1.0, rank 1: 0.2.0"));
}

fn refused(files: &[(&str, &str)], word: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut paths: Vec<PathBuf> = Vec::new();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        paths.push(path);
    }
    if paths.is_empty() {
        paths.push(folder.path().to_owned());
    }
    match read(&paths) {
        Err(Failure::Usage(text)) => assert!(text.contains(word), "{text}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("taken, in place of: {word}"),
    }
}

#[test]
fn dumps_that_do_not_belong_together_are_refused() {
    let (zero, one) = (dump(0, 2, vec![]).to_json(), dump(1, 2, vec![]).to_json());
    let other_job = one.replace("00000000000000aa", "00000000000000bb");
    refused(&[("a", &zero), ("b", &other_job)], "of another job");
    refused(&[("a", &zero), ("b", &zero)], "both of rank 0");
    refused(&[("a", &zero), ("b", &one.replace("\"pid\": 101", "\"pid\": 7"))], "other members");
    refused(&[("a", &zero[..50])], "cut off");
    refused(&[("a", "{\"format\": \"something\"}")], "not a flight dump");
    refused(&[], "holds no dump");
    match read(&[PathBuf::from("/nowhere/at/all")]) {
        Err(Failure::Usage(text)) => assert!(text.contains("cannot be read"), "{text}"),
        _ => panic!("there is no such file"),
    }
}

#[test]
fn lists_of_ranks_are_short() {
    assert_eq!(show::list(&[3]), "rank 3");
    assert_eq!(show::list(&[5, 0, 3, 4]), "ranks 0, 3-5");
    assert_eq!(show::list(&[0, 1]), "ranks 0, 1");
}
