//! Instruction counts of the hot path: callgrind counts those of unit tests that are written for
//! it, with two numbers of rounds, and the difference leaves out what happens once. Times vary on
//! a shared machine; these numbers do not.

mod fingerprint;
mod gate;

pub(crate) use fingerprint::run as fingerprint;
pub(crate) use gate::{check, record};

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The two numbers of rounds.
const ROUNDS: [u64; 2] = [1_000, 5_000];

/// Checks that a release build does not have.
const UNCHECKED: [&str; 2] = ["debug-assertions=false", "overflow-checks=false"];

/// The unit tests without debug assertions, under a name of their own. With `flags`, which cargo
/// takes for no difference, in a folder of their own.
fn build(root: &Path, name: &str, flags: &[&str]) -> Result<PathBuf, String> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root);
    cargo.args(["rustc", "--package", "syncline", "--lib", "--profile", "test"]);
    for check in UNCHECKED {
        cargo.args(["--config", &format!("profile.dev.package.syncline.{check}")]);
    }
    cargo.args(["--message-format=json", "--"]).args(flags);
    if !flags.is_empty() {
        cargo.env("CARGO_TARGET_DIR", "target/icount");
    }
    let output = cargo
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let built = text.lines().rev().find_map(|line| {
        let rest = line.split_once("\"executable\":\"")?.1;
        Some(rest.split_once('"')?.0)
    });
    let built = built.filter(|_| output.status.success()).ok_or("the tests do not build")?;
    // The next build may take its place.
    let folder = root.join("target/icount");
    let kept = folder.join(name);
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::copy(built, &kept))
        .map_err(|error| format!("{built} to {}: {error}", kept.display()))?;
    Ok(kept)
}

/// Instructions of one round of `test`, with `environment` set.
fn per_round(program: &Path, test: &str, environment: &[(&str, &str)]) -> Result<f64, String> {
    let [few, many] = ROUNDS;
    let total = |rounds| instructions(program, test, rounds, environment);
    Ok((total(many)? - total(few)?) / (many - few) as f64)
}

fn instructions(
    program: &Path,
    test: &str,
    rounds: u64,
    environment: &[(&str, &str)],
) -> Result<f64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([test, "--exact", "--test-threads=1"])
        .env("SYNCLINE_ICOUNT_ROUNDS", rounds.to_string())
        .envs(environment.iter().copied())
        .output()
        .map_err(|error| format!("cannot start valgrind: {error}; apt-get install valgrind"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected =
        text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    let ran = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    collected
        .filter(|_| output.status.success() && ran)
        .ok_or_else(|| format!("callgrind failed, or there is no test {test}:\n{text}"))
}
