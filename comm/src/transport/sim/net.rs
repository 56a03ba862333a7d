//! The network: pipes, links, clock, faults.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::end::SimEnd;
use super::events::{Event, Events, mix};
use crate::error::Rank;
use crate::memory::{Span, SpanMut, own};
use crate::transport::FrameHeader;

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

/// One direction of one lane between two ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PipeKey {
    pub(super) to: Rank,
    pub(super) from: Rank,
    pub(super) lane: u8,
}

/// A frame in the network.
pub(super) struct Frame {
    pub(super) header: FrameHeader,
    pub(super) payload: SpanMut,
    /// What `payload` shows.
    _memory: Vec<u8>,
    pub(super) consumed: usize,
}

#[derive(Default)]
pub(super) struct Pipe {
    /// Oldest first; the first `arrived` are there, the others under way.
    pub(super) frames: VecDeque<Frame>,
    pub(super) arrived: usize,
    held_bytes: usize,
    last_arrival: u64,
    /// A frame was refused, so that the sender waits for room.
    refused: bool,
    /// The link went silent while something was in it: nothing after that arrives.
    severed: bool,
}

impl Pipe {
    /// Whether something that was sent will still arrive.
    pub(super) fn is_under_way(&self) -> bool {
        !self.severed && self.frames.len() > self.arrived
    }
}

/// What all ends share.
pub(super) struct State {
    pub(super) config: SimConfig,
    pub(super) events: Events,
    pub(super) pipes: BTreeMap<PipeKey, Pipe>,
    /// Ranks that are gone and known to be, in the order of their detection.
    pub(super) lost: Vec<Rank>,
    is_halted: Vec<bool>,
    is_gone: Vec<bool>,
    /// When each rank's links of each class are free to send: `rank * classes + class`.
    free_at: Vec<u64>,
    cuts: BTreeSet<(Rank, Rank)>,
    partitions: Vec<Rank>,
    ready: VecDeque<Rank>,
    is_ready: Vec<bool>,
    random: u64,
}

impl State {
    fn class(&self, a: Rank, b: Rank) -> usize {
        let joins = |class: &LinkClass| a / class.group_ranks == b / class.group_ranks;
        self.config.classes.iter().position(joins).unwrap_or(self.config.classes.len() - 1)
    }

    fn is_cut(&self, a: Rank, b: Rank) -> bool {
        self.cuts.contains(&(a.min(b), a.max(b)))
            || self.partitions.iter().any(|&first| (a < first) != (b < first))
    }

    /// Accepts a whole frame, if the pipe has room.
    pub(super) fn send(&mut self, key: PipeKey, header: &FrameHeader, parts: &[Span]) -> bool {
        let bytes = header.payload_bytes as usize;
        let (bytes_max, frames_max) = (self.config.pipe_bytes, self.config.pipe_frames);
        let pipe = self.pipes.entry(key).or_default();
        if pipe.held_bytes + bytes > bytes_max || pipe.frames.len() >= frames_max {
            pipe.refused = true;
            return false;
        }
        let (payload, memory) = own(vec![0_u8; bytes]);
        let mut at = 0;
        for part in parts {
            payload.cut(at, part.len()).copy_from(*part);
            at += part.len();
        }
        pipe.held_bytes += bytes;
        pipe.frames.push_back(Frame { header: *header, payload, _memory: memory, consumed: 0 });
        self.depart(key, bytes);
        true
    }

    /// Computes when the frame that was just accepted will arrive.
    fn depart(&mut self, key: PipeKey, bytes: usize) {
        let class = self.class(key.from, key.to);
        let LinkClass { latency, bandwidth, .. } = self.config.classes[class];
        let slot = key.from as usize * self.config.classes.len() + class;
        let transfer = u128::from(bytes as u64) * 1_000_000_000 / u128::from(bandwidth);
        let sent = self.free_at[slot].max(self.events.now) + transfer as u64;
        self.free_at[slot] = sent;
        self.random = mix(self.random);
        let jitter = self.random % (nanoseconds(self.config.jitter) + 1);
        let Some(pipe) = self.pipes.get_mut(&key) else { return };
        let arrival = (sent + nanoseconds(latency) + jitter).max(pipe.last_arrival);
        pipe.last_arrival = arrival;
        self.events.at(arrival, Event::Arrive(key));
    }

