//! One agreement at one member: what it has contributed to, and what it accepted. The part of
//! the coordinator is in [`super::lead`]; the protocol is explained in [`super::agree`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::lead::Lead;
use super::local::Local;
use super::{Agreed, Contribution, Message, Part};
use crate::error::Rank;

/// What an agreement knows of its communicator.
pub(super) struct Table<'a> {
    pub(super) comm: u64,
    pub(super) number: u64,
    pub(super) members: &'a [Rank],
    /// This rank's index in `members`.
    pub(super) position: u64,
    /// Members that may never come.
    pub(super) suspects: BTreeSet<Rank>,
    /// Members that have no part any more.
    pub(super) outside: BTreeSet<Rank>,
}

impl Table<'_> {
    /// Who coordinates a ballot.
    pub(super) fn coordinator(&self, ballot: u64) -> Rank {
        self.members[(ballot % self.members.len() as u64) as usize]
    }

    /// Whether nothing is to be expected of a member: a decision that it sent before it went would
    /// have come.
    pub(super) fn is_out(&self, local: &Local, rank: Rank) -> bool {
        local.roster.is_silent(rank) || self.outside.contains(&rank)
    }

    pub(super) fn send(&self, local: &mut Local, to: Rank, ballot: u64, part: Part) {
        let (comm, number) = (self.comm, self.number);
        local.send(to, Message::Agreement { comm, number, ballot, part });
    }

    /// The members that are neither this rank nor out.
    pub(super) fn others(&self, local: &Local) -> Vec<Rank> {
        let others = self.members.iter().copied().filter(|rank| *rank != local.me);
        others.filter(|rank| !self.is_out(local, *rank)).collect()
    }
}

/// What this rank brings.
#[derive(Clone, Copy, Debug)]
struct Entry {
    flags: u64,
    deadline: Duration,
}

/// The state of one agreement.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    entry: Option<Entry>,
    /// The highest ballot this rank knows of; it has no part in lower ones.
    ballot: Option<u64>,
    accepted: Option<(u64, u32, Agreed)>,
    /// When to go to the next ballot, unless the coordinator gives a sign of life.
    patience: Duration,
    /// When to repeat the contribution.
    repeat: Duration,
    /// Coordinators that gave no sign of life.
    passed: BTreeSet<Rank>,
    /// The last contribution of each member to a ballot of this rank's, and when it came.
    pub(super) inbox: BTreeMap<Rank, (u64, Duration, Contribution)>,
    pub(super) lead: Option<Lead>,
    pub(super) decision: Option<Agreed>,
}

impl Agreement {
    pub(super) fn is_entered(&self) -> bool {
        self.entry.is_some()
    }

    pub(super) fn take_decision(&mut self) -> Option<Agreed> {
        self.decision.take()
    }

    pub(super) fn next_tick(&self) -> Option<Duration> {
        self.entry?;
        Some(match &self.lead {
            Some(lead) => lead.next_tick(),
            None => self.patience.min(self.repeat),
        })
    }

    /// This rank calls the agreement.
    pub(super) fn enter(
        &mut self,
        table: &Table<'_>,
        local: &mut Local,
        flags: u64,
        deadline: Duration,
    ) {
        self.entry = Some(Entry { flags, deadline });
        match self.ballot {
            None => self.advance(table, local, 0),
            Some(ballot) => self.join(table, local, ballot),
        }
    }

    /// What this rank would send, and until when it is ready to wait.
    pub(super) fn contribution(&self, table: &Table<'_>, local: &Local) -> Option<Contribution> {
        let Entry { flags, deadline } = self.entry?;
        let members = table.members.iter().copied().filter(|rank| *rank != local.me);
        Some(Contribution {
            flags,
            failed: members.filter(|rank| table.is_out(local, *rank)).collect(),
            suspects: table.suspects.union(&self.passed).copied().collect(),
            patience: deadline.saturating_sub(local.now),
            accepted: self.accepted.clone(),
        })
    }

    /// Goes to the lowest ballot from `from` on whose coordinator can be expected to act.
    fn advance(&mut self, table: &Table<'_>, local: &mut Local, from: u64) {
        let places = table.members.len() as u64;
        let round = || from..from + places;
        let able = |ballot: &u64| !table.is_out(local, table.coordinator(*ballot));
        let trusted = |ballot: &u64| {
            let rank = table.coordinator(*ballot);
            !table.suspects.contains(&rank) && !self.passed.contains(&rank)
        };
        let ballot = round().find(|ballot| able(ballot) && trusted(ballot));
        // This rank itself is always able.
        let ballot = ballot.or_else(|| round().find(able)).unwrap_or(from);
        self.go_to(table, local, ballot);
    }

    /// Takes part in `ballot` and in no lower one.
    fn go_to(&mut self, table: &Table<'_>, local: &mut Local, ballot: u64) {
        self.ballot = Some(ballot);
        self.lead = None;
        let Some(entry) = self.entry else { return };
        self.patience = entry.deadline.max(local.answer_by());
        if ballot % table.members.len() as u64 == table.position {
            self.lead(table, local, ballot, entry.deadline);
        } else {
            self.contribute(table, local);
        }
    }

