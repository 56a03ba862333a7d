//! The one error type. Every variant says who, where, and what to do next.

use std::fmt;
use std::time::Duration;

/// A rank of a communicator, counted from 0.
pub type Rank = u32;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A rank and the host it runs on, as errors name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Rank in the communicator of the failed call.
    pub rank: Rank,
    /// Host name, as the rank reported it at rendezvous.
    pub host: String,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} on {}", self.rank, self.host)
    }
}

/// The call that failed: which operation, its number in the communicator, and who reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The reporting rank.
    pub me: Peer,
    /// The operation, such as `all_reduce`.
    pub operation: &'static str,
    /// Sequence number of the operation in its communicator, counted from 0.
    pub sequence: u64,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{} at {}", self.operation, self.sequence, self.me)
    }
}

/// What went wrong.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument the call cannot work with; nothing was sent.
    #[error("{operation}: {reason}")]
    InvalidArgument {
        /// The function that refused.
        operation: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A peer's process or connection is gone.
    #[error("{call}: lost {peer}: {reason}; destroy this communicator and make one without it")]
    PeerLost {
        /// The call that noticed.
        call: Box<Call>,
        /// Who is gone.
        peer: Peer,
        /// How it was noticed.
        reason: String,
    },
    /// The deadline passed while ranks were still missing.
    #[error(
        "{call}: no progress within {} s; still waiting for {}; check that every rank makes \
         the same calls in the same order", .after.as_secs_f64(), list(.missing)
    )]
    Timeout {
        /// The call that waited.
        call: Box<Call>,
        /// Who has not come.
        missing: Vec<Peer>,
        /// How long it waited.
        after: Duration,
    },
    /// Two ranks disagree on what operation this is.
    #[error(
        "{call}: {peer} called {theirs}, this rank called {ours}; make every rank's calls agree \
         in collective, count, type, op, root and options"
    )]
    Mismatch {
        /// The call on this rank.
        call: Box<Call>,
        /// Who differs.
        peer: Peer,
        /// This rank's view.
        ours: String,
        /// The peer's view, as far as it is known.
        theirs: String,
    },
    /// A peer sent what the wire format does not allow.
    #[error("{call}: {peer} broke the wire protocol: {reason}; are all ranks the same version?")]
    Protocol {
        /// The call that received it.
        call: Box<Call>,
        /// Who sent it.
        peer: Peer,
        /// What was wrong.
        reason: String,
    },
    /// The job could not be assembled.
    #[error("rendezvous at rank {rank} of {world}: {reason}")]
    Rendezvous {
        /// The reporting rank.
        rank: Rank,
        /// Ranks in the job.
        world: Rank,
        /// What happened and what to do.
        reason: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source_text}; {hint}")]
    System {
        /// What was attempted.
        what: String,
        /// The system's own words.
        source_text: String,
        /// What to do next.
        hint: String,
    },
    /// The communicator was aborted, here or because an earlier call failed.
    #[error("{call}: communicator aborted: {reason}")]
    Aborted {
        /// The call that was cut short.
        call: Box<Call>,
        /// Why.
        reason: String,
    },
}

fn list(peers: &[Peer]) -> String {
    peers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
