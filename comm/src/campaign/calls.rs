//! Makes calls as a communicator would: programs, buffers, and what must come out.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::oracle;
use super::random::Random;
use super::scenario::{AlgorithmChoice, Call};
use crate::collective::{Contract, Counts, InPlace, Request};
use crate::communicator::fingerprint;
use crate::communicator::prepare::{Prepared, Recipe, prepare};
use crate::engine::{Buffers, Counted, Description, OpMeta, Operation, Program};
use crate::error::Rank;
use crate::memory::{SpanMut, own};
use crate::reduce::{DType, ReduceOp};
use crate::schedule::hierarchy::{Hierarchical, Hierarchy, Level, Mode};
use crate::schedule::{ALGORITHMS, Algorithm, Shape};
use crate::transport::Lane;

/// Most programs kept.
const PROGRAMS_MAX: usize = 50_000;

/// What every rank of a communicator knows.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The host of every rank.
    pub(super) hosts: Arc<[u32]>,
    pub(super) me: Rank,
    pub(super) reproducible: bool,
}

impl Place {
    pub(super) fn ranks(&self) -> Rank {
        self.hosts.len() as Rank
    }
}

/// One operation to be submitted, and its memory.
pub(super) struct Job {
    pub(super) program: Arc<Program>,
    /// Its sequence number is still to come.
    pub(super) meta: OpMeta,
    /// The other end of a message, and whether this is its sender.
    pub(super) message: Option<(Rank, bool)>,
    pub(super) buffers: Buffers,
    memory: [Vec<u8>; 2],
    /// Where in the second memory what must be.
    expected: Option<(Range<usize>, Vec<u8>)>,
}

impl Job {
    /// Whether the result is right; ask when the operation has ended well.
    pub(super) fn is_right(&self) -> bool {
        let [_, output] = &self.memory;
        self.expected.as_ref().is_none_or(|(range, bytes)| output[range.clone()] == **bytes)
    }
}

type ProgramKey = (u64, Rank, bool, bool, Arc<[u32]>);
type ComposedKey = (Arc<[u32]>, Mode, u64);

/// Prepared calls, from seed to seed.
#[derive(Default)]
pub(super) struct Calls {
    programs: HashMap<ProgramKey, (Contract, Arc<Program>, OpMeta)>,
    composed: HashMap<ComposedKey, Option<Arc<Hierarchical>>>,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").field("programs", &self.programs.len()).finish_non_exhaustive()
    }
}

/// `request` as rank `me` makes it: the counts of an all_to_all_v are the oracle's.
fn own_request(request: &Request, is_per_pair: bool, me: Rank, ranks: Rank) -> Request {
    if !is_per_pair {
        return request.clone();
    }
    let (me, ranks) = (me as usize, ranks as usize);
    let send = (0..ranks).map(|peer| oracle::pair_count(me, peer)).collect();
    let receive = (0..ranks).map(|peer| oracle::pair_count(peer, me)).collect();
    Request { counts: Counts::PerPair { send, receive }, ..request.clone() }
}

impl Calls {
    /// The operations that `call` is for this rank: none to two.
    pub(super) fn jobs(&mut self, call: &Call, place: &Place) -> Vec<Job> {
        let (me, ranks) = (place.me, place.ranks());
        match call {
            Call::Collective { .. } => vec![self.collective(call, place)],
            Call::Exchange { shift, dtype, count } => {
                let shift = shift % ranks;
                let (to, from) = ((me + shift) % ranks, (me + ranks - shift) % ranks);
                vec![
                    message(*dtype, *count, (me, to), true),
                    message(*dtype, *count, (from, me), false),
                ]
            }
            Call::Message { from, to, dtype, count } => {
                let (from, to) = (from % ranks, to % ranks);
                let ends = [(from, true), (to, false)].into_iter().filter(|end| end.0 == me);
                ends.map(|(_, send)| message(*dtype, *count, (from, to), send)).collect()
            }
        }
    }

    fn collective(&mut self, call: &Call, place: &Place) -> Job {
        let Call::Collective { request, is_per_pair, algorithm, segments, in_place } = call else {
            unreachable!("asked for collectives only")
        };
        let request = own_request(request, *is_per_pair, place.me, place.ranks());
        let in_place = in_place >> (place.me % 64) & 1 == 1 && !is_per_pair;
        let (contract, program, meta) =
            self.program(&request, *algorithm, *segments, in_place, place);
        lay_out(&request, &contract, in_place, place, (program, meta))
    }

    fn program(
        &mut self,
        request: &Request,
        choice: AlgorithmChoice,
        segments: u32,
        in_place: bool,
        place: &Place,
    ) -> (Contract, Arc<Program>, OpMeta) {
        if self.programs.len() > PROGRAMS_MAX {
            self.programs.clear();
        }
        let shapes = [false, true].map(|in_place| shape(request, in_place, place));
        let composed = self.composed(choice, place, &shapes);
        let algorithm: &dyn Algorithm = match &composed {
            Some(composed) => &**composed,
            None => flat(choice, request, &shapes),
        };
        let label = match &composed {
            Some(composed) => composed.label(&shapes[0]),
            None => algorithm.name().to_owned(),
        };
        let hash = fingerprint::of_request(request, &label, segments);
        let root = u64::from(shapes[0].root) << 32;
        let key = (hash ^ root, place.me, in_place, place.reproducible, Arc::clone(&place.hosts));
        let known = self.programs.entry(key).or_insert_with(|| {
            let recipe = Recipe {
                request,
                in_place,
                me: place.me,
                ranks: place.ranks(),
                reproducible: place.reproducible,
                algorithm,
                label: &label,
                segments,
                window: 2,
                cache_bytes: usize::MAX,
            };
            match prepare(&recipe) {
                Ok(Prepared { contract, program, meta }) => (contract, program, meta),
                Err(error) => unreachable!("the campaign makes valid requests: {error}"),
            }
        });
        known.clone()
    }

