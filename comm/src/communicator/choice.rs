//! Which algorithm a call uses: a pure function of what all ranks agreed on.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use syncline_topology as topology;
use syncline_topology::{Candidate, Constants, Decision, LinkClass, Topology, Work, choose};

use super::candidates::{AlgorithmRef, candidates};
use super::examine::{Examined, Slots, a_share, examine};
use super::options::{Options, TransportChoice};
use super::place;
use super::prepare::{agreed_bytes, shape};
use crate::collective::{self, Counts, Request};
use crate::error::{Error, Rank, Result};
use crate::rendezvous::MemberInfo;
use crate::schedule::hierarchy::Mode;
use crate::schedule::{Collective, Shape};

/// A decision, and what led to it.
#[derive(Clone)]
pub(super) struct Choice {
    pub(super) algorithm: AlgorithmRef,
    /// Pipeline segments of its schedule.
    pub(super) segments: u32,
    /// Segments whose scratch memory exists at a time.
    pub(super) window: u32,
    pub(super) decision: Decision,
}

/// Chooses for one communicator.
pub(super) struct Planner {
    me: Rank,
    ranks: Rank,
    reproducible: bool,
    /// Only this one, where it serves.
    wanted: Option<String>,
    scratch_bytes_max: usize,
    algorithms: Vec<AlgorithmRef>,
    constants: Constants,
    topology: Topology,
    /// Over TCP also inside a host.
    tcp_only: bool,
    /// Processors that the ranks of a host have together, on the host with the fewest per rank.
    cpus_per_host: u32,
    /// This rank's share of its host's last-level cache, which ranks need not agree on.
    cache_bytes: usize,
    /// What was found out about schedules, by algorithm and shape.
    examined: Mutex<HashMap<(usize, Shape), Examined>>,
}

/// Segments that only let levels overlap are not made shorter, or more, than this.
const SEGMENT_BYTES_MIN: usize = 128 << 10;
const SEGMENTS_MAX: usize = 64;
/// Segments that let a reduced result be spread before it leaves the cache are this long, and at
/// most this many, lest the schedule takes long to build. Scratch exists for one that is
/// reduced, one that is spread, and one that a slower rank is not done with.
const CACHED_SEGMENT_BYTES: usize = 512 << 10;
const CACHED_SEGMENTS_MAX: usize = 4096;
const CACHED_WINDOW: u32 = 3;
/// A schedule is not cut into more segments than this so that its scratch memory fits: it would
/// take longer to build than anybody waits.
const SEGMENTS_NEEDED_MAX: u32 = 1 << 16;
/// A step follows the one that feeds it about this far behind.
const CHUNK_BYTES: u64 = 128 << 10;
/// What a call is taken for whose size not every rank knows.
const UNKNOWN_BYTES: usize = 1 << 20;

/// The root's constants: those of its tuning file, over defaults and a quick measurement.
pub(super) fn constants(options: &Options) -> Result<Constants> {
    let measured = Constants::default().with_measured(topology::Measured::now());
    match &options.tuning_file {
        None => Ok(measured),
        Some(path) => measured.read(path).map_err(|error| Error::InvalidArgument {
            operation: "init",
            reason: error.to_string(),
        }),
    }
}

/// What the root's constants arrived as.
pub(super) fn agreed(blob: &[u8], rank: Rank, ranks: Rank) -> Result<Constants> {
    Constants::from_bytes(blob).ok_or_else(|| Error::Rendezvous {
        rank,
        world: ranks,
        reason: "the root's link constants make no sense; are all ranks the same version?".into(),
    })
}

impl Planner {
    pub(super) fn new(
        me: Rank,
        members: &[MemberInfo],
        options: &Options,
        constants: Constants,
    ) -> Result<Self> {
        let topology = Topology::new(&place::members(members));
        let algorithms = candidates(&topology)?;
        let ranks = u32::try_from(members.len()).unwrap_or(Rank::MAX);
        if let Some(wanted) = &options.algorithm {
            let known = labels(&algorithms, ranks);
            if !known.contains(wanted) {
                return Err(unknown_algorithm(wanted, &known));
            }
        }
        Ok(Self {
            me,
            ranks,
            reproducible: options.reproducible,
            wanted: options.algorithm.clone(),
            scratch_bytes_max: super::setup::scratch_bytes_max(options),
            algorithms,
            constants,
            cpus_per_host: place::cpus_per_host(members),
            cache_bytes: place::cache_bytes(members, me),
            topology,
            tcp_only: options.transport == TransportChoice::Tcp,
            examined: Mutex::default(),
        })
    }

    pub(super) const fn constants(&self) -> &Constants {
        &self.constants
    }

    pub(super) const fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    pub(super) const fn me(&self) -> Rank {
        self.me
    }

    pub(super) const fn ranks(&self) -> Rank {
        self.ranks
    }

