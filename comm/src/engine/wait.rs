//! The one place in the library that blocks.
//!
//! [`wait`] polls a [`Source`] until it is done. While nothing moves it spins for a few ten
//! microseconds; then it arms the source, polls once more, and sleeps until a wake-up. Every
//! sleep is bounded, so that an abort, a deadline or a dead peer is noticed even when no wake-up
//! comes.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
#[cfg(not(all(test, syncline_loom)))]
use rustix::thread::futex;
use smallvec::SmallVec;

use super::primitive::{self, AtomicBool};

/// Longest single sleep of whoever waits for wires: an abort or a dead peer is noticed even when
/// no wake-up comes, and so is another thread that wants the engine.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// How long to spin, or to go on giving up the core, after the last movement.
const SPIN_MAX: Duration = Duration::from_micros(40);
/// The most idle polls to spin, however fast they are.
const SPIN_POLLS_MAX: u32 = 1024;
/// Idle polls between two looks at the clock and the abort flag while spinning.
const POLLS_PER_LOOK: u32 = 64;
/// Busy polls between two looks at the clock and the abort flag.
const MOVES_PER_LOOK: u32 = 1024;
/// How often to give up the core before sleeping, when there are more ranks than cores: enough
/// for the others to have had their turn, as being woken costs both sides a system call. Not much
/// more while they have work: every turn in vain costs them two context switches. A model need not
/// try them all.
const YIELDS: u32 = if cfg!(syncline_loom) { 3 } else { 10 };
/// The same where that took less than [`SPIN_MAX`]: nobody here has much work, and whoever is waited
/// for runs on another core.
const YIELDS_MAX: u32 = if cfg!(syncline_loom) { 3 } else { 64 };

/// Whoever takes longer to give the core back did not want it for a message that is waited for here:
/// a process that computes, which the scheduler gives a whole slice at once.
const YIELD_TIME_MAX: Duration = Duration::from_micros(500);
/// How long the core is not offered after that: schedulers put who has yielded behind who computes.
const OFFENCE: Duration = Duration::from_millis(100);

/// Whether those that wait on a core of their own offer it to others before they sleep. For all
/// waits that meet the same neighbours.
#[derive(Debug, Default)]
pub struct Courtesy {
    /// Nanoseconds of the clock until which they do not.
    offended_until: AtomicU64,
}

impl Courtesy {
    /// Offers the core; `false` when it was not offered.
    pub(super) fn offer(&self, clock: &dyn Clock) -> bool {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let before = clock.now();
        if nanoseconds(before) < self.offended_until.load(Ordering::Relaxed) {
            return false;
        }
        primitive::yield_now();
        let now = clock.now();
        if now.saturating_sub(before) > YIELD_TIME_MAX {
            self.offended_until.store(nanoseconds(now + OFFENCE), Ordering::Relaxed);
        }
        true
    }
}

/// Time, for deadlines. Real, or virtual in simulations.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment; never goes back.
    fn now(&self) -> Duration;

    /// Lets up to `bound` pass in place of a sleep, and answers `true`; a real clock answers
    /// `false`, and the caller sleeps.
    fn pass(&self, bound: Duration) -> bool {
        let _ = bound;
        false
    }
}

/// The system's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    start: Instant,
}

impl MonotonicClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// How long, and how, to wait.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// Measures everything below.
    pub clock: &'a dyn Clock,
    /// Give up when nothing has moved for this long.
    pub stall_max: Option<Duration>,
    /// Give up when the clock shows this.
    pub deadline: Option<Duration>,
    /// Give up when this becomes true.
    pub abort: Option<&'a AtomicBool>,
    /// Longest single sleep. What nothing but a wake-up can end may sleep for longer than usual.
    pub sleep_max: Duration,
    /// The host runs more ranks than it has cores: do not spin.
    pub oversubscribed: bool,
    /// Whether to offer a core of its own to others while it waits; always, without one.
    pub courtesy: Option<&'a Courtesy>,
}

impl std::fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patience")
            .field("stall_max", &self.stall_max)
            .field("deadline", &self.deadline)
            .field("oversubscribed", &self.oversubscribed)
            .finish_non_exhaustive()
    }
}

impl<'a> Patience<'a> {
    /// Waits for ever.
    pub const fn endless(clock: &'a dyn Clock) -> Self {
        Self {
            clock,
            stall_max: None,
            deadline: None,
            abort: None,
            sleep_max: SLEEP_MAX,
            oversubscribed: false,
            courtesy: None,
        }
    }

