//! The state of a simulated network: pipes, links, faults, and what happens when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::events::{Event, Events, mix};
use super::net::{LinkClass, Noticed, SimConfig, nanoseconds};
use crate::error::Rank;
use crate::memory::{Span, SpanMut, own};
use crate::transport::FrameHeader;

/// One direction of one lane between two ranks of one communicator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PipeKey {
    pub(super) to: Rank,
    pub(super) from: Rank,
    pub(super) lane: u8,
    pub(super) comm: u64,
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
    /// The link went silent while something was in it: nothing after that arrives, unless the
    /// link comes back.
    severed: bool,
    /// Frames that would have arrived while it was silent.
    withheld: usize,
    /// Its connection was reset: what is under way never arrives.
    broken: bool,
}

impl Pipe {
    /// Whether something that was sent will still arrive.
    pub(super) fn is_under_way(&self) -> bool {
        !self.severed && !self.broken && self.frames.len() > self.arrived
    }
}

/// An end that is gone for good: a rank's of one communicator, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) comm: Option<u64>,
    pub(super) rank: Rank,
    /// Who notices, if not everybody.
    pub(super) observer: Option<Rank>,
}

impl Loss {
    /// Whether it is one for this end.
    pub(super) fn concerns(&self, comm: u64, observer: Rank) -> bool {
        self.comm.is_none_or(|of| of == comm) && self.observer.is_none_or(|of| of == observer)
    }
}

/// What all ends share.
pub(super) struct State {
    pub(super) config: SimConfig,
    pub(super) events: Events,
    pub(super) pipes: BTreeMap<PipeKey, Pipe>,
    /// Ends that are gone and known to be, in the order of their detection.
    pub(super) lost: Vec<Loss>,
    pub(super) is_halted: Vec<bool>,
    pub(super) is_crashed: Vec<bool>,
    /// When each rank's links of each class are free to send: `rank * classes + class`.
    free_at: Vec<u64>,
    cuts: BTreeSet<(Rank, Rank)>,
    /// One side of each partition, and whether it is in force.
    pub(super) partitions: Vec<(Vec<bool>, bool)>,
    /// Added to the latency of a link, in nanoseconds.
    slow: BTreeMap<(Rank, Rank), u64>,
    pub(super) ready: VecDeque<Rank>,
    pub(super) is_ready: Vec<bool>,
    /// Signals that are due.
    pub(super) signals: VecDeque<(Rank, u64)>,
    random: u64,
}

impl State {
    pub(super) fn new(ranks: Rank, seed: u64, config: SimConfig) -> Self {
        let count = ranks as usize;
        Self {
            events: Events::default(),
            pipes: BTreeMap::new(),
            lost: Vec::new(),
            is_halted: vec![false; count],
            is_crashed: vec![false; count],
            free_at: vec![0; count * config.classes.len()],
            cuts: BTreeSet::new(),
            partitions: Vec::new(),
            slow: BTreeMap::new(),
            ready: VecDeque::new(),
            is_ready: vec![false; count],
            signals: VecDeque::new(),
            random: mix(seed),
            config,
        }
    }

    fn class(&self, a: Rank, b: Rank) -> usize {
        let joins = |class: &LinkClass| a / class.group_ranks == b / class.group_ranks;
        self.config.classes.iter().position(joins).unwrap_or(self.config.classes.len() - 1)
    }

    /// Whether nothing passes between two ranks now.
    pub(super) fn is_cut(&self, a: Rank, b: Rank) -> bool {
        let parts = |(side, in_force): &(Vec<bool>, bool)| {
            *in_force && side.get(a as usize) != side.get(b as usize)
        };
        self.cuts.contains(&(a.min(b), a.max(b))) || self.partitions.iter().any(parts)
    }

    /// Time from departure to arrival between two ranks, without jitter, in nanoseconds.
    pub(super) fn latency(&self, a: Rank, b: Rank) -> u64 {
        let latency = nanoseconds(self.config.classes[self.class(a, b)].latency);
        latency + self.slow.get(&(a.min(b), a.max(b))).copied().unwrap_or(0)
    }

    /// Whether `observer` knows that `rank`'s end in `comm` is gone.
    pub(super) fn is_lost(&self, comm: u64, observer: Rank, rank: Rank) -> bool {
        let about = |loss: &Loss| loss.rank == rank && loss.concerns(comm, observer);
        self.lost.iter().any(about) && !self.is_cut(observer, rank)
    }

    /// The next random number.
    pub(super) fn random(&mut self) -> u64 {
        self.random = mix(self.random);
        self.random
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
        let bandwidth = self.config.classes[class].bandwidth;
        let slot = key.from as usize * self.config.classes.len() + class;
        let transfer = u128::from(bytes as u64) * 1_000_000_000 / u128::from(bandwidth);
        let sent = self.free_at[slot].max(self.events.now) + transfer as u64;
        self.free_at[slot] = sent;
        let jitter = self.random() % (nanoseconds(self.config.jitter) + 1);
        let latency = self.latency(key.from, key.to);
        let Some(pipe) = self.pipes.get_mut(&key) else { return };
        let arrival = (sent + latency + jitter).max(pipe.last_arrival);
        pipe.last_arrival = arrival;
        self.events.at(arrival, Event::Arrive(key));
    }

