//! From a request to a program: chooses the algorithm, has its schedule compiled, and remembers
//! the result.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::choice::{Choice, Planner};
use super::fingerprint;
use super::prepare::{Prepared, Recipe, prepare};
use crate::collective::{self, Contract, Request};
use crate::engine::{OpMeta, Program};
use crate::error::Result;

/// Most programs kept. A training loop repeats a few hundred calls.
const PROGRAMS_MAX: usize = 1024;

/// A call, ready to run.
pub(super) struct Plan {
    request: Request,
    in_place: bool,
    pub(super) contract: Contract,
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
    Ok(Plan { request: request.clone(), in_place, contract, program, choice, meta })
}