    /// Offers the core to others; `false` when it was not offered.
    fn offer(&self) -> bool {
        match self.courtesy {
            Some(courtesy) => courtesy.offer(self.clock),
            None => {
                primitive::yield_now();
                true
            }
        }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was waited for is there.
    Done,
    /// Nothing has moved for this long.
    Stalled(Duration),
    /// The deadline has passed.
    Deadline,
    /// The abort flag was raised.
    Aborted,
}

/// What one poll of a source found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// What is waited for is there.
    Done,
    /// Something moved; poll again.
    Moved,
    /// Nothing to do.
    Idle,
}

/// Descriptors to sleep on, kept without an allocation as a rule: there is a list for every sleep.
pub type PollFds<'a> = SmallVec<[PollFd<'a>; 64]>;

/// What ends a sleep.
#[expect(clippy::large_enum_variant, reason = "made on the stack for every sleep")]
pub enum WakeOn<'a> {
    /// The futex word, which lies in memory shared with other processes, leaves this value.
    Shared {
        /// The word.
        word: &'a AtomicU32,
        /// The value to sleep on.
        value: u32,
    },
    /// The futex word, which only threads of this process wake, leaves this value.
    Private {
        /// The word.
        word: &'a primitive::AtomicU32,
        /// The value to sleep on.
        value: u32,
    },
    /// One of these descriptors is ready.
    Fds(PollFds<'a>),
}

/// Something to wait for.
pub trait Source {
    /// Does what can be done now.
    fn poll(&mut self) -> Polled;

    /// Whether to offer the core to others between two polls even where every rank has its own.
    fn yields(&self) -> bool {
        false
    }

    /// From here on, anything that makes `poll` find work also ends a sleep on [`Self::wake_on`].
    fn arm(&mut self) {}

    /// Ends what `arm` began.
    fn disarm(&mut self) {}

    /// What to sleep on. Called between `arm` and `disarm`.
    fn wake_on(&self) -> WakeOn<'_>;
}

/// The part of a wait that looks at clock and flag now and then.
struct Watch<'a> {
    patience: Patience<'a>,
    /// Last time something was seen to have moved; `None` before the first look.
    moved_at: Option<Duration>,
    moved: bool,
}

impl Watch<'_> {
    /// The time, or why to give up.
    #[cold]
    fn look(&mut self) -> Result<Duration, Outcome> {
        let Patience { clock, stall_max, deadline, abort, .. } = self.patience;
        if abort.is_some_and(|abort| abort.load(Ordering::Acquire)) {
            return Err(Outcome::Aborted);
        }
        let now = clock.now();
        if std::mem::take(&mut self.moved) {
            self.moved_at = Some(now);
        }
        let idle = now.saturating_sub(*self.moved_at.get_or_insert(now));
        if deadline.is_some_and(|deadline| now >= deadline) {
            return Err(Outcome::Deadline);
        }
        match stall_max {
            Some(stall_max) if idle >= stall_max => Err(Outcome::Stalled(stall_max)),
            _ => Ok(now),
        }
    }

    /// How long nothing has moved, as of `now`.
    fn idle(&self, now: Duration) -> Duration {
        now.saturating_sub(self.moved_at.unwrap_or(now))
    }

    /// How long the next sleep may be.
    fn sleep_max(&self, now: Duration) -> Duration {
        let Patience { stall_max, deadline, sleep_max, .. } = self.patience;
        let until = |end: Option<Duration>| end.map_or(sleep_max, |end| end.saturating_sub(now));
        let stall = stall_max.map(|stall_max| self.moved_at.unwrap_or(now) + stall_max);
        sleep_max.min(until(deadline)).min(until(stall))
    }
}

/// Waits until `source` is done, or patience ends.
pub fn wait<S: Source + ?Sized>(source: &mut S, patience: &Patience<'_>) -> Outcome {
    let mut watch = Watch { patience: *patience, moved_at: None, moved: true };
    let mut idle_polls = 0_u32;
    let mut moves = 0_u32;
    loop {
        match source.poll() {
            Polled::Done => return Outcome::Done,
            Polled::Moved => {
                watch.moved = true;
                idle_polls = 0;
                moves = moves.wrapping_add(1);
                if moves.is_multiple_of(MOVES_PER_LOOK)
                    && let Err(outcome) = watch.look()
                {
                    return outcome;
                }
            }
            Polled::Idle => {
                idle_polls = idle_polls.wrapping_add(1);
                match rest(source, &mut watch, idle_polls) {
                    Ok(None) => {}
                    Ok(Some(Polled::Done)) => return Outcome::Done,
                    Ok(Some(_)) => watch.moved = true,
                    Err(outcome) => return outcome,
                }
            }
        }
    }
}

