//! What the survivors agree on: who is left, and the bitwise AND of their flags.
//!
//! # The protocol
//!
//! Every agreement goes through *ballots*. Ballot `b` is coordinated by the member at position
//! `b mod n` of the communicator's `n`. A member starts with the lowest ballot whose coordinator
//! it neither holds for gone nor suspects, and goes to a higher one when the coordinator is gone,
//! does not answer in time, or when anybody tells it of a higher one.
//!
//! 1. *Contribute.* A member sends the coordinator its flags, the members it holds for gone or
//!    suspects, and the last proposal that it accepted. It takes no part in lower ballots from
//!    then on, and says so when asked (*refuse*). A member that has not called the agreement yet
//!    contributes nothing; that is what an agreement waits for.
//! 2. The coordinator says *here* to those who contribute, *calls* those who do not, and waits
//!    for everybody who is neither gone nor suspected, until the earliest deadline among those
//!    who came. Suspects that come before all the others are in.
//! 3. *Propose.* It proposes the AND of the contributed flags, and as failed all who did not come
//!    or are gone. However, if an earlier coordinator may have decided already, it proposes that
//!    decision again. Only somebody whose proposal every living member in it accepted can have
//!    decided; so the proposal accepted in the highest ballot binds, unless a contributor that
//!    has a part in it did not accept it.
//! 4. *Accept.* Members note the proposal. When all who have a part in it accepted, it is the
//!    decision. If one dies or falls silent meanwhile, there is another proposal without it.
//! 5. *Decide.* Everybody is told, those left out too. Whoever has decided answers any message
//!    of the agreement with the decision, also after it left the communicator.
//!
//! Members keep repeating their contribution until the agreement ends, so a message that came
//! before the receiver had the communicator does no harm.
//!
//! # What it guarantees
//!
//! *Agreement*: no two survivors decide differently, and what a member decided before it died is
//! what the survivors decide, if one of them had a part in it. That does not depend on time:
//! holding a slow coordinator for dead costs a ballot, not the agreement. *Validity*: a rank in
//! `failed` is dead, left, gave up, was suspected, or did not come in time; a rank that is not
//! contributed. *Termination*: without new failures by the earliest deadline plus
//! [`Timings::investigation_max`](super::Timings), each failure adds at most that much.
//!
//! A partition is not told from the death of everybody on the other side: each side goes on by
//! itself. Wanting a majority would forbid that, and would forbid going on after half the job
//! died, which is what survivors want here; jobs that write to shared storage must fence there.
//!
//! # Where it comes from
//!
//! The purpose is ULFM's `MPIX_Comm_agree` (Bland et al. 2013), with the flags as there. The
//! rotating coordinator is from Chandra and Toueg (1996); ballots, and adopting what may have been
//! decided, from Lamport's Paxos (1998). Where Paxos asks a majority, this asks all who have a
//! part, as agreements on membership do. ERA (Herault et al. 2015) agrees along a tree in
//! logarithmic time; a coordinator takes time in the number of members, which is milliseconds for
//! thousands, and an agreement follows a failure, not a step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::agreement::{Agreement, Table};
use super::group::Group;
use super::local::Local;
use super::{Agreed, Excluded, Message, Output, Part};
use crate::error::Rank;

/// Decisions of one communicator that are remembered.
const DECIDED_MAX: usize = 64;

/// How far ahead of this rank others may be.
const AHEAD_MAX: u64 = 16;

/// The agreements of one communicator.
#[derive(Debug, Default)]
pub(super) struct Agreements {
    /// Number of this rank's next one.
    next: u64,
    open: BTreeMap<u64, Agreement>,
    decided: BTreeMap<u64, Agreed>,
    /// Members that earlier agreements left out.
    excluded: BTreeSet<Rank>,
    /// Members that left the communicator or gave up.
    absent: BTreeSet<Rank>,
}

impl Agreements {
    /// `rank` left the communicator or gave up; answers whether that is new.
    pub(super) fn note_absent(&mut self, rank: Rank) -> bool {
        self.absent.insert(rank)
    }

    /// `rank` has no part any more; answers whether that is new.
    pub(super) fn exclude(&mut self, rank: Rank) -> bool {
        self.excluded.insert(rank)
    }

    pub(super) fn next_tick(&self) -> Option<Duration> {
        self.open.values().filter_map(Agreement::next_tick).min()
    }
}

impl Group {
    /// See [`super::Core::agree`].
    pub(super) fn agree(&mut self, local: &mut Local, flags: u64, deadline: Duration) -> u64 {
        let number = self.agreements.next;
        self.agreements.next += 1;
        if let Some(decision) = self.agreements.decided.get(&number) {
            announce(local, self.id, number, decision.clone());
        } else if self.closed || self.aborted {
            exclude(local, self.id, number, "this rank left or aborted the communicator");
        } else if self.agreements.excluded.contains(&local.me) {
            exclude(local, self.id, number, "the others agreed earlier to go on without this rank");
        } else {
            self.agreements.open.entry(number).or_default();
            self.step(local, number, |agreement, table, local| {
                agreement.enter(table, local, flags, deadline);
            });
        }
        number
    }

