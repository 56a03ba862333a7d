//! From a seed to the processes that come, and what breaks.

use std::time::Duration;

use super::super::random::Random;
use crate::error::Rank;
use crate::rendezvous::MemberInfo;

/// The first process id; the others follow.
pub(super) const PIDS: usize = 1000;

/// What a process says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One of the job's, or one that takes itself for that: two may claim one rank.
    Member,
    /// It was started as one of another number of ranks.
    OtherSize(Rank),
    /// It runs another version.
    OtherVersion,
    /// It has the id of another job, of yesterday.
    OtherSecret,
}

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) rank: Rank,
    pub(super) kind: Kind,
    pub(super) starts: Duration,
    pub(super) dies: Option<Duration>,
    /// How long it waits for the others.
    pub(super) patience: Duration,
}

/// Everything that a seed decides about the rendezvous.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) ranks: Rank,
    pub(super) host_ranks: Rank,
    /// The first is the root.
    pub(super) processes: Vec<Process>,
    /// Slowest message.
    pub(super) latency_max: Duration,
    /// Messages that come twice, in percent.
    pub(super) duplicated: u64,
    /// Tables that are not passed on, in percent.
    pub(super) dropped: u64,
    /// When a connection to the root breaks, and which of those that are open.
    pub(super) resets: Vec<(Duration, u64)>,
}

impl Plan {
    /// Whether everybody comes, stays, and wants a place of its own.
    pub(super) fn is_benign(&self) -> bool {
        let ours = |kind: Kind| !matches!(kind, Kind::OtherSecret);
        let members: Vec<&Process> = self.processes.iter().filter(|p| ours(p.kind)).collect();
        members.len() == self.ranks as usize
            && members.iter().all(|p| p.kind == Kind::Member && p.dies.is_none())
            && (0..self.ranks).all(|rank| members.iter().any(|p| p.rank == rank))
    }

    /// The number of the process that says this about itself.
    pub(super) fn index(member: &MemberInfo) -> usize {
        member.pid as usize - PIDS
    }

    /// What process number `index` says about itself.
    pub(super) fn member(&self, index: usize) -> MemberInfo {
        let Process { rank, .. } = self.processes[index];
        let host = rank / self.host_ranks;
        let address = [10, 0, (host >> 8) as u8, host as u8];
        MemberInfo {
            rank,
            host: format!("host{host}"),
            host_identity: format!("host{host}/net"),
            pid: (PIDS + index) as u32,
            processors: 1,
            addresses: vec![(address, 5000 + index as u16).into()],
            local_name: format!("{:x}-{index}", self.seed).into_bytes(),
            payload: vec![rank as u8; index % 3],
        }
    }
}

/// The rendezvous of `seed`; the second attempt has nothing in it that keeps a job from starting.
pub(super) fn plan(seed: u64, attempt: u64, ranks: Rank, host_ranks: Rank) -> Plan {
    let mut random = Random::new(seed ^ 0x3a9e_b005 ^ attempt << 56);
    let random = &mut random;
    let root = if random.percent(50) { 0 } else { random.below(u64::from(ranks)) as Rank };
    let breaks = random.percent(40);
    let spread = random.pick(&[10, 300, 1500]);
    let mut process = |rank| Process {
        rank,
        kind: Kind::Member,
        starts: random.duration(Duration::from_millis(spread)),
        dies: None,
        patience: Duration::from_millis(5000 + random.below(10_000)),
    };
    let mut processes = vec![process(root)];
    processes.extend((0..ranks).filter(|rank| *rank != root).map(process));
    let mut plan = Plan {
        seed,
        ranks,
        host_ranks,
        processes,
        // Whoever is disconnected, again perhaps, has to be back within two seconds.
        latency_max: Duration::from_millis(random.pick(&[1, 20, if breaks { 80 } else { 250 }])),
        duplicated: random.pick(&[0, 10, 50]),
        dropped: random.pick(&[0, 0, 20]),
        resets: Vec::new(),
    };
    if breaks {
        let mut reset = || (random.duration(Duration::from_secs(2)), random.next());
        plan.resets = vec![reset(), reset(), reset()];
    }
    let troubles = if random.percent(35) { 1 + random.below(2) } else { 0 };
    for _ in 0..troubles * (1 - attempt) {
        trouble(random, &mut plan);
    }
    if attempt > 0 || random.percent(10) {
        let yesterday = intruder(random, &plan, Kind::OtherSecret);
        plan.processes.push(yesterday);
    }
    plan
}

fn intruder(random: &mut Random, plan: &Plan, kind: Kind) -> Process {
    let rank = random.below(u64::from(plan.ranks)) as Rank;
    let starts = random.duration(Duration::from_secs(2));
    let patience = Duration::from_millis(5000 + random.below(10_000));
    Process { rank, kind, starts, dies: None, patience }
}

/// Something that may keep the job from being assembled.
fn trouble(random: &mut Random, plan: &mut Plan) {
    let kind = match random.below(10) {
        0..2 => Kind::Member,
        2 => Kind::OtherSize(plan.ranks + 1 + random.below(3) as Rank),
        3 => Kind::OtherVersion,
        what => {
            misfortune(random, plan, what);
            return;
        }
    };
    let intruder = intruder(random, plan, kind);
    plan.processes.push(intruder);
}

/// A process of the job's dies, is started again, or never comes.
fn misfortune(random: &mut Random, plan: &mut Plan, what: u64) {
    // The root dies rarely: there is little to be seen then.
    let first = usize::from(!random.percent(10));
    if first >= plan.processes.len() {
        return;
    }
    let index = first + random.index(plan.processes.len() - first);
    match what {
        4..7 if index > 0 => {
            plan.processes.remove(index);
        }
        _ => {
            let process = &mut plan.processes[index];
            let dies = process.starts + random.duration(Duration::from_secs(2));
            process.dies = Some(dies);
            let mut again = process.clone();
            if what == 9 && index > 0 {
                again.dies = None;
                again.starts = dies + random.duration(Duration::from_secs(3));
                plan.processes.push(again);
            }
        }
    }
}
