//! Where the ranks of a job learn the id that their root made.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Participant;
use super::file;
use super::key_value::{self, KeyValueStore};
use super::proof::Secret;
use super::unique_id::UniqueId;
use super::wait::Wait;
use crate::error::Result;

/// How often a rendezvous file is looked at.
const FILE_INTERVAL: Duration = Duration::from_millis(50);
/// How often a store is asked: soon at first, then less and less.
const STORE_INTERVAL_MIN: Duration = Duration::from_millis(1);
const STORE_INTERVAL_MAX: Duration = Duration::from_millis(100);
/// How often a store is asked whether the root it named was the right one.
const STORE_RECHECK: Duration = Duration::from_secs(1);

/// A root: where it may be, and the secret of its job.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) secret: Secret,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl From<&UniqueId> for Target {
    fn from(id: &UniqueId) -> Self {
        Self { secret: id.secret().clone(), addresses: id.addresses() }
    }
}

/// What a look at a source found.
pub(crate) enum Look {
    /// A root; perhaps that of an earlier job.
    Found(Target),
    /// In words, why there is none yet.
    NotYet(String),
}

/// Tells the id.
pub(crate) trait Source {
    /// Looks once; waits, if at all, through `wait`. An error ends the rendezvous.
    fn look(&mut self, me: &Participant<'_>, wait: Wait<'_>) -> Result<Look>;

    /// When to look again after nothing was there, the `looks`-th time.
    fn interval(&self, looks: u32) -> Duration;

    /// How often to look whether another id has taken the place of the one found; `None`: it is
    /// certain to be this job's.
    fn recheck(&self) -> Option<Duration>;

    /// Who makes it known, for an error: "is rank 0 running?".
    fn hint(&self) -> &'static str {
        "is rank 0 running?"
    }
}

/// An id that came with the call: certain, and its root listens.
pub(crate) struct Given(pub(crate) UniqueId);

impl Source for Given {
    fn look(&mut self, _: &Participant<'_>, _: Wait<'_>) -> Result<Look> {
        Ok(Look::Found(Target::from(&self.0)))
    }

    fn interval(&self, _: u32) -> Duration {
        FILE_INTERVAL
    }

    fn recheck(&self) -> Option<Duration> {
        None
    }

    fn hint(&self) -> &'static str {
        "is the process that made the id running?"
    }
}

/// A file that all ranks see.
pub(crate) struct InFile(pub(crate) PathBuf);

impl Source for InFile {
    fn look(&mut self, _: &Participant<'_>, _: Wait<'_>) -> Result<Look> {
        Ok(match file::read(&self.0) {
            Ok(id) => Look::Found(Target::from(&id)),
            Err(reason) => Look::NotYet(reason),
        })
    }

    fn interval(&self, _: u32) -> Duration {
        FILE_INTERVAL
    }

    fn recheck(&self) -> Option<Duration> {
        Some(FILE_INTERVAL)
    }
}

/// A store that the host program brought.
pub(crate) struct InStore<'a> {
    pub(crate) store: &'a dyn KeyValueStore,
    pub(crate) namespace: &'a str,
}

impl Source for InStore<'_> {
    fn look(&mut self, me: &Participant<'_>, _: Wait<'_>) -> Result<Look> {
        let found = key_value::fetch(self.store, self.namespace);
        found.map_err(|reason| me.error(reason)).map(|found| match found {
            Some(id) => Look::Found(Target::from(&id)),
            None => {
                Look::NotYet(format!("the store holds no {}", key_value::id_key(self.namespace)))
            }
        })
    }

    fn interval(&self, looks: u32) -> Duration {
        STORE_INTERVAL_MAX.min(STORE_INTERVAL_MIN * (1 << looks.min(16)))
    }

    fn recheck(&self) -> Option<Duration> {
        Some(STORE_RECHECK)
    }
}
