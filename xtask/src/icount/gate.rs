//! The gate: what is counted now against what was recorded, in a file that is checked in.

use std::fmt::Write as _;
use std::path::Path;

use super::{build, per_round};

/// The unit test of the 8-byte sum.
pub(super) const EIGHT_BYTES: &str = "engine::tests::icount::eight_bytes_over_shared_memory";
/// What is counted: a name, and the unit test that does it.
const COUNTED: [(&str, &str); 3] = [
    ("all_reduce_8_B_engines_of_2_ranks_shm", EIGHT_BYTES),
    ("all_reduce_64_KiB_engines_of_2_ranks_shm", "engine::tests::icount::many_frames"),
    ("all_reduce_8_B_communicator_of_1_rank", "communicator::tests::icount::eight_bytes_alone"),
];
/// The record, in the repository.
const RECORD: &str = "xtask/instructions.txt";
/// How far a count may lie above the record.
const PER_CENT_MAX: f64 = 3.0;

const HEAD: &str = "\
# Instructions per call, of all ranks together, as `cargo xtask icount` counts them: callgrind, the unit
# tests' build without debug assertions, x86-64. The tests fail when one is more than 3 % higher.
# A change that is worth its instructions, or saves some, records anew: `cargo xtask icount --record`.
";

/// Counts and prints; fails when something needs noticeably more than recorded.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let path = root.join(RECORD);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{RECORD}: {error}"))?;
    let record = parse(&text)?;
    let mut too_many = Vec::new();
    for (name, count) in count(root)? {
        let recorded = record.iter().find(|(known, _)| *known == name).map(|&(_, count)| count);
        let recorded = recorded.ok_or_else(|| {
            format!("{RECORD} lacks {name}; record it: cargo xtask icount --record")
        })?;
        let (line, is_within) = verdict(name, count, recorded);
        println!("{line}");
        if !is_within {
            too_many.push(line);
        }
    }
    if too_many.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the hot path takes more instructions than {RECORD} allows:\n{}\nFind them with \
         `valgrind --tool=callgrind` on target/icount/with and the test that \
         xtask/src/icount/gate.rs names; if they are worth it, run `cargo xtask icount --record`, \
         check in {RECORD} and say why.",
        too_many.join("\n")
    ))
}

/// Counts, and writes the record.
pub(crate) fn record(root: &Path) -> Result<(), String> {
    let mut text = HEAD.to_owned();
    for (name, count) in count(root)? {
        println!("  {name}: {count:.1}");
        let _ = writeln!(text, "{name} {count:.1}");
    }
    std::fs::write(root.join(RECORD), text).map_err(|error| format!("{RECORD}: {error}"))
}

fn count(root: &Path) -> Result<Vec<(&'static str, f64)>, String> {
    let program = build(root, "with", &[])?;
    COUNTED.iter().map(|&(name, test)| Ok((name, per_round(&program, test, &[])?))).collect()
}

fn parse(text: &str) -> Result<Vec<(&str, f64)>, String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            entry(line).ok_or_else(|| format!("{RECORD}: '{line}' is not a name and a number"))
        })
        .collect()
}

fn entry(line: &str) -> Option<(&str, f64)> {
    let (name, count) = line.split_once(' ')?;
    let count = count.parse().ok().filter(|&count: &f64| count > 0.0)?;
    Some((name, count))
}

/// A line about one count, and whether it is within the bounds.
fn verdict(name: &str, count: f64, recorded: f64) -> (String, bool) {
    let percent = (count - recorded) / recorded * 100.0;
    let advice = match percent {
        p if p > PER_CENT_MAX => "TOO MANY",
        p if p < -PER_CENT_MAX => "fewer: lower the record with cargo xtask icount --record",
        _ => "as recorded",
    };
    let line = format!("  {name}: {count:.1}, recorded {recorded:.1} ({percent:+.2} %), {advice}");
    (line, percent <= PER_CENT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_per_cent_more_is_too_many() {
        assert!(verdict("a", 103.0, 100.0).1);
        assert!(!verdict("a", 103.2, 100.0).1);
        let (line, is_within) = verdict("a", 90.0, 100.0);
        assert!(is_within && line.contains("lower the record"), "{line}");
    }

    #[test]
    fn a_record_is_names_and_numbers() {
        let text = format!("{HEAD}a 12.5\n\nb 3\n");
        assert_eq!(parse(&text), Ok(vec![("a", 12.5), ("b", 3.0)]));
        for text in ["a", "a x", "a 0", "a -3"] {
            assert!(parse(text).expect_err(text).contains("not a name and a number"));
        }
    }
}
