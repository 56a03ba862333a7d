//! One communicator, as control sees it.

use std::sync::Arc;
use std::time::Duration;

use super::agree::Agreements;
use super::investigate::Inquiry;
use super::local::Local;
use super::roster::Departure;
use super::{Answer, Cause, CommId, Message, Output, overlay};
use crate::error::Rank;

/// A communicator that this member has or had.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: CommId,
    pub(super) members: Arc<[Rank]>,
    /// This member's index in `members`.
    pub(super) position: usize,
    /// This member left it. It is kept for a while, to answer those that have not.
    pub(super) closed: bool,
    /// This member gave it up.
    pub(super) aborted: bool,
    pub(super) failed: Option<Cause>,
    pub(super) inquiries: Vec<Inquiry>,
    pub(super) agreements: Agreements,
}

impl Group {
    pub(super) fn new(id: CommId, members: Arc<[Rank]>, position: usize) -> Self {
        Self {
            id,
            members,
            position,
            closed: false,
            aborted: false,
            failed: None,
            inquiries: Vec::new(),
            agreements: Agreements::default(),
        }
    }

    /// Whether its operations go on, as far as is known.
    pub(super) fn is_well(&self) -> bool {
        self.failed.is_none() && !self.closed
    }

    /// Accepts `cause` if it is the first, and passes it on, but not to `teller`.
    pub(super) fn fail(&mut self, local: &mut Local, cause: Cause, teller: Option<Rank>) {
        let gives_up = match &cause {
            Cause::Aborted { by, .. } => self.agreements.note_absent(*by),
            _ => false,
        };
        if self.failed.is_some() && !gives_up {
            return;
        }
        let cause = cause.clipped();
        self.accept(local, cause.clone());
        let present = |at: usize| !local.roster.is_gone(self.members[at]);
        let neighbours = overlay::neighbours(self.position, self.members.len(), present);
        for to in neighbours.into_iter().map(|at| self.members[at]) {
            if Some(to) != teller {
                local.send(to, Message::Failed { comm: self.id, cause: cause.clone() });
            }
        }
        if gives_up {
            self.review_agreements(local);
        }
    }

    /// Accepts `cause` if it is the first. Nobody is told.
    fn accept(&mut self, local: &mut Local, cause: Cause) {
        if self.failed.is_some() {
            return;
        }
        self.inquiries.clear();
        self.failed = Some(cause.clone());
        if !self.closed {
            local.outputs.push_back(Output::Failed { comm: self.id, cause });
        }
    }

    /// A member of the job is dead. Everybody hears of that, so nobody needs to be told of its
    /// consequences.
    pub(super) fn bury(&mut self, local: &mut Local, rank: Rank, how: &str) {
        if self.members.contains(&rank) {
            let cause = Cause::Lost { rank, how: how.to_owned() };
            self.accept(local, cause.clipped());
        }
    }

    /// This member leaves; answers whether it had not yet.
    pub(super) fn close(&mut self, local: &mut Local) -> bool {
        if self.closed {
            return false;
        }
        self.inquiries.clear();
        self.quit_agreements(local, "this rank left the communicator");
        self.closed = true;
        true
    }

    /// This member gives up.
    pub(super) fn abort(&mut self, local: &mut Local, reason: &str) {
        let (by, reason) = (local.me, reason.to_owned());
        if !self.closed && !self.aborted {
            self.fail(local, Cause::Aborted { by, reason }, None);
            self.aborted = true;
            self.quit_agreements(local, "this rank aborted the communicator");
        }
    }

    /// The others hold this member for dead.
    pub(super) fn outcast(&mut self, local: &mut Local, how: &str) {
        let me = local.me;
        self.bury(local, me, how);
        if self.agreements.exclude(me) {
            self.quit_agreements(local, &format!("the others hold this rank for dead: {how}"));
        }
    }

    /// How this member stands to the communicator.
    pub(super) fn standing(&self) -> Answer {
        match &self.failed {
            Some(cause) => Answer::Failed(cause.clone()),
            None if self.closed => Answer::Left,
            None => Answer::Well,
        }
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        let inquiries = self.inquiries.iter().filter_map(Inquiry::next_tick).min();
        inquiries.into_iter().chain(self.agreements.next_tick()).min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, local: &mut Local) {
        self.tick_inquiries(local);
        self.tick_agreements(local);
    }

    /// Somebody departed, or is in doubt.
    pub(super) fn depart(&mut self, local: &mut Local, rank: Rank) {
        match local.roster.departure(rank).cloned() {
            Some(Departure::Dead { how }) => self.bury(local, rank, &how),
            Some(Departure::Left { .. }) => self.inquiries_lose(local, rank),
            Some(Departure::Doubtful { .. }) | None => {}
        }
        self.agreements_lose(local, rank);
    }
}
