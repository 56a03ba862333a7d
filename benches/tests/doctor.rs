//! `collbench doctor` on the dumps of real runs: ranks are threads of this process, each with a
//! communicator of its own.

use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::time::Duration;

use syncline::communicator::{Communicator, Options, Rendezvous};
use syncline::reduce::ReduceOp;

const RANKS: u32 = 3;

/// Runs `body` on every rank, with dumps in `folder` and a deadline of `timeout`.
fn on_ranks(folder: &Path, timeout: Duration, body: impl Fn(&Communicator) + Sync) {
    let meeting = folder.join("meeting");
    std::thread::scope(|scope| {
        for rank in 0..RANKS {
            let (at, body) = (Rendezvous::File(meeting.clone()), &body);
            let options =
                Options { timeout, dump_dir: Some(folder.join("dumps")), ..Options::default() };
            scope.spawn(move || body(&Communicator::init(&at, rank, RANKS, options).unwrap()));
        }
    });
}

/// The exit status and what was printed.
fn doctor(arguments: &[&str], folder: &Path) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_collbench"))
        .arg("doctor")
        .args(arguments)
        .arg(folder.join("dumps"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text.into_owned())
}

fn dump(comm: &Communicator, folder: &Path) {
    comm.dump().write_into(&folder.join("dumps")).unwrap();
}

#[test]
fn a_healthy_run_has_nothing_wrong() {
    let folder = tempfile::tempdir().unwrap();
    on_ranks(folder.path(), Duration::from_secs(60), |comm| {
        for count in 0..20 {
            comm.all_reduce(&mut vec![1.0f32; count * 100], ReduceOp::Sum).unwrap();
        }
        comm.barrier().unwrap();
        dump(comm, folder.path());
        // A rank that leaves early is not what this test is about.
        comm.barrier().unwrap();
    });
    let (status, text) = doctor(&[], folder.path());
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("no problem found") && text.contains("3 ranks, 3 dumps"), "{text}");
    let (status, text) = doctor(&["--operation", "7"], folder.path());
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("collective #7") && text.contains("all_reduce(f32 x 700"), "{text}");
    let (status, text) = doctor(&["--operation", "700"], folder.path());
    assert_eq!(status, 2, "{text}");
}

#[test]
fn a_rank_that_does_not_come_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let waited = Barrier::new(RANKS as usize);
    on_ranks(folder.path(), Duration::from_secs(2), |comm| {
        comm.all_reduce(&mut [1.0f32; 8], ReduceOp::Sum).unwrap();
        if comm.rank() != 1 {
            comm.all_reduce(&mut [1.0f32; 1000], ReduceOp::Sum).unwrap_err();
        }
        waited.wait();
        if comm.rank() == 1 {
            dump(comm, folder.path());
        }
    });
    let (status, text) = doctor(&[], folder.path());
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("problem: rank 1 on "), "{text}");
    assert!(text.contains("has not entered #1 all_reduce(f32 x 1000, sum"), "{text}");
    assert!(text.contains("its last call, #0 all_reduce(f32 x 8, sum"), "{text}");
    assert!(text.contains("ranks 0, 2 wait for it"), "{text}");

    // Without its dump it might as well be dead.
    let dumps = folder.path().join("dumps");
    for file in std::fs::read_dir(&dumps).unwrap() {
        let path = file.unwrap().path();
        if path.to_string_lossy().ends_with("-rank1.json") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let (status, text) = doctor(&[], folder.path());
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("problem: rank 1 on ") && text.contains("left no dump"), "{text}");
    let (status, text) = doctor(&["--json"], folder.path());
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("\"kind\": \"no_dump\""), "{text}");
}

#[test]
fn calls_that_differ_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let all = Barrier::new(RANKS as usize);
    on_ranks(folder.path(), Duration::from_secs(10), |comm| {
        let count = if comm.rank() == 2 { 77 } else { 70 };
        comm.all_reduce(&mut vec![1i32; count], ReduceOp::Max).unwrap_err();
        all.wait();
    });
    let (status, text) = doctor(&[], folder.path());
    assert_eq!(status, 1, "{text}");
    assert!(
        text.contains("ranks disagree on operation #0: ranks 0, 1 called all_reduce(i32 x 70, max"),
        "{text}"
    );
    assert!(text.contains("rank 2 called all_reduce(i32 x 77, max"), "{text}");
}

#[test]
fn a_folder_that_cannot_be_written_changes_no_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("dumps"), "a file in the way").unwrap();
    let all = Barrier::new(RANKS as usize);
    on_ranks(folder.path(), Duration::from_secs(1), |comm| {
        if comm.rank() != 0 {
            let error = comm.barrier().unwrap_err().to_string();
            assert!(error.contains("rank 0"), "{error}");
        }
        all.wait();
    });
    assert_eq!(doctor(&[], folder.path()).0, 2);
}

#[test]
fn run_dumps_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let dumps = folder.path().join("dumps");
    let output = Command::new(env!("CARGO_BIN_EXE_collbench"))
        .args(["run", "all_reduce", "-n", "2", "-b", "64", "-e", "64", "--iters", "3", "--dump"])
        .arg(&dumps)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let (status, text) = doctor(&[], folder.path());
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("2 ranks, 2 dumps"), "{text}");
}
