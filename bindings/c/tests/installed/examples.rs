//! Every example, in both languages, with pkg-config and with CMake, run as its users run it.

use std::process::Command;

use crate::tree::{Language, compile, prefix, source, succeed};

/// What is run and what it prints.
const EXAMPLES: &[(&str, &[&str], &str)] = &[
    ("all_reduce", &["4"], "4 ranks: every element is 10\n"),
    ("overlap", &["3"], "3 ranks: 8 layers averaged\n"),
    (
        "errors",
        &[],
        "overlapping buffers: SYNCLINE_ERROR_INVALID_ARGUMENT\n\
         all_reduce: SYNCLINE_OK\n\
         a tenth of a second: SYNCLINE_IN_PROGRESS\n\
         the end: SYNCLINE_ERROR_TIMEOUT\n  because of rank 1\n\
         destroy: SYNCLINE_OK\n",
    ),
    (
        "shrink",
        &["4"],
        "step 3 failed: SYNCLINE_ERROR_PEER_LOST\n\
         3 ranks go on from step 3\n\
         all 6 steps done by 3 ranks\n",
    ),
];

#[test]
fn every_example_runs_as_c_and_as_cxx() {
    for &(name, arguments, expected) in EXAMPLES {
        for language in Language::ALL {
            let program = compile(&format!("examples/{name}.c"), language);
            let printed = succeed(Command::new(program).args(arguments));
            assert_eq!(printed, expected, "{name} as {language:?}");
        }
    }
}

#[test]
fn ranks_meet_at_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job");
    let program = compile("examples/all_reduce.c", Language::C11);
    let start = |rank: &str| {
        let mut command = Command::new(&program);
        command.args([rank, "2"]).arg(&file).spawn().unwrap()
    };
    let ranks = ["0", "1"].map(start);
    for mut rank in ranks {
        assert!(rank.wait().unwrap().success());
    }
}

#[test]
fn cmake_finds_the_package_and_builds_every_example() {
    let built = tempfile::tempdir().unwrap();
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(source("examples")).arg("-B").arg(built.path());
    succeed(configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix().display())));
    succeed(Command::new("cmake").arg("--build").arg(built.path()));
    for &(name, arguments, expected) in EXAMPLES {
        for suffix in ["", "_cxx"] {
            let program = built.path().join(format!("{name}{suffix}"));
            assert_eq!(succeed(Command::new(program).args(arguments)), expected, "{name}{suffix}");
        }
    }
}
