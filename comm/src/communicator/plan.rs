//! From a request to a program: chooses the algorithm, builds and compiles its schedule, and
//! remembers the result.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::choice::{Choice, Planner};
use super::fingerprint;
use crate::collective::{self, Contract, Counts, Request};
use crate::engine::{
    AlgorithmName, Compile, Counted, Description, Lengths, OpMeta, Operation, Placement, Program,
    Sizes,
};
use crate::error::{Rank, Result};
use crate::reduce::ReduceOp;
use crate::schedule::{Collective, Shape, pipelined};
use crate::transport::Lane;

/// Most programs kept. A training loop repeats a few hundred calls.
const PROGRAMS_MAX: usize = 1024;

/// A call, ready to run.
pub(super) struct Plan {
    request: Request,
    in_place: bool,
    pub(super) contract: Contract,
    pub(super) program: Arc<Program>,
    pub(super) choice: Choice,
    description: Description,
    lane: Lane,
    fingerprint: u64,
}

impl Plan {
    /// What the engine must know besides program and buffers.
    pub(super) fn meta(&self, sequence: u64) -> OpMeta {
        OpMeta {
            description: self.description,
            sequence,
            fingerprint: self.fingerprint,
            lane: self.lane,
        }
    }

    /// Checks the buffers' lengths, in elements.
    pub(super) fn check_elements(&self, in_place: bool, input: usize, output: usize) -> Result<()> {
        if in_place {
            self.contract.check_in_place_length(output)
        } else {
            self.contract.check_lengths(input, output)
        }
    }

    fn serves(&self, request: &Request, in_place: bool) -> bool {
        self.in_place == in_place && self.request == *request
    }
}

/// Every call the communicator has made lately.
#[derive(Default)]
pub(super) struct Plans {
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    /// The latest one: a loop over one call looks no further.
    latest: Option<Arc<Plan>>,
    by_hash: HashMap<u64, Vec<Arc<Plan>>>,
    /// Hashes, oldest entry first.
    order: VecDeque<u64>,
}

impl Plans {
    /// The plan for `request`, made now if it is new.
    pub(super) fn get(
        &self,
        request: &Request,
        in_place: bool,
        planner: &Planner,
    ) -> Result<Arc<Plan>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(latest) = cache.latest.as_ref().filter(|plan| plan.serves(request, in_place)) {
            return Ok(Arc::clone(latest));
        }
        let hash = fingerprint::of_request(request, "", u32::from(in_place));
        let known = cache.by_hash.get(&hash).and_then(|plans| {
            plans.iter().find(|plan| plan.serves(request, in_place)).map(Arc::clone)
        });
        let plan = match known {
            Some(plan) => plan,
            None => cache.insert(hash, Arc::new(make(request, in_place, planner)?)),
        };
        cache.latest = Some(Arc::clone(&plan));
        Ok(plan)
    }
}

impl Cache {
    fn insert(&mut self, hash: u64, plan: Arc<Plan>) -> Arc<Plan> {
        if self.order.len() >= PROGRAMS_MAX
            && let Some(oldest) = self.order.pop_front()
            && let Some(plans) = self.by_hash.get_mut(&oldest)
        {
            plans.remove(0);
            if plans.is_empty() {
                self.by_hash.remove(&oldest);
            }
        }
        self.order.push_back(hash);
        self.by_hash.entry(hash).or_default().push(Arc::clone(&plan));
        plan
    }
}

fn make(request: &Request, in_place: bool, planner: &Planner) -> Result<Plan> {
    let contract = collective::contract(request, planner.me(), planner.ranks())?;
    let choice = planner.choose(request)?;
    let placement = placement(request, in_place);
    let shape = shape(request, placement != Placement::Separate, planner);
    let schedule = choice.algorithm.build(&shape, planner.me());
    let schedule = match choice.segments {
        1 => schedule,
        segments => pipelined(&schedule, segments, choice.window),
    };
    let sizes = sizes(request);
    let program = Program::compile(&Compile {
        schedule: &schedule,
        sizes: &sizes,
        rank: planner.me(),
        ranks: planner.ranks(),
        dtype: request.dtype,
        op: operator(request),
        placement,
    })?;
    Ok(Plan {
        description: describe(request, &choice),
        fingerprint: fingerprint::of_request(
            request,
            &choice.decision.winner.name,
            choice.segments,
        ),
        lane: lane(request, planner.ranks()),
        request: request.clone(),
        in_place,
        contract,
        program: Arc::new(program),
        choice,
    })
}

/// The call in words.
fn describe(request: &Request, choice: &Choice) -> Description {
    let collective = request.collective;
    let (count, counted) = match &request.counts {
        Counts::Uniform(count) => (*count, Counted::Uniform),
        Counts::PerRank(counts) => (counts.iter().sum(), Counted::PerRank),
        Counts::PerPair { send, .. } => (send.iter().sum(), Counted::PerPair),
    };
    let algorithm = AlgorithmName::from_text(&choice.decision.winner.name);
    let mut description = Description::new(Operation::Collective(collective))
        .data(request.dtype, count as u64, counted)
        .algorithm(algorithm, choice.segments);
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
pub(super) fn shape(request: &Request, in_place: bool, planner: &Planner) -> Shape {
    Shape {
        collective: request.collective,
        ranks: planner.ranks(),
        root: if request.collective.is_rooted() { request.root } else { 0 },
        in_place,
        reproducible: planner.reproducible() && request.collective.reduces(),
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
/// together, or one rank's input of an all_to_all.
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
        Counts::Uniform(count) if vector => Some(count * size),
        Counts::Uniform(count) => Some(count * size * ranks as usize),
        Counts::PerRank(counts) => Some(counts.iter().sum::<usize>() * size),
        Counts::PerPair { .. } => None,
    }
}

fn lane(request: &Request, ranks: Rank) -> Lane {
    match agreed_bytes(request, ranks) {
        Some(bytes) if bytes <= Lane::SMALL_BYTES_MAX => Lane::Small,
        _ => Lane::Bulk,
    }
}
