//! The processes of a rendezvous and the connections between them, on a virtual clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use super::super::random::Random;
use super::plan::{Kind, PIDS, Plan};
use crate::rendezvous::MemberInfo;
use crate::rendezvous::applicant::{Applicant, Next, RETRY_INTERVAL, Setback, Word};
use crate::rendezvous::assembly::{Assembly, Effect};
use crate::rendezvous::member::{Table, Verdict};
use crate::rendezvous::roster::Outcome;
use crate::rendezvous::spread::{self, RECEIPT};

/// When a run is taken for hanging: long after every deadline in it.
const HANG: Duration = Duration::from_secs(120);
/// The version that all but a few run.
const VERSION: &str = "1.0.0";
/// A time of [`Applicant`] and [`Assembly`] that is due is looked at within this.
const TICK: Duration = Duration::from_nanos(1);

#[derive(Debug)]
enum Event {
    Start(usize),
    Die(usize),
    /// A process looks for the root.
    Dial(usize),
    /// Its connection, if it has the right to one, comes to the root.
    Knock(usize),
    /// It comes to know what became of it.
    Answered(usize, Result<u64, (&'static str, bool)>),
    /// A message arrives at one end of a connection.
    Letter(u64, Side, Arc<[u8]>),
    /// One end of a connection learns that it is over.
    End(u64, Side, &'static str),
    /// A rank passes the table on.
    Passed(usize, Arc<[u8]>),
    /// A connection breaks: which of the open ones.
    Reset(u64),
    /// The process, or the root, has something to do.
    Due(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Root,
    Process,
}

/// A connection between a process and the root.
#[derive(Debug)]
struct Wire {
    process: usize,
    /// Whether each end is still held: the root's, the process's.
    open: [bool; 2],
    /// When the last thing to each end is due.
    last: [Duration; 2],
    /// Letters to that end do not arrive any more.
    severed: [bool; 2],
}

/// What became of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It was not started yet.
    Absent,
    /// It looks for the root.
    Looking,
    /// It is connected, and waits for the root's word.
    Waiting(u64),
    /// It has the table.
    Joined(Table),
    /// It gave up.
    Failed(String),
    /// It died.
    Dead,
}

/// What came of a run.
#[derive(Debug)]
pub(super) struct Run {
    /// Every process's end.
    pub(super) stages: Vec<Stage>,
    /// What the root made of it, and when; none when it died before.
    pub(super) outcome: Option<(Duration, Result<(), String>)>,
    /// The table, as the root sent it.
    pub(super) table: Option<Table>,
    /// When the root had nothing to do any more.
    pub(super) over: Option<Duration>,
    /// When each process's first join came to the root.
    pub(super) heard: BTreeMap<usize, Duration>,
    /// Processes that were connected when the root gave its word.
    pub(super) present: Vec<usize>,
    /// When a connection of a process ended at the root before it was over.
    pub(super) parted: BTreeMap<usize, Duration>,
    pub(super) trace: u64,
    pub(super) story: Vec<String>,
}

impl Run {
    /// Processes that were told that there is no place for them.
    pub(super) fn refused(&self) -> u64 {
        self.stages.iter().filter(|stage| matches!(stage, Stage::Failed(_))).count() as u64
    }
}

struct World<'a> {
    plan: &'a Plan,
    random: Random,
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    order: BinaryHeap<Reverse<(Duration, u64)>>,
    sequence: u64,
    applicants: Vec<Applicant>,
    assembly: Option<Assembly>,
    wires: Vec<Wire>,
    root_due: Option<Duration>,
    run: Run,
}

/// Runs the rendezvous of `plan`.
pub(super) fn run(plan: &Plan) -> Run {
    let count = plan.processes.len();
    let applicant = |p: &super::plan::Process| {
        let ranks = if let Kind::OtherSize(ranks) = p.kind { ranks } else { plan.ranks };
        Applicant::new(ranks, p.starts + p.patience)
    };
    let mut world = World {
        plan,
        random: Random::new(plan.seed ^ 0x77_1e5),
        now: Duration::ZERO,
        events: BTreeMap::new(),
        order: BinaryHeap::new(),
        sequence: 0,
        applicants: plan.processes.iter().map(applicant).collect(),
        assembly: None,
        wires: Vec::new(),
        root_due: None,
        run: Run {
            stages: vec![Stage::Absent; count],
            outcome: None,
            table: None,
            over: None,
            heard: BTreeMap::new(),
            present: Vec::new(),
            parted: BTreeMap::new(),
            trace: 0,
            story: Vec::new(),
        },
    };
    for (index, process) in plan.processes.iter().enumerate() {
        world.post(process.starts, Event::Start(index));
        if let Some(dies) = process.dies {
            world.post(dies, Event::Die(index));
        }
    }
    for &(time, which) in &plan.resets {
        world.post(time, Event::Reset(which));
    }
    while let Some(Reverse(at)) = world.order.pop().filter(|Reverse((time, _))| *time <= HANG) {
        world.now = at.0;
        if let Some(event) = world.events.remove(&at) {
            world.happen(event);
        }
    }
    world.run
}

impl World<'_> {
    fn post(&mut self, time: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((time, self.sequence), event);
        self.order.push(Reverse((time, self.sequence)));
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(1) + self.random.duration(self.plan.latency_max)
    }

    fn tell(&mut self, index: usize, what: impl std::fmt::Display) {
        let rank = self.plan.processes[index].rank;
        let line = format!(
            "{:>12.6} ms  rank {rank:<3} process {}: {what}",
            self.now.as_secs_f64() * 1e3,
            PIDS + index
        );
        let note = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        self.run.trace = line.bytes().fold(self.run.trace, note);
        self.run.story.push(line);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start(0) => self.open(),
            Event::Start(index) | Event::Dial(index) => self.dial(index),
            Event::Die(index) => self.die(index),
            Event::Knock(index) => self.knock(index),
            Event::Answered(index, answer) => self.answered(index, answer),
            Event::Letter(wire, Side::Root, message) => self.at_root(wire, &message),
            Event::Letter(wire, Side::Process, message) => {
                let Wire { process, open, severed, .. } = &self.wires[wire as usize];
                let process = *process;
                let waits = open[1] && !severed[1];
                if waits && self.run.stages[process] == Stage::Waiting(wire) {
                    self.hear(process, &message);
                }
            }
            Event::End(wire, side, why) => self.end(wire, side, why),
            Event::Passed(index, message) => {
                if matches!(self.run.stages[index], Stage::Waiting(_)) {
                    self.hear(index, &message);
                }
            }
            Event::Reset(which) => self.reset(which),
            Event::Due(0) => self.drive_root(),
            Event::Due(index) => {
                let by = self.applicants[index].verdict_by();
                if matches!(self.run.stages[index], Stage::Waiting(_)) && self.now >= by {
                    let setback = self.applicants[index].unheard();
                    self.set_back(index, setback);
                }
            }
        }
    }

