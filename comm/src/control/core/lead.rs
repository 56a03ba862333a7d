//! The coordinator's part of an agreement; the protocol is explained in [`super::agree`].

use std::collections::BTreeSet;
use std::time::Duration;

use super::agreement::{Agreement, Table};
use super::local::Local;
use super::{Agreed, Contribution, Part};
use crate::error::Rank;

/// What this rank does as the coordinator of a ballot.
#[derive(Debug)]
pub(super) struct Lead {
    ballot: u64,
    since: Duration,
    /// When not to wait any longer for what the phase waits for.
    until: Duration,
    /// When to call again those who have not come.
    repeat: Duration,
    /// Proposals so far.
    attempts: u32,
    /// What an earlier coordinator may have decided.
    bound: Option<Agreed>,
    /// Members that came but fell silent later.
    silent: BTreeSet<Rank>,
    proposal: Option<Proposal>,
}

/// What is on the table.
#[derive(Debug)]
struct Proposal {
    decision: Agreed,
    accepted: BTreeSet<Rank>,
}

impl Lead {
    pub(super) fn next_tick(&self) -> Duration {
        if self.proposal.is_some() { self.until } else { self.until.min(self.repeat) }
    }
}

impl Agreement {
    /// Begins to coordinate `ballot`.
    pub(super) fn lead(
        &mut self,
        table: &Table<'_>,
        local: &mut Local,
        ballot: u64,
        deadline: Duration,
    ) {
        self.lead = Some(Lead {
            ballot,
            since: local.now,
            until: deadline.max(local.answer_by()),
            repeat: local.answer_by(),
            attempts: 0,
            bound: None,
            silent: BTreeSet::new(),
            proposal: None,
        });
        let came: Vec<Rank> = self.came(ballot).map(|(rank, ..)| rank).collect();
        // In the first ballot the others come by themselves.
        if ballot > 0 {
            self.call(table, local);
        }
        for rank in came {
            table.send(local, rank, ballot, Part::Here);
            self.hurry(local, rank);
        }
        self.collect(table, local);
    }

    /// Who contributed to `ballot`, when, and what.
    fn came(&self, ballot: u64) -> impl Iterator<Item = (Rank, Duration, &Contribution)> {
        let inbox = self.inbox.iter().filter(move |(_, (to, ..))| *to == ballot);
        inbox.map(|(rank, (_, at, contribution))| (*rank, *at, contribution))
    }

    /// Calls those who have not come.
    fn call(&mut self, table: &Table<'_>, local: &mut Local) {
        let Some(lead) = &mut self.lead else { return };
        let ballot = lead.ballot;
        lead.repeat = local.answer_by();
        for rank in table.others(local) {
            if self.inbox.get(&rank).is_none_or(|(to, ..)| *to != ballot) {
                table.send(local, rank, ballot, Part::Call);
            }
        }
    }

    /// Nobody is to wait longer than the least patient is ready to; but all have a fair chance
    /// to come.
    fn hurry(&mut self, local: &Local, rank: Rank) {
        let (Some(lead), Some((_, at, contribution))) = (&mut self.lead, self.inbox.get(&rank))
        else {
            return;
        };
        let fair = lead.since + local.timings.answer_max;
        lead.until = lead.until.min(at.saturating_add(contribution.patience)).max(fair);
    }

    /// `from` contributed to a ballot of this rank's.
    pub(super) fn contributed(&mut self, table: &Table<'_>, local: &mut Local, from: Rank) {
        let Some(lead) = &mut self.lead else { return };
        let ballot = lead.ballot;
        lead.silent.remove(&from);
        match &lead.proposal {
            None => {
                table.send(local, from, ballot, Part::Here);
                self.hurry(local, from);
                self.collect(table, local);
            }
            Some(proposal) if !proposal.decision.failed.contains(&from) => {
                let (attempt, decision) = (lead.attempts, proposal.decision.clone());
                table.send(local, from, ballot, Part::Propose { attempt, decision });
            }
            Some(_) => table.send(local, from, ballot, Part::Here),
        }
    }

    /// Proposes if nobody has to be waited for.
    fn collect(&mut self, table: &Table<'_>, local: &mut Local) {
        let Some(lead) = self.lead.as_ref().filter(|lead| lead.proposal.is_none()) else { return };
        let mut unlikely = table.suspects.clone();
        let mut missing: BTreeSet<Rank> = table.others(local).into_iter().collect();
        for (rank, _, contribution) in self.came(lead.ballot) {
            missing.remove(&rank);
            unlikely.extend(&contribution.suspects);
        }
        if local.now >= lead.until || missing.is_subset(&unlikely) {
            self.propose(table, local);
        }
    }

