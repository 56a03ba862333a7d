//! Every check and every test, in one command.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{icount, tidy, tools};

/// Totals over the test runners' closing lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Runs everything; the first failure ends it, except among the tests themselves, which all run.
pub(crate) fn run(root: &Path, install: bool) -> Result<(), String> {
    if install {
        step("install", || {
            tools::install_debian()?;
            tools::install_peers(root)
        })?;
    }
    step("tidy", || tidy::run(root))?;
    step("fmt", || format_check(root))?;
    step("clippy", || {
        tools::run(
            cargo(root)
                .args(["clippy", "--quiet", "--workspace", "--all-targets"])
                .args(["--", "-D", "warnings"]),
        )
    })?;
    step("deny", || deny(root, install))?;
    step("doc", || {
        tools::run(cargo(root).env("RUSTDOCFLAGS", "-D warnings").args([
            "doc",
            "--quiet",
            "--workspace",
            "--no-deps",
        ]))
    })?;
    let mut totals = Totals::default();
    step("tests", || {
        tally(cargo(root).args(["test", "--workspace", "--no-fail-fast"]), &mut totals)
    })?;
    // Criterion runs every benchmark once: they work, whatever they would measure here.
    step("benchmarks", || {
        tools::run(cargo(root).args([
            "test",
            "--quiet",
            "--package",
            "syncline-micro",
            "--benches",
        ]))
    })?;
    step("loom", || {
        tally(
            cargo(root)
                .env("RUSTFLAGS", "--cfg syncline_loom")
                .env("CARGO_TARGET_DIR", "target/loom")
                // Building takes longer than exploring.
                .args(["test", "--config", "profile.dev.package.syncline.opt-level=0"])
                .args(["--package", "syncline", "--lib", "model"]),
            &mut totals,
        )
    })?;
    step("instructions", || instructions(root))?;
    println!("{} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.ignored);
    Ok(())
}

/// The hot path needs no more instructions than recorded.
fn instructions(root: &Path) -> Result<(), String> {
    let reason = if !cfg!(target_arch = "x86_64") {
        "the record is for x86-64"
    } else if !tools::runs(Path::new("valgrind"), "--version") {
        "valgrind is not installed"
    } else {
        return icount::check(root);
    };
    if std::env::var_os("CI").is_some() {
        return Err(format!("CI must count instructions: {reason}"));
    }
    println!("skipped: {reason}");
    Ok(())
}

/// Every file by its path: cargo fmt does not find those that a macro declares.
fn format_check(root: &Path) -> Result<(), String> {
    let files = tidy::rust_files(root)?;
    tools::run(
        Command::new("rustfmt")
            .current_dir(root)
            .args(["--check", "--quiet", "--edition", "2024"])
            .args(files),
    )
}

fn step(name: &str, body: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    println!("==> {name}");
    let start = Instant::now();
    body().map_err(|reason| format!("{name}: {reason}"))?;
    println!("==> {name} done in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root);
    command
}

fn deny(root: &Path, install: bool) -> Result<(), String> {
    match tools::cargo_deny(root, install)? {
        Some(program) => tools::run(Command::new(program).current_dir(root).args([
            "--log-level",
            "error",
            "check",
            "licenses",
            "bans",
            "sources",
        ])),
        None => {
            println!("skipped: cargo-deny is not installed and --no-install was given");
            Ok(())
        }
    }
}

/// Runs a test command, passes its output on, and adds up its closing lines.
fn tally(command: &mut Command, totals: &mut Totals) -> Result<(), String> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let output = child.stdout.take().ok_or("no standard output")?;
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|error| error.to_string())?;
        println!("{line}");
        add(&line, totals);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}")) }
}

fn add(line: &str, totals: &mut Totals) {
    let Some(rest) = line.strip_prefix("test result: ") else { return };
    for part in rest.split(['.', ';']) {
        let mut words = part.split_whitespace();
        let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match what {
            "passed" => totals.passed += number,
            "failed" => totals.failed += number,
            "ignored" => totals.ignored += number,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let mut totals = Totals::default();
        add(
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 4 filtered out",
            &mut totals,
        );
        add("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured", &mut totals);
        add("running 7 tests", &mut totals);
        assert_eq!(totals, Totals { passed: 13, failed: 2, ignored: 3 });
    }
}
