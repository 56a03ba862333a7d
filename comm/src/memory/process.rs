//! Telling a process from the children it forks, without a system call.
//!
//! A page that the kernel empties in every forked child (`MADV_WIPEONFORK`, Linux 4.14) holds a
//! number that is not 0. A child finds 0 there.

use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// Kernel pages are at least this large on every machine; one word of it is used.
const PAGE_BYTES: usize = 4096;

/// The page, mapped for the life of the process.
struct Mark {
    word: NonNull<AtomicU64>,
    /// The kernel empties the page in a child. Otherwise process ids are compared.
    is_wiped: bool,
}

// SAFETY: the page is never unmapped, and an atomic is for all threads.
unsafe impl Send for Mark {}
// SAFETY: as above.
unsafe impl Sync for Mark {}

impl Mark {
    fn new() -> Option<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: without a wanted address, no existing mapping is touched.
        let page =
            unsafe { mmap_anonymous(ptr::null_mut(), PAGE_BYTES, access, MapFlags::PRIVATE) };
        let page = page.ok()?;
        // SAFETY: the whole of a page that was just mapped and that nothing else uses; its
        // content is 0 before and after.
        let advised = unsafe { madvise(page, PAGE_BYTES, Advice::LinuxWipeOnFork) };
        Some(Self { word: NonNull::new(page.cast())?, is_wiped: advised.is_ok() })
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: page-aligned memory of the size of the word, mapped for ever, zeroed at first
        // (a valid atomic), and accessed only as this atomic.
        unsafe { self.word.as_ref() }
    }
}

static MARK: OnceLock<Option<Mark>> = OnceLock::new();
/// The latest number given; unlike the page, a child has a copy of it.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// A number that is this process's own among itself, its ancestors by fork, and its children: it
/// changes in a forked child, and is never 0.
#[inline]
pub fn process_generation() -> u64 {
    let mark = MARK.get_or_init(Mark::new);
    match mark {
        Some(mark) if mark.is_wiped => match mark.word().load(Ordering::Relaxed) {
            0 => first_look(mark),
            generation => generation,
        },
        _ => u64::from(std::process::id()),
    }
}

#[cold]
fn first_look(mark: &Mark) -> u64 {
    let next = LATEST.fetch_add(1, Ordering::Relaxed) + 1;
    match mark.word().compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => next,
        Err(other_thread) => other_thread,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_stays_the_same_and_is_not_zero() {
        let first = process_generation();
        assert_ne!(first, 0);
        assert_eq!(std::thread::spawn(process_generation).join().unwrap(), first);
        assert_eq!(process_generation(), first);
    }
}