    /// Puts the decision on the table that the contributions of those who are there give.
    fn propose(&mut self, table: &Table<'_>, local: &mut Local) {
        let Some(own) = self.contribution(table, local) else { return };
        let Some(lead) = &self.lead else { return };
        let (ballot, me) = (lead.ballot, local.me);
        let there = |rank: &Rank| !table.is_out(local, *rank) && !lead.silent.contains(rank);
        let came = self.came(ballot).filter(|(rank, ..)| there(rank));
        let mut came: Vec<(Rank, &Contribution)> = came.map(|(rank, _, c)| (rank, c)).collect();
        came.push((me, &own));
        let bound = match (lead.attempts, &lead.bound) {
            (0, _) => binding(&came),
            (_, bound) => bound.clone(),
        };
        let decision = bound.clone().unwrap_or_else(|| fresh(table, me, &came));
        let Some(lead) = &mut self.lead else { return };
        lead.bound = bound;
        lead.attempts += 1;
        lead.until = local.now + local.timings.investigation_max;
        let attempt = lead.attempts;
        lead.proposal = Some(Proposal { decision: decision.clone(), accepted: BTreeSet::new() });
        self.accept_own(ballot, attempt, decision.clone());
        for rank in table.others(local) {
            if !decision.failed.contains(&rank) {
                let decision = decision.clone();
                table.send(local, rank, ballot, Part::Propose { attempt, decision });
            }
        }
        self.count(table, local);
    }

    /// Who has yet to accept.
    fn owing(&self, table: &Table<'_>, local: &Local) -> BTreeSet<Rank> {
        let Some((lead, proposal)) =
            self.lead.as_ref().and_then(|l| Some((l, l.proposal.as_ref()?)))
        else {
            return BTreeSet::new();
        };
        let owes = |rank: &Rank| {
            !proposal.decision.failed.contains(rank)
                && !proposal.accepted.contains(rank)
                && !lead.silent.contains(rank)
        };
        table.others(local).into_iter().filter(owes).collect()
    }

    /// Decides if all have accepted.
    fn count(&mut self, table: &Table<'_>, local: &mut Local) {
        if self.owing(table, local).is_empty()
            && let Some(proposal) = self.lead.as_mut().and_then(|lead| lead.proposal.take())
        {
            self.decide(table, local, proposal.decision);
        }
    }

    pub(super) fn accepted_by(
        &mut self,
        table: &Table<'_>,
        local: &mut Local,
        from: Rank,
        ballot: u64,
        attempt: u32,
    ) {
        let Some(lead) = &mut self.lead else { return };
        if (lead.ballot, lead.attempts) != (ballot, attempt) {
            return;
        }
        if let Some(proposal) = &mut lead.proposal {
            proposal.accepted.insert(from);
            self.count(table, local);
        }
    }

    pub(super) fn tick_lead(&mut self, table: &Table<'_>, local: &mut Local) {
        let Some(lead) = &self.lead else { return };
        if lead.proposal.is_none() {
            if local.now >= lead.repeat {
                self.call(table, local);
            }
            self.collect(table, local);
        } else if local.now >= lead.until {
            let silent = self.owing(table, local);
            if let Some(lead) = &mut self.lead {
                lead.silent.extend(silent);
            }
            self.propose(table, local);
        }
    }

    /// Somebody is out.
    pub(super) fn review_lead(&mut self, table: &Table<'_>, local: &mut Local) {
        let Some(lead) = &self.lead else { return };
        match &lead.proposal {
            None => self.collect(table, local),
            Some(proposal) => {
                let part = |rank: &Rank| !proposal.decision.failed.contains(rank);
                let lost = |rank: &Rank| part(rank) && table.is_out(local, *rank);
                if lead.bound.is_none() && table.members.iter().any(lost) {
                    self.propose(table, local);
                } else {
                    self.count(table, local);
                }
            }
        }
    }
}

/// The decision that an earlier coordinator may have taken, if any: what was accepted in the
/// highest ballot, if all who have a part in it and are here accepted it.
fn binding(came: &[(Rank, &Contribution)]) -> Option<Agreed> {
    let accepted = came.iter().filter_map(|(_, contribution)| contribution.accepted.as_ref());
    let (_, _, last) = accepted.max_by_key(|(ballot, attempt, _)| (*ballot, *attempt))?;
    let agrees = |contribution: &Contribution| {
        contribution.accepted.as_ref().is_some_and(|(.., decision)| decision == last)
    };
    let mut part = came.iter().filter(|(rank, _)| !last.failed.contains(rank));
    part.all(|(_, contribution)| agrees(contribution)).then(|| last.clone())
}

/// The decision that these contributions give.
fn fresh(table: &Table<'_>, me: Rank, came: &[(Rank, &Contribution)]) -> Agreed {
    let mut failed: BTreeSet<Rank> = table.members.iter().copied().collect();
    for (rank, _) in came {
        failed.remove(rank);
    }
    for (_, contribution) in came {
        failed.extend(contribution.failed.iter().filter(|rank| table.members.contains(rank)));
    }
    failed.remove(&me);
    let left = came.iter().filter(|(rank, _)| !failed.contains(rank));
    let flags = left.fold(u64::MAX, |flags, (_, contribution)| flags & contribution.flags);
    Agreed { flags, failed: failed.into_iter().collect() }
}
