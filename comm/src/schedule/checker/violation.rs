//! What can be wrong with a set of schedules, and where.

use std::fmt;

use super::super::ir::{Block, Buf, Slot};
use crate::error::Rank;
use crate::reduce::Format;

/// One step of one rank's schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct At {
    /// Whose schedule.
    pub rank: Rank,
    /// Index into its rounds.
    pub round: u32,
    /// Index into the round's steps.
    pub step: u32,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} round {} step {}", self.rank, self.round, self.step)
    }
}

/// Why one step of a deadlock waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// They touch the same memory, and one of them writes it.
    Memory,
    /// They are messages between the same two ranks, in this order.
    Order,
    /// They are the two ends of one message.
    Partner,
}

/// One link of a deadlock's cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Who waits.
    pub step: At,
    /// For whom.
    pub after: At,
    /// Why.
    pub why: Why,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Memory => "same memory",
            Why::Order => "earlier message on the link",
            Why::Partner => "other end of the message",
        };
        write!(f, "{} waits for {} ({why})", self.step, self.after)
    }
}

/// The first thing the checker found wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Found while `Work` lay in `Output` (see `Schedule::work_in_output`).
    #[error("with Work lying in Output: {0}")]
    Aliased(Box<Violation>),
    /// The schedule's head (space, segments, buffers) cannot be right.
    #[error("rank {rank}: {reason}")]
    Head {
        /// Whose schedule.
        rank: Rank,
        /// What is wrong.
        reason: String,
    },
    /// More blocks, steps or slots than the checker can number.
    #[error("the schedules exceed the checker's limit of 2^30 {what}")]
    TooLarge {
        /// Of what there are too many.
        what: &'static str,
    },
    /// A slice names a block, a segment or a slot that does not exist.
    #[error("{at}: {buf:?} slot {slot}, block {}, segment {segment} is out of bounds", .block.0)]
    OutOfBounds {
        /// Which step.
        at: At,
        /// The buffer.
        buf: Buf,
        /// The slot.
        slot: u32,
        /// The block.
        block: Block,
        /// The segment.
        segment: u32,
    },
    /// A slot is used for a block it was not made for.
    #[error("{at}: block {} in {buf:?} slot {slot}, which is {holds:?}", .block.0)]
    WrongSlot {
        /// Which step.
        at: At,
        /// The buffer.
        buf: Buf,
        /// The slot.
        slot: u32,
        /// The block.
        block: Block,
        /// What the slot is for.
        holds: Slot,
    },
    /// The operands of a step do not name the same blocks in the same order, or name none.
    #[error("{at}: operands name different blocks, or none")]
    Operands {
        /// Which step.
        at: At,
    },
    /// The slices of one message are of different formats.
    #[error("{at}: one message mixes data and partial results")]
    MixedFormats {
        /// Which step.
        at: At,
    },
    /// A step writes `Input`, or an output that must stay untouched.
    #[error("{at}: writes {buf:?} slot {slot}, which must not be written")]
    Forbidden {
        /// Which step.
        at: At,
        /// The buffer.
        buf: Buf,
        /// The slot.
        slot: u32,
    },
    /// A reduction's result would be rounded to data format before it is finished.
    #[error("{at}: reduces into {buf:?}; only Work holds partial results")]
    ReduceIntoData {
        /// Which step.
        at: At,
        /// The buffer.
        buf: Buf,
    },
    /// A peer that is out of range or the rank itself.
    #[error("{at}: no such peer: {peer}")]
    BadPeer {
        /// Which step.
        at: At,
        /// The peer.
        peer: Rank,
    },
    /// Operands of one step overlap other than slot by slot.
    #[error("{at}: operands overlap at block {}", .block.0)]
    Overlap {
        /// Which step.
        at: At,
        /// A block at which they do.
        block: Block,
    },
    /// A message that the other end never takes, or never sends.
    #[error("{at}: the {} rank {peer} has no counterpart there",
        if *.send { "send to" } else { "receive from" })]
    Leftover {
        /// Which step.
        at: At,
        /// The other end.
        peer: Rank,
        /// Whether `at` is the sender.
        send: bool,
    },
    /// The two ends of a message differ in blocks.
    #[error("{send} sends {sent:?}, where {recv} expects {expected:?} (block, segment)")]
    MessageBlocks {
        /// The sender.
        send: At,
        /// The receiver.
        recv: At,
        /// The first difference as sent: block and segment; `None`: nothing more.
        sent: Option<(Block, u32)>,
        /// And as expected.
        expected: Option<(Block, u32)>,
    },
    /// The two ends of a message differ in format.
    #[error("{send} sends {sent:?}, where {recv} expects {expected:?}")]
    MessageFormat {
        /// The sender.
        send: At,
        /// The receiver.
        recv: At,
        /// As sent.
        sent: Format,
        /// As expected.
        expected: Format,
    },
    /// Steps that wait for each other in a circle.
    #[error("deadlock: {}", .cycle.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Deadlock {
        /// Each waits for the next; the last for the first.
        cycle: Vec<Wait>,
    },
    /// A step reads memory that nobody wrote.
    #[error("{at}: reads block {} where nothing was written", .block.0)]
    Uninitialised {
        /// Which step.
        at: At,
        /// The block it expects.
        block: Block,
    },
    /// A step reads a slot that holds another block or segment by then.
    #[error("{at}: reads {wanted:?} (block, segment) but finds {found:?} there")]
    WrongBlock {
        /// Which step.
        at: At,
        /// The block and segment it expects.
        wanted: (Block, u32),
        /// What is there.
        found: (Block, u32),
    },
    /// A step reads memory in another format than it was written in.
    #[error("{at}: reads block {} in a format it is not stored in", .block.0)]
    WrongFormat {
        /// Which step.
        at: At,
        /// The block.
        block: Block,
    },
    /// A finished value is reduced or widened again.
    #[error("{at}: block {} is finished and must not be combined or converted again", .block.0)]
    Refinished {
        /// Which step.
        at: At,
        /// The block.
        block: Block,
    },
    /// An output block that nobody wrote, or that holds another block.
    #[error("rank {rank}: output block {}, segment {segment} was never written", .block.0)]
    NotWritten {
        /// Whose output.
        rank: Rank,
        /// The block.
        block: Block,
        /// The segment.
        segment: u32,
    },
    /// An output holds a value in the wrong state: a partial result, or a contribution without
    /// the operator's last step, or a moved value that went through it.
    #[error("rank {rank}: output block {} holds {holds}", .block.0)]
    Unfinished {
        /// Whose output.
        rank: Rank,
        /// The block.
        block: Block,
        /// What it holds.
        holds: &'static str,
    },
    /// Contributions that are missing from a result.
    #[error("rank {rank}: output block {} lacks the contributions of ranks {missing:?}", .block.0)]
    Dropped {
        /// Whose output.
        rank: Rank,
        /// The block.
        block: Block,
        /// Whose contributions it lacks.
        missing: Vec<Rank>,
    },
    /// A contribution that does not belong into a result.
    #[error("rank {rank}: output block {} contains rank {contribution}'s contribution", .block.0)]
    Foreign {
        /// Whose output.
        rank: Rank,
        /// The block.
        block: Block,
        /// Whose contribution is too much.
        contribution: Rank,
    },
    /// A contribution that is in a result twice.
    #[error("{at}: combines two values of block {} that both contain rank {contribution}'s \
        contribution", .block.0)]
    Double {
        /// The step that combined the two.
        at: At,
        /// The block.
        block: Block,
        /// Whose contribution.
        contribution: Rank,
    },
    /// A moved block that came from the wrong rank.
    #[error("rank {rank}: output block {} comes from rank {found} instead of {wanted}", .block.0)]
    WrongSource {
        /// Whose output.
        rank: Rank,
        /// The block.
        block: Block,
        /// Where it must come from.
        wanted: Rank,
        /// Where it comes from.
        found: Rank,
    },
    /// Two ranks combined the same contributions in different trees, so their bits may differ.
    #[error("ranks {ranks:?} reduce block {} in different trees", .block.0)]
    Disagreement {
        /// Two of the ranks.
        ranks: (Rank, Rank),
        /// The block.
        block: Block,
    },
    /// Reproducible mode, and not the canonical tree.
    #[error("rank {rank}: block {} is not reduced in the canonical tree", .block.0)]
    NotCanonical {
        /// Whose output.
        rank: Rank,
        /// The block.
        block: Block,
    },
    /// A barrier that a rank can leave before another has come.
    #[error("rank {rank} can leave the barrier before rank {absent} has entered it")]
    LeftEarly {
        /// Who leaves.
        rank: Rank,
        /// Who has not come.
        absent: Rank,
    },
    /// The stated cost is not the cost.
    #[error("level {level}: {what}: stated {stated}, counted {counted}")]
    Cost {
        /// Topology level.
        level: usize,
        /// Which number.
        what: &'static str,
        /// As the builder states it.
        stated: u64,
        /// As the schedules have it.
        counted: u64,
    },
}
