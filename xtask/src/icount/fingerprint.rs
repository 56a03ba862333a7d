//! What the fingerprint costs: an 8-byte sum with the fingerprints of frames compared and without.

use std::path::Path;

use super::gate::EIGHT_BYTES;
use super::{build, per_round};

/// What the comparison may add.
const PER_CENT_MAX: f64 = 3.0;

/// Measures, prints, and fails when the cost is more than promised.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let with = build(root, "with", &[])?;
    let without = build(root, "without", &["--cfg", "syncline_no_fingerprint"])?;
    let compared = per_round(&with, EIGHT_BYTES, &[])?;
    let ignored = per_round(&without, EIGHT_BYTES, &[])?;
    let anew = per_round(&with, EIGHT_BYTES, &[("SYNCLINE_ICOUNT_ANEW", "1")])?;
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
