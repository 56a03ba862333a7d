//! Root listeners between the call that made their id and the one that joins the job.
//!
//! Each entry belongs to one job and is reached by that job's id alone.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::listener::Listener;
use super::unique_id::UniqueId;

static OPEN: Mutex<Vec<(UniqueId, Listener)>> = Mutex::new(Vec::new());

fn open() -> MutexGuard<'static, Vec<(UniqueId, Listener)>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn keep(id: UniqueId, listener: Listener) {
    open().push((id, listener));
}

/// The listener behind `id`, if this process made it and nobody has claimed it yet.
pub(crate) fn claim(id: &UniqueId) -> Option<Listener> {
    let mut open = open();
    let at = open.iter().position(|(other, _)| other == id)?;
    Some(open.swap_remove(at).1)
}

/// Whether `id` was made here and nobody has claimed it yet.
#[cfg(test)]
pub(crate) fn holds(id: &UniqueId) -> bool {
    open().iter().any(|(other, _)| other == id)
}
