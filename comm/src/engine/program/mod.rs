//! A schedule, compiled for one call's sizes: flat arrays that the executor walks.
//!
//! Blocks have become byte ranges, neighbouring ones merged; copies onto themselves are gone;
//! finishing copies are fused into the reductions before them; and every step lists, byte range
//! by byte range, whose progress it must stay behind. Nothing here touches memory or a wire.

mod code;
mod express;
mod flow;
mod fuse;
mod layout;
mod lower;
mod sizes;

pub(super) use code::{Code, Edge, Kind, Link, Loc, Mem, Piece};
pub use sizes::{Lengths, Sizes};

use crate::error::{Rank, Result};
use crate::reduce::{DType, ReduceOp, Reducer};
use crate::schedule::Schedule;

/// Where the caller's input and output lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// In memories of their own.
    Separate,
    /// In one buffer, as [`crate::schedule::Shape::in_place`] says; the schedule was built for
    /// that. A rank that has only one of the two is given that one.
    InPlace,
    /// In memories of their own, though the schedule was built to work in place: the input is
    /// loaded into the output first. This is how a pre-multiplied sum needs no scratch.
    LoadIntoOutput,
}

/// One call, as the compiler needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct Compile<'a> {
    /// This rank's schedule.
    pub schedule: &'a Schedule,
    /// Its block lengths.
    pub sizes: &'a Sizes,
    /// This rank.
    pub rank: Rank,
    /// Ranks of the communicator.
    pub ranks: Rank,
    /// Type of the elements.
    pub dtype: DType,
    /// How they are combined; `None` where the collective does not combine.
    pub op: Option<ReduceOp>,
    /// Where input and output lie.
    pub placement: Placement,
}

/// A compiled schedule. Immutable; share it in an `Arc` and run it as often as needed.
#[derive(Debug)]
pub struct Program {
    /// Every step; indices below point here.
    pub(super) steps: Vec<Code>,
    pub(super) pieces: Vec<Piece>,
    pub(super) edges: Vec<Edge>,
    pub(super) links: Vec<Link>,
    /// Steps of each link, in pipe order.
    pub(super) queue: Vec<u32>,
    /// Local steps, in listed order.
    pub(super) locals: Vec<u32>,
    /// `wakes[wake_starts[s]..wake_starts[s + 1]]`: the local steps that wait for step `s`.
    pub(super) wake_starts: Vec<u32>,
    pub(super) wakes: Vec<u32>,
    pub(super) reducer: Option<Reducer>,
    /// Results that no step reads go around the caches.
    pub(super) streams: bool,
    /// Every step, in an order to walk them straight through; empty where that is not worth it.
    pub(super) express: Vec<u32>,
    scratch_bytes: usize,
    input_bytes: usize,
    output_bytes: usize,
}

impl Program {
    /// Compiles one rank's schedule for one call.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] when the sizes do not fit the schedule, or input and
    /// output cannot lie as `placement` says.
    pub fn compile(call: &Compile<'_>) -> Result<Self> {
        lower::compile(call)
    }

    /// Has results go around the caches when input and output take more than `bytes_max`, which
    /// is what the caches hold of them.
    #[must_use]
    pub const fn streaming_beyond(mut self, bytes_max: usize) -> Self {
        self.streams = self.input_bytes + self.output_bytes > bytes_max;
        self
    }

    /// A program of one message: `bytes` go to `peer`, from the input.
    pub fn send(peer: Rank, bytes: usize) -> Self {
        lower::message(Kind::Send, peer, bytes)
    }

    /// A program of one message: `bytes` come from `peer`, into the output.
    pub fn recv(peer: Rank, bytes: usize) -> Self {
        lower::message(Kind::Recv, peer, bytes)
    }

    /// Scratch memory one run needs, in bytes.
    pub const fn scratch_bytes(&self) -> usize {
        self.scratch_bytes
    }

    /// Bytes the input must have at least.
    pub const fn input_bytes(&self) -> usize {
        self.input_bytes
    }

    /// Bytes the output (in place: the one buffer) must have at least.
    pub const fn output_bytes(&self) -> usize {
        self.output_bytes
    }

    /// Ranks this program exchanges messages with.
    pub fn peers(&self) -> impl Iterator<Item = Rank> + '_ {
        self.links.iter().map(|link| link.peer)
    }

    /// Number of steps, after fusion.
    pub const fn steps(&self) -> usize {
        self.steps.len()
    }

    /// The local steps that wait for `step`.
    pub(super) fn woken_by(&self, step: u32) -> &[u32] {
        let starts = &self.wake_starts[step as usize..step as usize + 2];
        &self.wakes[starts[0] as usize..starts[1] as usize]
    }
}

/// Number of something in a program, which must stay below 2^32.
fn index(count: usize) -> Result<u32> {
    u32::try_from(count).map_err(|_| sizes::refuse("more than 2^32 steps or pieces".to_owned()))
}
