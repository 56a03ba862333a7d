//! Flight dumps from anywhere, for fuzzers.

use std::path::PathBuf;

use syncline::communicator::FlightDump;
use syncline::communicator::dump::{
    DumpKind, DumpMember, DumpOperation, DumpState, DumpWaiting, FORMAT, VERSION,
};
use syncline::fuzzing::Feed;

use super::{diagnose, read, show, table};

/// Any text as a dump, or several with NUL between them.
pub(crate) fn dump(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut dumps = Vec::new();
    for text in text.split('\0') {
        match FlightDump::from_json(text) {
            Ok(dump) => dumps.push(survives(&dump)),
            Err(reason) => assert!(!reason.is_empty()),
        }
    }
    judge(dumps);
}

/// The dump as it is read after it was written. Times may differ in the last bit.
fn survives(dump: &FlightDump) -> FlightDump {
    let again = FlightDump::from_json(&dump.to_json()).expect("it was written by us");
    let (mut a, mut b) = (dump.clone(), again.clone());
    for dump in [&mut a, &mut b] {
        (dump.taken_unix_s, dump.taken_s, dump.timeout_s) = (0.0, 0.0, 0.0);
        for operation in &mut dump.operations {
            operation.started_s = 0.0;
            operation.ended_s = operation.ended_s.map(|_| 0.0);
        }
    }
    assert_eq!(a, b);
    again
}

/// Dumps of a few ranks that are well-formed and make little sense together.
pub(crate) fn doctor(data: &[u8]) {
    let mut feed = Feed::new(data);
    let ranks = 1 + u32::from(feed.u8() % 5);
    let mut dumps = Vec::new();
    for rank in 0..ranks {
        let kind = feed.u8();
        if kind % 6 != 5 {
            let made = made(kind, rank, ranks, &mut feed);
            // Times that JSON cannot say are refused.
            dumps.extend(FlightDump::from_json(&made.to_json()));
        }
    }
    judge(dumps);
}

fn made(kind: u8, rank: u32, ranks: u32, feed: &mut Feed<'_>) -> FlightDump {
    let member = |rank| DumpMember { rank, host: format!("n{}", rank % 2), pid: 1, wire: None };
    let operations = (0..feed.u8() % 6).map(|_| operation(ranks, feed)).collect();
    FlightDump {
        format: FORMAT.into(),
        version: VERSION,
        library: if kind & 0x80 != 0 { "0.2.0".into() } else { "0.1.0".into() },
        job: "1".into(),
        communicator: if kind & 0x40 != 0 { "2".into() } else { "1".into() },
        epoch: 0,
        rank,
        members: (0..ranks).map(member).collect(),
        taken_unix_s: 0.0,
        taken_s: time(feed),
        timeout_s: 300.0,
        failure: (kind & 0x30 == 0x30).then(|| "rank 1 is gone".into()),
        busy: kind & 0x0c == 0x0c,
        operations_total: 0,
        next_collective: sequence(feed),
        strangers_dropped: 0,
        stragglers_dropped: 0,
        operations,
    }
}

fn operation(ranks: u32, feed: &mut Feed<'_>) -> DumpOperation {
    let kinds = [DumpKind::Collective, DumpKind::Collective, DumpKind::Send, DumpKind::Recv];
    let states = [DumpState::Queued, DumpState::Running, DumpState::Done, DumpState::Failed];
    let (shape, peer) = (feed.u8(), u32::from(feed.u8()) % ranks);
    let kind = kinds[usize::from(shape & 3)];
    let set = |bits: u8| (0..ranks).filter(|rank| bits >> rank & 1 != 0).collect();
    DumpOperation {
        kind,
        // A file may say anything; a library says a peer with messages only.
        peer: (kind != DumpKind::Collective || shape & 0x80 != 0).then_some(peer),
        sequence: sequence(feed),
        call: if shape & 0x40 != 0 { "barrier".into() } else { "broadcast".into() },
        fingerprint: if shape & 0x40 != 0 { "1".into() } else { "2".into() },
        state: states[usize::from(shape >> 2 & 3)],
        started_s: time(feed),
        ended_s: (shape & 0x10 != 0).then(|| time(feed)),
        waiting: (shape & 0x20 != 0).then(|| DumpWaiting {
            awaits: set(feed.u8()),
            refused_by: set(feed.u8()),
            ..DumpWaiting::default()
        }),
    }
}

fn sequence(feed: &mut Feed<'_>) -> u64 {
    match feed.u8() {
        255 => feed.u64(),
        small => u64::from(small % 8),
    }
}

fn time(feed: &mut Feed<'_>) -> f64 {
    match feed.u8() {
        255 => f64::from_bits(feed.u64()),
        small => f64::from(small),
    }
}

/// All that `collbench doctor` does with them, apart from printing.
fn judge(dumps: Vec<FlightDump>) {
    let files = dumps.into_iter().zip(0..).map(|(dump, number)| {
        let name = PathBuf::from(format!("{number}.json"));
        Ok((name, dump))
    });
    let Ok(groups) = read::group(files) else { return };
    for group in &groups {
        let diagnosis = diagnose::diagnose(group);
        let ranks = group.ranks();
        assert_eq!(diagnosis.absent.len() + group.dumps.len(), ranks as usize);
        for problem in &diagnosis.problems {
            assert!(!problem.text.is_empty());
            assert!(problem.ranks.iter().chain(&problem.waiting).all(|&rank| rank < ranks));
        }
        assert!(!show::words(group, &diagnosis).is_empty());
        assert!(serde_json::to_string(&diagnosis).is_ok());
        for sequence in 0..3 {
            table::table(group, sequence);
        }
    }
}