    pub(super) const fn reproducible(&self) -> bool {
        self.reproducible
    }

    /// The fastest algorithm by prediction, among those that serve the call in place and not:
    /// ranks may differ in that.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a request that makes no sense on any rank.
    pub(super) fn choose(&self, request: &Request) -> Result<Choice> {
        // First: the model computes with the counts.
        collective::contract(request, self.me, self.ranks)?;
        let shapes =
            [false, true].map(|in_place| shape(request, in_place, self.ranks, self.reproducible));
        let uneven = !matches!(request.counts, Counts::Uniform(_));
        let serves = |index: &usize| {
            let algorithm = &self.algorithms[*index];
            shapes.iter().all(|shape| algorithm.serves(shape))
                && !(uneven && algorithm.needs_uniform_sizes())
        };
        let mut able: Vec<usize> = (0..self.algorithms.len()).filter(serves).collect();
        if let Some(wanted) = &self.wanted {
            let is_wanted = |&index: &usize| self.algorithms[index].label(&shapes[0]) == *wanted;
            let chosen: Vec<usize> = able.iter().copied().filter(is_wanted).collect();
            if !chosen.is_empty() {
                able = chosen;
            }
        }
        let cut: Vec<(usize, u32, u32)> = able
            .iter()
            .flat_map(|&index| {
                let (least, most, stages) = self.segments(request, index, &shapes);
                let doubled =
                    move |&segments: &u32| Some(segments * 2).filter(|&more| more <= most);
                std::iter::successors(Some(least).filter(|&it| it <= SEGMENTS_NEEDED_MAX), doubled)
                    .map(move |segments| (index, segments, segments.min(stages + 1)))
            })
            .collect();
        let candidates: Vec<Candidate> = cut
            .iter()
            .map(|&(index, segments, _)| self.candidate(index, &shapes[0], segments))
            .collect();
        let Some(mut decision) = choose(&candidates, &self.work(request), &self.constants) else {
            return Err(self.unserved(request, !able.is_empty()));
        };
        let (index, segments, window) = cut[decision.winner.index];
        let algorithm = self.algorithms[index].clone();
        let (segments, window) = match self.cached_segments(request, &algorithm, &shapes[0]) {
            cached if cached > segments => {
                decision
                    .reason
                    .push_str("; in segments that are still in the cache when they are spread");
                (cached, CACHED_WINDOW)
            }
            _ => (segments, window),
        };
        Ok(Choice { algorithm, segments, window, decision })
    }

    /// Segments so short that what a rank has reduced is still in its cache when it is spread,
    /// which the model knows nothing of; 1 where that does not matter. Over a network it does
    /// not, and ranks that share cores do not find their caches as they left them.
    fn cached_segments(&self, request: &Request, algorithm: &AlgorithmRef, shape: &Shape) -> u32 {
        let inside = self.topology.hosts().len() <= 1 && !self.tcp_only;
        let pays = inside && self.ranks <= self.cpus_per_host;
        match agreed_bytes(request, self.ranks) {
            Some(bytes) if pays && algorithm.reducing_rounds(shape) > 0 => {
                let segments = (bytes / CACHED_SEGMENT_BYTES).clamp(1, CACHED_SEGMENTS_MAX);
                u32::try_from(segments).unwrap_or(1)
            }
            _ => 1,
        }
    }

    fn unserved(&self, request: &Request, is_too_large: bool) -> Error {
        let how = if self.reproducible { "reproducibly on " } else { "on " };
        let reason = if is_too_large {
            format!(
                "a call this large needs more than {} bytes of scratch memory; raise \
                 staging_bytes_max, or make several calls of it",
                self.scratch_bytes_max
            )
        } else {
            format!("no algorithm serves it {how}{} ranks", self.ranks)
        };
        Error::InvalidArgument { operation: request.collective.name(), reason }
    }

    fn work(&self, request: &Request) -> Work {
        let bytes = agreed_bytes(request, self.ranks).unwrap_or(UNKNOWN_BYTES);
        // The data of an all_to_all is one rank's input.
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Work {
            bytes: bytes as u64,
            element_bytes: size(request.dtype.size()),
            accumulator_bytes: size(request.dtype.accumulator().size()),
            chunk_bytes: CHUNK_BYTES,
        }
    }

    fn candidate(&self, index: usize, shape: &Shape, segments: u32) -> Candidate {
        let algorithm = &self.algorithms[index];
        let cost = algorithm.cost(shape);
        let composed = cost.levels.len() > 1;
        let together = self.examined(index, shape).together;
        let hosts = self.topology.hosts().len() as u64;
        let levels = cost.levels.iter().enumerate().map(|(level, cost)| topology::Level {
            link: self.link(composed && level == 0),
            active_per_host: self.active_per_host(level, algorithm),
            cpus_per_host: self.cpus_per_host,
            rounds: cost.rounds,
            sent_blocks: cost.sent_blocks,
            sent_acc_blocks: cost.sent_acc_blocks,
            received_blocks: cost.received_blocks,
            messages: cost.messages,
            reduced_blocks: cost.reduced_blocks,
            together: together.get(level).map(|all| a_share(all, hosts)),
        });
        Candidate {
            name: algorithm.label(shape),
            blocks: cost.blocks,
            segments,
            levels: levels.collect(),
        }
    }

