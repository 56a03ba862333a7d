//! Holds what happened in a run against what was broken in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::log::{Entry, What};
use super::run::Finished;
use super::scenario::{FaultKind, Scenario};
use crate::control::core::{Agreed, CommId};
use crate::error::{Error, ErrorKind, Rank};

/// A survivor has its error this long after the others could know of a death, at most.
const DEATH_TOLD_MAX: Duration = Duration::from_secs(1);
/// Who comes to an agreement this close to its end may be late.
const CLOSE_CALL: Duration = Duration::from_millis(500);

/// What the log says, in the order in which questions are asked.
#[derive(Default)]
struct Facts {
    crashed: BTreeMap<Rank, (Duration, Duration)>,
    /// Stopped, cut off, slow or dawdling at some time: since when.
    impaired: BTreeMap<Rank, Duration>,
    /// Connections that were reset, either way round: since when.
    reset: BTreeMap<(CommId, Rank, Rank), Duration>,
    /// Ends of connections that broke and only one end noticed: since when.
    half_open: BTreeMap<(CommId, Rank), Duration>,
    /// On one side of a partition: since when.
    cut: BTreeMap<Rank, Duration>,
    closed: BTreeMap<(CommId, Rank), Duration>,
    aborted: BTreeSet<(CommId, Rank)>,
    revoked: BTreeSet<(CommId, Rank)>,
    different: BTreeMap<(CommId, Rank), Duration>,
    members: BTreeMap<(CommId, Rank), Vec<Rank>>,
    called: BTreeMap<(Rank, CommId, usize), Duration>,
    agreeing: BTreeMap<(CommId, u64), BTreeMap<Rank, (Duration, u64)>>,
    agreed: BTreeMap<(CommId, u64), Vec<Outcome>>,
}

/// What a rank was told at the end of an agreement, and when.
type Outcome = (Rank, Duration, Result<Agreed, String>);

/// Everything that is wrong with a run; empty when nothing is.
pub(super) fn judge(scenario: &Scenario, finished: &Finished) -> Vec<String> {
    let facts = Facts::gather(&finished.log, scenario);
    let mut wrong = Vec::new();
    if !finished.hanging.is_empty() {
        wrong.push(format!("ranks {:?} never ended", finished.hanging));
    }
    for entry in &finished.log {
        if let Some(why) = facts.check(scenario, entry) {
            wrong.push(format!("{why}: {entry}"));
        }
    }
    wrong.extend(check_causes(&finished.log));
    for (&(comm, number), outcomes) in &facts.agreed {
        facts.check_agreement(scenario, (comm, number), outcomes, &mut wrong);
    }
    wrong
}

/// Each rank hears of one cause per communicator, and all its calls there end with the same error.
fn check_causes(log: &[Entry]) -> Vec<String> {
    let mut causes = BTreeSet::new();
    let mut errors: BTreeMap<(CommId, Rank), (ErrorKind, Vec<Rank>)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for entry in log {
        match &entry.what {
            What::Cause { comm, .. } if !causes.insert((*comm, entry.rank)) => {
                wrong.push(format!("a second cause: {entry}"));
            }
            What::Failed { comm, error, .. } => {
                let said = (error.kind(), error.ranks());
                let first = errors.entry((*comm, entry.rank)).or_insert_with(|| said.clone());
                if *first != said {
                    wrong.push(format!("it failed with {first:?} before: {entry}"));
                }
            }
            _ => {}
        }
    }
    wrong
}

impl Facts {
    fn gather(log: &[Entry], scenario: &Scenario) -> Self {
        let mut facts = Self::default();
        for Entry { time, rank, what } in log {
            let (time, rank) = (*time, *rank);
            match what {
                What::Opened { comm, members, .. } => {
                    facts.members.insert((*comm, rank), members.to_vec());
                }
                What::Called { comm, index, different, .. } => {
                    facts.called.insert((rank, *comm, *index), time);
                    if *different {
                        facts.different.entry((*comm, rank)).or_insert(time);
                    }
                }
                What::Agreeing { comm, number, flags } => {
                    let came = facts.agreeing.entry((*comm, *number)).or_default();
                    came.insert(rank, (time, *flags));
                }
                What::Agreed { comm, number, outcome } => {
                    let outcome = outcome.clone().map_err(|excluded| excluded.reason);
                    let all = facts.agreed.entry((*comm, *number)).or_default();
                    all.push((rank, time, outcome));
                }
                What::Revoked { comm } => _ = facts.revoked.insert((*comm, rank)),
                What::Aborted { comm } => _ = facts.aborted.insert((*comm, rank)),
                What::Dawdles { .. } => _ = facts.impaired.entry(rank).or_insert(time),
                What::Closed { comm } => _ = facts.closed.insert((*comm, rank), time),
                What::Fault(index) => {
                    facts.fault(time, &scenario.faults[*index].kind);
                }
                What::Reset { comm, peer, both } => {
                    for end in [rank, *peer].into_iter().filter(|_| !both) {
                        facts.half_open.entry((*comm, end)).or_insert(time);
                    }
                    facts.reset.entry((*comm, rank, *peer)).or_insert(time);
                    facts.reset.entry((*comm, *peer, rank)).or_insert(time);
                }
                What::Ended { .. } | What::Failed { .. } | What::Cause { .. } | What::Done => {}
            }
        }
        facts
    }

