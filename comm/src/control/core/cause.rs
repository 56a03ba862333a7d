//! Why a communicator failed, in a form that travels.

use std::time::Duration;

use super::Operation;
use crate::error::Rank;

/// Why a communicator failed. The same everywhere, up to failures that happen at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A member's process or host is gone, or its connection broke for good.
    Lost {
        /// Who.
        rank: Rank,
        /// How it was noticed, in words.
        how: String,
    },
    /// A member that is still needed left the communicator in good order.
    Left {
        /// Who.
        rank: Rank,
    },
    /// Members did not come before the deadline.
    Stalled {
        /// Who noticed.
        by: Rank,
        /// Where.
        operation: Operation,
        /// The operation in words, as `by` called it.
        description: String,
        /// Who holds it up, and what is known of them.
        missing: Vec<(Rank, Absence)>,
        /// How long nothing moved at `by`.
        after: Duration,
    },
    /// Two members called different things.
    Mismatch {
        /// Where.
        operation: Operation,
        /// One, and its call in words.
        one: (Rank, String),
        /// The other, and its call in words as far as it is known.
        other: (Rank, String),
    },
    /// A member sent what the wire format does not allow.
    Protocol {
        /// Who sent it.
        rank: Rank,
        /// What was wrong.
        reason: String,
    },
    /// A member gave up.
    Aborted {
        /// Who.
        by: Rank,
        /// In its own words.
        reason: String,
    },
    /// A member ended the communicator for everybody.
    Revoked {
        /// Who.
        by: Rank,
        /// In its own words.
        reason: String,
    },
}

/// What is known of a rank that holds an operation up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It answers nothing: stopped, cut off, or its host is down.
    Silent,
    /// It is alive and has not called the operation; `last` is what it called last, in words.
    NotEntered {
        /// Such as `all_reduce #41 (f32 x 1024, sum, ring)`.
        last: Option<String>,
    },
    /// It is alive and in the operation, and waits for nobody who holds it up.
    Slow,
    /// It left the communicator.
    Left,
}
