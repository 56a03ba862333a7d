//! What a program is made of. Everything is counted in elements, because the operands of one
//! step may be stored in different widths.

use crate::error::Rank;
use crate::reduce::Format;

/// A memory of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Mem {
    /// The caller's input, never written.
    Input,
    /// The caller's output, or its one buffer when in place.
    Output,
    /// The task's part of the staging arena.
    Scratch,
}

/// A place: a memory and a byte offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Loc {
    pub(in crate::engine) mem: Mem,
    pub(in crate::engine) at: usize,
}

impl Loc {
    /// For operands that a step does not have.
    pub(super) const NONE: Self = Self { mem: Mem::Input, at: 0 };

    pub(in crate::engine) const fn add(self, bytes: usize) -> Self {
        Self { mem: self.mem, at: self.at + bytes }
    }
}

/// What a step does with its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Kind {
    /// `a` goes to the peer.
    Send,
    /// What the peer sends goes to `dst`.
    Recv,
    /// `dst = a ⊕ received`; the received values are in format `b`.
    RecvReduce,
    /// `dst = a`, converted.
    Copy,
    /// `dst = a ⊕ b`.
    Reduce,
    /// `dst = a` times this rank's factor.
    Scale,
}

impl Kind {
    /// Whether the step needs no peer.
    pub(super) const fn is_local(self) -> bool {
        matches!(self, Self::Copy | Self::Reduce | Self::Scale)
    }

    pub(super) const fn receives(self) -> bool {
        matches!(self, Self::Recv | Self::RecvReduce)
    }
}

/// How an operand is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Stored {
    pub(in crate::engine) format: Format,
    /// Bytes per element.
    pub(in crate::engine) width: usize,
}

/// One step.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Code {
    pub(in crate::engine) kind: Kind,
    /// The other end; meaningless for local steps.
    pub(in crate::engine) peer: Rank,
    /// Elements it moves in all.
    pub(in crate::engine) elements: usize,
    /// First of its pieces, which follow each other.
    pub(in crate::engine) pieces: u32,
    /// Its edges, ordered by `from`.
    pub(in crate::engine) edges: (u32, u32),
    pub(in crate::engine) dst: Stored,
    pub(in crate::engine) a: Stored,
    pub(in crate::engine) b: Stored,
    /// It writes results of the call that no step reads.
    pub(in crate::engine) settles: bool,
}

impl Code {
    /// How its message is stored on the wire.
    pub(in crate::engine) const fn wire(&self) -> Stored {
        match self.kind {
            Kind::Send => self.a,
            Kind::RecvReduce => self.b,
            _ => self.dst,
        }
    }
}

/// Consecutive elements of a step for which every operand is contiguous.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Piece {
    pub(in crate::engine) elements: usize,
    pub(in crate::engine) dst: Loc,
    pub(in crate::engine) a: Loc,
    pub(in crate::engine) b: Loc,
}

/// A wait: element `x` of a step, `from <= x < to`, needs `pred` to be past its own element
/// `pred_from + (x - from)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Edge {
    pub(in crate::engine) pred: u32,
    pub(in crate::engine) from: usize,
    pub(in crate::engine) to: usize,
    pub(in crate::engine) pred_from: usize,
}

/// The messages between this rank and one peer: ranges of [`super::Program`]'s queue.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Link {
    pub(in crate::engine) peer: Rank,
    pub(in crate::engine) sends: (u32, u32),
    pub(in crate::engine) recvs: (u32, u32),
}