    /// Consumes `bytes` of the head frame, and the frame with its last byte.
    pub(super) fn consume(&mut self, key: PipeKey, bytes: usize) {
        let latency = self.latency(key.from, key.to);
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
            let time = self.events.now + latency;
            self.events.at(time, Event::Room(key.from));
        }
    }

    pub(super) fn wake(&mut self, rank: Rank) {
        let index = rank as usize;
        if !self.is_halted[index] && !std::mem::replace(&mut self.is_ready[index], true) {
            self.ready.push_back(rank);
        }
    }

    pub(super) fn wake_all(&mut self) {
        let ranks = self.is_ready.len() as Rank;
        (0..ranks).for_each(|rank| self.wake(rank));
    }

    /// Closes the end of `rank` in `comm`, now.
    pub(super) fn close(&mut self, comm: u64, rank: Rank) {
        let time = self.events.now + nanoseconds(self.config.detection);
        self.events.at(time, Event::Closed(comm, rank));
    }

    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive(key) => self.arrive(key),
            Event::Room(rank) => self.wake(rank),
            Event::Crash(rank) => {
                self.is_halted[rank as usize] = true;
                self.is_crashed[rank as usize] = true;
            }
            Event::Stop(rank) => self.is_halted[rank as usize] = true,
            Event::Continue(rank) => {
                self.is_halted[rank as usize] = self.is_crashed[rank as usize];
                self.wake(rank);
            }
            Event::Lost(rank) => self.lose(Loss { comm: None, rank, observer: None }),
            Event::Closed(comm, rank) => {
                self.lose(Loss { comm: Some(comm), rank, observer: None });
            }
            Event::Cut(a, b) => {
                self.cuts.insert((a.min(b), a.max(b)));
            }
            Event::Part(index) => self.partitions[index as usize].1 = true,
            Event::Heal(index) => self.heal(index as usize),
            Event::Slow(a, b, nanoseconds) => {
                self.slow.insert((a.min(b), a.max(b)), nanoseconds);
            }
            Event::Signal(rank, token) => self.signals.push_back((rank, token)),
        }
    }

    fn lose(&mut self, loss: Loss) {
        self.lost.push(loss);
        self.wake_all();
    }

    fn arrive(&mut self, key: PipeKey) {
        let is_cut = self.is_cut(key.from, key.to);
        let Some(pipe) = self.pipes.get_mut(&key).filter(|pipe| !pipe.broken) else { return };
        pipe.severed |= is_cut;
        if pipe.severed {
            pipe.withheld += 1;
        } else {
            pipe.arrived += 1;
            self.wake(key.to);
        }
    }

    /// Breaks the connection of a pipe that carries something, or of any if none does: the one of
    /// this number, modulo their count. Answers whose, the one that surely notices first.
    pub(super) fn reset(&mut self, number: u64, noticed: Noticed) -> Option<(u64, Rank, Rank)> {
        let whole = |(_, pipe): &(&PipeKey, &Pipe)| !pipe.broken;
        let busy = |(_, pipe): &(&PipeKey, &Pipe)| pipe.is_under_way();
        let whole: Vec<_> = self.pipes.iter().filter(whole).collect();
        let busy: Vec<_> = whole.iter().copied().filter(busy).collect();
        let among = if busy.is_empty() { whole } else { busy };
        let (key, _) = among.get(number as usize % among.len().max(1))?;
        let PipeKey { to, from, comm, .. } = **key;
        let (first, second) = if noticed == Noticed::BySender { (from, to) } else { (to, from) };
        for (key, pipe) in &mut self.pipes {
            let ends = [(to, from), (from, to)];
            pipe.broken |= key.comm == comm && ends.contains(&(key.to, key.from));
        }
        self.lose(Loss { comm: Some(comm), rank: second, observer: Some(first) });
        if noticed == Noticed::ByBoth {
            self.lose(Loss { comm: Some(comm), rank: first, observer: Some(second) });
        }
        Some((comm, first, second))
    }

    /// Ends a partition: what was under way is sent again.
    fn heal(&mut self, index: usize) {
        self.partitions[index].1 = false;
        let severed = |(key, pipe): (&PipeKey, &Pipe)| pipe.severed.then_some(*key);
        let keys: Vec<PipeKey> = self.pipes.iter().filter_map(severed).collect();
        for key in keys {
            if self.is_cut(key.from, key.to) {
                continue;
            }
            let time = self.events.now + self.latency(key.from, key.to);
            let Some(pipe) = self.pipes.get_mut(&key) else { continue };
            pipe.severed = false;
            pipe.last_arrival = pipe.last_arrival.max(time);
            for _ in 0..std::mem::take(&mut pipe.withheld) {
                self.events.at(time, Event::Arrive(key));
            }
        }
        self.wake_all();
    }
}
