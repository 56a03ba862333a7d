//! Communicators made from communicators.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::fingerprint::Fingerprint;
use super::{Communicator, Identity, Seats, Start, setup};
use crate::control::Fate;
use crate::error::{Error, Rank, Result};
use crate::rendezvous::{InitTimings, MemberInfo};

impl Communicator {
    /// Splits this communicator; a collective call. Ranks of equal `color` form a new
    /// communicator, in which they are ordered by `key`, then by rank. A rank without a colour
    /// gets `None`.
    ///
    /// # Errors
    /// Those of a collective, and of [`init`](Self::init). When a rank fails, or revokes the new
    /// communicator or this one, while others are in the call, those return its error. This
    /// communicator, unless it has failed itself, works on, and is the one to
    /// [`agree`](Self::agree) on whether all have got the new one; so it is for
    /// [`subset`](Self::subset) and [`duplicate`](Self::duplicate).
    pub fn split(&self, color: Option<u32>, key: i32) -> Result<Option<Self>> {
        let mine = [color.map_or(-1, i64::from), i64::from(key)];
        let mut all = vec![0i64; 2 * self.ranks() as usize];
        self.all_gather(&mine, &mut all)?;
        let child = self.inner.children.fetch_add(1, Ordering::Relaxed);
        let Some(color) = color.map(i64::from) else { return Ok(None) };
        let mut chosen: Vec<(i64, Rank)> = all
            .chunks_exact(2)
            .zip(0..)
            .filter(|(theirs, _)| theirs[0] == color)
            .map(|(theirs, rank)| (theirs[1], rank))
            .collect();
        chosen.sort_unstable();
        let ranks: Vec<Rank> = chosen.into_iter().map(|(_, rank)| rank).collect();
        self.child("split", child, &ranks).map(Some)
    }

    /// A communicator of the given ranks, in this order; a collective call of all ranks, with
    /// the same list. A rank that is not listed gets `None`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the list is empty, repeats a rank or names one that does
    /// not exist; those of [`split`](Self::split).
    pub fn subset(&self, ranks: &[Rank]) -> Result<Option<Self>> {
        let mut sorted = ranks.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let bad = sorted.last().is_none_or(|&last| last >= self.ranks());
        if bad || sorted.len() != ranks.len() {
            let reason = format!(
                "{ranks:?} must name ranks 0 to {}, each at most once, and at least one",
                self.ranks() - 1
            );
            return Err(Error::InvalidArgument { operation: "subset", reason });
        }
        let child = self.inner.children.fetch_add(1, Ordering::Relaxed);
        if !ranks.contains(&self.rank()) {
            return Ok(None);
        }
        self.child("subset", child, ranks).map(Some)
    }

    /// A communicator of the same ranks whose operations do not wait for this one's; a
    /// collective call.
    ///
    /// # Errors
    /// Those of [`split`](Self::split).
    pub fn duplicate(&self) -> Result<Self> {
        let child = self.inner.children.fetch_add(1, Ordering::Relaxed);
        let ranks: Vec<Rank> = (0..self.ranks()).collect();
        self.child("duplicate", child, &ranks)
    }

    /// The `number`-th communicator made from this one, of `ranks`, which name this one.
    fn child(&self, operation: &'static str, number: u64, ranks: &[Rank]) -> Result<Self> {
        let fate = &self.inner.charge.fate;
        if let Some(error) = fate.failure(operation, self.inner.sequence.load(Ordering::Relaxed)) {
            return Err(error);
        }
        // Groups of one split differ in their lowest rank.
        let lowest = ranks.iter().min().copied().unwrap_or(0);
        let Identity { id, epoch } = self.inner.identity;
        let id = Fingerprint::new().word(id).word(number).word(u64::from(lowest)).finish();
        self.descendant(Identity { id, epoch }, ranks, Some(fate))
    }

    /// A communicator of `ranks`, which name this one, in the same job; given up when `parent`
    /// fails.
    pub(super) fn descendant(
        &self,
        identity: Identity,
        ranks: &[Rank],
        parent: Option<&Fate>,
    ) -> Result<Self> {
        let inner = &self.inner;
        let member = |(&old, new): (&Rank, Rank)| MemberInfo {
            rank: new,
            ..inner.members[old as usize].clone()
        };
        let me = ranks.iter().position(|&rank| rank == inner.me).unwrap_or(0);
        let seats = Seats {
            me: u32::try_from(me).unwrap_or(Rank::MAX),
            members: ranks.iter().zip(0..).map(member).collect(),
            jobs: ranks.iter().map(|&rank| inner.jobs[rank as usize]).collect(),
        };
        let since = Instant::now();
        let deadline = setup::deadline_after(inner.options.timeout);
        let start = Start { deadline, since, timings: InitTimings::default(), parent };
        let options = inner.options.clone();
        let constants = *inner.planner.constants();
        Self::assemble(&inner.job, identity, seats, options, constants, start)
    }
}