    fn composed(
        &mut self,
        choice: AlgorithmChoice,
        place: &Place,
        shapes: &[Shape; 2],
    ) -> Option<Arc<Hierarchical>> {
        let AlgorithmChoice::Composed(mode, number) = choice else { return None };
        let key = (Arc::clone(&place.hosts), mode, number);
        let make = || {
            let hierarchy = Hierarchy::by_key(&place.hosts).ok()?;
            let mut random = Random::new(number);
            let mut level = || {
                let mut algorithms = ALGORITHMS.to_vec();
                random.shuffle(&mut algorithms);
                Level::new(algorithms)
            };
            Hierarchical::new(mode, &hierarchy, vec![level(), level()]).ok().map(Arc::new)
        };
        let composed = self.composed.entry(key).or_insert_with(make).clone()?;
        shapes.iter().all(|shape| composed.serves(shape)).then_some(composed)
    }
}

fn shape(request: &Request, in_place: bool, place: &Place) -> Shape {
    let collective = request.collective;
    Shape {
        collective,
        ranks: place.ranks(),
        root: if collective.is_rooted() { request.root } else { 0 },
        in_place,
        reproducible: place.reproducible && collective.reduces(),
    }
}

fn flat(choice: AlgorithmChoice, request: &Request, shapes: &[Shape; 2]) -> &'static dyn Algorithm {
    let (AlgorithmChoice::Flat(number) | AlgorithmChoice::Composed(_, number)) = choice;
    let uneven = !matches!(request.counts, Counts::Uniform(_));
    let serves = |algorithm: &&&'static dyn Algorithm| {
        shapes.iter().all(|shape| algorithm.serves(shape))
            && !(uneven && algorithm.needs_uniform_sizes())
    };
    let able = ALGORITHMS.iter().filter(serves).count().max(1);
    match ALGORITHMS.iter().filter(serves).nth((number % able as u64) as usize) {
        Some(algorithm) => *algorithm,
        None => unreachable!("every collective has an algorithm that serves it: {request:?}"),
    }
}

/// Fills the buffers of one collective.
fn lay_out(
    request: &Request,
    contract: &Contract,
    in_place: bool,
    place: &Place,
    (program, meta): (Arc<Program>, OpMeta),
) -> Job {
    let (me, ranks) = (place.me as usize, place.ranks() as usize);
    let size = request.dtype.size();
    let input = oracle::input(request, me, ranks);
    let result = oracle::output(request, me, ranks);
    let output_bytes = contract.output.unwrap_or(0) * size;
    if !in_place {
        let (input, kept_input) = own(input);
        let (output, kept_output) = own(vec![0xEE_u8; output_bytes]);
        return Job {
            program,
            meta,
            message: None,
            buffers: Buffers::separate(input.as_span(), output),
            memory: [kept_input, kept_output],
            expected: result.map(|bytes| (0..output_bytes, bytes)),
        };
    }
    let (input_at, output_at) = match contract.in_place {
        InPlace::Same => (0, 0),
        InPlace::InputInOutput(at) => (at * size, 0),
        InPlace::OutputInInput(at) => (0, at * size),
    };
    let mut buffer = vec![0xEE_u8; contract.in_place_elements() * size];
    buffer[input_at..input_at + input.len()].copy_from_slice(&input);
    let (span, kept) = own(buffer);
    Job {
        program,
        meta,
        message: None,
        buffers: Buffers::in_place(span),
        memory: [Vec::new(), kept],
        expected: result.map(|bytes| (output_at..output_at + output_bytes, bytes)),
    }
}

/// One end of a message.
fn message(dtype: DType, count: usize, (from, to): (Rank, Rank), send: bool) -> Job {
    let value = |index| oracle::input_value(ReduceOp::Sum, dtype, from as usize, 3, index);
    let mut data = Vec::new();
    (0..count).for_each(|index| oracle::encode(dtype, value(index), &mut data));
    let bytes = data.len();
    let (operation, peer) = if send { (Operation::Send, to) } else { (Operation::Recv, from) };
    let program = if send { Program::send(peer, bytes) } else { Program::recv(peer, bytes) };
    let meta = OpMeta {
        description: Description::new(operation)
            .data(dtype, count as u64, Counted::Uniform)
            .rank(peer),
        sequence: 0,
        fingerprint: fingerprint::of_message(dtype, count),
        lane: Lane::PointToPoint,
    };
    let (buffers, memory, expected) = if send {
        let (input, kept) = own(data);
        (Buffers::separate(input.as_span(), SpanMut::EMPTY), [kept, Vec::new()], None)
    } else {
        let (output, kept) = own(vec![0xEE_u8; bytes]);
        let buffers = Buffers::separate(SpanMut::EMPTY.as_span(), output);
        (buffers, [Vec::new(), kept], Some((0..bytes, data)))
    };
    let program = Arc::new(program);
    Job { program, meta, message: Some((peer, send)), buffers, memory, expected }
}