    /// Takes a message of agreement `number`.
    pub(super) fn agreement(
        &mut self,
        local: &mut Local,
        from: Rank,
        number: u64,
        ballot: u64,
        part: Part,
    ) {
        if !self.members.contains(&from) {
            return;
        }
        if matches!(part, Part::Absent) {
            if self.agreements.note_absent(from) {
                self.review_agreements(local);
            }
            return;
        }
        if let Some(decision) = self.agreements.decided.get(&number).cloned() {
            if !matches!(part, Part::Decide { .. } | Part::Here | Part::Refuse) {
                let part = Part::Decide { decision };
                local.send(from, Message::Agreement { comm: self.id, number, ballot, part });
            }
            return;
        }
        if self.closed || self.aborted {
            if matches!(part, Part::Contribute(_) | Part::Call | Part::Propose { .. }) {
                let part = Part::Absent;
                local.send(from, Message::Agreement { comm: self.id, number, ballot, part });
            }
            return;
        }
        if number >= self.agreements.next + AHEAD_MAX {
            return;
        }
        self.agreements.open.entry(number).or_default();
        self.step(local, number, |agreement, table, local| {
            agreement.receive(table, local, from, ballot, part);
        });
    }

    pub(super) fn tick_agreements(&mut self, local: &mut Local) {
        let due = |agreement: &Agreement| agreement.next_tick().is_some_and(|at| at <= local.now);
        let open = self.agreements.open.iter();
        let due: Vec<u64> = open.filter(|(_, a)| due(a)).map(|(number, _)| *number).collect();
        for number in due {
            self.step(local, number, |agreement, table, local| agreement.tick(table, local));
        }
    }

    /// Somebody departed from the job, or is in doubt.
    pub(super) fn agreements_lose(&mut self, local: &mut Local, rank: Rank) {
        if !self.agreements.open.is_empty() && self.members.contains(&rank) {
            self.review_agreements(local);
        }
    }

    /// Somebody has no part any more.
    pub(super) fn review_agreements(&mut self, local: &mut Local) {
        let open: Vec<u64> = self.agreements.open.keys().copied().collect();
        for number in open {
            self.step(local, number, |agreement, table, local| agreement.review(table, local));
        }
    }

    /// This rank has no part any more; tells those who may wait for it.
    pub(super) fn quit_agreements(&mut self, local: &mut Local, reason: &str) {
        let open = std::mem::take(&mut self.agreements.open);
        for number in open.iter().filter(|(_, a)| a.is_entered()).map(|(number, _)| *number) {
            exclude(local, self.id, number, reason);
        }
        if !open.is_empty() {
            let number = self.agreements.next;
            for member in self.members.iter() {
                let message =
                    Message::Agreement { comm: self.id, number, ballot: 0, part: Part::Absent };
                local.send(*member, message);
            }
        }
    }

    /// Lets an agreement act, and ends it when it is decided.
    fn step(
        &mut self,
        local: &mut Local,
        number: u64,
        act: impl FnOnce(&mut Agreement, &Table<'_>, &mut Local),
    ) {
        let Some(mut agreement) = self.agreements.open.remove(&number) else { return };
        let suspects = self.failed.as_ref().map(super::Cause::suspects).unwrap_or_default();
        let outside = self.agreements.excluded.union(&self.agreements.absent).copied().collect();
        let table = Table {
            comm: self.id,
            number,
            members: &self.members,
            position: self.position as u64,
            suspects,
            outside,
        };
        act(&mut agreement, &table, local);
        match agreement.take_decision() {
            None => drop(self.agreements.open.insert(number, agreement)),
            Some(decision) => self.conclude(local, number, agreement.is_entered(), decision),
        }
    }

    fn conclude(&mut self, local: &mut Local, number: u64, entered: bool, decision: Agreed) {
        self.agreements.excluded.extend(&decision.failed);
        self.agreements.decided.insert(number, decision.clone());
        while self.agreements.decided.len() > DECIDED_MAX {
            self.agreements.decided.pop_first();
        }
        if entered {
            announce(local, self.id, number, decision);
        }
        self.review_agreements(local);
    }
}

fn announce(local: &mut Local, comm: u64, number: u64, decision: Agreed) {
    if decision.failed.contains(&local.me) {
        exclude(
            local,
            comm,
            number,
            "the others agreed to go on without this rank: it was held \
            for failed, or came too late",
        );
    } else {
        local.outputs.push_back(Output::Agreed { comm, number, outcome: Ok(decision) });
    }
}

fn exclude(local: &mut Local, comm: u64, number: u64, reason: &str) {
    let outcome = Err(Excluded { reason: reason.to_owned() });
    local.outputs.push_back(Output::Agreed { comm, number, outcome });
}
