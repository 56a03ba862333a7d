//! A world of cores in memory: virtual time, and everything that can go wrong between members,
//! drawn from a seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use super::{
    Agreed, Cause, CommId, Core, Excluded, Input, Message, Operation, Output, Progress, Timings,
};
use crate::error::Rank;

/// SplitMix64 (Steele, Lea, Flood 2014): a seeded stream.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn micros(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from + self.below(to - from))
    }
}

/// What a test does at a member at a certain time.
pub(crate) type Act = Box<dyn FnOnce(&mut World, Rank)>;

/// Where a member is in an operation, for [`Output::Inspect`].
pub(crate) type Where = Box<dyn Fn(Rank, CommId, Operation) -> Progress>;

/// How an agreement ended.
pub(crate) type Outcome = Result<Agreed, Excluded>;

enum Event {
    Input(Input),
    Tick,
    Act(Act),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Up,
    /// Its process stands still; what comes for it waits.
    Stopped,
    /// Its process is gone.
    Gone,
}

struct Node {
    core: Core,
    state: State,
    /// Waits until the process runs on.
    held: Vec<Event>,
    /// Which side of a partition it is on.
    side: u8,
    ticks_at: Option<Duration>,
    leaves: bool,
}

/// All members of a job.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) random: Random,
    nodes: Vec<Node>,
    events: BTreeMap<(Duration, u64), (Rank, Event)>,
    order: BinaryHeap<Reverse<(Duration, u64)>>,
    sequence: u64,
    links: BTreeSet<(Rank, Rank)>,
    /// Slowest message.
    pub(crate) latency_micros_max: u64,
    pub(crate) duplicates_percent: u64,
    pub(crate) progress: Where,
    pub(crate) messages: u64,
    pub(crate) watched: BTreeMap<Rank, Vec<Rank>>,
    pub(crate) failed: BTreeMap<(Rank, CommId), (Duration, Cause)>,
    pub(crate) agreed: BTreeMap<(Rank, CommId, u64), (Duration, Outcome)>,
}

impl World {
    pub(crate) fn new(ranks: Rank, seed: u64) -> Self {
        let node = |me| Node {
            core: Core::new(me, ranks, Timings::default()),
            state: State::Up,
            held: Vec::new(),
            side: 0,
            ticks_at: None,
            leaves: false,
        };
        let mut world = Self {
            now: Duration::ZERO,
            random: Random::new(seed),
            nodes: (0..ranks).map(node).collect(),
            events: BTreeMap::new(),
            order: BinaryHeap::new(),
            sequence: 0,
            links: BTreeSet::new(),
            latency_micros_max: 3_000,
            duplicates_percent: 10,
            progress: Box::new(|_, _, _| Progress::Unknown),
            messages: 0,
            watched: BTreeMap::new(),
            failed: BTreeMap::new(),
            agreed: BTreeMap::new(),
        };
        (0..ranks).for_each(|rank| world.drain(rank));
        world
    }

    pub(crate) fn state(&self, rank: Rank) -> State {
        self.nodes[rank as usize].state
    }

    /// Members that run.
    pub(crate) fn up(&self) -> Vec<Rank> {
        (0..self.nodes.len() as Rank).filter(|rank| self.state(*rank) == State::Up).collect()
    }

    /// Does something at a member `after` now.
    pub(crate) fn at(
        &mut self,
        after: Duration,
        rank: Rank,
        act: impl FnOnce(&mut World, Rank) + 'static,
    ) {
        self.post(self.now + after, rank, Event::Act(Box::new(act)));
    }

    /// Has a member's core do something.
    pub(crate) fn with<T>(&mut self, rank: Rank, act: impl FnOnce(&mut Core, Duration) -> T) -> T {
        let out = act(&mut self.nodes[rank as usize].core, self.now);
        self.drain(rank);
        out
    }

    /// Everybody in `members` opens a communicator within `spread`.
    pub(crate) fn open(&mut self, comm: CommId, members: &[Rank], spread: Duration) {
        let all: Arc<[Rank]> = members.into();
        for rank in members {
            let after = self.random.micros(0, 1 + spread.as_micros() as u64);
            let all = all.clone();
            self.at(after, *rank, move |world, rank| {
                world.with(rank, |core, now| core.open(now, comm, all));
            });
        }
    }

    /// The process ends without a word.
    pub(crate) fn crash(&mut self, rank: Rank) {
        self.nodes[rank as usize].state = State::Gone;
        let linked: Vec<Rank> = self.linked(rank);
        for other in linked {
            self.lost(other, rank, "connection closed");
        }
    }

    /// Says farewell, and ends when it may.
    pub(crate) fn leave(&mut self, rank: Rank) {
        self.nodes[rank as usize].leaves = true;
        self.with(rank, |core, now| core.leave(now));
    }

    pub(crate) fn stop(&mut self, rank: Rank) {
        if self.state(rank) == State::Up {
            self.nodes[rank as usize].state = State::Stopped;
        }
    }

    pub(crate) fn resume(&mut self, rank: Rank) {
        if self.state(rank) == State::Stopped {
            self.nodes[rank as usize].state = State::Up;
            for event in std::mem::take(&mut self.nodes[rank as usize].held) {
                self.post(self.now, rank, event);
            }
        }
    }

