//! Wrong input: one clear line that says what to do, and exit status 2.

use crate::common::{collbench, text};

/// Runs the binary and expects a refusal that mentions `expected`.
fn refused(arguments: &str, expected: &str) {
    let output = collbench(arguments).output().expect("the binary starts");
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments}: {err}");
    assert_eq!(err.trim_end().lines().count(), 1, "{arguments}: {err}");
    assert!(err.contains(expected), "{arguments}: {err}");
    assert!(out.is_empty(), "{arguments}: {out}");
}

#[test]
fn wrong_arguments() {
    for (arguments, expected) in [
        ("run all_redcue", "all_reduce"),
        ("run all_reduce --ranks 0", "--ranks from 1"),
        ("run all_reduce -b 0", "at least one byte"),
        ("run all_reduce -b 1M -e 1K", "smallest size with -b"),
        ("run all_reduce -b 1Z", "powers of two"),
        ("run all_reduce --op xor --dtype f32", "integer type"),
        ("run all_reduce --op premul_sum:2 --dtype i32", "float type"),
        ("run all_reduce --dtype f31", "choose one of"),
        ("run broadcast --ranks 2 --root 2", "0 to 1"),
        ("run all_reduce --transport rdma", "shm"),
        ("run all_reduce --json /nonexistent/x.json", "directory that exists"),
        ("run all_reduce --plot /nonexistent/x.svg", "directory that exists"),
        ("run all_reduce --input /nonexistent.npy", "cannot read"),
        ("run all_reduce --tuning /nonexistent.toml", "/nonexistent.toml"),
        ("launch --ranks 0 -- true", "--ranks from 1"),
        ("launch --ranks 2", "PROGRAM"),
        ("lab --hosts 0 -- run barrier", "--hosts"),
        ("lab --rate warp -- run barrier", "1gbit"),
        ("lab --delay 5ms -- run barrier", "--delay none"),
        ("lab --hosts 2 -- fly", "fly"),
        ("explain all_reduce --ranks 0", "--ranks from 1"),
        ("explain all_reduce --ranks 4 --hosts 3", "--hosts"),
        ("explain all_reduce --size 0", "at least one byte"),
        ("fly", "fly"),
    ] {
        refused(arguments, expected);
    }
}

#[test]
fn wrong_files() {
    let directory = tempfile::tempdir().expect("temp");
    let header = |descr: &str, shape: &str| {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n")
    };
    for (name, header, data, expected) in [
        ("f8.npy", header("<f8", "(2,)"), 16, "float32"),
        ("3d.npy", header("<f4", "(1, 2, 2)"), 16, "3 dimensions"),
        ("short.npy", header("<f4", "(2, 4)"), 16, "cut short"),
        ("empty.npy", header("<f4", "(0,)"), 0, "no element"),
    ] {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(u16::try_from(header.len()).expect("short").to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(std::iter::repeat_n(0, data));
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).expect("temp");
        refused(&format!("run all_reduce --input {}", path.display()), expected);
    }
    let text = directory.path().join("text.npy");
    std::fs::write(&text, "1 2 3").expect("temp");
    refused(&format!("run all_reduce --input {}", text.display()), "not a .npy file");
}

#[test]
fn half_a_launcher_is_refused() {
    let output = collbench("run barrier").env("SYNCLINE_RANK", "0").output().expect("starts");
    let (_, err) = text(&output);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("SYNCLINE_WORLD_SIZE and SYNCLINE_RENDEZVOUS not set"), "{err}");
}

#[test]
fn help_is_not_an_error() {
    for arguments in ["--help", "run --help", "lab -h", "explain --help", "launch --help"] {
        let output = collbench(arguments).output().expect("the binary starts");
        let (out, err) = text(&output);
        assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{arguments}");
        assert!(out.contains("Usage: collbench"), "{arguments}: {out}");
        for line in out.lines() {
            assert!(line.chars().count() <= 110, "{arguments}: too wide: {line}");
        }
    }
}
