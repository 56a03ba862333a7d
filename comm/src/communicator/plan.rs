//! From a request to a program: chooses the algorithm, has its schedule compiled, and remembers
//! the result.

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::choice::{Choice, Planner};
use super::fingerprint;
use super::prepare::{Prepared, Recipe, prepare};
use crate::collective::{self, Contract, Counts, Request};
use crate::engine::{OpMeta, Program};
use crate::error::Result;

/// Most programs kept. A training loop repeats a few hundred calls.
const PROGRAMS_MAX: usize = 1024;
/// Places for plans that are found without a hash.
const RECENT: usize = 64;

/// A call, ready to run.
pub(super) struct Plan {
    request: Request,
    in_place: bool,
    contract: Contract,
    /// The one right answer to [`Self::check_bytes`], where there is one.
    bytes: (Option<usize>, usize),
    pub(super) program: Arc<Program>,
    pub(super) choice: Choice,
    meta: OpMeta,
}

impl Plan {
    /// What the engine must know besides program and buffers.
    pub(super) fn meta(&self, sequence: u64) -> OpMeta {
        OpMeta { sequence, ..self.meta }
    }

    /// Checks the buffers' lengths, in elements.
    pub(super) fn check_elements(&self, in_place: bool, input: usize, output: usize) -> Result<()> {
        if in_place {
            self.contract.check_in_place_length(output)
        } else {
            self.contract.check_lengths(input, output)
        }
    }

    /// Checks the buffers' lengths, in bytes; `input: None` is in place.
    #[inline]
    pub(super) fn check_bytes(&self, input: Option<usize>, output: usize) -> Result<()> {
        if (input, output) == self.bytes {
            return Ok(());
        }
        self.contract.check_bytes(self.request.dtype.size(), input, output)
    }

    #[inline]
    fn serves(&self, request: &Request, in_place: bool) -> bool {
        self.in_place == in_place && self.request == *request
    }
}

/// A plan in use: a recent one, which nobody else can then have, or one from the cache.
pub(super) enum Planned<'a> {
    Recent(MutexGuard<'a, Option<Arc<Plan>>>),
    Known(Arc<Plan>),
}

impl Deref for Planned<'_> {
    type Target = Plan;

    #[inline]
    fn deref(&self) -> &Plan {
        match self {
            Self::Recent(recent) => recent.as_ref().expect("it was looked at"),
            Self::Known(plan) => plan,
        }
    }
}

/// Every call the communicator has made lately.
pub(super) struct Plans {
    /// By [`place`], the latest one: a loop over some calls looks no further. Never waited for:
    /// whoever finds it in use looks into the cache.
    recent: [Mutex<Option<Arc<Plan>>>; RECENT],
    cache: Mutex<Cache>,
}

impl Default for Plans {
    fn default() -> Self {
        Self { recent: std::array::from_fn(|_| Mutex::default()), cache: Mutex::default() }
    }
}

#[derive(Default)]
struct Cache {
    by_hash: HashMap<u64, Vec<Arc<Plan>>>,
    /// Hashes, oldest entry first.
    order: VecDeque<u64>,
}

impl Plans {
    /// The plan for `request`, made now if it is new.
    #[inline]
    pub(super) fn get(
        &self,
        request: &Request,
        in_place: bool,
        planner: &Planner,
    ) -> Result<Planned<'_>> {
        let recent = &self.recent[place(request, in_place)];
        if let Ok(recent) = recent.try_lock()
            && recent.as_ref().is_some_and(|plan| plan.serves(request, in_place))
        {
            return Ok(Planned::Recent(recent));
        }
        let plan = self.look_up(request, in_place, planner)?;
        if let Ok(mut recent) = recent.try_lock() {
            *recent = Some(Arc::clone(&plan));
        }
        Ok(Planned::Known(plan))
    }

    #[cold]
    fn look_up(&self, request: &Request, in_place: bool, planner: &Planner) -> Result<Arc<Plan>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = fingerprint::of_request(request, "", u32::from(in_place));
        let known = cache.by_hash.get(&hash).and_then(|plans| {
            plans.iter().find(|plan| plan.serves(request, in_place)).map(Arc::clone)
        });
        match known {
            Some(plan) => Ok(plan),
            None => Ok(cache.insert(hash, Arc::new(make(request, in_place, planner)?))),
        }
    }
}

/// Which of the recent plans `request` may be: the same for equal requests, and mostly not for
/// others.
#[inline]
fn place(request: &Request, in_place: bool) -> usize {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let count = match &request.counts {
        Counts::Uniform(count) => *count,
        Counts::PerRank(counts) => counts.len(),
        Counts::PerPair { send, .. } => send.len(),
    };
    let kind = (request.collective as u64) << 9 | (request.dtype as u64) << 1 | u64::from(in_place);
    let mixed = (count as u64).wrapping_mul(GOLDEN) ^ kind.wrapping_mul(GOLDEN.rotate_left(32));
    (mixed.wrapping_mul(GOLDEN) >> 32) as usize % RECENT
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
    // The planner computes with the counts.
    collective::contract(request, planner.me(), planner.ranks())?;
    let choice = planner.choose(request)?;
    let Prepared { contract, program, meta } = prepare(&Recipe {
        request,
        in_place,
        me: planner.me(),
        ranks: planner.ranks(),
        reproducible: planner.reproducible(),
        algorithm: &*choice.algorithm,
        label: &choice.decision.winner.name,
        segments: choice.segments,
        window: choice.window,
        cache_bytes: planner.cache_bytes(),
    })?;
    let bytes = |elements: Option<usize>| elements.unwrap_or(0) * request.dtype.size();
    let bytes = match in_place {
        true => (None, contract.in_place_elements() * request.dtype.size()),
        false => (Some(bytes(contract.input)), bytes(contract.output)),
    };
    Ok(Plan { request: request.clone(), in_place, contract, bytes, program, choice, meta })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::reduce::DType;
    use crate::schedule::Collective;

    #[test]
    fn the_calls_of_a_training_step_mostly_have_places_of_their_own() {
        let request = |collective, count| Request::new(collective, DType::F32, count);
        let layers = (1..=24).map(|layer| request(Collective::AllReduce, 4096 * layer));
        let others = [Collective::Barrier, Collective::Broadcast, Collective::AllGather];
        let calls: Vec<_> = layers.chain(others.map(|c| request(c, 2))).collect();
        let places: HashSet<_> = calls.iter().map(|call| place(call, true)).collect();
        assert!(places.len() * 4 >= calls.len() * 3, "{} for {}", places.len(), calls.len());
        assert!(calls.iter().all(|call| place(call, true) == place(&call.clone(), true)));
    }
}
