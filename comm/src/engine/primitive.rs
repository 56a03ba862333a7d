//! What the threads that share an engine synchronize with: the standard library's atomics and
//! locks and two system calls, or, in the models of `model.rs`, loom's.
//!
//! Everything of the engine that more than one thread touches goes through here, so that loom sees
//! all of it; and of control, what its thread and those that wait tell each other without a lock.

#[cfg(all(test, syncline_loom))]
pub(super) use modelled::{
    AtomicBool, AtomicU32, Mutex, MutexGuard, TryMutex, TryMutexGuard, ring, silence, wake,
    yield_now,
};
#[cfg(all(test, syncline_loom))]
pub(crate) use modelled::{OnceLock, fence, sleep};
#[cfg(not(all(test, syncline_loom)))]
pub(super) use real::{ring, silence, wake, yield_now};
#[cfg(not(all(test, syncline_loom)))]
pub(crate) use std::sync::OnceLock;
#[cfg(not(all(test, syncline_loom)))]
pub(crate) use std::sync::atomic::fence;
#[cfg(not(all(test, syncline_loom)))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicU32};
#[cfg(not(all(test, syncline_loom)))]
pub(super) use std::sync::{Mutex, Mutex as TryMutex, MutexGuard, MutexGuard as TryMutexGuard};

#[cfg(not(all(test, syncline_loom)))]
mod real {
    use std::os::fd::BorrowedFd;
    use std::sync::atomic::AtomicU32;

    use rustix::thread::futex;

    /// Wakes all threads of this process that sleep on `word`.
    pub(in super::super) fn wake(word: &AtomicU32) {
        // A wake that fails leaves the sleepers to their bounded sleeps.
        let _ = futex::wake(word, futex::Flags::PRIVATE, u32::MAX >> 1);
    }

    /// Makes an event descriptor readable.
    pub(in super::super) fn ring(fd: BorrowedFd<'_>) {
        // Fails only when it has rung 2^64 times unheard, and then it is readable already.
        let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
    }

    /// Makes it unreadable.
    pub(in super::super) fn silence(fd: BorrowedFd<'_>) {
        // Would block when it has not rung: nothing to silence.
        let _ = rustix::io::read(fd, &mut [0_u8; 8]);
    }

    /// Gives up the core.
    pub(in super::super) fn yield_now() {
        rustix::thread::sched_yield();
    }
}

#[cfg(all(test, syncline_loom))]
mod modelled {
    //! The kernel has one lock here, and one queue of sleepers; every wake-up wakes all of it.
    //! Sleeps have no bound: where the library would notice late, a model deadlocks.

    use std::ops::{Deref, DerefMut};
    use std::os::fd::BorrowedFd;
    use std::sync::{TryLockError, TryLockResult};
    use std::time::Duration;

    use loom::sync::Condvar;
    pub(crate) use loom::sync::atomic::fence;
    pub(in super::super) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    pub(in super::super) use loom::sync::{Mutex, MutexGuard};
    use rustix::event::{Timespec, poll};

    use super::super::wait::WakeOn;

    #[derive(Default)]
    struct Kernel {
        lock: Mutex<()>,
        sleepers: Condvar,
    }

    /// Nothing: to loom a yield says that all others go first, and then nobody would ever fall
    /// asleep before they were done.
    pub(in super::super) const fn yield_now() {}

    loom::lazy_static! {
        static ref KERNEL: Kernel = Kernel::default();
    }

    pub(in super::super) fn wake(_word: &AtomicU32) {
        let _guard = KERNEL.lock.lock().expect("no panic");
        KERNEL.sleepers.notify_all();
    }

    pub(in super::super) fn ring(fd: BorrowedFd<'_>) {
        let _guard = KERNEL.lock.lock().expect("no panic");
        rustix::io::write(fd, &1_u64.to_ne_bytes()).expect("it has room");
        KERNEL.sleepers.notify_all();
    }

    pub(in super::super) fn silence(fd: BorrowedFd<'_>) {
        let _guard = KERNEL.lock.lock().expect("no panic");
        let _ = rustix::io::read(fd, &mut [0_u8; 8]);
    }

    pub(crate) fn sleep(wake: WakeOn<'_>, _bound: Duration) {
        let mut guard = KERNEL.lock.lock().expect("no panic");
        let asleep = |wake: &WakeOn<'_>| match wake {
            WakeOn::Private { word, value } => word.load(Ordering::Relaxed) == *value,
            WakeOn::Shared { .. } => panic!("modelled with the transport, not here"),
            WakeOn::Fds(fds) => {
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                poll(&mut fds.clone(), Some(&now)).expect("descriptors") == 0
            }
        };
        while asleep(&wake) {
            guard = KERNEL.sleepers.wait(guard).expect("no panic");
        }
    }

    /// Loom has none. It does not switch threads in the initializers used here.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        made: AtomicBool,
        inside: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self { made: AtomicBool::new(false), inside: std::sync::OnceLock::new() }
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            let made = self.inside.get_or_init(make);
            self.made.store(true, Ordering::Release);
            made
        }

        pub(crate) fn get(&self) -> Option<&T> {
            if self.made.load(Ordering::Acquire) { self.inside.get() } else { None }
        }
    }

    /// A lock that is only ever tried: loom lets `try_lock` of its own wait for the holder.
    #[derive(Debug, Default)]
    pub(in super::super) struct TryMutex<T> {
        locked: AtomicBool,
        inside: std::sync::Mutex<T>,
    }

    impl<T> TryMutex<T> {
        pub(in super::super) fn new(value: T) -> Self {
            Self { locked: AtomicBool::new(false), inside: std::sync::Mutex::new(value) }
        }

        pub(in super::super) fn try_lock(&self) -> TryLockResult<TryMutexGuard<'_, T>> {
            self.locked
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .map_err(|_| TryLockError::WouldBlock)?;
            let inside = Some(self.inside.lock().expect("no panic"));
            Ok(TryMutexGuard { locked: &self.locked, inside })
        }
    }

    #[derive(Debug)]
    pub(in super::super) struct TryMutexGuard<'a, T> {
        locked: &'a AtomicBool,
        /// `None` only inside `drop`.
        inside: Option<std::sync::MutexGuard<'a, T>>,
    }

    impl<T> Deref for TryMutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.inside.as_ref().expect("it lives until drop")
        }
    }

    impl<T> DerefMut for TryMutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.inside.as_mut().expect("it lives until drop")
        }
    }

    impl<T> Drop for TryMutexGuard<'_, T> {
        fn drop(&mut self) {
            self.inside = None;
            self.locked.store(false, Ordering::Release);
        }
    }
}
