//! Runs one scenario to its end.

use std::time::Duration;

use super::calls::Calls;
use super::log::{Entry, What};
use super::mail::{Mail, Signal};
use super::rank::{Shared, SimRank};
use super::scenario::{FaultKind, Scenario, Stage, When};
use crate::error::Rank;
use crate::rendezvous::MemberInfo;
use crate::transport::sim::{Noticed, SimNet};

/// When a run is taken for hanging, long after every deadline in it.
pub(super) const HANG: Duration = Duration::from_secs(10_000);

/// Events after which a run is taken for going in circles; a large one has some 100 000.
const EVENTS_MAX: u64 = 4_000_000;

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Finished {
    pub(super) log: Vec<Entry>,
    /// Ranks whose program had not ended though they ran.
    pub(super) hanging: Vec<Rank>,
    /// Fingerprint of all events and all messages.
    pub(super) trace: u64,
    pub(super) now: Duration,
}

/// A run in progress.
struct World<'a> {
    shared: Shared<'a>,
    ranks: Vec<SimRank>,
    /// Faults that wait for a stage.
    waiting: Vec<usize>,
}

/// Runs `scenario` as a job of these `members`.
pub(super) fn run(scenario: &Scenario, members: Vec<MemberInfo>, calls: &mut Calls) -> Finished {
    let net = SimNet::new(scenario.ranks, scenario.seed, scenario.net.clone());
    let mail = Mail::new(net.clone(), scenario.ranks, scenario.seed, scenario.mail);
    let (log, stages) = (Vec::new(), Vec::new());
    let first = |mine: &MemberInfo| members.iter().position(|other| other.same_host(mine));
    let hosts = members.iter().map(|mine| first(mine).unwrap_or_default() as u32).collect();
    let mut shared = Shared { scenario, members, hosts, net, mail, calls, log, stages };
    let ranks = (0..scenario.ranks).map(|rank| SimRank::new(rank, &mut shared)).collect();
    let mut world = World { shared, ranks, waiting: Vec::new() };
    world.plan_faults();
    world.run()
}

impl World<'_> {
    fn plan_faults(&mut self) {
        for (index, fault) in self.shared.scenario.faults.iter().enumerate() {
            match fault.when {
                When::At(time) => self.shared.mail.post(time, 0, Signal::Fault(index)),
                When::After(..) => self.waiting.push(index),
            }
        }
    }

    fn run(mut self) -> Finished {
        let net = self.shared.net.clone();
        loop {
            while let Some((rank, token)) = net.next_signal() {
                self.signal(rank, token);
            }
            while let Some(rank) = net.next_ready() {
                self.poll(rank);
            }
            if net.events() > EVENTS_MAX {
                break;
            }
            let is_over =
                (0..).zip(&self.ranks).all(|(rank, r)| r.is_done() || !net.is_running(rank));
            if is_over && self.nobody_comes_back() || !net.advance(HANG) {
                break;
            }
        }
        let runs =
            |(rank, r): (Rank, &SimRank)| (net.is_running(rank) && !r.is_done()).then_some(rank);
        let hanging = (0..).zip(&self.ranks).filter_map(runs).collect();
        let trace = net.trace() ^ self.shared.mail.trace;
        Finished { log: self.shared.log, hanging, trace, now: net.now() }
    }

    fn poll(&mut self, rank: Rank) {
        let this = &mut self.ranks[rank as usize];
        if this.is_done() {
            return;
        }
        this.poll(&mut self.shared);
        for stage in std::mem::take(&mut self.shared.stages) {
            self.reach(stage);
        }
    }

    /// Somebody has come to `stage`.
    fn reach(&mut self, stage: Stage) {
        let now = self.shared.net.now();
        let scenario = self.shared.scenario;
        self.waiting.retain(|&index| match scenario.faults[index].when {
            When::After(at, delay) if at == stage => {
                self.shared.mail.post(now + delay, 0, Signal::Fault(index));
                false
            }
            _ => true,
        });
    }

    fn signal(&mut self, rank: Rank, token: u64) {
        let now = self.shared.net.now();
        let input = match self.shared.mail.take(token) {
            Some(Signal::Letter { from, to, message }) => {
                self.shared.mail.deliver(now, from, to, message)
            }
            Some(Signal::Broken { to, peer, how }) => self.shared.mail.broken(now, to, peer, how),
            Some(Signal::Probe(a, b)) => {
                self.shared.mail.probe(now, a, b);
                None
            }
            Some(Signal::Fault(index)) => {
                self.strike(index);
                return;
            }
            Some(Signal::Parted) => {
                self.shared.mail.parted(now);
                None
            }
            Some(Signal::Healed) => {
                self.shared.mail.healed();
                None
            }
            Some(Signal::Timer) | None => None,
        };
        if let Some(input) = input {
            self.ranks[rank as usize].receive(input);
        }
        self.shared.net.wake(rank);
    }

    /// Whether no stopped rank will go on.
    fn nobody_comes_back(&self) -> bool {
        let net = &self.shared.net;
        (0..)
            .zip(&self.ranks)
            .all(|(rank, r)| r.is_done() || net.is_crashed(rank) || !self.resumes(rank))
    }

    fn resumes(&self, rank: Rank) -> bool {
        let stops = |kind: &FaultKind| match kind {
            FaultKind::Stop { rank: of, lasts } => *of == rank && lasts.is_some(),
            _ => false,
        };
        !self.shared.net.is_running(rank)
            && self.shared.scenario.faults.iter().any(|fault| stops(&fault.kind))
            && !self.stays_stopped(rank)
    }

    fn stays_stopped(&self, rank: Rank) -> bool {
        let for_good = |kind: &FaultKind| match kind {
            FaultKind::Stop { rank: of, lasts } => *of == rank && lasts.is_none(),
            _ => false,
        };
        self.shared.scenario.faults.iter().any(|fault| for_good(&fault.kind))
    }

    /// A fault happens.
    fn strike(&mut self, index: usize) {
        let now = self.shared.net.now();
        let net = self.shared.net.clone();
        let kind = &self.shared.scenario.faults[index].kind;
        let about = match kind {
            FaultKind::Crash { rank, .. } | FaultKind::Stop { rank, .. } => *rank,
            FaultKind::Part { .. } | FaultKind::Reset { .. } => 0,
            FaultKind::Slow { a, .. } => *a,
        };
        self.shared.note(about, What::Fault(index));
        match kind {
            FaultKind::Crash { rank, noticed } => {
                net.crash_noticed_after(*rank, now, *noticed);
                self.shared.mail.end(now, *rank, Some(*noticed));
            }
            FaultKind::Stop { rank, lasts } => {
                net.stop(*rank, now);
                if let Some(lasts) = lasts {
                    net.resume(*rank, now + *lasts);
                }
            }
            FaultKind::Part { side, lasts } => {
                net.part(side.clone(), now, lasts.map(|lasts| now + lasts));
                if let Some(lasts) = lasts {
                    self.shared.mail.post(now + *lasts, 0, Signal::Healed);
                }
                // The cut is in force from the next event on.
                self.shared.mail.post(now, 0, Signal::Parted);
            }
            FaultKind::Reset { number, noticed } => {
                if let Some((comm, by, peer)) = net.reset(*number, *noticed) {
                    let both = *noticed == Noticed::ByBoth;
                    self.shared.note(by, What::Reset { comm, peer, both });
                }
            }
            FaultKind::Slow { a, b, longer } => net.slow_down(*a, *b, now, *longer),
        }
    }
}
