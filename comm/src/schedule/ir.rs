//! The schedule type.
//!
//! # Meaning
//!
//! A schedule is one rank's program. Its steps are listed in rounds for the reader and the cost
//! formulas; execution is dataflow:
//!
//! * All sends to one peer go out in listed order, and so do all receives from one peer: the
//!   k-th `Send` of rank a to rank b is received by the k-th `Recv` or `RecvReduce` of b from a.
//!   Both name the same blocks in the same order and the same wire format.
//! * A step waits for an earlier-listed step exactly when one of the two writes memory that the
//!   other touches. The wait is byte by byte: a step may follow closely behind the one that
//!   feeds it, which is what pipelines a message in chunks.
//! * Nothing else orders steps. Links progress independently of each other.

use crate::error::Rank;
use crate::reduce::Format;

/// The collectives a schedule can implement. `_v` forms share the schedule of the uniform form:
/// a schedule speaks of blocks, never of their sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Collective {
    /// Every rank gets the reduction of all inputs.
    AllReduce,
    /// Rank r gets block r of the reduction of all inputs.
    ReduceScatter,
    /// Every rank gets every rank's input, in rank order.
    AllGather,
    /// Every rank gets the root's input.
    Broadcast,
    /// The root gets the reduction of all inputs.
    Reduce,
    /// The root gets every rank's input, in rank order.
    Gather,
    /// Rank r gets block r of the root's input.
    Scatter,
    /// Rank r gets block r of every rank's input, in rank order.
    AllToAll,
    /// Nobody leaves before everybody has come.
    Barrier,
    /// Rank r gets the reduction of the inputs of ranks 0 to r.
    Scan,
    /// Rank r gets the reduction of the inputs of ranks 0 to r-1; rank 0's output is untouched.
    ExScan,
}

impl Collective {
    /// Every collective.
    pub const ALL: [Self; 11] = [
        Self::AllReduce,
        Self::ReduceScatter,
        Self::AllGather,
        Self::Broadcast,
        Self::Reduce,
        Self::Gather,
        Self::Scatter,
        Self::AllToAll,
        Self::Barrier,
        Self::Scan,
        Self::ExScan,
    ];

    /// The name used by the CLI and in errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllReduce => "all_reduce",
            Self::ReduceScatter => "reduce_scatter",
            Self::AllGather => "all_gather",
            Self::Broadcast => "broadcast",
            Self::Reduce => "reduce",
            Self::Gather => "gather",
            Self::Scatter => "scatter",
            Self::AllToAll => "all_to_all",
            Self::Barrier => "barrier",
            Self::Scan => "scan",
            Self::ExScan => "exscan",
        }
    }

    /// The collective called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }

    /// Whether it combines values, and so takes an operator.
    pub const fn reduces(self) -> bool {
        matches!(
            self,
            Self::AllReduce | Self::ReduceScatter | Self::Reduce | Self::Scan | Self::ExScan
        )
    }

    /// Whether one rank is special.
    pub const fn is_rooted(self) -> bool {
        matches!(self, Self::Broadcast | Self::Reduce | Self::Gather | Self::Scatter)
    }
}

/// A logical block: which part of the collective's data some bytes are.
///
/// In [`Space::Vector`] its position; in [`Space::PerRank`] the rank whose part it is; in
/// [`Space::PerPair`] `source * ranks + destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block(pub u32);

/// How the collective's data is cut into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// One vector, the same length on every rank, in `blocks` near-equal parts
    /// (all_reduce, broadcast, reduce, scan, exscan; barrier has no data and uses `blocks: 1`).
    Vector {
        /// Number of parts.
        blocks: u32,
    },
    /// One part per rank, of a length every rank knows
    /// (all_gather, reduce_scatter, gather, scatter, and their `_v` forms).
    PerRank,
    /// One part per ordered pair of ranks; a rank knows the lengths of its own row and column
    /// (all_to_all and its `_v` form).
    PerPair,
}

/// A memory of the rank that executes the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Buf {
    /// The caller's input. Never written.
    Input,
    /// The caller's output.
    Output,
    /// Partial results.
    Work,
    /// Values in data format on their way through this rank.
    Stage,
}

impl Buf {
    /// The format of what is stored here, and sent from here.
    pub const fn format(self) -> Format {
        match self {
            Self::Work => Format::Acc,
            Self::Input | Self::Output | Self::Stage => Format::Data,
        }
    }
}

/// What a slot of a scratch buffer must be able to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// This block.
    Of(Block),
    /// Any block: as large as the largest.
    Any,
}

/// Consecutive slots of one buffer that hold consecutive blocks.
///
/// Slot `slot + i` holds block `block + i`, for `i < len`, each in its part that belongs to
/// `segment`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// The buffer.
    pub buf: Buf,
    /// Which pipeline segment of the data (see [`Schedule::segments`]).
    pub segment: u32,
    /// First slot.
    pub slot: u32,
    /// The block in the first slot.
    pub block: Block,
    /// Number of slots.
    pub len: u32,
}

