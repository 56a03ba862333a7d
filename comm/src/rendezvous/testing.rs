//! Ranks of rendezvous in tests.

use std::time::Duration;

use super::{MemberInfo, Membership, Participant, Ports, Rendezvous, join};
use crate::engine::wait_until_readable;
use crate::error::{Rank, Result};

/// Longer than any test takes that goes well.
pub(super) const LONG: Duration = Duration::from_secs(30);

fn nothing(_: &[MemberInfo]) -> Vec<u8> {
    Vec::new()
}

/// A rank with nothing to say that gives up after `within`.
pub(super) fn participant<'a>(rank: Rank, ranks: Rank, within: Duration) -> Participant<'a> {
    Participant {
        rank,
        ranks,
        deadline: std::time::Instant::now() + within,
        interface: None,
        ports: Ports::ANY,
        encrypt: false,
        payload: Vec::new(),
        agree: &nothing,
    }
}

/// Joins as that rank.
pub(super) fn arrive(
    at: &Rendezvous,
    rank: Rank,
    ranks: Rank,
    within: Duration,
) -> Result<Membership> {
    join(at, &participant(rank, ranks, within), &mut wait_until_readable)
}

/// Why it failed, which it must have.
pub(super) fn reason(result: Result<Membership>) -> String {
    result.err().expect("must fail").to_string()
}
