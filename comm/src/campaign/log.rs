//! What happened at the ranks of a run, for the judge and for people.

use std::sync::Arc;
use std::time::Duration;

use super::scenario::Call;
use crate::control::core::{Agreed, Cause, CommId, Excluded};
use crate::error::{Error, Rank};

/// Something that happened at one rank.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) time: Duration,
    pub(super) rank: Rank,
    pub(super) what: What,
}

/// What happened. Ranks are the job's, except in errors.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// It has a communicator of these members.
    Opened { comm: CommId, members: Arc<[Rank]>, generation: usize },
    /// It made call `index` of its program; `different` from the others'.
    Called { comm: CommId, index: usize, call: Call, different: bool },
    /// The call ended well; whether the result was right.
    Ended { comm: CommId, index: usize, right: bool },
    /// The call ended in an error.
    Failed { comm: CommId, index: usize, error: Box<Error> },
    /// The control protocol says why a communicator failed.
    Cause { comm: CommId, cause: Box<Cause> },
    /// It called the communicator's next agreement.
    Agreeing { comm: CommId, number: u64, flags: u64 },
    /// An agreement ended.
    Agreed { comm: CommId, number: u64, outcome: Result<Agreed, Excluded> },
    /// It revoked a communicator.
    Revoked { comm: CommId },
    /// It aborted a communicator.
    Aborted { comm: CommId },
    /// It comes late to its next call.
    Dawdles { until: Duration },
    /// It left a communicator.
    Closed { comm: CommId },
    /// Its program has ended.
    Done,
    /// Its connection to `peer` in a communicator was reset; whether both noticed.
    Reset { comm: CommId, peer: Rank, both: bool },
    /// The scenario's fault of this number happened.
    Fault(usize),
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { time, rank, what } = self;
        write!(f, "{:>14.6} ms  rank {rank:<3} ", time.as_secs_f64() * 1e3)?;
        match what {
            What::Opened { comm, members, generation } => {
                write!(f, "opened {comm:x} (generation {generation}) of {members:?}")
            }
            What::Called { comm, index, call, different } => {
                let how = if *different { "differently " } else { "" };
                write!(f, "{how}called {comm:x}[{index}] {call:?}")
            }
            What::Ended { comm, index, right } => {
                write!(f, "{comm:x}[{index}] ended {}", if *right { "well" } else { "WRONG" })
            }
            What::Failed { comm, index, error } => {
                write!(f, "{comm:x}[{index}] failed: {error}")
            }
            What::Cause { comm, cause } => write!(f, "{comm:x} failed: {cause:?}"),
            What::Agreeing { comm, number, flags } => {
                write!(f, "agreement {comm:x}/{number} called with {flags:x}")
            }
            What::Agreed { comm, number, outcome } => {
                write!(f, "agreement {comm:x}/{number}: {outcome:x?}")
            }
            What::Revoked { comm } => write!(f, "revokes {comm:x}"),
            What::Aborted { comm } => write!(f, "aborts {comm:x}"),
            What::Dawdles { until } => write!(f, "dawdles until {until:?}"),
            What::Closed { comm } => write!(f, "leaves {comm:x}"),
            What::Done => write!(f, "is done"),
            What::Reset { comm, peer, both } => {
                let who = if *both { "both notice" } else { "it alone notices" };
                write!(f, "{comm:x} loses its connection to rank {peer}, {who}")
            }
            What::Fault(index) => write!(f, "fault {index} strikes"),
        }
    }
}
