//! One run of the campaign as data: who calls what, and what goes wrong when.

use std::time::Duration;

use crate::collective::Request;
use crate::error::Rank;
use crate::reduce::DType;
use crate::schedule::hierarchy::Mode;
use crate::transport::sim::{Noticed, SimConfig};

/// Everything that a seed decides.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) ranks: Rank,
    /// Ranks of a host, for hierarchical algorithms; ranks are placed in blocks.
    pub(super) host_ranks: Rank,
    pub(super) net: SimConfig,
    pub(super) mail: MailConfig,
    /// A call that does not move for this long fails; an agreement waits this long.
    pub(super) timeout: Duration,
    pub(super) reproducible: bool,
    /// Calls of the first communicator, and of those made by shrinking it.
    pub(super) calls: Vec<Call>,
    /// Calls started before the oldest one is waited for.
    pub(super) in_flight: usize,
    pub(super) ending: Ending,
    /// Whether survivors agree on flags before they shrink.
    pub(super) agrees_first: bool,
    pub(super) deviations: Vec<Deviation>,
    pub(super) faults: Vec<Fault>,
}

/// What the control links are like.
#[derive(Clone, Copy, Debug)]
pub(super) struct MailConfig {
    /// Messages that arrive twice, in percent.
    pub(super) duplicated: u64,
    /// Messages that others overtake, in percent.
    pub(super) delayed: u64,
    /// By how much at most.
    pub(super) delay_max: Duration,
    /// A link that carries nothing for this long is given up.
    pub(super) keepalive: Duration,
}

/// What ranks do when their calls have ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// They leave, each for itself.
    Leave,
    /// They agree whether all is well, and shrink and go on if not.
    Agree,
}

/// One step of the program that all ranks run.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    /// All take part.
    Collective {
        /// What is asked for; an all_to_all_v takes its counts from the oracle.
        request: Request,
        is_per_pair: bool,
        algorithm: AlgorithmChoice,
        segments: u32,
        /// Bit r mod 64: rank r gives one buffer for input and output.
        in_place: u64,
    },
    /// Every rank sends to one that is `shift` further, and receives.
    Exchange { shift: Rank, dtype: DType, count: usize },
    /// One message.
    Message { from: Rank, to: Rank, dtype: DType, count: usize },
}

/// Which of the algorithms that serve a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum AlgorithmChoice {
    /// The flat one of this number among those that serve, modulo their count.
    Flat(u64),
    /// Composed for the hosts, from levels in an order that the number decides; a flat one where
    /// that does not serve.
    Composed(Mode, u64),
}

/// A rank that does something else than the others, in the first communicator.
#[derive(Clone, Debug)]
pub(super) struct Deviation {
    pub(super) rank: Rank,
    /// At this step of the program.
    pub(super) call: usize,
    pub(super) kind: DeviationKind,
}

/// What it does.
#[derive(Clone, Debug)]
pub(super) enum DeviationKind {
    /// It makes another call.
    Calls(Call),
    /// It comes this much later.
    Late(Duration),
    /// It revokes the communicator.
    Revokes,
    /// It aborts.
    Aborts,
}

/// Something that breaks.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) when: When,
    pub(super) kind: FaultKind,
}

/// When it breaks.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    At(Duration),
    /// This long after any rank comes to a stage for the first time.
    After(Stage, Duration),
}

/// Moments in which a death is interesting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A communicator failed somewhere.
    Failure,
    /// Somebody called agree or shrink.
    Agreement,
    /// Somebody made a communicator of the survivors.
    Shrunk,
}

/// What breaks.
#[derive(Clone, Debug)]
pub(super) enum FaultKind {
    /// A process dies; its host ends its connections after `noticed`, which is long when the
    /// host died too.
    Crash { rank: Rank, noticed: Duration },
    /// A process stands still, for a while or for good.
    Stop { rank: Rank, lasts: Option<Duration> },
    /// The ranks of `side` and the others do not reach each other, for a while or for good.
    Part { side: Vec<bool>, lasts: Option<Duration> },
    /// A connection that carries something breaks, though both its ranks live; which, a number
    /// decides.
    Reset { number: u64, noticed: Noticed },
    /// The way between two ranks takes longer.
    Slow { a: Rank, b: Rank, longer: Duration },
}
