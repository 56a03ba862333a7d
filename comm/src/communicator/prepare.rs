//! From a request and the algorithm that is to serve it to a program.

use std::sync::Arc;

use super::fingerprint;
use crate::collective::{self, Contract, Counts, Request};
use crate::engine::{
    AlgorithmName, Compile, Counted, Description, Lengths, OpMeta, Operation, Placement, Program,
    Sizes,
};
use crate::error::{Rank, Result};
use crate::reduce::ReduceOp;
use crate::schedule::{Algorithm, Collective, Shape, in_two_stages, pipelined};
use crate::transport::Lane;

/// A call, and how it is to be served.
pub(crate) struct Recipe<'a> {
    pub(crate) request: &'a Request,
    pub(crate) in_place: bool,
    pub(crate) me: Rank,
    pub(crate) ranks: Rank,
    pub(crate) reproducible: bool,
    pub(crate) algorithm: &'a dyn Algorithm,
    /// The algorithm's name, by which all ranks know that they use the same one.
    pub(crate) label: &'a str,
    /// Pipeline segments of its schedule.
    pub(crate) segments: u32,
    /// Segments whose scratch memory exists at a time.
    pub(crate) window: u32,
    /// What the caches hold of this rank's data: results of larger calls go around them.
    pub(crate) cache_bytes: usize,
}

/// A call, compiled.
pub(crate) struct Prepared {
    pub(crate) contract: Contract,
    pub(crate) program: Arc<Program>,
    /// What the engine must know, but for the sequence number.
    pub(crate) meta: OpMeta,
}

/// Compiles a call.
///
/// # Errors
/// [`crate::Error::InvalidArgument`] for a request that makes no sense on any rank.
pub(crate) fn prepare(recipe: &Recipe<'_>) -> Result<Prepared> {
    let Recipe { request, in_place, me, ranks, .. } = *recipe;
    let contract = collective::contract(request, me, ranks)?;
    let placement = placement(request, in_place);
    let shape = shape(request, placement != Placement::Separate, ranks, recipe.reproducible);
    let schedule = recipe.algorithm.build(&shape, me);
    let schedule = match (recipe.segments, recipe.algorithm.reducing_rounds(&shape)) {
        (1, _) => schedule,
        (segments, 0) => pipelined(&schedule, segments, recipe.window),
        (segments, rounds) => pipelined(&in_two_stages(schedule, rounds), segments, recipe.window),
    };
    let program = Program::compile(&Compile {
        schedule: &schedule,
        sizes: &sizes(request),
        rank: me,
        ranks,
        dtype: request.dtype,
        op: operator(request),
        placement,
    })?
    .streaming_beyond(recipe.cache_bytes);
    let meta = OpMeta {
        description: describe(request, recipe.label, recipe.segments),
        sequence: 0,
        fingerprint: fingerprint::of_request(request, recipe.label, recipe.segments),
        lane: lane(request, ranks),
    };
    Ok(Prepared { contract, program: Arc::new(program), meta })
}

/// The call in words.
fn describe(request: &Request, label: &str, segments: u32) -> Description {
    let collective = request.collective;
    let (count, counted) = match &request.counts {
        Counts::Uniform(count) => (*count, Counted::Uniform),
        Counts::PerRank(counts) => (counts.iter().sum(), Counted::PerRank),
        Counts::PerPair { send, .. } => (send.iter().sum(), Counted::PerPair),
    };
    let algorithm = AlgorithmName::from_text(label);
    let mut description = Description::new(Operation::Collective(collective))
        .data(request.dtype, count as u64, counted)
        .algorithm(algorithm, segments);
    if collective.reduces() {
        description = description.op(request.op);
    }
    if collective.is_rooted() {
        description = description.rank(request.root);
    }
    description
}

/// The operator that the schedule's steps combine with. A barrier across hosts combines what is
/// empty, with any operator.
fn operator(request: &Request) -> Option<ReduceOp> {
    match request.collective {
        Collective::Barrier => Some(ReduceOp::Sum),
        collective => collective.reduces().then_some(request.op),
    }
}

/// Where input and output lie. A sum of inputs that are multiplied first needs a copy of the
/// input; the output has room for it where every rank has one of the same size.
fn placement(request: &Request, in_place: bool) -> Placement {
    let whole = matches!(request.collective, Collective::AllReduce | Collective::Scan);
    match request.op {
        _ if in_place => Placement::InPlace,
        ReduceOp::PreMulSum(_) if whole => Placement::LoadIntoOutput,
        _ => Placement::Separate,
    }
}

/// What the schedule is built for.
pub(super) fn shape(request: &Request, in_place: bool, ranks: Rank, reproducible: bool) -> Shape {
    Shape {
        collective: request.collective,
        ranks,
        root: if request.collective.is_rooted() { request.root } else { 0 },
        in_place,
        reproducible: reproducible && request.collective.reduces(),
    }
}

fn sizes(request: &Request) -> Sizes {
    let per_rank = matches!(
        request.collective,
        Collective::AllGather
            | Collective::ReduceScatter
            | Collective::Gather
            | Collective::Scatter
            | Collective::AllToAll
    );
    Sizes::packed(match &request.counts {
        // A barrier's waits hang on memory: on one byte that goes round.
        Counts::Uniform(_) if request.collective == Collective::Barrier => Lengths::Vector(1),
        Counts::Uniform(count) if per_rank => Lengths::Each(*count),
        Counts::Uniform(count) => Lengths::Vector(*count),
        Counts::PerRank(counts) => Lengths::PerRank(counts.clone()),
        Counts::PerPair { send, receive } => {
            Lengths::PerPair { send: send.clone(), recv: receive.clone() }
        }
    })
}

/// The data of a call in bytes, as far as every rank knows: the vector, all ranks' parts
/// together, or one rank's input of an all_to_all. More than there can be counts as the most.
pub(super) fn agreed_bytes(request: &Request, ranks: Rank) -> Option<usize> {
    let size = request.dtype.size();
    let vector = matches!(
        request.collective,
        Collective::AllReduce
            | Collective::Broadcast
            | Collective::Reduce
            | Collective::Scan
            | Collective::ExScan
            | Collective::Barrier
    );
    match &request.counts {
        Counts::Uniform(count) if vector => Some(count.saturating_mul(size)),
        Counts::Uniform(count) => Some(count.saturating_mul(size).saturating_mul(ranks as usize)),
        Counts::PerRank(counts) => {
            let total = counts.iter().fold(0usize, |sum, count| sum.saturating_add(*count));
            Some(total.saturating_mul(size))
        }
        Counts::PerPair { .. } => None,
    }
}

fn lane(request: &Request, ranks: Rank) -> Lane {
    match agreed_bytes(request, ranks) {
        Some(bytes) if bytes <= Lane::SMALL_BYTES_MAX => Lane::Small,
        _ => Lane::Bulk,
    }
}
