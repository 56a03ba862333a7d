//! Real processes on this host: every collective, type, operator and size, over each transport.

use std::path::Path;
use std::time::Duration;

use syncline_tests::launch::all_succeed;

const LIMIT: Duration = Duration::from_secs(120);

fn worker() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_worker"))
}

fn over(transport: &str, scenario: &str, ranks: impl IntoIterator<Item = usize>) {
    for ranks in ranks {
        all_succeed(worker(), ranks, &[scenario, transport], LIMIT);
    }
}

#[test]
fn types_over_shared_memory() {
    over("shm", "types", 1..=16);
}

#[test]
fn types_over_tcp() {
    over("tcp", "types", [2, 3, 5, 8, 16]);
}

#[test]
fn sizes_over_shared_memory() {
    over("shm", "sizes", 1..=16);
}

#[test]
fn sizes_over_tcp() {
    over("tcp", "sizes", [1, 2, 3, 4, 7, 16]);
}

#[test]
fn point_to_point() {
    over("shm", "point_to_point", [1, 2, 5]);
    over("tcp", "point_to_point", [2, 5]);
}

#[test]
fn operations_in_flight() {
    over("shm", "in_flight", [1, 2, 5]);
    over("tcp", "in_flight", [2, 5]);
}

#[test]
fn coalesced_tensors() {
    over("shm", "coalesced", [1, 2, 4]);
    over("tcp", "coalesced", [3]);
}

#[test]
fn groups() {
    over("shm", "grouped", [1, 2, 5]);
    over("tcp", "grouped", [3]);
}

#[test]
fn reproducible_sums_are_canonical_over_every_wire() {
    over("shm", "reproducible", [1, 2, 3, 6, 8, 13]);
    over("tcp", "reproducible", [2, 5, 8]);
}

#[test]
fn communicators_used_in_different_orders() {
    over("shm", "crossed", [2, 4]);
    over("tcp", "crossed", [3]);
}

#[test]
fn split_communicators() {
    over("shm", "split", [1, 2, 5]);
    over("tcp", "split", [4]);
}

/// 2 ranks have a core each here; 6 are more than there are cores on a small machine. The limit
/// on processor time is a promise of the library, not a benchmark.
#[test]
fn waiting_ranks_sleep() {
    over("shm", "late", [2, 6]);
    over("tcp", "late", [2, 6]);
}

/// 64 MiB per buffer with 2 and 4 ranks; with 24 every rank talks to 23 others.
#[test]
fn staging_stays_within_its_budget() {
    over("shm", "staging", [2, 4, 24]);
    over("tcp", "staging", [2, 24]);
}