    /// Cuts these off from all others, who notice after a while.
    pub(crate) fn cut_off(&mut self, ranks: &[Rank], noticed: Duration) {
        for rank in ranks {
            self.nodes[*rank as usize].side = 1;
        }
        for rank in ranks {
            for other in self.linked(*rank) {
                if self.apart(*rank, other) {
                    self.lost_after(noticed, other, *rank, "no answer from its host");
                    self.lost_after(noticed, *rank, other, "no answer from its host");
                }
            }
        }
    }

    /// Runs until nothing happens any more, or `until`.
    pub(crate) fn run(&mut self, until: Duration) {
        while let Some(Reverse(at)) = self.order.pop() {
            if at.0 > until {
                self.order.push(Reverse(at));
                break;
            }
            self.now = at.0;
            let (rank, event) = self.events.remove(&at).expect("every event once");
            self.process(rank, event);
        }
        self.now = self.now.max(until);
    }

    fn process(&mut self, rank: Rank, event: Event) {
        let now = self.now;
        let node = &mut self.nodes[rank as usize];
        match (node.state, event) {
            (State::Gone, _) => return,
            (State::Stopped, event) => {
                node.held.push(event);
                return;
            }
            (State::Up, Event::Input(input)) => node.core.handle(now, input),
            (State::Up, Event::Tick) => {
                node.ticks_at = None;
                node.core.tick(now);
            }
            (State::Up, Event::Act(act)) => act(self, rank),
        }
        self.drain(rank);
    }

    fn drain(&mut self, rank: Rank) {
        while let Some(output) = self.nodes[rank as usize].core.next_output() {
            self.carry_out(rank, output);
        }
        let node = &mut self.nodes[rank as usize];
        if node.leaves && node.state == State::Up && node.core.may_go() {
            self.crash(rank);
            return;
        }
        let next = node.core.next_tick();
        if let Some(next) = next
            && node.ticks_at.is_none_or(|at| at > next || at < self.now)
        {
            node.ticks_at = Some(next.max(self.now));
            self.post(next.max(self.now), rank, Event::Tick);
        }
    }

    fn carry_out(&mut self, rank: Rank, output: Output) {
        match output {
            Output::Send { to, message } => self.send(rank, to, message),
            Output::Watch(peers) => {
                for peer in &peers {
                    self.link(rank, *peer);
                }
                self.watched.insert(rank, peers);
            }
            Output::Inspect { query, comm, operation } => {
                let progress = (self.progress)(rank, comm, operation);
                let after = self.random.micros(1, 300);
                let input = Input::Inspected { query, progress };
                self.post(self.now + after, rank, Event::Input(input));
            }
            Output::Failed { comm, cause } => {
                let before = self.failed.insert((rank, comm), (self.now, cause));
                assert_eq!(before, None, "one cause per communicator");
            }
            Output::Agreed { comm, number, outcome } => {
                let before = self.agreed.insert((rank, comm, number), (self.now, outcome));
                assert_eq!(before, None, "one outcome per agreement");
            }
        }
    }

    fn send(&mut self, from: Rank, to: Rank, message: Message) {
        self.messages += 1;
        let bytes = message.encode();
        assert!(bytes.len() <= Message::BYTES_MAX);
        assert_eq!(Message::decode(&bytes).as_ref(), Some(&message));
        if !self.link(from, to) || self.apart(from, to) {
            return;
        }
        let copies = if self.random.chance(self.duplicates_percent) { 2 } else { 1 };
        for _ in 0..copies {
            let at = self.now + self.random.micros(10, self.latency_micros_max);
            let message = message.clone();
            self.post(at, to, Event::Input(Input::Message { from, message }));
        }
    }

    /// Makes a link unless there is one; answers whether that went well.
    fn link(&mut self, from: Rank, to: Rank) -> bool {
        if self.state(to) == State::Gone {
            self.lost(from, to, "connection refused");
            return false;
        }
        if self.apart(from, to) {
            self.lost_after(Duration::from_secs(2), from, to, "no route to its host");
        }
        self.links.insert((from.min(to), from.max(to)));
        true
    }

    fn linked(&self, rank: Rank) -> Vec<Rank> {
        let of = |(a, b): &(Rank, Rank)| match rank {
            rank if rank == *a => Some(*b),
            rank if rank == *b => Some(*a),
            _ => None,
        };
        self.links.iter().filter_map(of).collect()
    }

    fn apart(&self, one: Rank, other: Rank) -> bool {
        self.nodes[one as usize].side != self.nodes[other as usize].side
    }

    /// One member cannot reach another, who is well.
    pub(crate) fn refuse(&mut self, at: Rank, peer: Rank) {
        self.lost(at, peer, "connection refused");
    }

    fn lost(&mut self, at: Rank, peer: Rank, how: &str) {
        let after = self.random.micros(10, self.latency_micros_max);
        self.lost_after(after, at, peer, how);
    }

    fn lost_after(&mut self, after: Duration, at: Rank, peer: Rank, how: &str) {
        let input = Input::Lost { peer, how: how.to_owned() };
        self.post(self.now + after, at, Event::Input(input));
    }

    fn post(&mut self, at: Duration, rank: Rank, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), (rank, event));
        self.order.push(Reverse((at, self.sequence)));
    }
}
