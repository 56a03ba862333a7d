//! All communicators of this member: those it has, those it had, those it has yet to hear of.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::group::Group;
use super::local::Local;
use super::roster::Departure;
use super::{Agreed, Answer, Cause, CommId, Excluded, Message, Operation, Output, Progress};
use crate::error::Rank;

/// Communicators that were closed and are still answered for.
const CLOSED_MAX: usize = 1024;

/// Failures of communicators that are not open here yet, or not any more.
const EARLY_MAX: usize = 1024;

/// Questions that the application has yet to answer.
const INSPECTIONS_MAX: usize = 8192;

/// Who asked what that the application has yet to answer.
#[derive(Debug)]
struct Inspection {
    asker: Rank,
    query: u64,
    comm: CommId,
}

/// The communicators by their ids.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<CommId, Group>,
    /// Those with something to do in time.
    busy: BTreeSet<CommId>,
    closed: VecDeque<CommId>,
    early: BTreeMap<CommId, (Rank, Cause)>,
    early_order: VecDeque<CommId>,
    inspections: BTreeMap<u64, Inspection>,
}

impl Groups {
    /// Hands out a communicator, if it is known.
    pub(super) fn with<T>(
        &mut self,
        comm: CommId,
        local: &mut Local,
        act: impl FnOnce(&mut Group, &mut Local) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(&comm)?;
        let out = act(group, local);
        match group.next_tick() {
            Some(_) => self.busy.insert(comm),
            None => self.busy.remove(&comm),
        };
        Some(out)
    }

    /// Hands out every communicator.
    pub(super) fn each(&mut self, local: &mut Local, act: impl Fn(&mut Group, &mut Local)) {
        let all: Vec<CommId> = self.groups.keys().copied().collect();
        for comm in all {
            self.with(comm, local, &act);
        }
    }

    pub(super) fn open(&mut self, local: &mut Local, comm: CommId, members: Arc<[Rank]>) {
        let Some(position) = members.iter().position(|rank| *rank == local.me) else {
            debug_assert!(false, "a member opens communicator {comm:#x}");
            return;
        };
        if self.groups.contains_key(&comm) {
            return;
        }
        let mut group = Group::new(comm, members.clone(), position);
        if let Some((teller, cause)) = self.early.remove(&comm) {
            self.early_order.retain(|early| *early != comm);
            group.fail(local, cause, Some(teller));
        }
        for rank in members.iter() {
            if let Some(Departure::Dead { how }) = local.roster.departure(*rank).cloned() {
                group.bury(local, *rank, &how);
            }
        }
        self.groups.insert(comm, group);
    }

    pub(super) fn close(&mut self, local: &mut Local, comm: CommId) {
        let closed = self.with(comm, local, |group, local| group.close(local));
        if closed == Some(true) {
            self.closed.push_back(comm);
        }
        while self.closed.len() > CLOSED_MAX {
            let oldest = self.closed.pop_front().expect("not empty");
            self.groups.remove(&oldest);
        }
    }

    pub(super) fn close_all(&mut self, local: &mut Local) {
        let all: Vec<CommId> = self.groups.keys().copied().collect();
        for comm in all {
            self.close(local, comm);
        }
    }

    pub(super) fn agree(
        &mut self,
        local: &mut Local,
        comm: CommId,
        flags: u64,
        deadline: Duration,
    ) -> u64 {
        let number = self.with(comm, local, |group, local| group.agree(local, flags, deadline));
        number.unwrap_or_else(|| {
            let reason = "this rank does not have the communicator".to_owned();
            let outcome: Result<Agreed, _> = Err(Excluded { reason });
            local.outputs.push_back(Output::Agreed { comm, number: 0, outcome });
            0
        })
    }

    /// `from` says that a communicator failed.
    pub(super) fn failed(&mut self, local: &mut Local, from: Rank, comm: CommId, cause: Cause) {
        if self.groups.contains_key(&comm) {
            self.with(comm, local, |group, local| group.fail(local, cause, Some(from)));
            return;
        }
        if let Entry::Vacant(place) = self.early.entry(comm) {
            place.insert((from, cause));
            self.early_order.push_back(comm);
        }
        if self.early_order.len() > EARLY_MAX {
            let oldest = self.early_order.pop_front().expect("not empty");
            self.early.remove(&oldest);
        }
    }

    /// `asker` wants to know how a communicator is, and where this rank is in an operation.
    pub(super) fn asked(
        &mut self,
        local: &mut Local,
        asker: Rank,
        comm: CommId,
        query: u64,
        operation: Option<Operation>,
    ) {
        let answer = self.standing(comm);
        let (Answer::Well, Some(operation)) = (&answer, operation) else {
            local.send(asker, Message::Answer { comm, query, answer });
            return;
        };
        let mut pending = self.inspections.values();
        let repeated = pending.any(|i| (i.asker, i.query, i.comm) == (asker, query, comm));
        if !repeated && self.inspections.len() < INSPECTIONS_MAX {
            let number = local.next_query();
            self.inspections.insert(number, Inspection { asker, query, comm });
            local.outputs.push_back(Output::Inspect { query: number, comm, operation });
        }
    }

    /// The application answered.
    pub(super) fn inspected(&mut self, local: &mut Local, number: u64, progress: Progress) {
        if let Some(Inspection { asker, query, comm }) = self.inspections.remove(&number) {
            let answer = match self.standing(comm) {
                Answer::Well => {
                    let investigating = self.groups.get(&comm).is_some_and(Group::investigates);
                    Answer::At { progress, investigating }
                }
                other => other,
            };
            local.send(asker, Message::Answer { comm, query, answer });
        }
    }

    fn standing(&self, comm: CommId) -> Answer {
        match (self.groups.get(&comm), self.early.get(&comm)) {
            (Some(group), _) => group.standing(),
            (None, Some((_, cause))) => Answer::Failed(cause.clone()),
            (None, None) => Answer::Unknown,
        }
    }

    pub(super) fn next_tick(&self) -> Option<Duration> {
        let busy = self.busy.iter().filter_map(|comm| self.groups.get(comm));
        busy.filter_map(Group::next_tick).min()
    }

    pub(super) fn tick(&mut self, local: &mut Local) {
        let busy: Vec<CommId> = self.busy.iter().copied().collect();
        for comm in busy {
            self.with(comm, local, |group, local| group.tick(local));
        }
    }
}
