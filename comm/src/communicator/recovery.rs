//! What to do when something has failed: give up, agree on who is left, and go on without the
//! others.

use std::sync::atomic::Ordering;

use super::fingerprint::Fingerprint;
use super::{Communicator, Identity};
use crate::control::core::{Agreed, Cause};
use crate::error::{Error, Rank, Result};

/// What the survivors of a communicator agreed on; the same at all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Bitwise AND of what they brought.
    pub flags: u64,
    /// The ranks that have no part any more, ascending: dead, silent, gone, or given up.
    pub failed: Vec<Rank>,
}

/// Keeps the ids of shrunk communicators apart from those of split ones.
const SHRUNK: u64 = 0x7368_7269_6e6b;

impl Communicator {
    /// Counts the changes of members that led to this communicator, from 0.
    pub fn epoch(&self) -> u32 {
        self.inner.identity.epoch
    }

    /// Ends this communicator for everybody: pending calls end on every rank, and it takes no
    /// more, except [`agree`](Self::agree) and [`shrink`](Self::shrink). May be called from any
    /// thread.
    pub fn revoke(&self, reason: &str) {
        if self.inner.check_process("revoke").is_err() {
            return;
        }
        let by = self.job_rank();
        self.inner.charge.fate.condemn(&Cause::Revoked { by, reason: reason.to_owned() });
        self.inner.job.control.revoke(self.inner.identity.id, reason);
    }

    /// Gives this communicator up: this rank's pending calls end at once, those of the others
    /// with an error that names this rank and the reason. It has no part in what the others agree
    /// on afterwards. May be called from any thread.
    pub fn abort(&self, reason: &str) {
        if self.inner.check_process("abort").is_err() {
            return;
        }
        let by = self.job_rank();
        self.inner.charge.fate.condemn(&Cause::Aborted { by, reason: reason.to_owned() });
        self.inner.job.control.abort(self.inner.identity.id, reason);
    }

    /// Why the communicator takes no more calls, if that is so.
    pub fn failure(&self) -> Option<Error> {
        let sequence = self.inner.sequence.load(Ordering::Relaxed);
        self.inner.charge.fate.failure("failure", sequence)
    }

    fn job_rank(&self) -> Rank {
        self.inner.jobs[self.inner.me as usize]
    }

    /// Agrees with the other survivors on the bitwise AND of their `flags`, and on who has
    /// failed; a collective call of all ranks that can. Works on a failed communicator, and ends
    /// even when ranks fail meanwhile. Ranks that do not come within the timeout are left out,
    /// those that are known to be dead or silent at once.
    ///
    /// # Errors
    /// [`Error::Excluded`] when the others have gone on without this rank.
    pub fn agree(&self, flags: u64) -> Result<Agreement> {
        self.agree_in("agree", flags)
    }

    fn agree_in(&self, operation: &'static str, flags: u64) -> Result<Agreement> {
        let inner = &self.inner;
        inner.check_process(operation)?;
        let (id, limit) = (inner.identity.id, inner.options.timeout);
        match inner.job.control.agree(id, flags, limit, &inner.patience()) {
            Ok(Agreed { flags, failed }) => {
                let member = |job| inner.jobs.iter().position(|&known| known == job);
                let rank = |job| member(job).and_then(|at| Rank::try_from(at).ok());
                let mut failed: Vec<Rank> = failed.into_iter().filter_map(rank).collect();
                failed.sort_unstable();
                Ok(Agreement { flags, failed })
            }
            Err(excluded) => {
                let sequence = inner.sequence.load(Ordering::Relaxed);
                let call = inner.charge.fate.call(operation, sequence);
                Err(Error::Excluded { call, reason: excluded.reason })
            }
        }
    }

    /// A communicator of the ranks that are left, in order; a collective call of all of them.
    /// Works on a failed communicator. Ranks that fail meanwhile are left out too.
    ///
    /// # Errors
    /// [`Error::Excluded`] when the others have gone on without this rank; [`Error::System`] and
    /// [`Error::Rendezvous`] when the new communicator cannot be made for other reasons.
    pub fn shrink(&self) -> Result<Self> {
        const WELL: u64 = 1;
        loop {
            let before = self.agree_in("shrink", WELL)?;
            let survivors: Vec<Rank> =
                (0..self.ranks()).filter(|rank| !before.failed.contains(rank)).collect();
            let made = self.shrunk(&survivors);
            let flags = if made.is_ok() { WELL } else { 0 };
            let after = self.agree_in("shrink", flags)?;
            match made {
                Ok(made) if after.flags == WELL && after.failed == before.failed => {
                    return Ok(made);
                }
                // Nobody died, so trying again would not help.
                Err(error) if after.failed == before.failed => return Err(error),
                Ok(_) if after.failed == before.failed => {
                    let reason = "another rank could not make the new communicator".to_owned();
                    let (rank, world) = (self.rank(), self.ranks());
                    return Err(Error::Rendezvous { rank, world, reason });
                }
                _ => {}
            }
        }
    }

    fn shrunk(&self, survivors: &[Rank]) -> Result<Self> {
        let attempt = self.inner.shrinks.fetch_add(1, Ordering::Relaxed);
        let Identity { id, epoch } = self.inner.identity;
        let id = Fingerprint::new().word(id).word(SHRUNK).word(attempt).finish();
        self.descendant(Identity { id, epoch: epoch.saturating_add(1) }, survivors, None)
    }
}
