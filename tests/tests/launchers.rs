//! Jobs under real launchers; each is skipped, saying so, where it is not installed.
#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(90);

fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    let found =
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Ends a launcher, and with it what it started, that does not end itself.
fn wait(mut child: Child) -> std::process::Output {
    let deadline = Instant::now() + LIMIT;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            // The output says how far it came.
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("its output can be read")
}

/// Runs a scenario under a launcher; all that was printed.
fn run(launcher: &mut Command, scenario: &str, transport: &str) -> String {
    let worker = Path::new(env!("CARGO_BIN_EXE_worker"));
    let child = launcher
        .arg(worker)
        .args([scenario, transport])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the launcher starts");
    let output = wait(child);
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{launcher:?}: {}\n{text}", output.status);
    text
}

fn open_mpi(ranks: u32) -> Command {
    let mut command = Command::new("mpirun.openmpi");
    command.args(["--allow-run-as-root", "--oversubscribe", "-n", &ranks.to_string()]);
    command
}

fn hydra(ranks: u32) -> Command {
    let mut command = Command::new("mpiexec.hydra");
    command.args(["-n", &ranks.to_string()]);
    command
}

#[test]
fn under_open_mpi() {
    if is_there("mpirun.openmpi") {
        run(&mut open_mpi(3), "grouped", "shm");
        run(&mut open_mpi(2), "grouped", "tcp");
        run(&mut open_mpi(1), "grouped", "auto");
    }
}

#[test]
fn under_hydra() {
    if is_there("mpiexec.hydra") {
        run(&mut hydra(3), "grouped", "shm");
        run(&mut hydra(1), "grouped", "auto");
        run(&mut hydra(2), "grouped", "tcp");
    }
}

#[test]
fn under_torchrun() {
    if is_there("torchrun") {
        let mut torchrun = Command::new("torchrun");
        torchrun.args(["--standalone", "--no-python", "--nproc-per-node", "2"]);
        run(&mut torchrun, "grouped", "auto");
    }
}

#[test]
fn without_a_launcher_the_error_says_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_worker"))
        .args(["grouped", "auto"])
        .env_clear()
        .output()
        .expect("the worker starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("no launcher started this process as part of a job"), "{text}");
    assert!(text.contains("SYNCLINE_RENDEZVOUS"), "{text}");
}
