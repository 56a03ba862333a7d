//! The test programs: every function, every bad input with its message, what goes wrong between
//! ranks.

use std::process::Command;

use crate::tree::{Language, compile, succeed};

#[test]
fn every_collective_in_every_form() {
    for language in Language::ALL {
        let program = compile("tests/programs/collectives.c", language);
        let ranks: &[&str] = if language == Language::C11 { &["1", "2", "4"] } else { &["3"] };
        for ranks in ranks {
            for transport in ["1", "2"] {
                let printed = succeed(Command::new(&program).args([ranks, transport]));
                assert_eq!(printed, "", "the library prints nothing");
            }
        }
    }
}

/// Case, status without its prefix, and words of the message; `""` where there is none.
const BAD_INPUT: &[(&str, &str, &[&str])] = &[
    ("null comm", "ERROR_INVALID_ARGUMENT", &["syncline_all_reduce: comm is null"]),
    ("null input", "ERROR_INVALID_ARGUMENT", &["all_reduce: the input buffer is null", "16 bytes"]),
    ("null output", "ERROR_INVALID_ARGUMENT", &["the output buffer is null", "writes 16 bytes"]),
    ("null message", "ERROR_INVALID_ARGUMENT", &["send: the buffer is null"]),
    ("null counts", "ERROR_INVALID_ARGUMENT", &["block_counts is null, and must have 1"]),
    ("null result", "ERROR_INVALID_ARGUMENT", &["syncline_comm_init_file: result is null"]),
    ("null path", "ERROR_INVALID_ARGUMENT", &["path is null"]),
    ("null id", "ERROR_INVALID_ARGUMENT", &["the unique id is null"]),
    ("null rank", "ERROR_INVALID_ARGUMENT", &["syncline_comm_rank: rank is null"]),
    ("null work", "ERROR_INVALID_ARGUMENT", &["work is null"]),
    ("null ended", "ERROR_INVALID_ARGUMENT", &["ended is null"]),
    ("null group", "ERROR_INVALID_ARGUMENT", &["group is null"]),
    ("null of nothing", "OK", &[]),
    ("null destroy", "OK", &[]),
    ("null free", "OK", &[]),
    ("bad dtype", "ERROR_INVALID_ARGUMENT", &["dtype 12 is unknown", "8 f32", "11 f8e5m2"]),
    ("bad op", "ERROR_INVALID_ARGUMENT", &["op -1 is unknown", "0 sum", "8 xor"]),
    ("op of type", "ERROR_INVALID_ARGUMENT", &["or is not defined on f32"]),
    ("premul without factor", "ERROR_INVALID_ARGUMENT", &["premul_factor"]),
    ("bad root", "ERROR_INVALID_ARGUMENT", &["root 1 is not a rank", "ranks 0 to 0"]),
    ("bad peer", "ERROR_INVALID_ARGUMENT", &["5 is not a rank"]),
    ("bad subset", "ERROR_INVALID_ARGUMENT", &["[9] must name ranks 0 to 0"]),
    ("bad collective", "ERROR_INVALID_ARGUMENT", &["collective 11 is unknown", "10 exscan"]),
    ("bad transport", "ERROR_INVALID_ARGUMENT", &["transport 7 is unknown", "2 tcp"]),
    ("overlap", "ERROR_INVALID_ARGUMENT", &["overlap in 8 bytes", "start where the input"]),
    ("overlap by a byte", "ERROR_INVALID_ARGUMENT", &["overlap in 1 bytes"]),
    ("side by side", "OK", &[]),
    ("overlap started", "ERROR_INVALID_ARGUMENT", &["all_gather: input and output overlap in 12"]),
    ("v in place", "ERROR_INVALID_ARGUMENT", &["counts per pair need an input and an output"]),
    ("count overflow", "ERROR_INVALID_ARGUMENT", &["would not fit into an address space"]),
    ("message overflow", "ERROR_INVALID_ARGUMENT", &["elements of f64 would not fit"]),
    ("no size", "ERROR_INVALID_ARGUMENT", &["size is 0; it must be sizeof(syncline_options_t)"]),
    ("part of a field", "ERROR_INVALID_ARGUMENT", &["it must be sizeof(syncline_options_t)"]),
    ("absurd size", "ERROR_INVALID_ARGUMENT", &["syncline_call_options_t.size is 4097"]),
    ("newer, unused", "OK", &[]),
    ("newer, used", "ERROR_INVALID_ARGUMENT", &["byte 16 is not 0", "update libsyncline"]),
    ("short id", "ERROR_INVALID_ARGUMENT", &["capacity is 10; give 129 bytes"]),
    ("no interface", "ERROR_SYSTEM", &["nonesuch0", "there are lo"]),
    ("not an id", "ERROR_INVALID_ARGUMENT", &["does not start with `syncline1-`"]),
    ("an id", "OK", &[]),
    ("damaged id", "ERROR_INVALID_ARGUMENT", &["damaged (checksum differs)"]),
    ("fewer ranks", "ERROR_INVALID_ARGUMENT", &["grow: 0 ranks are fewer than there are"]),
    ("nobody invited", "ERROR_INVALID_ARGUMENT", &["grow: 0 ranks pass an invitation"]),
    ("short invitation", "ERROR_INVALID_ARGUMENT", &["capacity is 128; give 129 bytes"]),
    ("null flags", "ERROR_INVALID_ARGUMENT", &["flags is null"]),
    ("no failure", "OK", &[]),
    ("rank of ranks", "ERROR_INVALID_ARGUMENT", &["rank 3 of 2 ranks; ranks count from 0"]),
    ("wait for NaN", "ERROR_INVALID_ARGUMENT", &["limit_s is NaN"]),
    ("wait briefly", "IN_PROGRESS", &["the operation has not ended"]),
    ("wait for nothing", "IN_PROGRESS", &["the operation has not ended"]),
    ("free while running", "IN_PROGRESS", &["the operation has not ended; wait for it"]),
    ("free twice", "ERROR_INVALID_HANDLE", &["not a work handle any more: it was freed"]),
    ("wait after free", "ERROR_INVALID_HANDLE", &["not a work handle any more: it was freed"]),
    ("work for comm", "ERROR_INVALID_HANDLE", &["comm is not a communicator but a work handle"]),
    ("comm for work", "ERROR_INVALID_HANDLE", &["work is not a work handle but a communicator"]),
    ("address for comm", "ERROR_INVALID_HANDLE", &["nor any handle of this library"]),
    ("destroy twice", "ERROR_INVALID_HANDLE", &["not a communicator any more: it was destroyed"]),
    ("call after destroy", "ERROR_INVALID_HANDLE", &["syncline_barrier: comm", "destroyed"]),
    ("cancel twice", "ERROR_INVALID_HANDLE", &["it was ended or cancelled"]),
    ("end after cancel", "ERROR_INVALID_HANDLE", &["it was ended or cancelled"]),
    ("failure after abort", "ERROR_ABORTED", &["rank 0", "the user pressed a key"]),
    ("wait after abort", "ERROR_ABORTED", &["recv", "rank 0", "the user pressed a key"]),
    ("call after abort", "ERROR_ABORTED", &["barrier", "the user pressed a key"]),
    ("destroy after abort", "OK", &[]),
    ("wait after destroy", "ERROR_ABORTED", &["the user pressed a key"]),
    ("call after fork", "ERROR_FORKED", &["comm was made before fork", "make one after fork"]),
    ("wait after fork", "ERROR_FORKED", &["work was made before fork"]),
    ("destroy after fork", "ERROR_FORKED", &["comm was made before fork"]),
    ("still after fork", "ERROR_FORKED", &["comm was made before fork"]),
];