    fn contribute(&mut self, table: &Table<'_>, local: &mut Local) {
        if let (Some(ballot), Some(contribution)) = (self.ballot, self.contribution(table, local)) {
            let part = Part::Contribute(Box::new(contribution));
            table.send(local, table.coordinator(ballot), ballot, part);
            self.repeat = local.answer_by();
        }
    }

    pub(super) fn tick(&mut self, table: &Table<'_>, local: &mut Local) {
        if self.lead.is_some() {
            self.tick_lead(table, local);
            return;
        }
        let Some(ballot) = self.ballot.filter(|_| self.is_entered()) else { return };
        if local.now >= self.patience {
            self.passed.insert(table.coordinator(ballot));
            self.advance(table, local, ballot + 1);
        } else if local.now >= self.repeat {
            self.contribute(table, local);
        }
    }

    /// Somebody is out.
    pub(super) fn review(&mut self, table: &Table<'_>, local: &mut Local) {
        let Some(ballot) = self.ballot.filter(|_| self.is_entered()) else { return };
        if self.lead.is_some() {
            self.review_lead(table, local);
        } else if table.is_out(local, table.coordinator(ballot)) {
            self.advance(table, local, ballot + 1);
        }
    }

    pub(super) fn receive(
        &mut self,
        table: &Table<'_>,
        local: &mut Local,
        from: Rank,
        ballot: u64,
        part: Part,
    ) {
        let coordinator = table.coordinator(ballot);
        let to_me = coordinator == local.me;
        match part {
            Part::Decide { decision } => self.decide(table, local, decision),
            Part::Refuse => self.higher(table, local, ballot),
            Part::Contribute(contribution) if to_me => {
                self.gather(table, local, from, ballot, *contribution);
            }
            Part::Accept { attempt } if to_me => {
                self.accepted_by(table, local, from, ballot, attempt);
            }
            Part::Here if coordinator == from => self.sign_of_life(local, ballot),
            Part::Call if coordinator == from => {
                let news = self.ballot != Some(ballot);
                if self.current(table, local, from, ballot) && !news {
                    self.contribute(table, local);
                    self.sign_of_life(local, ballot);
                }
            }
            Part::Propose { attempt, decision } if coordinator == from => {
                self.accept(table, local, (ballot, attempt), decision);
            }
            _ => {}
        }
    }

    /// Whether `ballot` is one that this rank has a part in: goes there if it is higher than
    /// its own, refuses if lower.
    fn current(&mut self, table: &Table<'_>, local: &mut Local, from: Rank, ballot: u64) -> bool {
        match self.ballot {
            Some(mine) if mine > ballot => {
                table.send(local, from, mine, Part::Refuse);
                false
            }
            _ => {
                self.higher(table, local, ballot);
                self.ballot == Some(ballot)
            }
        }
    }

    /// There is such a ballot.
    fn higher(&mut self, table: &Table<'_>, local: &mut Local, ballot: u64) {
        if self.ballot.is_none_or(|mine| mine < ballot) {
            self.join(table, local, ballot);
        }
    }

    /// Takes part in `ballot`, or if its coordinator is out, in the next.
    fn join(&mut self, table: &Table<'_>, local: &mut Local, ballot: u64) {
        if table.is_out(local, table.coordinator(ballot)) {
            self.advance(table, local, ballot + 1);
        } else {
            self.go_to(table, local, ballot);
        }
    }

    fn sign_of_life(&mut self, local: &Local, ballot: u64) {
        if self.ballot == Some(ballot) {
            let longer = local.now + local.timings.investigation_max;
            self.patience = self.patience.max(longer);
        }
    }

    /// A contribution to a ballot of this rank's.
    fn gather(
        &mut self,
        table: &Table<'_>,
        local: &mut Local,
        from: Rank,
        ballot: u64,
        contribution: Contribution,
    ) {
        if self.current(table, local, from, ballot) {
            self.inbox.insert(from, (ballot, local.now, contribution));
            self.contributed(table, local, from);
        }
    }

    fn accept(
        &mut self,
        table: &Table<'_>,
        local: &mut Local,
        (ballot, attempt): (u64, u32),
        decision: Agreed,
    ) {
        let coordinator = table.coordinator(ballot);
        if !self.is_entered() || !self.current(table, local, coordinator, ballot) {
            return;
        }
        let last = self.accepted.as_ref().map(|(ballot, attempt, _)| (*ballot, *attempt));
        if last <= Some((ballot, attempt)) {
            self.accepted = Some((ballot, attempt, decision));
            self.sign_of_life(local, ballot);
            table.send(local, coordinator, ballot, Part::Accept { attempt });
        }
    }

    /// This rank accepts its own proposal.
    pub(super) fn accept_own(&mut self, ballot: u64, attempt: u32, decision: Agreed) {
        self.accepted = Some((ballot, attempt, decision));
    }

    /// Ends the agreement, and tells those who contributed to this rank.
    pub(super) fn decide(&mut self, table: &Table<'_>, local: &mut Local, decision: Agreed) {
        let ballot = self.ballot.unwrap_or(0);
        let told = match &self.lead {
            Some(_) => table.members.to_vec(),
            None => self.inbox.keys().copied().collect(),
        };
        for to in told {
            table.send(local, to, ballot, Part::Decide { decision: decision.clone() });
        }
        self.decision = Some(decision);
    }
}
