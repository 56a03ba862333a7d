//! `collbench launch`: every process is told its place, and none outlives the job.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::common::{collbench, eventually, runs, text};

/// `collbench ARGUMENTS -- sh -c SCRIPT`.
fn shell(arguments: &str, script: &str) -> Command {
    let mut command = collbench(arguments);
    command.args(["--", "sh", "-c", script]);
    command
}

/// Starts ranks that print their process numbers and then sleep; returns those numbers.
fn sleepers(directory: &std::path::Path) -> (Child, Vec<String>) {
    let mut command = shell("launch -n 3", "echo $$; exec sleep 1000");
    command.env("TMPDIR", directory).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let pids: Vec<String> = lines
        .take(3)
        .map(|line| line.expect("a line").split_once("] ").expect("a prefix").1.to_owned())
        .collect();
    assert!(pids.iter().all(|pid| runs(pid)), "{pids:?}");
    (child, pids)
}

fn kill(signal: &str, child: &Child) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(status.expect("kill").success());
}

#[test]
fn each_process_knows_its_place() {
    let script = "echo $SYNCLINE_RANK/$SYNCLINE_WORLD_SIZE $RANK/$WORLD_SIZE $LOCAL_RANK; \
                  test -d \"$(dirname $SYNCLINE_RENDEZVOUS)\" || echo no directory; echo e >&2";
    let output = shell("launch --ranks 3", script).output().expect("starts");
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[0] 0/3 0/3 0", "[1] 1/3 1/3 1", "[2] 2/3 2/3 2"]);
    assert_eq!(err.lines().count(), 3, "{err}");
}

#[test]
fn the_first_failure_ends_the_job_and_names_the_rank() {
    let script = "if [ $RANK = 1 ]; then exit 7; fi; exec sleep 1000";
    let output = shell("launch -n 3", script).output().expect("starts");
    let (_, err) = text(&output);
    assert_eq!(output.status.code(), Some(7));
    assert!(err.contains("rank 1 exited with status 7"), "{err}");
    let output = shell("launch -n 2", "kill -SEGV $$").output().expect("starts");
    let (_, err) = text(&output);
    assert_eq!(output.status.code(), Some(128 + 11));
    assert!(err.contains("SIGSEGV"), "{err}");
}

#[test]
fn a_missing_program_is_named() {
    let output = collbench("launch -n 1 -- ./no-such-program").output().expect("starts");
    let (_, err) = text(&output);
    assert_eq!(output.status.code(), Some(127));
    assert!(err.contains("./no-such-program"), "{err}");
}

#[test]
fn nothing_is_left_after_an_interrupt() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let directory = tempfile::tempdir().expect("temp");
        let (mut child, pids) = sleepers(directory.path());
        kill(signal, &child);
        assert_eq!(child.wait().expect("ends").code(), Some(130), "{signal}");
        assert!(!pids.iter().any(|pid| runs(pid)), "{signal}: {pids:?}");
        let left = std::fs::read_dir(directory.path()).expect("temp").count();
        assert_eq!(left, 0, "{signal}: files left");
    }
}

#[test]
fn processes_do_not_survive_a_killed_collbench() {
    let directory = tempfile::tempdir().expect("temp");
    let (mut child, pids) = sleepers(directory.path());
    kill("-KILL", &child);
    child.wait().expect("ends");
    eventually("ranks end with their parent", || !pids.iter().any(|pid| runs(pid)));
    // Its directory could not be removed; the next job does it.
    let mut next = collbench("launch -n 1 -- true");
    assert!(next.env("TMPDIR", directory.path()).status().expect("starts").success());
    assert_eq!(std::fs::read_dir(directory.path()).expect("temp").count(), 0);
}