/// One thing to do. Operands of one step name the same blocks in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Send `src`, in the format of its buffers (which must agree), as one message.
    Send {
        /// To whom.
        peer: Rank,
        /// What.
        src: Vec<Slice>,
    },
    /// Receive a message into `dst`; it arrives in the format of `dst`'s buffers.
    Recv {
        /// From whom.
        peer: Rank,
        /// Where to.
        dst: Vec<Slice>,
    },
    /// Receive a message and combine it: `dst = local ⊕ received`. `local` may be `dst`.
    RecvReduce {
        /// From whom.
        peer: Rank,
        /// The format it arrives in.
        wire: Format,
        /// The local operand.
        local: Vec<Slice>,
        /// Where to.
        dst: Vec<Slice>,
    },
    /// `dst = src`, converted where the formats differ: data to acc widens, acc to data does the
    /// operator's last step (the division of `avg`) and rounds, once.
    Copy {
        /// From.
        src: Vec<Slice>,
        /// To.
        dst: Vec<Slice>,
    },
    /// `dst = a ⊕ b`. `a` or `b` may be `dst`.
    Reduce {
        /// One operand.
        a: Vec<Slice>,
        /// The other.
        b: Vec<Slice>,
        /// Where to.
        dst: Vec<Slice>,
    },
}

impl Step {
    /// The slices of all its operands.
    pub fn operands(&self) -> impl Iterator<Item = &Slice> {
        let [a, b, c]: [&[Slice]; 3] = match self {
            Self::Send { src: a, .. } | Self::Recv { dst: a, .. } => [a, &[], &[]],
            Self::RecvReduce { local: a, dst: b, .. } | Self::Copy { src: a, dst: b } => {
                [a, b, &[]]
            }
            Self::Reduce { a, b, dst } => [a, b, dst],
        };
        a.iter().chain(b).chain(c)
    }
}

/// Steps that may run together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Which stage of a composed schedule this round belongs to; flat schedules have stage 0
    /// only. Pipelining runs stage s of segment i beside stage s+1 of segment i-1.
    pub stage: u32,
    /// In the order that decides message matching.
    pub steps: Vec<Step>,
}

/// One rank's program for one collective.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How the data is cut.
    pub space: Space,
    /// Each block is cut into this many pipeline segments, at least 1.
    ///
    /// In [`Space::Vector`] segments are the outer cut, so that a segment is one contiguous
    /// range of the vector; in the other spaces each block is cut for itself.
    pub segments: u32,
    /// How many segments' worth of `Work` and `Stage` exist: segment s uses copy `s % window`.
    /// `Work` that lies in `Output` is not copied, see `work_in_output`.
    pub window: u32,
    /// The blocks in the caller's input, in memory order (empty where this rank has none).
    pub input: Vec<Block>,
    /// The blocks in the caller's output, in memory order (empty where this rank has none).
    pub output: Vec<Block>,
    /// The slots of `Work`.
    pub work: Vec<Slot>,
    /// The slots of `Stage`.
    pub stage: Vec<Slot>,
    /// `Some(first)`: work slot i holds what belongs in output slot `first + i`, and may lie in
    /// the same memory when the two formats have the same width. The engine then spares the
    /// scratch, and the last copy becomes the operator's last step in place. This concerns the
    /// work slots that are `Slot::Of` the very block of their output slot; all others (`Any`,
    /// another block, or past the output's end) are scratch of their own.
    pub work_in_output: Option<u32>,
    /// The steps.
    pub rounds: Vec<Round>,
}

/// What a schedule is built for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The collective.
    pub collective: Collective,
    /// Number of ranks.
    pub ranks: Rank,
    /// The root, for rooted collectives; 0 otherwise.
    pub root: Rank,
    /// The caller gave one buffer as input and output: all_reduce, broadcast, reduce (root),
    /// scan, exscan and all_to_all share the whole of it; input of all_gather and gather (root)
    /// is block `rank` of the output; output of reduce_scatter and scatter (root) is block
    /// `rank` of the input.
    pub in_place: bool,
    /// Only the canonical reduction tree will do: contributions in rank order, a range of ranks
    /// split at the largest power of two below its size (ADR 0004).
    pub reproducible: bool,
}

/// What a schedule costs, as its builder states it and the checker verifies it. One entry per
/// topology level, innermost first; flat algorithms have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Blocks the data is cut into, the unit of the counts below. For `PerPair`, the number of
    /// ranks: the blocks of one rank's input.
    pub blocks: u64,
    /// Per topology level.
    pub levels: Vec<LevelCost>,
}

/// Cost at one level of the topology.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelCost {
    /// Messages on the longest chain of dependent messages: one depends on another when its
    /// sender must first have received that, directly or through others. Messages that wait at
    /// the receiver only, for memory or for their turn, do not add up.
    pub rounds: u64,
    /// Blocks sent by the rank that sends most.
    pub sent_blocks: u64,
    /// How many of those are partial results, which are wider for 8- and 16-bit floats.
    pub sent_acc_blocks: u64,
    /// Blocks received by the rank that receives most.
    pub received_blocks: u64,
    /// Messages by the rank that has most, sent and received ones added up.
    pub messages: u64,
    /// Blocks combined by the rank that combines most.
    pub reduced_blocks: u64,
}
