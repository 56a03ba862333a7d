//! How near two cores are: how long a cache line takes there and back between them.
//!
//! On a virtual machine this changes while it runs, as the host moves its processors between clusters
//! of cores that share a cache, or not; and with it every time in shared memory, several times
//! over. So a comparison says what it was at the start and at the end.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::launch::own_processors;

/// Lines tried, each on a page of its own: how far away a line is also depends on its address.
const LINES: usize = 64;
/// Round trips of each.
const TRIPS: u32 = 200;
/// Polls in vain before the core is offered to whoever else wants it.
const POLLS_PER_YIELD: u32 = 1 << 14;
/// Given up after this: other programs have the cores.
const PATIENCE: Duration = Duration::from_millis(500);

/// A page, of which one line is used.
#[repr(align(4096))]
struct Page(AtomicU32);

/// Two processors, the first that ranks are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair(pub(crate) usize, pub(crate) usize);

impl Pair {
    /// Of those that this process may use; `None` if that is one only.
    pub(crate) fn of_this_machine() -> Option<Self> {
        match own_processors()[..] {
            [first, second, ..] => Some(Self(first, second)),
            _ => None,
        }
    }

    /// How long a line takes from one to the other and back, in nanoseconds: the median over lines.
    /// `None` if other programs do not let it be found out.
    pub(crate) fn round_trip_ns(self) -> Option<f64> {
        let pages: Vec<Page> = (0..LINES).map(|_| Page(AtomicU32::new(0))).collect();
        let given_up = AtomicBool::new(false);
        let (pages, given_up) = (&pages, &given_up);
        std::thread::scope(|threads| {
            threads.spawn(move || {
                stay_on(self.1, given_up) && pages.iter().all(|page| answer(page, given_up))
            });
            let asker = threads.spawn(move || {
                if !stay_on(self.0, given_up) {
                    return None;
                }
                let end = Instant::now() + PATIENCE;
                pages.iter().map(|page| ask(page, given_up, end)).collect::<Option<Vec<f64>>>()
            });
            let mut times = asker.join().ok().flatten()?;
            times.sort_by(f64::total_cmp);
            Some(times[times.len() / 2])
        })
    }
}

/// Binds the calling thread, or gives up for both; whether it is bound.
fn stay_on(processor: usize, given_up: &AtomicBool) -> bool {
    let mut set = CpuSet::new();
    set.set(processor);
    let bound = sched_setaffinity(None, &set).is_ok();
    if !bound {
        given_up.store(true, Ordering::Relaxed);
    }
    bound
}

/// Nanoseconds of a round trip on one line, on average. `None` when it was given up.
fn ask(page: &Page, given_up: &AtomicBool, end: Instant) -> Option<f64> {
    let start = Instant::now();
    for trip in 0..TRIPS {
        page.0.store(2 * trip + 1, Ordering::Release);
        if !comes(page, 2 * trip + 2, given_up, Some(end)) {
            return None;
        }
    }
    Some(start.elapsed().as_nanos() as f64 / f64::from(TRIPS))
}

/// The other end; whether it was not given up.
fn answer(page: &Page, given_up: &AtomicBool) -> bool {
    (0..TRIPS).all(|trip| {
        let asked = comes(page, 2 * trip + 1, given_up, None);
        page.0.store(2 * trip + 2, Ordering::Release);
        asked
    })
}

/// Waits for `value`; whether it came. Whoever has an `end` gives up then, for both.
fn comes(page: &Page, value: u32, given_up: &AtomicBool, end: Option<Instant>) -> bool {
    let mut polls = 0_u32;
    while page.0.load(Ordering::Acquire) != value {
        polls = polls.wrapping_add(1);
        if !polls.is_multiple_of(POLLS_PER_YIELD) {
            std::hint::spin_loop();
            continue;
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            given_up.store(true, Ordering::Relaxed);
        }
        if given_up.load(Ordering::Relaxed) {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cores_are_some_way_apart() {
        let Some(pair) = Pair::of_this_machine() else {
            crate::complain("skipped: this process may use one processor only");
            return;
        };
        assert_ne!(pair.0, pair.1);
        match pair.round_trip_ns() {
            Some(time) => assert!(time > 1.0 && time < 1e9, "{time} ns"),
            None => crate::complain("skipped: other programs had the processors"),
        }
    }

    #[test]
    fn a_processor_that_is_not_there_ends_it() {
        let Some(pair) = Pair::of_this_machine() else {
            crate::complain("skipped: this process may use one processor only");
            return;
        };
        let absent = CpuSet::MAX_CPU - 1;
        assert_eq!(Pair(absent, pair.1).round_trip_ns(), None);
        assert_eq!(Pair(pair.0, absent).round_trip_ns(), None);
    }
}