#[test]
fn every_bad_input_has_its_message() {
    let program = compile("tests/programs/bad_input.c", Language::C11);
    let printed = succeed(&mut Command::new(program));
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), BAD_INPUT.len(), "{printed}");
    for (line, (case, status, words)) in lines.iter().zip(BAD_INPUT) {
        assert!(line.starts_with(&format!("{case}: SYNCLINE_{status}: ")), "{case}: {line}");
        for word in *words {
            assert!(line.contains(word), "{case}: no {word:?} in {line}");
        }
    }
}

#[test]
fn ranks_meet_through_what_the_host_program_brings() {
    let program = compile("tests/programs/rendezvous.c", Language::C11);
    let folder = tempfile::tempdir().unwrap();
    for how in ["store", "gather"] {
        let printed = succeed(Command::new(&program).arg(how).arg(folder.path()));
        assert_eq!(printed, "joined\n", "{how}");
    }
    let printed = succeed(Command::new(&program).arg("bad").arg(folder.path()));
    let expected = [
        "null store: SYNCLINE_ERROR_INVALID_ARGUMENT: syncline_comm_init_store: store is null",
        "null get: SYNCLINE_ERROR_INVALID_ARGUMENT: syncline_comm_init_store: store's get is null",
        "null gather: SYNCLINE_ERROR_INVALID_ARGUMENT: syncline_comm_init_all_gather: all_gather",
        "bad set: SYNCLINE_ERROR_RENDEZVOUS: rendezvous at rank 0 of 2: ",
        "bad gather: SYNCLINE_ERROR_RENDEZVOUS: rendezvous at rank 1 of 2: ",
    ];
    for (line, start) in printed.lines().zip(expected) {
        assert!(line.starts_with(start), "{line}");
    }
    assert_eq!(printed.lines().count(), expected.len(), "{printed}");
    assert!(printed.contains("its set returned 5"), "{printed}");
    assert!(printed.contains("all-gather returned 7"), "{printed}");
}

