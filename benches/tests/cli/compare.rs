//! `collbench compare`, against itself, against a fake that this program is, and, where they are
//! installed, against Open MPI and MPICH.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::common::{collbench, eventually, runs, text};

/// How the fake misbehaves.
const FAKE: &str = "COLLBENCH_TEST_FAKE";
/// Where the fake's rank 0 writes its process number.
const PID_FILE: &str = "COLLBENCH_TEST_PID_FILE";

/// This test binary, started by collbench as a contestant, runs only what this name matches.
#[test]
fn __contestant() {
    let Some(control) = std::env::var_os("COLLBENCH_CONTROL") else { return };
    let number = |name: &str| std::env::var(name).expect(name).parse::<u32>().expect(name);
    let behaviour = std::env::var(FAKE).unwrap_or_default();
    let (rank, ranks) = (number("RANK"), number("WORLD_SIZE"));
    if behaviour == "stays away" {
        std::thread::sleep(Duration::from_secs(1000));
    }
    if let Some(path) = std::env::var_os(PID_FILE).filter(|_| rank == 0) {
        std::fs::write(path, std::process::id().to_string()).expect("pid file");
    }
    let stream = UnixStream::connect(control).expect("collbench listens");
    let say = |line: &str| (&stream).write_all(format!("{line}\n").as_bytes());
    let protocol = if behaviour == "is old" { 0 } else { 1 };
    say(&format!("ready {protocol} {rank} {ranks} {} Fake 1.0", std::process::id())).expect("said");
    for line in BufReader::new(&stream).lines() {
        // Once collbench has had enough of it there is nobody to answer.
        let Ok(line) = line else { return };
        let answer = match (line.split(' ').next().unwrap_or(""), behaviour.as_str()) {
            ("quit", _) => return,
            ("prepare", "refuses") => "refused never heard of it".to_owned(),
            ("prepare", _) => "prepared 0".to_owned(),
            ("time", "dies") => {
                // Past the test harness, which keeps what a test prints.
                let _ = writeln!(std::io::stderr(), "the fake has had enough");
                std::process::exit(3);
            }
            ("time", "hangs") if rank == 1 => continue,
            ("time", "talks nonsense") => "hello".to_owned(),
            ("time", "is out of turn") => "finished 0".to_owned(),
            ("time", _) => {
                let iterations: u64 = line.rsplit(' ').next().expect("n").parse().expect("n");
                // Rank 1 is the slower one: 3 ms for every call.
                format!("timed {}", u64::from(1 + 2 * rank) * 1_000_000 * iterations)
            }
            ("finish", "is wrong") => "finished 2".to_owned(),
            _ => "finished 0".to_owned(),
        };
        if say(&answer).is_err() {
            return;
        }
    }
}

/// Races against this program, behaving so.
fn against_fake(behaviour: &str, more: &str) -> (Output, serde_json::Value) {
    let folder = tempfile::tempdir().expect("temp");
    let json = folder.path().join("result.json");
    let me = std::env::current_exe().expect("this program");
    let mut command = collbench("compare all_reduce --sizes 8,256 --rounds 2 --block-ms 0.5");
    command.args(["--peers", &format!("fake={}", me.display()), "--json"]).arg(&json);
    command.args(more.split_whitespace()).env(FAKE, behaviour);
    let output = command.output().expect("starts");
    let text = std::fs::read_to_string(&json).unwrap_or_else(|_| "null".to_owned());
    (output, serde_json::from_str(&text).expect("JSON"))
}

#[test]
fn a_peer_counts_as_long_as_its_slowest_rank() {
    let (output, json) = against_fake("", "");
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(0), "{err}\n{out}");
    assert!(out.contains("#   fake       Fake 1.0"), "{out}");
    for (row, bytes) in [(0, 8), (1, 256)] {
        let row = &json["rows"][row];
        assert_eq!(row["bytes"], bytes);
        let times = &row["times"];
        assert_eq!(times["fake"]["p50_us"], 3000.0, "{row}");
        let ratio = 3000.0 / times["syncline"]["p50_us"].as_f64().expect("a time");
        assert!((row["ratio"]["fake"].as_f64().expect("a ratio") - ratio).abs() < 1e-6 * ratio);
        assert_eq!(times["syncline"]["wrong"], 0);
    }
}

#[test]
fn a_peer_that_misbehaves_is_named_with_the_reason_and_left_out() {
    for (behaviour, more, reason) in [
        ("dies", "", "the fake has had enough"),
        ("hangs", "--timeout 1", "1 of 2 ranks did not answer 'time block 1 1' in time"),
        ("talks nonsense", "", "'hello', which is not an answer"),
        ("is out of turn", "", "'finished 0' when it was asked 'time block 1 1'"),
        ("is old", "", "version 0 of the protocol, not 1"),
        ("stays away", "--timeout 1", "only 0 of 2 ranks came in time"),
    ] {
        let (output, json) = against_fake(behaviour, more);
        let (out, err) = text(&output);
        assert_eq!(output.status.code(), Some(0), "{behaviour}: {err}\n{out}");
        let line = out.lines().find(|line| line.starts_with("#   fake       left out: "));
        assert!(line.is_some_and(|line| line.contains(reason)), "{behaviour}: {out}");
        let told = json["contestants"][1]["left_out"].as_str().expect("a reason");
        assert!(told.contains(reason), "{behaviour}: {told}");
        assert_eq!(told.contains("exited with status 3"), behaviour == "dies", "{told}");
        assert_eq!(json["rows"][1]["ratio"].as_object().map(serde_json::Map::len), Some(0));
        assert!(json["rows"][1]["times"]["syncline"]["p50_us"].is_f64(), "Syncline goes on");
    }
}

