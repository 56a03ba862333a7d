//! Real processes that are killed, stopped, cut off, or call different things: nobody hangs,
//! everybody is told who is to blame, and those that are left go on.
//!
//! `SYNCLINE_FAULT_ROUNDS` sets the rounds of kills and stops (24 by default, once per collective
//! and wire), `SYNCLINE_FAULT_SEED` the choice of victims and moments.
#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use syncline::schedule::Collective;
use syncline_tests::faults::now_ms;
use syncline_tests::launch::{Ended, Ranks};
use syncline_tests::netns::Hosts;

const LIMIT: Duration = Duration::from_secs(60);
/// The timeout of the ranks in rounds with stops.
const TIMEOUT_MS: u64 = 1500;
/// The promise: told within a second of the death of a process, or of the deadline.
const TOLD_MS_MAX: u64 = 1000;

fn worker() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_worker"))
}

fn start(ranks: usize, part: &str, transport: &str, timeout_ms: u64) -> Ranks {
    Ranks::start(worker(), ranks, &["fault", transport, part, &timeout_ms.to_string()])
}

/// What a rank said, and when.
fn said<'a>(ended: &'a Ended, what: &str) -> Option<(u64, &'a str)> {
    let head = format!("{what} at ");
    let line = ended.output.lines().find_map(|line| line.strip_prefix(&head))?;
    let (ms, details) = line.split_once(" ms: ")?;
    Some((ms.parse().ok()?, details))
}

/// What a rank was told about its failed call.
fn told(ended: &Ended) -> (u64, &str) {
    said(ended, "failed").unwrap_or_else(|| panic!("not told of a failure:\n{}", ended.output))
}

/// All but `except` ended well and kept nothing.
fn assert_clean(ended: &[Ended], except: &[usize], what: &str) {
    for (rank, end) in ended.iter().enumerate().filter(|(rank, _)| !except.contains(rank)) {
        let clean = end.success && said(end, "clean").is_some();
        let all = || ended.iter().map(|end| end.output.as_str()).collect::<Vec<_>>().join("\n");
        assert!(clean, "{what}: rank {rank}, of these:\n{}", all());
    }
}

/// `told` says what happened to `victim`, in every survivor, not later than `ms_max` after `at`.
fn assert_named(ended: &[Ended], victims: &[usize], (at, ms_max): (u64, u64), what: &str) {
    for (rank, end) in ended.iter().enumerate().filter(|(rank, _)| !victims.contains(rank)) {
        let (ms, text) = told(end);
        let named = victims.iter().all(|victim| text.contains(&format!("rank {victim} on ")));
        assert!(named, "{what}: rank {rank} was told: {text}");
        let late = ms.saturating_sub(at);
        assert!(late <= ms_max, "{what}: rank {rank} was told after {late} ms: {text}");
    }
}

