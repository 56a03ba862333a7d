//! Messages as bytes.

use std::time::Duration;

use crate::control::core::testing::Random;
use crate::control::core::{
    Absence, Agreed, Answer, Cause, Contribution, Message, Operation, Part, Progress, Unfinished,
};
use crate::error::Rank;

fn text(random: &mut Random) -> String {
    let bytes = random.below(60) as usize;
    "größer als ein Byte, 再见".chars().cycle().take(bytes).collect()
}

fn ranks(random: &mut Random) -> Vec<Rank> {
    (0..300).filter(|_| random.chance(5)).collect()
}

fn operation(random: &mut Random) -> Operation {
    match random.below(2) {
        0 => Operation::Collective(random.below(u64::MAX)),
        _ => Operation::Message { from: 3, to: 4, number: random.below(1 << 40) },
    }
}

fn absence(random: &mut Random) -> Absence {
    match random.below(5) {
        0 => Absence::Silent,
        1 => Absence::NotEntered { last: random.chance(50).then(|| text(random)) },
        2 => Absence::Slow,
        3 => Absence::Tardy,
        _ => Absence::Left,
    }
}

fn cause(random: &mut Random) -> Cause {
    let rank = random.below(1000) as Rank;
    match random.below(8) {
        7 => Cause::Disconnected { by: rank, peer: 9, how: text(random) },
        0 => Cause::Lost { rank, how: text(random) },
        1 => Cause::Left { rank },
        2 => Cause::Protocol { rank, reason: text(random) },
        3 => Cause::Aborted { by: rank, reason: text(random) },
        4 => Cause::Revoked { by: rank, reason: text(random) },
        5 => Cause::Stalled {
            by: rank,
            operation: operation(random),
            description: text(random),
            missing: (0..random.below(128) as Rank).map(|rank| (rank, absence(random))).collect(),
            after: Duration::from_nanos(random.below(u64::MAX)),
        },
        _ => Cause::Mismatch {
            operation: operation(random),
            one: (rank, text(random)),
            other: (7, text(random)),
        },
    }
}

fn unfinished(random: &mut Random) -> Option<Unfinished> {
    let some = random.chance(50);
    some.then(|| Unfinished { operation: operation(random), waits_for: ranks(random) })
}

fn progress(random: &mut Random) -> Progress {
    match random.below(4) {
        0 => Progress::NotEntered {
            last: random.chance(50).then(|| text(random)),
            unfinished: unfinished(random),
        },
        1 => Progress::Running {
            description: text(random),
            waits_for: ranks(random),
            behind: unfinished(random),
        },
        2 => Progress::Done { description: text(random) },
        _ => Progress::Unknown,
    }
}

fn answer(random: &mut Random) -> Answer {
    match random.below(5) {
        0 => Answer::Well,
        1 => Answer::Failed(cause(random)),
        2 => Answer::Left,
        3 => Answer::Unknown,
        _ => Answer::At { progress: progress(random), investigating: random.chance(50) },
    }
}

fn decision(random: &mut Random) -> Agreed {
    Agreed { flags: random.below(u64::MAX), failed: ranks(random) }
}

fn part(random: &mut Random) -> Part {
    match random.below(8) {
        0 => Part::Contribute(Box::new(Contribution {
            flags: random.below(u64::MAX),
            failed: ranks(random),
            suspects: ranks(random),
            patience: Duration::from_micros(random.below(1 << 40)),
            accepted: random.chance(50).then(|| (random.below(9), 2, decision(random))),
        })),
        1 => Part::Here,
        2 => Part::Call,
        3 => Part::Propose { attempt: 3, decision: decision(random) },
        4 => Part::Accept { attempt: 4 },
        5 => Part::Refuse,
        6 => Part::Decide { decision: decision(random) },
        _ => Part::Absent,
    }
}

fn message(random: &mut Random) -> Message {
    let comm = random.below(u64::MAX);
    let number = random.below(100);
    match random.below(7) {
        0 => Message::Dead { rank: 5, how: text(random) },
        1 => Message::Farewell { rank: 6 },
        2 => Message::Failed { comm, cause: cause(random) },
        5 => Message::FarewellHeard,
        3 => {
            let operation = random.chance(50).then(|| operation(random));
            Message::Ask { comm, query: number, operation }
        }
        4 => Message::Answer { comm, query: number, answer: answer(random) },
        _ => Message::Agreement { comm, number, ballot: random.below(99), part: part(random) },
    }
}

#[test]
fn every_message_survives() {
    let mut random = Random::new(1);
    for _ in 0..20_000 {
        let message = message(&mut random);
        let bytes = message.encode();
        assert!(bytes.len() <= Message::BYTES_MAX);
        assert_eq!(Message::decode(&bytes), Some(message));
    }
}

#[test]
fn damaged_messages_are_refused_or_read_but_never_panic() {
    let mut random = Random::new(2);
    for _ in 0..20_000 {
        let bytes = message(&mut random).encode();
        let cut = random.below(bytes.len() as u64) as usize;
        assert_eq!(Message::decode(&bytes[..cut]), None);
        let mut damaged = bytes.clone();
        let at = random.below(bytes.len() as u64) as usize;
        damaged[at] = random.below(256) as u8;
        // What can be read can be written, and stays the same.
        if let Some(read) = Message::decode(&damaged) {
            assert_eq!(Message::decode(&read.encode()), Some(read));
        }
    }
    assert_eq!(Message::decode(&[]), None);
    assert_eq!(Message::decode(&[2, 1, 0, 0, 0, 0, 0, 0, 0, 0]), None, "another version");
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let how = "ü".repeat(40_000);
    let bytes = Message::Dead { rank: 1, how }.encode();
    assert!(bytes.len() < 1000);
    let Some(Message::Dead { how, .. }) = Message::decode(&bytes) else { panic!() };
    assert!(how.len() > 500 && how.chars().all(|c| c == 'ü'));
}

#[test]
fn the_largest_messages_fit() {
    let many: Vec<Rank> = (0..1 << 20).collect();
    let long = "x".repeat(1 << 12);
    let decision = Agreed { flags: 1, failed: many.clone() };
    let contribution = Contribution {
        flags: 1,
        failed: many.clone(),
        suspects: many.clone(),
        patience: Duration::MAX,
        accepted: Some((1, 1, decision)),
    };
    let last = Some(long.clone());
    let missing =
        many[..1000].iter().map(|r| (*r, Absence::NotEntered { last: last.clone() })).collect();
    let stalled = Cause::Stalled {
        by: 1,
        operation: Operation::Message { from: 1, to: 2, number: 3 },
        description: long.clone(),
        missing,
        after: Duration::MAX,
    };
    let unfinished = Unfinished { operation: Operation::Collective(1), waits_for: many.clone() };
    let not_entered = Progress::NotEntered { last, unfinished: Some(unfinished.clone()) };
    let running =
        Progress::Running { description: long, waits_for: many, behind: Some(unfinished) };
    let at = |progress| Answer::At { progress, investigating: true };
    let part = Part::Contribute(Box::new(contribution));
    for message in [
        Message::Agreement { comm: 1, number: 1, ballot: 1, part },
        Message::Failed { comm: 1, cause: stalled.clone() },
        Message::Answer { comm: 1, query: 1, answer: Answer::Failed(stalled) },
        Message::Answer { comm: 1, query: 1, answer: at(not_entered) },
        Message::Answer { comm: 1, query: 1, answer: at(running) },
    ] {
        let bytes = message.encode();
        assert!(bytes.len() <= Message::BYTES_MAX, "{}", bytes.len());
        assert!(Message::decode(&bytes).is_some());
    }
}
