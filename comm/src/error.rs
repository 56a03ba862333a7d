//! The one error type. Every variant says who, where, and what to do next.

mod kind;

use std::fmt;
use std::time::Duration;

pub use kind::ErrorKind;

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

/// A rank that holds an operation up, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Who.
    pub peer: Peer,
    /// In words, such as `does not answer`.
    pub what: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.peer, self.what)
    }
}

/// What a rank called, where ranks disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// Who.
    pub peer: Peer,
    /// Its call in words, as far as it is known.
    pub what: String,
}

impl fmt::Display for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} called {}", self.peer, self.what)
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
    /// A peer's process or host is gone, or it left while it was still needed.
    #[error(
        "{call}: lost {peer}: {reason}; make a communicator of the other ranks with `shrink`, or \
         end the job"
    )]
    PeerLost {
        /// The call that failed.
        call: Box<Call>,
        /// Who is gone.
        peer: Peer,
        /// How it was noticed.
        reason: String,
    },
    /// The connection between two ranks broke; both still run.
    #[error(
        "{call}: the connection between {} and {} broke: {reason}; both still run: make a \
         communicator with new connections with `shrink`, or end the job", .ends[0], .ends[1]
    )]
    Disconnected {
        /// The call that failed.
        call: Box<Call>,
        /// The two ranks; the first one noticed.
        ends: Box<[Peer; 2]>,
        /// How it was noticed.
        reason: String,
    },
    /// Nothing moved for as long as the communicator's timeout.
    #[error(
        "{call}: no progress for {:?} in {operation}: {}; check that every rank makes the same \
         calls in the same order, or go on without the missing ranks with `shrink`",
        .after, list(.missing)
    )]
    Timeout {
        /// The call that failed.
        call: Box<Call>,
        /// The operation that made no progress, in words, and the rank that noticed.
        operation: String,
        /// Who holds it up.
        missing: Vec<Missing>,
        /// How long nothing moved.
        after: Duration,
    },
    /// Two ranks disagree on what operation this is.
    #[error(
        "{call}: {} but {}; make every rank's calls agree in order, collective, count, type, op, \
         root and options", .calls[0], .calls[1]
    )]
    Mismatch {
        /// The call that failed.
        call: Box<Call>,
        /// The two that differ.
        calls: Box<[Called; 2]>,
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
    /// A rank gave up.
    #[error(
        "{call}: {by} aborted: {reason}; make a communicator of the other ranks with `shrink`, or \
         end the job"
    )]
    Aborted {
        /// The call that was cut short.
        call: Box<Call>,
        /// Who gave up.
        by: Peer,
        /// In its own words.
        reason: String,
    },
    /// A rank ended the communicator for everybody; all of them go on to exist.
    #[error("{call}: {by} revoked the communicator: {reason}; agree, and `shrink` to a new one")]
    Revoked {
        /// The call that was cut short.
        call: Box<Call>,
        /// Who ended it.
        by: Peer,
        /// In its own words.
        reason: String,
    },
    /// The other ranks went on without this one.
    #[error(
        "{call}: the others went on without this rank: {reason}; drop the communicator, and be \
         invited to a new one with `grow`"
    )]
    Excluded {
        /// The call that found out.
        call: Box<Call>,
        /// Why, as far as it is known.
        reason: String,
    },
    /// This process was forked after the communicator was made.
    #[error(
        "{operation}: this communicator was made before fork, by process {maker}, and only that \
         process can use it; make one after fork"
    )]
    Forked {
        /// The function that refused.
        operation: &'static str,
        /// Process id of the maker.
        maker: u32,
    },
}

impl Error {
    /// The same cause, as `call` reports it.
    #[must_use]
    pub fn at(&self, call: Box<Call>) -> Self {
        let mut error = self.clone();
        match &mut error {
            Self::PeerLost { call: place, .. }
            | Self::Disconnected { call: place, .. }
            | Self::Timeout { call: place, .. }
            | Self::Mismatch { call: place, .. }
            | Self::Protocol { call: place, .. }
            | Self::Aborted { call: place, .. }
            | Self::Revoked { call: place, .. }
            | Self::Excluded { call: place, .. } => *place = call,
            Self::InvalidArgument { .. }
            | Self::Rendezvous { .. }
            | Self::System { .. }
            | Self::Forked { .. } => {}
        }
        error
    }
}

fn list(missing: &[Missing]) -> String {
    match missing {
        [] => "nobody is known to be missing".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
