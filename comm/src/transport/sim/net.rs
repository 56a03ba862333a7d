//! The network: links, clock, faults.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::end::SimEnd;
use super::events::Event;
use super::state::State;
use crate::error::Rank;

/// The links among ranks that are equally close.
#[derive(Clone, Copy, Debug)]
pub struct LinkClass {
    /// Ranks with the same quotient by this number are joined by links of this class, unless an
    /// earlier class joins them already.
    pub group_ranks: Rank,
    /// Time from the last byte's departure to its arrival.
    pub latency: Duration,
    /// Bytes per second that one rank can send over links of this class; not 0.
    pub bandwidth: u64,
}

/// What the network is like.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Innermost first. Ranks that no class joins use the last one.
    pub classes: Vec<LinkClass>,
    /// Up to this much is added to each frame's latency, at random.
    pub jitter: Duration,
    /// Payload bytes a pipe holds, accepted and not yet consumed.
    pub pipe_bytes: usize,
    /// Frames a pipe holds.
    pub pipe_frames: usize,
    /// Largest payload of one frame, at most `pipe_bytes`.
    pub frame_bytes_max: usize,
    /// How long after a crash the other ranks are told.
    pub detection: Duration,
}

impl Default for SimConfig {
    /// Hosts of 8 ranks with 50 GB/s inside, 1 µs; 25 GB/s and 5 µs between them.
    fn default() -> Self {
        let inside = LinkClass {
            group_ranks: 8,
            latency: Duration::from_micros(1),
            bandwidth: 50_000_000_000,
        };
        let between = LinkClass {
            group_ranks: Rank::MAX,
            latency: Duration::from_micros(5),
            bandwidth: 25_000_000_000,
        };
        Self {
            classes: vec![inside, between],
            jitter: Duration::from_nanos(500),
            pipe_bytes: 256 * 1024,
            pipe_frames: 64,
            frame_bytes_max: 64 * 1024,
            detection: Duration::from_millis(10),
        }
    }
}

/// Who notices that a connection was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// Both ends.
    ByBoth,
    /// The end that sends; the other waits on.
    BySender,
    /// The end that receives; what the other sends gets lost.
    ByReceiver,
}

/// A simulated network. Clones are handles to the same one.
#[derive(Clone)]
pub struct SimNet(Arc<Mutex<State>>);

impl std::fmt::Debug for SimNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SimNet").field(&self.now()).finish()
    }
}

impl SimNet {
    /// A network of `ranks` ranks at time 0, all of them ready to be polled.
    ///
    /// Panics when the configuration has no link class, one of zero bandwidth or group size, or
    /// frames that no pipe can hold.
    pub fn new(ranks: Rank, seed: u64, config: SimConfig) -> Self {
        let is_sound = |class: &LinkClass| class.bandwidth > 0 && class.group_ranks > 0;
        assert!(!config.classes.is_empty() && config.classes.iter().all(is_sound), "{config:?}");
        assert!((1..=config.pipe_bytes).contains(&config.frame_bytes_max), "{config:?}");
        assert!(config.pipe_frames > 0, "{config:?}");
        let mut state = State::new(ranks, seed, config);
        state.wake_all();
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of `rank` in a communicator of all ranks. Dropping it closes its pipes.
    pub fn end(&self, rank: Rank) -> SimEnd {
        let ranks = self.state().is_ready.len() as Rank;
        self.join(0, (0..ranks).collect(), rank)
    }

    /// The end of member `me` of communicator `comm`, whose rank `r` is rank `members[r]` of the
    /// network. Communicators share links and faults, but no pipe. Dropping the end closes its
    /// pipes; the other members are told after [`SimConfig::detection`].
    pub fn join(&self, comm: u64, members: Arc<[Rank]>, me: Rank) -> SimEnd {
        SimEnd::new(self.clone(), comm, members, me)
    }

    /// The virtual time.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.state().events.now)
    }

    /// A fingerprint of every event so far and its time.
    pub fn trace(&self) -> u64 {
        self.state().events.trace
    }

    /// How many events there were so far.
    pub fn events(&self) -> u64 {
        self.state().events.happened
    }

    /// Kills `rank` at `time`. What it sent before still arrives; the others are told after
    /// [`SimConfig::detection`].
    pub fn crash(&self, rank: Rank, time: Duration) {
        let after = self.state().config.detection;
        self.crash_noticed_after(rank, time, after);
    }

    /// Kills `rank` at `time`; the others are told `after` that, late when its host went down
    /// with it.
    pub fn crash_noticed_after(&self, rank: Rank, time: Duration, after: Duration) {
        let mut state = self.state();
        state.events.at(nanoseconds(time), Event::Crash(rank));
        state.events.at(nanoseconds(time + after), Event::Lost(rank));
    }