    fn fault(&mut self, time: Duration, kind: &FaultKind) {
        let mut impair = |rank: Rank| _ = self.impaired.entry(rank).or_insert(time);
        match kind {
            FaultKind::Crash { rank, noticed } => {
                self.crashed.entry(*rank).or_insert((time, *noticed));
            }
            FaultKind::Stop { rank, .. } => impair(*rank),
            FaultKind::Part { side, .. } => {
                let cuts = side.contains(&true) && side.contains(&false);
                for rank in (0..side.len() as Rank).filter(|_| cuts) {
                    impair(rank);
                    self.cut.entry(rank).or_insert(time);
                }
            }
            FaultKind::Slow { a, b, .. } => {
                impair(*a);
                impair(*b);
            }
            // The log says which connection it was.
            FaultKind::Reset { .. } => {}
        }
    }

    fn is_dead(&self, rank: Rank, time: Duration) -> bool {
        self.crashed.get(&rank).is_some_and(|(since, _)| *since <= time)
    }

    fn is_impaired(&self, rank: Rank, time: Duration) -> bool {
        self.impaired.get(&rank).is_some_and(|since| *since <= time)
    }

    /// Whether any connection of `rank` broke.
    fn was_reset(&self, comm: CommId, rank: Rank) -> bool {
        self.reset.keys().any(|(of, end, _)| (*of, *end) == (comm, rank))
    }

    fn has_left(&self, comm: CommId, rank: Rank, time: Duration) -> bool {
        self.closed.get(&(comm, rank)).is_some_and(|since| *since <= time)
    }

