//! Real runs: every collective with real processes, checked element by element, and what happens
//! when ranks fail.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{COLLECTIVES, collbench, eventually, runs, text};

/// Few sizes and calls: these tests ask whether results are right, not how fast they come.
const QUICK: &str = "-b 4 -e 300K -f 7 --iters 2 --warmup 0 --timeout 20";

/// Runs and expects success, which means that every element was right; returns the table.
fn right(arguments: &str) -> String {
    let output = collbench(&format!("run {arguments} {QUICK}")).output().expect("starts");
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {err}\n{out}");
    assert!(out.contains("every element right"), "{arguments}: {out}");
    out
}

#[test]
fn every_collective_over_shared_memory() {
    for collective in COLLECTIVES.into_iter().chain(["sendrecv"]) {
        right(&format!("{collective} --ranks 3 --transport shm"));
    }
}

#[test]
fn every_collective_over_tcp() {
    for collective in COLLECTIVES.into_iter().chain(["sendrecv"]) {
        right(&format!("{collective} --ranks 3 --transport tcp"));
    }
}

#[test]
fn every_collective_alone_and_in_a_larger_group() {
    for collective in COLLECTIVES {
        for ranks in [1, 2, 8] {
            right(&format!("{collective} --ranks {ranks}"));
        }
    }
}

#[test]
fn every_collective_in_place_reproducibly_and_at_another_root() {
    for collective in COLLECTIVES {
        right(&format!("{collective} --ranks 4 --reproducible"));
        right(&format!("{collective} --ranks 4 --root 2"));
        if collective != "barrier" {
            right(&format!("{collective} --ranks 4 --root 3 --in-place"));
            right(&format!("{collective} --ranks 3 --in-place --reproducible"));
        }
    }
}

#[test]
fn every_type_and_operator() {
    let ops = ["sum", "prod", "min", "max", "avg"];
    for dtype in ["i8", "u8", "i32", "u32", "i64", "u64"] {
        for op in ops.into_iter().chain(["and", "or", "xor"]) {
            right(&format!("all_reduce --ranks 3 --dtype {dtype} --op {op}"));
        }
    }
    for dtype in ["f16", "bf16", "f32", "f64", "f8e4m3", "f8e5m2"] {
        for op in ops.into_iter().chain(["premul_sum:0.5"]) {
            right(&format!("all_reduce --ranks 3 --dtype {dtype} --op {op}"));
        }
    }
}

#[test]
fn results_go_to_files() {
    let directory = tempfile::tempdir().expect("temp");
    let (json, plot) = (directory.path().join("r.json"), directory.path().join("r.svg"));
    right(&format!("all_reduce --json {} --plot {}", json.display(), plot.display()));
    let text = std::fs::read_to_string(json).expect("written");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&json["collective"], &json["ranks"]), (&"all_reduce".into(), &2.into()));
    let rows = json["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 6, "4 B to 67228 B by sevens");
    for row in rows {
        assert_eq!((&row["wrong"], &row["iters"]), (&0.into(), &2.into()));
        assert!(row["min_us"].as_f64() > Some(0.0) && row["algorithm"].is_string(), "{row}");
    }
    assert!(std::fs::read_to_string(plot).expect("written").starts_with("<svg"));
}

#[test]
fn a_file_is_reduced_row_by_row() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/grads_cnn_step100_rows0-3.npy");
    for op in ["sum", "avg", "max"] {
        let out = right(&format!("all_reduce --ranks 3 --op {op} --input {file}"));
        assert!(out.contains("428072"), "107018 floats: {out}");
    }
}

#[test]
fn run_joins_the_job_that_a_launcher_started() {
    let binary = env!("CARGO_BIN_EXE_collbench");
    let line = format!("launch -n 3 -- {binary} run all_reduce {QUICK}");
    let output = collbench(&line).output().expect("starts");
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(out.contains("all_reduce on 3 ranks"), "{out}");
    assert!(out.lines().all(|line| line.starts_with("[0] ")), "only rank 0 reports: {out}");
    let line = format!("launch -n 2 -- {binary} run barrier -n 4");
    let output = collbench(&line).output().expect("starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).1.contains("leave out --ranks"));
}

#[test]
fn explain_names_an_algorithm() {
    let output = collbench("explain all_reduce --ranks 4 --size 1M").output().expect("starts");
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(out.starts_with("all_reduce of 1 MiB (f32) on 4 ranks, 1 host\n"), "{out}");
    assert!(out.contains("predicted"), "{out}");
}

#[test]
fn an_unknown_algorithm_is_refused() {
    let output = collbench("run all_reduce --algorithm guess").output().expect("starts");
    let (_, err) = text(&output);
    assert_ne!(output.status.code(), Some(0));
    assert!(err.contains("guess"), "{err}");
}

/// Starts a run that does not end by itself; returns the process numbers of its ranks.
fn endless(directory: &Path, transport: &str) -> (Child, Vec<String>) {
    let line = format!(
        "run all_reduce -n 3 -b 64K -e 64K --iters 1000000000 --transport {transport} --timeout 20"
    );
    let mut command = collbench(&line);
    command.env("TMPDIR", directory).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().expect("starts");
    let tasks = format!("/proc/{0}/task/{0}/children", child.id());
    let children = || {
        let list = std::fs::read_to_string(&tasks).unwrap_or_default();
        list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    // Ranks take their names before they join, and publish the meeting place while they do.
    eventually("three ranks", || {
        let names = children().into_iter().filter_map(|pid| {
            std::fs::read_to_string(Path::new("/proc").join(pid).join("comm")).ok()
        });
        names.filter(|name| name.starts_with("collbench:")).count() == 3
    });
    (child, children())
}

#[test]
fn a_killed_rank_is_named_and_the_others_end() {
    for transport in ["shm", "tcp"] {
        let directory = tempfile::tempdir().expect("temp");
        let (child, ranks) = endless(directory.path(), transport);
        std::thread::sleep(std::time::Duration::from_millis(300));
        let kill = Command::new("kill").args(["-KILL", &ranks[1]]).status();
        assert!(kill.expect("kill").success());
        let output = child.wait_with_output().expect("ends");
        let (_, err) = text(&output);
        assert_eq!(output.status.code(), Some(1), "{transport}: {err}");
        assert!(err.contains("rank 1 was ended by SIGKILL"), "{transport}: {err}");
        assert!(!ranks.iter().any(|pid| runs(pid)), "{transport}");
        assert_eq!(std::fs::read_dir(directory.path()).expect("temp").count(), 0);
    }
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let directory = tempfile::tempdir().expect("temp");
    let (child, ranks) = endless(directory.path(), "auto");
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130), "{:?}", text(&output));
    assert!(!ranks.iter().any(|pid| runs(pid)));
    assert_eq!(std::fs::read_dir(directory.path()).expect("temp").count(), 0);
}