#[test]
fn refusals_and_wrong_results_of_a_peer_are_shown() {
    let (output, json) = against_fake("refuses", "");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).0.contains("(fake: never heard of it)"));
    assert_eq!(json["rows"][0]["refused"]["fake"], "never heard of it");
    let (output, json) = against_fake("is wrong", "");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).0.contains("(fake: 4 elements WRONG)"), "two on each rank");
    assert_eq!(json["rows"][0]["times"]["fake"]["wrong"], 4);
}

#[test]
fn every_collective_against_itself() {
    let folder = tempfile::tempdir().expect("temp");
    let svg = folder.path().join("plot.svg");
    let twin = format!("twin={}", env!("CARGO_BIN_EXE_collbench"));
    for (collective, transport) in [
        ("all_reduce", "auto"),
        ("reduce_scatter", "tcp"),
        ("all_gather", "shm"),
        ("broadcast", "shm"),
        ("all_to_all", "tcp"),
    ] {
        let line = format!("compare {collective} --ranks 3 --transport {transport} --rounds 2");
        let mut command = collbench(&line);
        command.args("--sizes 12,64K --block-ms 0.5 --type i64 --peers".split(' '));
        command.arg(format!("{twin},gone=/nonexistent/collbench")).arg("--svg").arg(&svg);
        let output = command.output().expect("starts");
        let (out, err) = text(&output);
        assert_eq!(output.status.code(), Some(0), "{collective}: {err}\n{out}");
        assert!(!out.contains("WRONG"), "{out}");
        assert!(out.contains("#   gone       left out: there is no /nonexistent"), "{out}");
        assert!(out.contains("# times faster than (geometric mean): twin "), "{out}");
        let drawn = std::fs::read_to_string(&svg).expect("drawn");
        assert!(drawn.contains(">twin<") && drawn.matches("<polyline").count() == 3, "{drawn}");
    }
}

#[test]
fn nothing_is_left_of_a_comparison_that_is_interrupted() {
    let folder = tempfile::tempdir().expect("temp");
    let pid_file = folder.path().join("pid");
    let me = std::env::current_exe().expect("this program");
    let mut command = collbench("compare all_reduce --rounds 100000");
    command.args(["--peers", &format!("fake={}", me.display())]).env(PID_FILE, &pid_file);
    command.stdout(std::process::Stdio::null());
    let mut child = command.spawn().expect("starts");
    eventually("the fake runs", || std::fs::read(&pid_file).is_ok_and(|text| !text.is_empty()));
    let fake = std::fs::read_to_string(&pid_file).expect("a number");
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    eventually("the fake is gone", || !runs(&fake));
}

/// Whether `benches/peers/setup` has put `programs` where collbench looks; prints the reason if not.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn are_there(programs: &[&str]) -> bool {
    let profile = Path::new(env!("CARGO_BIN_EXE_collbench")).parent().expect("a folder");
    let peers = profile.parent().expect("a folder").join("peers");
    let missing = programs.iter().find(|name| !peers.join(name).exists());
    let Some(missing) = missing else { return true };
    let reason = format!("{missing} is not in {}; run benches/peers/setup", peers.display());
    assert!(std::env::var_os("CI").is_none(), "CI must have it: {reason}");
    eprintln!("skipped: {reason}");
    false
}

#[test]
fn real_mpis_take_part() {
    if !are_there(&["mpi-openmpi", "mpi-mpich"]) {
        return;
    }
    for line in [
        "compare all_reduce --transport shm --type f64",
        "compare reduce_scatter --transport tcp",
        "compare all_gather --transport shm --type i32",
        "compare broadcast --transport tcp",
        "compare all_to_all --ranks 3",
    ] {
        let mut command = collbench(line);
        command.args("--peers openmpi,mpich --sizes 8,100K --rounds 1 --block-ms 0.1".split(' '));
        let output = command.output().expect("starts");
        let (out, err) = text(&output);
        assert_eq!(output.status.code(), Some(0), "{line}: {err}\n{out}");
        assert!(!out.contains("WRONG") && !out.contains("left out"), "{line}: {out}");
        for name in ["openmpi    Open MPI v5", "mpich      MPICH Version: 5", "best of them"] {
            assert!(out.contains(name), "{line}: {out}");
        }
    }
}

#[test]
fn yardsticks_take_part_and_are_no_rivals() {
    if !are_there(&["sockets", "stream"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("temp");
    let path = folder.path().join("result.json");
    for (ranks, transport, yardstick) in [(2, "tcp", "sockets"), (3, "shm", "stream")] {
        for collective in ["all_reduce", "reduce_scatter", "all_gather", "broadcast", "all_to_all"]
        {
            let line = format!("compare {collective} --ranks {ranks} --transport {transport}");
            let mut command = collbench(&line);
            command.args("--peers sockets,stream --sizes 24,100K --rounds 1".split(' '));
            let output = command.arg("--json").arg(&path).output().expect("starts");
            let (out, err) = text(&output);
            assert_eq!(output.status.code(), Some(0), "{line}: {err}\n{out}");
            let json = std::fs::read(&path).expect("written");
            let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
            let row = &json["rows"][1];
            assert!(row["ratio"][yardstick].as_f64().expect("a ratio") > 0.0, "{line}: {out}");
            assert!(row["best"].is_null() && json["geomean_best"].is_null(), "{line}: {row}");
            assert!(out.contains(&format!("% of the speed of {yardstick}, ")), "{line}: {out}");
            assert_eq!(out.matches("left out: it shows what").count(), 1, "{line}: {out}");
        }
    }
}