    /// What is wrong with one entry.
    fn check(&self, scenario: &Scenario, entry: &Entry) -> Option<&'static str> {
        let Entry { time, rank, what } = entry;
        match what {
            What::Ended { right: false, .. } => Some("wrong result"),
            What::Failed { comm, index, error } => self
                .check_error((*comm, *rank, *time), error)
                .or_else(|| self.check_time(scenario, (*comm, *rank, *time), *index)),
            What::Opened { comm, members, generation } if *generation > 0 => {
                let differs = |other: &Rank| {
                    if parted(scenario, *rank, *other) {
                        return false;
                    }
                    let theirs = self.members.get(&(*comm, *other));
                    theirs.is_some_and(|theirs| *theirs != **members)
                };
                let ordered = members.windows(2).all(|pair| pair[0] < pair[1]);
                let alike = ordered && !members.iter().any(differs);
                (!alike).then_some("survivors differ in who they are")
            }
            _ => None,
        }
    }

    /// Whether an error names somebody who gave cause.
    fn check_error(
        &self,
        (comm, rank, time): (CommId, Rank, Duration),
        error: &Error,
    ) -> Option<&'static str> {
        let members = self.members.get(&(comm, rank))?;
        let job = |peer: &crate::error::Peer| members.get(peer.rank as usize).copied();
        let gone = |rank: Rank| self.is_dead(rank, time) || self.has_left(comm, rank, time);
        match error {
            Error::PeerLost { peer, .. } => {
                let cut = |rank: Rank| self.cut.get(&rank).is_some_and(|since| *since <= time);
                // Its connection broke, and it was in no state to say that it lives.
                let mute = |rank: Rank| self.is_impaired(rank, time) && self.was_reset(comm, rank);
                let justified = job(peer).is_some_and(|rank| gone(rank) || cut(rank) || mute(rank));
                (!justified).then_some("lost a rank that is there")
            }
            Error::Disconnected { ends, .. } => {
                let [a, b] = &**ends;
                let since = job(a).zip(job(b)).and_then(|(a, b)| self.reset.get(&(comm, a, b)));
                let justified = since.is_some_and(|since| *since <= time);
                (!justified).then_some("no connection of these two broke")
            }
            Error::Timeout { missing, .. } => {
                let late = |rank: Rank| {
                    gone(rank)
                        || self.is_impaired(rank, time)
                        || self.different.contains_key(&(comm, rank))
                        // What was under way got lost, and its receiver cannot know.
                        || self.half_open.get(&(comm, rank)).is_some_and(|since| *since <= time)
                };
                let justified = !missing.is_empty()
                    && missing.iter().all(|missing| job(&missing.peer).is_some_and(late));
                (!justified).then_some("waited for a rank that was not late")
            }
            Error::Mismatch { calls, .. } => {
                let differs = |rank: Rank| {
                    self.different.get(&(comm, rank)).is_some_and(|since| *since <= time)
                };
                let justified = calls.iter().any(|called| job(&called.peer).is_some_and(differs));
                (!justified).then_some("nobody named made another call")
            }
            Error::Aborted { by, .. } => {
                let justified = job(by).is_some_and(|rank| self.aborted.contains(&(comm, rank)));
                (!justified).then_some("named did not abort")
            }
            Error::Revoked { by, .. } => {
                let justified = job(by).is_some_and(|rank| self.revoked.contains(&(comm, rank)));
                (!justified).then_some("named did not revoke")
            }
            _ => Some("no error that a call may end with"),
        }
    }

    /// Whether the news of deaths came in time, where nothing else was wrong.
    fn check_time(
        &self,
        scenario: &Scenario,
        (comm, rank, time): (CommId, Rank, Duration),
        index: usize,
    ) -> Option<&'static str> {
        let deaths = self.crashed.values().map(|(since, noticed)| *since + *noticed);
        let last = deaths.chain(self.reset.values().copied()).max()?;
        let only_deaths =
            self.impaired.is_empty() && self.half_open.is_empty() && scenario.deviations.is_empty();
        let called = self.called.get(&(rank, comm, index)).copied().unwrap_or_default();
        (only_deaths && time > last.max(called) + DEATH_TOLD_MAX)
            .then_some("told too late of a death or a broken connection")
    }

    fn check_agreement(
        &self,
        scenario: &Scenario,
        (comm, number): (CommId, u64),
        outcomes: &[Outcome],
        wrong: &mut Vec<String>,
    ) {
        let what = format!("agreement {comm:x}/{number}");
        let came = &self.agreeing[&(comm, number)];
        let first = came.values().map(|(time, _)| *time).min().unwrap_or_default();
        // A rank that nothing hindered and that came in time has a part.
        let has_part = |rank: Rank, time: Duration| {
            let punctual = came
                .get(&rank)
                .is_some_and(|(came, _)| *came + CLOSE_CALL < first + scenario.timeout);
            let hindered = self.is_dead(rank, time)
                || self.has_left(comm, rank, time)
                || self.aborted.contains(&(comm, rank))
                // Held for late where it waited in a call of its own.
                || self.different.contains_key(&(comm, rank))
                || !self.impaired.is_empty();
            punctual && !hindered
        };
        for (rank, time, outcome) in outcomes {
            let agreed = match outcome {
                Ok(agreed) => agreed,
                Err(reason) => {
                    if has_part(*rank, *time) {
                        wrong.push(format!("{what} excluded rank {rank}: {reason}"));
                    }
                    continue;
                }
            };
            let Some(members) = self.members.get(&(comm, *rank)) else { continue };
            if agreed.failed.contains(rank) {
                wrong.push(format!("{what} told rank {rank} that it failed as if it had not"));
            }
            for failed in agreed.failed.iter().filter(|failed| has_part(**failed, *time)) {
                wrong.push(format!("{what} left out rank {failed} at rank {rank}"));
            }
            let survivors: Vec<Rank> =
                members.iter().copied().filter(|rank| !agreed.failed.contains(rank)).collect();
            let brought = |rank: &Rank| came.get(rank).map(|(_, flags)| *flags);
            match survivors.iter().map(brought).collect::<Option<Vec<u64>>>() {
                None => wrong.push(format!("{what} at rank {rank} counts ranks that never came")),
                Some(flags) => {
                    if flags.iter().fold(u64::MAX, |all, one| all & one) != agreed.flags {
                        wrong
                            .push(format!("{what} at rank {rank}: wrong flags {:x}", agreed.flags));
                    }
                }
            }
            for (other, _, theirs) in outcomes {
                // Across a partition nobody can know what the others decided last.
                if let Ok(theirs) = theirs
                    && theirs != agreed
                    && (self.cut.is_empty()
                        || (survivors.contains(other) && !parted(scenario, *rank, *other)))
                {
                    let difference = format!("{agreed:x?} and {theirs:x?}");
                    wrong.push(format!("{what} at ranks {rank} and {other}: {difference}"));
                }
            }
        }
    }
}

/// Whether two ranks may ever be on different sides of a partition.
fn parted(scenario: &Scenario, a: Rank, b: Rank) -> bool {
    let parts = |kind: &FaultKind| match kind {
        FaultKind::Part { side, .. } => side[a as usize] != side[b as usize],
        _ => false,
    };
    scenario.faults.iter().any(|fault| parts(&fault.kind))
}
