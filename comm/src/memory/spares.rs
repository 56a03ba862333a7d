//! Things kept for the next time one is needed, so that repeating an operation allocates nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most things kept; more operations are rarely in flight at a time.
const SPARES_MAX: usize = 64;

/// Some things of one kind. Its lock is held for a few instructions and orders nothing else, so
/// that models of threads need not know of it.
#[derive(Debug)]
pub(crate) struct Spares<T>(Mutex<Vec<T>>);

impl<T> Default for Spares<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T> Spares<T> {
    /// One that fits, if there is one.
    pub(crate) fn take(&self, fits: impl FnMut(&mut T) -> bool) -> Option<T> {
        let mut spares = self.spares();
        let found = spares.iter_mut().position(fits)?;
        Some(spares.swap_remove(found))
    }

    /// Keeps one for later, or drops it when there are enough.
    pub(crate) fn keep(&self, spare: T) {
        let mut spares = self.spares();
        if spares.len() < SPARES_MAX {
            spares.push(spare);
        }
    }

    fn spares(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_found_again_if_it_fits() {
        let spares = Spares::default();
        assert_eq!(spares.take(|_| true), None);
        spares.keep(3);
        spares.keep(4);
        assert_eq!(spares.take(|&mut n| n > 4), None);
        assert_eq!(spares.take(|&mut n| n == 3), Some(3));
        assert_eq!(spares.take(|&mut n| n == 3), None);
        (0..2 * SPARES_MAX).for_each(|n| spares.keep(n));
        assert_eq!(spares.spares().len(), SPARES_MAX);
    }
}
