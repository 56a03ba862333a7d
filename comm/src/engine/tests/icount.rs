//! What `cargo xtask icount` counts the instructions of.

use super::super::pair::Pair;
use crate::transport::Lane;

/// How many operations, when `cargo xtask icount` asks.
const ROUNDS: &str = "SYNCLINE_ICOUNT_ROUNDS";
/// Whether every call computes its fingerprint anew; the library does so once per program.
const ANEW: &str = "SYNCLINE_ICOUNT_ANEW";

#[test]
fn eight_bytes_over_shared_memory() {
    sums(2, Lane::Small);
}

/// 64 KiB: the engine's own way, where the short one ends.
#[test]
fn many_frames() {
    sums(16 << 10, Lane::Bulk);
}

fn sums(elements: usize, lane: Lane) {
    let rounds: u64 = std::env::var(ROUNDS).map_or(3, |n| n.parse().expect("a number"));
    let anew = std::env::var_os(ANEW).is_some();
    let mut pair = Pair::new(elements, lane);
    let once = pair.fingerprint();
    for _ in 0..rounds {
        let fingerprint = if anew { pair.fingerprint() } else { once };
        pair.all_reduce(fingerprint);
    }
    assert!(pair.is_right());
}