    // The processes.

    fn dial(&mut self, index: usize) {
        if !matches!(self.run.stages[index], Stage::Absent | Stage::Looking) {
            return;
        }
        self.run.stages[index] = Stage::Looking;
        let due = self.now + self.delay();
        self.post(due, Event::Knock(index));
    }

    fn answered(&mut self, index: usize, answer: Result<u64, (&'static str, bool)>) {
        if self.run.stages[index] != Stage::Looking {
            // It died meanwhile.
            if let Ok(wire) = answer {
                self.hang_up(wire, Side::Process);
            }
            return;
        }
        match answer {
            Ok(wire) => {
                let version = if self.plan.processes[index].kind == Kind::OtherVersion {
                    "0.9"
                } else {
                    VERSION
                };
                let member = self.plan.member(index);
                let join = self.applicants[index].join(member, version, self.now);
                self.run.stages[index] = Stage::Waiting(wire);
                self.tell(index, format_args!("asks, attempt {}", join.attempt));
                self.send(wire, Side::Root, join.encode().into());
                let by = self.applicants[index].verdict_by();
                self.post(by + TICK, Event::Due(index));
                if !self.wires[wire as usize].open[1] {
                    // It was over before it was known to be there.
                    let setback = self.applicants[index].lost("connection reset", self.now);
                    self.set_back(index, setback);
                }
            }
            Err((reason, somebody)) => {
                let setback = self.applicants[index].unreachable(reason, somebody, self.now);
                self.set_back(index, setback);
            }
        }
    }

    /// The word of the root, from itself or passed on.
    fn hear(&mut self, index: usize, message: &[u8]) {
        match self.applicants[index].hear(message) {
            Word::Setback(setback) => self.set_back(index, setback),
            Word::Table(table) => {
                self.tell(index, "has the table");
                let Stage::Waiting(wire) = self.run.stages[index] else { return };
                self.send(wire, Side::Root, RECEIPT.into());
                self.hang_up(wire, Side::Process);
                self.pass_on(index, &table, message);
                self.run.stages[index] = Stage::Joined(table);
            }
        }
    }

    fn pass_on(&mut self, index: usize, table: &Table, message: &[u8]) {
        let me = self.plan.processes[index].rank;
        for child in spread::children(me, table.root, table.members.len() as u32) {
            let child = Plan::index(&table.members[child as usize]);
            if !self.random.percent(self.plan.dropped) {
                let due = self.now + self.delay() * 2;
                self.post(due, Event::Passed(child, message.into()));
            }
        }
    }

    fn set_back(&mut self, index: usize, setback: Setback) {
        if let Stage::Waiting(wire) = self.run.stages[index] {
            self.hang_up(wire, Side::Process);
        }
        self.run.stages[index] = match self.applicants[index].next(setback, true, self.now) {
            Next::Again(reason) => {
                self.tell(index, format_args!("tries again: {reason}"));
                self.post(self.now + RETRY_INTERVAL, Event::Dial(index));
                Stage::Looking
            }
            Next::End { reason, .. } => {
                self.tell(index, format_args!("gives up: {reason}"));
                Stage::Failed(reason)
            }
        };
    }

    fn die(&mut self, index: usize) {
        if matches!(self.run.stages[index], Stage::Failed(_)) {
            return;
        }
        self.tell(index, "dies");
        if index == 0 {
            self.assembly = None;
            self.close_all();
        } else if let Stage::Waiting(wire) = self.run.stages[index] {
            self.hang_up(wire, Side::Process);
        }
        self.run.stages[index] = Stage::Dead;
    }

    // The connections.

    /// `side` closes its end; the other one learns of it after all that was sent.
    fn hang_up(&mut self, wire: u64, side: Side) {
        let delay = self.delay();
        let (mine, other) = if side == Side::Root { (0, 1) } else { (1, 0) };
        let it = &mut self.wires[wire as usize];
        if !std::mem::take(&mut it.open[mine]) || !it.open[other] {
            return;
        }
        let due = (self.now + delay).max(it.last[other] + TICK);
        it.last[other] = due;
        let to = if side == Side::Root { Side::Process } else { Side::Root };
        self.post(due, Event::End(wire, to, "connection closed"));
    }

    fn send(&mut self, wire: u64, to: Side, message: Arc<[u8]>) {
        let copies = 1 + u32::from(self.random.percent(self.plan.duplicated));
        for _ in 0..copies {
            let delay = self.delay();
            let last = &mut self.wires[wire as usize].last[usize::from(to == Side::Process)];
            let due = (self.now + delay).max(*last + TICK);
            *last = due;
            self.post(due, Event::Letter(wire, to, Arc::clone(&message)));
        }
    }

    /// A connection breaks; both ends learn of it, each in its time, with or without what was
    /// under way.
    fn reset(&mut self, which: u64) {
        let open: Vec<usize> = (0..self.wires.len())
            .filter(|&wire| self.wires[wire].open.iter().all(|open| *open))
            .collect();
        let Some(&wire) = open.get(which as usize % open.len().max(1)) else { return };
        self.tell(self.wires[wire].process, "is disconnected from the root");
        for (at, side) in [Side::Root, Side::Process].into_iter().enumerate() {
            let (severs, delay) = (self.random.percent(50), self.delay());
            let it = &mut self.wires[wire];
            it.severed[at] = severs;
            let due = (self.now + delay).max(if severs { self.now } else { it.last[at] } + TICK);
            self.post(due, Event::End(wire as u64, side, "connection reset"));
        }
    }

    fn end(&mut self, wire: u64, side: Side, why: &'static str) {
        let at = usize::from(side == Side::Process);
        if !std::mem::take(&mut self.wires[wire as usize].open[at]) {
            return;
        }
        let process = self.wires[wire as usize].process;
        if side == Side::Root {
            if self.run.over.is_none() {
                self.run.parted.insert(process, self.now);
            }
            if let Some(assembly) = &mut self.assembly {
                assembly.lose(wire, why, self.now);
            }
            self.drive_root();
        } else if self.run.stages[process] == Stage::Waiting(wire) {
            let setback = self.applicants[process].lost(why, self.now);
            self.set_back(process, setback);
        }
    }

    // The root.

    fn open(&mut self) {
        let deadline = self.plan.processes[0].starts + self.plan.processes[0].patience;
        let root = self.plan.member(0);
        self.tell(0, "opens the job");
        let assembly = Assembly::new(root, self.plan.ranks, VERSION, false, deadline);
        self.assembly = Some(assembly);
        self.run.stages[0] = Stage::Waiting(u64::MAX);
        self.drive_root();
    }

    fn knock(&mut self, index: usize) {
        let due = self.now + self.delay();
        let answer: Result<u64, (&'static str, bool)> = match &mut self.assembly {
            _ if self.plan.processes[index].kind == Kind::OtherSecret => {
                Err(("it does not know the job's secret", true))
            }
            None => Err(("connection refused", false)),
            Some(assembly) => {
                let wire = self.wires.len() as u64;
                let open = [true; 2];
                let last = [due; 2];
                self.wires.push(Wire { process: index, open, last, severed: [false; 2] });
                if self.run.over.is_none() {
                    assembly.arrive(wire, false);
                }
                Ok(wire)
            }
        };
        if let (Ok(wire), true) = (&answer, self.run.over.is_some()) {
            // As the listener does it for a job that is complete.
            self.send(*wire, Side::Process, Verdict::Closed.encode().into());
            self.hang_up(*wire, Side::Root);
        }
        self.post(due, Event::Answered(index, answer));
        self.drive_root();
    }

    fn at_root(&mut self, wire: u64, message: &[u8]) {
        let it = &self.wires[wire as usize];
        let Some(assembly) = self.assembly.as_mut().filter(|_| it.open[0] && !it.severed[0]) else {
            return;
        };
        self.run.heard.entry(it.process).or_insert(self.now);
        assembly.hear(wire, message, self.now);
        self.drive_root();
    }

    /// Does what the root's assembly wants done, and sees how things stand.
    fn drive_root(&mut self) {
        let Some(assembly) = &mut self.assembly else { return };
        assembly.tick(self.now);
        if self.run.outcome.is_none() {
            match assembly.outcome(self.now) {
                Outcome::Waiting { .. } => {}
                Outcome::Failed(reason) => {
                    assembly.dismiss(&reason, self.now);
                    self.conclude(Err(reason));
                }
                Outcome::Complete => {
                    let members: Vec<MemberInfo> = assembly.take_members().unwrap_or_default();
                    let root = self.plan.processes[0].rank;
                    let table =
                        Table { root, members, agreed: self.plan.seed.to_le_bytes().into() };
                    assembly.spread(table.clone(), self.now);
                    self.run.table = Some(table);
                    self.conclude(Ok(()));
                }
            }
        }
        while let Some(effect) = self.assembly.as_mut().and_then(Assembly::next_effect) {
            match effect {
                Effect::Tell { guest, message } if self.wires[guest as usize].open[0] => {
                    self.send(guest, Side::Process, message);
                }
                Effect::Tell { .. } => {}
                Effect::Close { guest } => self.hang_up(guest, Side::Root),
            }
        }
        self.rest();
    }

    fn conclude(&mut self, outcome: Result<(), String>) {
        let waits = |wire: &&Wire| {
            let waiting = matches!(self.run.stages[wire.process], Stage::Waiting(_));
            waiting && wire.open.iter().all(|open| *open)
        };
        self.run.present = self.wires.iter().filter(waits).map(|wire| wire.process).collect();
        match &outcome {
            Ok(()) => self.tell(0, "has everybody"),
            Err(reason) => self.tell(0, format_args!("dismisses everybody: {reason}")),
        }
        self.run.outcome = Some((self.now, outcome));
    }

    /// Sees when the root has something to do next, or that it is done.
    fn rest(&mut self) {
        let Some(assembly) = self.assembly.as_ref().filter(|_| self.run.over.is_none()) else {
            return;
        };
        if let Some(due) = assembly.due(self.now) {
            if self.root_due != Some(due) {
                self.root_due = Some(due);
                self.post(due, Event::Due(0));
            }
            return;
        }
        self.tell(0, "is done");
        self.run.over = Some(self.now);
        match (&self.run.outcome, self.run.table.clone()) {
            (Some((_, Err(reason))), _) => {
                self.run.stages[0] = Stage::Failed(reason.clone());
                self.assembly = None;
            }
            (_, Some(table)) => self.run.stages[0] = Stage::Joined(table),
            _ => {}
        }
        self.close_all();
    }

    fn close_all(&mut self) {
        for wire in 0..self.wires.len() as u64 {
            self.hang_up(wire, Side::Root);
        }
    }
}