    /// How many ranks of a host are busy at a level of an algorithm: all, but only the leader,
    /// or those that have a rail, across the hosts of a composed one.
    fn active_per_host(&self, level: usize, algorithm: &AlgorithmRef) -> u32 {
        let hosts = self.topology.hosts();
        match algorithm {
            AlgorithmRef::Composed(Mode::Leader, _) if level > 0 => 1,
            AlgorithmRef::Composed(Mode::SplitRail, _) if level > 0 => {
                let sizes = (0..hosts.len()).map(|host| hosts.ranks(host).len());
                sizes.min().map_or(1, |size| u32::try_from(size).unwrap_or(u32::MAX))
            }
            _ => hosts.size_max(),
        }
    }

    /// What messages travel over at a level of an algorithm: a composed one's innermost level
    /// stays inside hosts, a flat one's only level uses the slowest link there is.
    fn link(&self, inside: bool) -> LinkClass {
        let one_host = self.topology.hosts().len() <= 1;
        match (inside || one_host, self.tcp_only) {
            (true, true) => LinkClass::TcpLoopback,
            (true, false) if one_host => self.topology.slowest_link(),
            (true, false) => LinkClass::SharedMemory,
            (false, _) => LinkClass::Tcp,
        }
    }

    /// Pipeline segments to choose from, least and most, and the stages of the schedule: enough
    /// that scratch memory fits its budget, and as many more as let the levels of a composed
    /// schedule overlap. The same on every rank.
    fn segments(&self, request: &Request, index: usize, shapes: &[Shape; 2]) -> (u32, u32, u32) {
        let slots = shapes.each_ref().map(|shape| self.examined(index, shape).slots);
        let need = slots.iter().map(|&s| scratch_bytes(request, s)).max().unwrap_or(0);
        let stages = slots.iter().map(|s| s.stages).max().unwrap_or(1);
        // Half the budget, so that two operations can run at a time.
        let budget = (self.scratch_bytes_max / 2).max(1);
        let least = match need <= budget {
            true => 1,
            false => need.saturating_mul(stages as usize + 1).div_ceil(budget).max(2),
        };
        let most = match agreed_bytes(request, self.ranks) {
            Some(bytes) if stages > 1 => (bytes / SEGMENT_BYTES_MIN).min(SEGMENTS_MAX),
            _ => 1,
        };
        let number = |segments: usize| u32::try_from(segments).unwrap_or(u32::MAX);
        (number(least), number(most.max(least)), stages)
    }

    /// What there is to know of the schedules of one algorithm, the same on every rank.
    fn examined(&self, index: usize, shape: &Shape) -> Examined {
        let mut known = self.examined.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry((index, shape.clone()));
        entry.or_insert_with(|| examine(&*self.algorithms[index], shape)).clone()
    }
}

/// What algorithms are called in the calls they serve on `ranks` ranks.
fn labels(algorithms: &[AlgorithmRef], ranks: Rank) -> BTreeSet<String> {
    let shapes = Collective::ALL.map(|collective| Shape {
        collective,
        ranks,
        root: 0,
        in_place: false,
        reproducible: false,
    });
    let served = |algorithm: &AlgorithmRef| {
        let of = |shape: &Shape| algorithm.serves(shape).then(|| algorithm.label(shape));
        shapes.iter().filter_map(of).collect::<Vec<_>>()
    };
    algorithms.iter().flat_map(served).collect()
}

fn unknown_algorithm(wanted: &str, known: &BTreeSet<String>) -> Error {
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    Error::InvalidArgument {
        operation: "init",
        reason: format!("no algorithm is called {wanted} here; there are {}", known.join(", ")),
    }
}

/// Scratch memory in one segment, in bytes, as far as every rank knows.
fn scratch_bytes(request: &Request, slots: Slots) -> usize {
    let elements = match &request.counts {
        Counts::PerRank(counts) => counts.iter().copied().max().unwrap_or(0),
        // Served without scratch only, see `Algorithm::needs_uniform_sizes`.
        Counts::PerPair { .. } => 0,
        Counts::Uniform(count) => count.div_ceil(slots.blocks.max(1)),
    };
    let dtype = request.dtype;
    let work = if dtype.is_narrow() { slots.work } else { slots.work_apart };
    elements.saturating_mul(work * dtype.accumulator().size() + slots.stage * dtype.size())
}
