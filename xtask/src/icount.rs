//! What the fingerprint costs, in instructions: callgrind counts those of an 8-byte sum of two
//! ranks over shared memory, with the fingerprints of frames compared and without.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TEST: &str = "engine::tests::icount::eight_bytes_over_shared_memory";
/// Two lengths, whose difference leaves out what happens once.
const ROUNDS: [u64; 2] = [1_000, 5_000];
/// What the comparison may add.
const PER_CENT_MAX: f64 = 3.0;

/// Measures, prints, and fails when the cost is more than promised.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let with = build(root, "with", &[])?;
    let without = build(root, "without", &["--cfg", "syncline_no_fingerprint"])?;
    let compared = per_round(&with, false)?;
    let ignored = per_round(&without, false)?;
    let anew = per_round(&with, true)?;
    let share = |more: f64, base: f64| (more - base) / base * 100.0;
    let percent = share(compared, ignored);
    println!("instructions per 8-byte all_reduce, both ranks of two over shared memory:");
    println!("  {ignored:8.1}  fingerprints not compared");
    println!("  {compared:8.1}  compared ({percent:+.2} %)");
    println!(
        "  {anew:8.1}  and computed anew by every call ({:+.2} %), which the library does \
              once per program",
        share(anew, ignored)
    );
    if percent > PER_CENT_MAX {
        return Err(format!("comparing costs {percent:.2} %, more than {PER_CENT_MAX} %"));
    }
    Ok(())
}

/// The unit tests without debug assertions, under a name of their own.
fn build(root: &Path, name: &str, flags: &[&str]) -> Result<PathBuf, String> {
    let output = Command::new("cargo")
        .current_dir(root)
        .env("CARGO_TARGET_DIR", "target/icount")
        .args(["rustc", "--package", "syncline", "--lib", "--profile", "test"])
        .args(["--message-format=json", "--", "-Cdebug-assertions=off"])
        .args(flags)
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
    let kept = root.join("target/icount").join(name);
    std::fs::copy(built, &kept).map_err(|error| format!("{built}: {error}"))?;
    Ok(kept)
}

fn per_round(program: &Path, anew: bool) -> Result<f64, String> {
    let [few, many] = ROUNDS;
    let (least, most) = (instructions(program, few, anew)?, instructions(program, many, anew)?);
    Ok((most - least) as f64 / (many - few) as f64)
}

fn instructions(program: &Path, rounds: u64, anew: bool) -> Result<u64, String> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([TEST, "--exact", "--test-threads=1"])
        .env("SYNCLINE_ICOUNT_ROUNDS", rounds.to_string());
    if anew {
        command.env("SYNCLINE_ICOUNT_ANEW", "1");
    }
    let output = command
        .output()
        .map_err(|error| format!("cannot start valgrind: {error}; apt-get install valgrind"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected =
        text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    collected
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("callgrind failed:\n{text}"))
}