#[test]
fn a_launched_program_needs_no_arguments() {
    let program = compile("tests/programs/rendezvous.c", Language::C11);
    let folder = tempfile::tempdir().unwrap();
    let start = |rank: &str| {
        let mut command = Command::new(&program);
        command.arg("environment").arg(folder.path()).stdout(std::process::Stdio::piped());
        command.env("SYNCLINE_RANK", rank).env("SYNCLINE_WORLD_SIZE", "2");
        command.env("SYNCLINE_RENDEZVOUS", folder.path().join("job")).spawn().unwrap()
    };
    for rank in ["0", "1"].map(start) {
        let ended = rank.wait_with_output().unwrap();
        assert!(ended.status.success());
        assert_eq!(String::from_utf8_lossy(&ended.stdout), "joined\n");
    }
    let alone = succeed(Command::new(&program).arg("environment").arg(folder.path()));
    assert!(alone.starts_with("alone: SYNCLINE_ERROR_INVALID_ARGUMENT: "), "{alone}");
    assert!(alone.contains("no launcher started this process"), "{alone}");
}

fn fault(case: &str, expected: &[&str]) {
    let program = compile("tests/programs/faults.c", Language::C11);
    for transport in ["1", "2"] {
        let printed = succeed(Command::new(&program).args([case, transport]));
        for word in expected {
            assert!(printed.contains(word), "{case} over {transport}: no {word:?} in\n{printed}");
        }
    }
}

#[test]
fn a_mismatch_is_named() {
    fault(
        "mismatch",
        &["mismatch: SYNCLINE_ERROR_MISMATCH", "all_reduce(f32 x 4", "rank 1", "ranks: 1\n"],
    );
}

#[test]
fn a_rank_that_does_not_come_is_named_at_the_deadline() {
    fault("timeout", &["timeout: SYNCLINE_ERROR_TIMEOUT", "barrier #0", "rank 1", "ranks: 1\n"]);
}

#[test]
fn a_rank_that_is_killed_is_named_at_once() {
    fault("killed", &["killed: SYNCLINE_ERROR_PEER_LOST", "lost rank 1", "ranks: 1\n"]);
}

#[test]
fn destroying_ends_pending_work_at_the_timeout() {
    fault(
        "destroyed",
        &["destroy with pending work: SYNCLINE_ERROR_TIMEOUT", "its work: SYNCLINE_ERROR_TIMEOUT"],
    );
}

#[test]
fn another_thread_can_abort_a_blocking_call() {
    fault("aborted", &["aborted: SYNCLINE_ERROR_ABORTED", "from another thread"]);
}

#[test]
fn survivors_agree_shrink_and_grow() {
    let program = compile("tests/programs/recovery.c", Language::C11);
    for transport in ["1", "2"] {
        let printed = succeed(Command::new(&program).arg(transport));
        assert_eq!(printed, "revoked, agreed, shrunk, grown\n", "transport {transport}");
    }
}

#[test]
fn threads_use_communicators_at_the_same_time() {
    fault("threads", &["threads: done"]);
}