/// A small generator (SplitMix64, Steele and others 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One round: a rank is killed or stopped in the middle of a collective.
fn round(collective: &str, transport: &str, signal: Signal, random: &mut Random) {
    let ranks = 3 + random.below(2) as usize;
    let victim = random.below(ranks as u64) as usize;
    let what = format!("{collective} over {transport}, {signal:?} to rank {victim} of {ranks}");
    let mut group = start(ranks, &format!("endure:{collective}"), transport, TIMEOUT_MS);
    group.await_marks("running", 0..ranks, LIMIT);
    std::thread::sleep(Duration::from_micros(random.below(20_000)));
    let at = now_ms();
    group.signal(victim, signal);
    let killed = signal == Signal::KILL;
    if !killed {
        // The others go on without it; then it wakes up and is told so.
        let deadline = now_ms() + 20_000;
        while !(0..ranks).all(|rank| rank == victim || group.has_ended(rank)) {
            assert!(now_ms() < deadline, "{what}: the others do not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        group.signal(victim, Signal::CONT);
    }
    let ended = group.finish(LIMIT);
    let by = if killed { TOLD_MS_MAX } else { TIMEOUT_MS + TOLD_MS_MAX };
    assert_clean(&ended, &[victim], &what);
    assert_named(&ended, &[victim], (at, by), &what);
    let survivors = ended.iter().enumerate().filter(|(rank, _)| *rank != victim);
    for (place, (rank, end)) in survivors.enumerate() {
        let (_, words) = said(end, "ranks").unwrap_or((0, "nothing"));
        let expected = format!("{place} of {}", ranks - 1);
        assert_eq!(words, expected, "{what}: rank {rank}:\n{}", end.output);
    }
}

#[test]
fn a_rank_is_killed_or_stopped_in_every_collective() {
    let seed = number("SYNCLINE_FAULT_SEED", 3);
    let rounds = number("SYNCLINE_FAULT_ROUNDS", 2 * Collective::ALL.len() as u64);
    let mut random = Random(seed);
    for index in 0..rounds {
        let collective = Collective::ALL[index as usize % Collective::ALL.len()].name();
        let lap = index / Collective::ALL.len() as u64;
        let transport = if (index + lap).is_multiple_of(2) { "shm" } else { "tcp" };
        let signal = if (index / 2 + lap).is_multiple_of(4) { Signal::STOP } else { Signal::KILL };
        round(collective, transport, signal, &mut random);
    }
}

#[test]
fn an_abort_ends_every_call_and_names_who_gave_up() {
    for transport in ["shm", "tcp"] {
        let ended = start(4, "abort", transport, 30_000).finish(LIMIT);
        let (at, _) = said(&ended[1], "aborting").expect("rank 1 aborts");
        assert_clean(&ended, &[], transport);
        for (rank, end) in ended.iter().enumerate() {
            let (ms, text) = told(end);
            let named = text.contains("rank 1 on") && text.contains("the user pressed stop");
            assert!(named, "rank {rank} was told: {text}");
            // Rank 0 computes for a second before it calls.
            let ms_max = if rank == 0 { 2000 } else { TOLD_MS_MAX };
            assert!(ms.saturating_sub(at) <= ms_max, "rank {rank}: {} ms", ms - at);
        }
        assert!(said(&ended[1], "excluded").is_some(), "{}", ended[1].output);
        assert!(said(&ended[3], "ranks").is_some_and(|(_, text)| text == "2 of 3"));
    }
}

/// What differs, and words of the two calls.
const MISMATCHES: [(&str, [&str; 2]); 6] = [
    ("op", ["sum", "max"]),
    ("type", ["f32", "i32"]),
    ("count", ["1000", "999"]),
    ("collective", ["all_reduce", "all_gather"]),
    ("root", ["root 0", "root 2"]),
    ("algorithm", ["recursive_doubling", "ring"]),
];

#[test]
fn calls_that_differ_fail_everywhere_and_say_how() {
    for (index, (what, words)) in MISMATCHES.into_iter().enumerate() {
        let (ranks, transport) = (4 + index % 2, if index % 4 < 2 { "shm" } else { "tcp" });
        let ended = start(ranks, &format!("mismatch:{what}"), transport, 20_000).finish(LIMIT);
        assert_clean(&ended, &[], what);
        let last = ended.iter().filter_map(|end| said(end, "calling")).map(|(ms, _)| ms).max();
        let at = last.expect("all call");
        for (rank, end) in ended.iter().enumerate() {
            let (ms, text) = told(end);
            let named = text.contains("rank 1 on") && words.iter().all(|word| text.contains(word));
            assert!(named, "{what}: rank {rank} of {ranks} was told: {text}");
            let late = ms.saturating_sub(at);
            assert!(late <= TOLD_MS_MAX, "{what}: rank {rank} was told after {late} ms: {text}");
        }
    }
}

#[test]
fn a_rank_that_does_not_come_is_named_at_the_deadline() {
    for transport in ["shm", "tcp"] {
        let ended = start(4, "absent", transport, 1000).finish(LIMIT);
        assert_clean(&ended, &[], transport);
        let (at, _) = said(&ended[0], "calling").expect("rank 0 calls");
        for (rank, end) in ended.iter().enumerate() {
            let (ms, text) = told(end);
            let words = ["rank 2 on ", "has not called it", "all_reduce"];
            assert!(words.iter().all(|word| text.contains(word)), "rank {rank}: {text}");
            assert!(rank == 2 || ms.saturating_sub(at) <= 1000 + TOLD_MS_MAX, "rank {rank}");
        }
    }
}

#[test]
fn one_communicator_fails_and_the_other_works() {
    let ended = start(3, "two", "shm", 10_000).finish(LIMIT);
    assert_clean(&ended, &[], "two");
    assert_named(&ended, &[1], (u64::MAX, 0), "two");
}

#[test]
fn a_rank_dies_while_the_others_split() {
    for transport in ["shm", "tcp"] {
        let mut group = start(4, "split", transport, 20_000);
        group.await_marks("running", 0..4, LIMIT);
        std::thread::sleep(Duration::from_millis(100));
        let at = now_ms();
        assert!(!group.has_ended(3));
        group.signal(3, Signal::KILL);
        let ended = group.finish(LIMIT);
        assert_clean(&ended, &[3], transport);
        assert_named(&ended, &[3], (at, TOLD_MS_MAX), transport);
    }
}

/// The rank before the one that dies, which watches it, has stopped: others notice.
#[test]
fn a_death_behind_a_stopped_rank_is_noticed() {
    for transport in ["shm", "tcp"] {
        let (stopped, victim) = (3, 4);
        let mut group = start(5, "circle", transport, 30_000);
        group.await_marks("running", 0..5, LIMIT);
        std::thread::sleep(Duration::from_millis(100));
        group.signal(stopped, Signal::STOP);
        std::thread::sleep(Duration::from_millis(100));
        assert!(!group.has_ended(victim));
        let at = now_ms();
        group.signal(victim, Signal::KILL);
        group.await_marks("told", 0..3, LIMIT);
        group.signal(stopped, Signal::CONT);
        let ended = group.finish(LIMIT);
        assert_clean(&ended, &[victim], transport);
        assert_named(&ended[..3], &[], (at, TOLD_MS_MAX), transport);
        for (rank, end) in ended.iter().enumerate().filter(|(rank, _)| *rank != victim) {
            let (_, text) = told(end);
            assert!(text.contains("lost rank 4 on "), "{transport}: rank {rank} was told: {text}");
            assert!(said(end, "ranks").is_some_and(|(_, text)| text.ends_with("of 4")));
        }
    }
}

#[test]
fn what_a_rank_sent_before_it_exits_is_taken() {
    for transport in ["shm", "tcp"] {
        let ended = start(3, "exit", transport, 10_000).finish(LIMIT);
        assert_clean(&ended, &[0], transport);
        assert_named(&ended, &[0], (u64::MAX, 0), transport);
    }
}

#[test]
fn survivors_agree_and_go_on_after_a_revocation() {
    for transport in ["shm", "tcp"] {
        let ended = start(4, "revoke", transport, 10_000).finish(LIMIT);
        assert_clean(&ended, &[], transport);
        for end in &ended {
            let (_, text) = told(end);
            assert!(text.contains("rank 2 on ") && text.contains("time for something new"));
        }
    }
}

#[test]
fn two_ranks_are_admitted() {
    for transport in ["shm", "tcp"] {
        let command = |part: &str| {
            let mut command = Command::new(worker());
            command.args(["fault", transport, part, "20000"]);
            command
        };
        let parts = ["grow", "grow", "grow", "newcomer", "newcomer"];
        let group = Ranks::start_each(parts.into_iter().map(command), 3);
        let ended = group.finish(LIMIT);
        for (rank, end) in ended.iter().enumerate() {
            assert!(end.success, "rank {rank}:\n{}", end.output);
        }
        assert!(ended[..3].iter().all(|end| said(end, "grown").is_some()));
    }
}

/// No process ends and no connection closes: the kernel finds out that the host is gone, long
/// before the deadline.
#[test]
fn a_host_that_is_cut_off_is_noticed() {
    let hosts = match Hosts::build(3) {
        Ok(hosts) => hosts,
        Err(reason) => {
            eprintln!("skipped: {reason}");
            return;
        }
    };
    let command = |host: usize| {
        let mut command = hosts.command(host, worker());
        command.args(["fault", "auto", "endure:all_reduce", "60000"]);
        command
    };
    let mut group = Ranks::start_each((0..3).map(command), 3);
    group.await_marks("running", 0..3, LIMIT);
    let at = now_ms();
    hosts.cut_off(2).expect("the bridge's port is there");
    let deadline = now_ms() + 40_000;
    while !(group.has_ended(0) && group.has_ended(1)) && now_ms() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    group.signal(2, Signal::KILL);
    let ended = group.finish(LIMIT);
    assert_clean(&ended, &[2], "cut off");
    // The workers' host_timeout is 2 s; then a new connection is tried for a second.
    assert_named(&ended, &[2], (at, 8000), "cut off");
    for end in &ended[..2] {
        assert!(said(end, "ranks").is_some_and(|(_, text)| text.ends_with("of 2")));
    }
}