/// After an idle poll: a pause, a yield, or a sleep. Answers what the poll before a sleep found,
/// if it found something.
#[inline]
fn rest<S: Source + ?Sized>(
    source: &mut S,
    watch: &mut Watch<'_>,
    idle_polls: u32,
) -> Result<Option<Polled>, Outcome> {
    let oversubscribed = watch.patience.oversubscribed;
    if oversubscribed && idle_polls <= YIELDS {
        primitive::yield_now();
        return Ok(None);
    }
    if !oversubscribed && !idle_polls.is_multiple_of(POLLS_PER_LOOK) {
        if !source.yields() || !watch.patience.offer() {
            std::hint::spin_loop();
        }
        return Ok(None);
    }
    let now = watch.look()?;
    let polls_max = if oversubscribed { YIELDS_MAX } else { SPIN_POLLS_MAX };
    if idle_polls < polls_max && watch.idle(now) < SPIN_MAX {
        if oversubscribed {
            primitive::yield_now();
        }
        return Ok(None);
    }
    doze(source, watch)
}

/// Sleeps until woken, once; unless a last poll finds something.
#[cold]
fn doze<S: Source + ?Sized>(
    source: &mut S,
    watch: &mut Watch<'_>,
) -> Result<Option<Polled>, Outcome> {
    source.arm();
    let polled = source.poll();
    if polled != Polled::Idle {
        source.disarm();
        return Ok(Some(polled));
    }
    let bound = watch.look().map(|now| watch.sleep_max(now));
    if let Ok(bound) = bound
        && !watch.patience.clock.pass(bound)
    {
        #[cfg(not(all(test, syncline_loom)))]
        sleep(source.wake_on(), bound);
        #[cfg(all(test, syncline_loom))]
        primitive::sleep(source.wake_on(), bound);
    }
    source.disarm();
    bound.map(|_| None)
}

/// Sleeps until `wake` or for `bound`, whichever comes first.
#[cfg(not(all(test, syncline_loom)))]
fn sleep(wake: WakeOn<'_>, bound: Duration) {
    let Ok(timeout) = Timespec::try_from(bound) else { return };
    let slept = match wake {
        WakeOn::Shared { word, value } => {
            futex::wait(word, futex::Flags::empty(), value, Some(&timeout))
        }
        WakeOn::Private { word, value } => {
            futex::wait(word, futex::Flags::PRIVATE, value, Some(&timeout))
        }
        WakeOn::Fds(mut fds) => poll(&mut fds, Some(&timeout)).map(drop),
    };
    use rustix::io::Errno;
    match slept {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
        Err(error) => {
            // Nothing to sleep on: keep the loop from spinning all the same.
            tracing::debug!(%error, "cannot sleep on the wires");
            std::thread::sleep(bound.min(Duration::from_millis(1)));
        }
    }
}

/// Descriptors to wait for, as a source that is done when one of them is ready.
struct Ready<'a, 'b> {
    fds: &'b mut [PollFd<'a>],
}

impl Source for Ready<'_, '_> {
    fn poll(&mut self) -> Polled {
        match poll(self.fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(ready) if ready > 0 => Polled::Done,
            _ => Polled::Idle,
        }
    }

    fn wake_on(&self) -> WakeOn<'_> {
        WakeOn::Fds(self.fds.iter().cloned().collect())
    }
}

/// Waits until one of `fds` is ready for what it asks; their `revents` say which. For sockets
/// before there is an engine. Never spins.
pub fn wait_fds(fds: &mut [PollFd<'_>], patience: &Patience<'_>) -> Outcome {
    let patience = Patience { oversubscribed: true, ..*patience };
    wait(&mut Ready { fds }, &patience)
}

/// Waits until `fds` are ready for what they ask, or until `deadline`.
pub fn wait_fds_until(fds: &mut [PollFd<'_>], deadline: Instant) -> Outcome {
    let left = deadline.saturating_duration_since(Instant::now());
    let clock = MonotonicClock::new();
    wait_fds(fds, &Patience { deadline: Some(left), ..Patience::endless(&clock) })
}

/// Waits until one of `fds` is readable or the time has come: how a rendezvous waits, which
/// looks at its deadline itself.
///
/// # Errors
/// None; the rendezvous takes a function that may have some.
pub fn wait_until_readable(fds: &[BorrowedFd<'_>], until: Instant) -> crate::error::Result<()> {
    let readable = |&fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let mut fds: Vec<PollFd<'_>> = fds.iter().map(readable).collect();
    wait_fds_until(&mut fds, until);
    Ok(())
}