    /// Stops `rank` at `time`: it is not polled any more, and nobody is told.
    pub fn stop(&self, rank: Rank, time: Duration) {
        self.state().events.at(nanoseconds(time), Event::Stop(rank));
    }

    /// Lets `rank` go on at `time`, if it was stopped.
    pub fn resume(&self, rank: Rank, time: Duration) {
        self.state().events.at(nanoseconds(time), Event::Continue(rank));
    }

    /// Silences the link between two ranks at `time`: nothing arrives any more, nobody is told.
    pub fn cut(&self, a: Rank, b: Rank, time: Duration) {
        self.state().events.at(nanoseconds(time), Event::Cut(a, b));
    }

    /// Silences all links between ranks below `first` and the others at `time`.
    pub fn partition(&self, first: Rank, time: Duration) {
        let ranks = self.state().is_ready.len() as Rank;
        self.part((0..ranks).map(|rank| rank < first).collect(), time, None);
    }

    /// Silences all links between the ranks of `side`, one flag per rank, and the others, from
    /// `time` on, until `healed`: then arrives what was sent meanwhile.
    pub fn part(&self, side: Vec<bool>, time: Duration, healed: Option<Duration>) {
        let mut state = self.state();
        let index = state.partitions.len() as u32;
        state.partitions.push((side, false));
        state.events.at(nanoseconds(time), Event::Part(index));
        if let Some(healed) = healed {
            state.events.at(nanoseconds(healed), Event::Heal(index));
        }
    }

    /// Resets the connection of a pipe now, though both its processes live: the one of this number
    /// among the pipes that carry something, modulo their count, or among all if none does. What
    /// is under way between the two ranks in that communicator is lost, both ways. Answers the
    /// communicator and the two, one that notices first; `None` when nothing was ever sent.
    pub fn reset(&self, number: u64, noticed: Noticed) -> Option<(u64, Rank, Rank)> {
        self.state().reset(number, noticed)
    }

    /// From `time` on everything between two ranks takes `longer` than the link's latency, in
    /// both directions.
    pub fn slow_down(&self, a: Rank, b: Rank, time: Duration, longer: Duration) {
        self.state().events.at(nanoseconds(time), Event::Slow(a, b, nanoseconds(longer)));
    }

    /// Whether nothing passes between two ranks now.
    pub fn is_cut(&self, a: Rank, b: Rank) -> bool {
        self.state().is_cut(a, b)
    }

    /// Time a small message takes from one rank to another now, jitter included.
    pub fn delay(&self, from: Rank, to: Rank) -> Duration {
        let mut state = self.state();
        let jitter = state.random() % (nanoseconds(state.config.jitter) + 1);
        Duration::from_nanos(state.latency(from, to) + jitter)
    }

    /// Has [`next_signal`](Self::next_signal) say `token` for `rank` at `time`: messages beside
    /// the data and timers travel like this. `rank` may be halted then.
    pub fn signal_at(&self, time: Duration, rank: Rank, token: u64) {
        self.state().events.at(nanoseconds(time), Event::Signal(rank, token));
    }

    /// Takes the next signal that is due.
    pub fn next_signal(&self) -> Option<(Rank, u64)> {
        self.state().signals.pop_front()
    }

    /// Has `rank` polled again now, unless it is halted.
    pub fn wake(&self, rank: Rank) {
        self.state().wake(rank);
    }

    /// Takes the next rank that has something to do now.
    pub fn next_ready(&self) -> Option<Rank> {
        let mut state = self.state();
        while let Some(rank) = state.ready.pop_front() {
            state.is_ready[rank as usize] = false;
            if !state.is_halted[rank as usize] {
                return Some(rank);
            }
        }
        None
    }

    /// Moves the clock to the next event and lets everything happen that is due then. False when
    /// nothing happens up to and including `deadline`: the clock then stands there.
    pub fn advance(&self, deadline: Duration) -> bool {
        let mut state = self.state();
        let deadline = nanoseconds(deadline);
        let Some(time) = state.events.next_time().filter(|&time| time <= deadline) else {
            state.events.now = deadline.max(state.events.now);
            return false;
        };
        while state.events.next_time() == Some(time) {
            let Some(event) = state.events.pop() else { break };
            state.handle(event);
        }
        true
    }

    /// Whether `rank` is dead.
    pub fn is_crashed(&self, rank: Rank) -> bool {
        self.state().is_crashed[rank as usize]
    }

    /// Whether `rank` runs: neither crashed nor stopped.
    pub fn is_running(&self, rank: Rank) -> bool {
        !self.state().is_halted[rank as usize]
    }
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
}