    /// Consumes `bytes` of the head frame, and the frame with its last byte.
    pub(super) fn consume(&mut self, key: PipeKey, bytes: usize) {
        let latency = self.config.classes[self.class(key.from, key.to)].latency;
        let Some(pipe) = self.pipes.get_mut(&key) else { return };
        let Some(head) = pipe.frames.front_mut() else { return };
        head.consumed += bytes;
        if head.consumed < head.payload.len() {
            return;
        }
        pipe.held_bytes -= head.payload.len();
        pipe.arrived -= 1;
        pipe.frames.pop_front();
        if std::mem::take(&mut pipe.refused) {
            let time = self.events.now + nanoseconds(latency);
            self.events.at(time, Event::Room(key.from));
        }
    }

    fn wake(&mut self, rank: Rank) {
        let index = rank as usize;
        if !self.is_halted[index] && !std::mem::replace(&mut self.is_ready[index], true) {
            self.ready.push_back(rank);
        }
    }

    fn wake_all(&mut self) {
        let ranks = self.is_ready.len() as Rank;
        (0..ranks).for_each(|rank| self.wake(rank));
    }

    /// Takes `rank` out of the network, now.
    pub(super) fn leave(&mut self, rank: Rank) {
        self.is_halted[rank as usize] = true;
        if !std::mem::replace(&mut self.is_gone[rank as usize], true) {
            let time = self.events.now + nanoseconds(self.config.detection);
            self.events.at(time, Event::Lost(rank));
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive(key) => self.arrive(key),
            Event::Room(rank) => self.wake(rank),
            Event::Crash(rank) => self.leave(rank),
            Event::Stop(rank) => self.is_halted[rank as usize] = true,
            Event::Lost(rank) => {
                self.lost.push(rank);
                self.wake_all();
            }
            Event::Cut(a, b) => {
                self.cuts.insert((a.min(b), a.max(b)));
            }
            Event::Partition(first) => self.partitions.push(first),
        }
    }

    fn arrive(&mut self, key: PipeKey) {
        let is_cut = self.is_cut(key.from, key.to);
        let Some(pipe) = self.pipes.get_mut(&key) else { return };
        pipe.severed |= is_cut;
        if !pipe.severed {
            pipe.arrived += 1;
            self.wake(key.to);
        }
    }
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
        let count = ranks as usize;
        let mut state = State {
            events: Events::default(),
            pipes: BTreeMap::new(),
            lost: Vec::new(),
            is_halted: vec![false; count],
            is_gone: vec![false; count],
            free_at: vec![0; count * config.classes.len()],
            cuts: BTreeSet::new(),
            partitions: Vec::new(),
            ready: VecDeque::new(),
            is_ready: vec![false; count],
            random: mix(seed),
            config,
        };
        state.wake_all();
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of `rank`. Dropping it takes the rank out of the network.
    pub fn end(&self, rank: Rank) -> SimEnd {
        SimEnd::new(self.clone(), rank)
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
        self.state().events.at(nanoseconds(time), Event::Crash(rank));
    }

    /// Stops `rank` at `time`: it is never polled again, and nobody is told.
    pub fn stop(&self, rank: Rank, time: Duration) {
        self.state().events.at(nanoseconds(time), Event::Stop(rank));
    }

    /// Silences the link between two ranks at `time`: nothing arrives any more, nobody is told.
    pub fn cut(&self, a: Rank, b: Rank, time: Duration) {
        self.state().events.at(nanoseconds(time), Event::Cut(a, b));
    }

    /// Silences all links between ranks below `first` and the others at `time`.
    pub fn partition(&self, first: Rank, time: Duration) {
        self.state().events.at(nanoseconds(time), Event::Partition(first));
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

    /// Whether `rank` still runs: neither crashed, nor stopped, nor gone.
    pub fn is_running(&self, rank: Rank) -> bool {
        !self.state().is_halted[rank as usize]
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
}
