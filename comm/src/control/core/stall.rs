//! Who holds an operation up that does not move.
//!
//! The ranks that this one waits for are asked where they are; those that wait themselves say for
//! whom, and those are asked next: a breadth-first search along the waits, across ranks. It ends
//! at ranks that do not answer, have not called the operation, or left. A rank that has not called
//! it because it is still in an earlier one is held up itself: the search follows what it waits
//! for there, and blames it only when nobody is found behind it. So it is with one that is in the
//! operation and has to wait for an earlier one: whom it waits for there is asked about that one.
//! Ranks that wait in a circle without anybody to blame are slow, or wait for each other.
//!
//! When everybody stalls at the same time, everybody searches, and the one next to the culprit is
//! the first to know. So a rank that searches itself is trusted for a while to find whom it waits
//! for; only if nothing comes of that does the search go on behind it. A job of any size then asks
//! few questions, instead of everybody asking everybody.

use std::collections::BTreeMap;
use std::time::Duration;

use super::investigate::{Asked, Question};
use super::local::Local;
use super::{Absence, Answer, Cause, Operation, Progress, Stall, Unfinished};
use crate::error::Rank;

/// What is known of a rank in an operation.
#[derive(Debug)]
enum Finding {
    Asked(Question),
    Silent,
    Left,
    /// `held_up`: it is still in an earlier operation, where it waits for others. It is trusted to
    /// search for those itself, and to find them until `trusted`.
    NotEntered {
        last: Option<String>,
        held_up: bool,
        trusted: Option<Duration>,
    },
    /// It searches itself; if nothing comes of it by `until`, the search goes on behind it: in
    /// these operations, with those that it waits for there.
    Trusted {
        until: Duration,
        waits: Vec<Unfinished>,
    },
    /// It is in the operation, or has been. `tardy`: it took its time to say so, as one that was
    /// stopped does.
    Moving {
        tardy: bool,
    },
    /// It has done all that it had to do in it. The one that waits for it is trusted until
    /// `trusted` to find out why; perhaps they called different things. `tardy`: as above; what
    /// it sent may have been held up as well.
    Done {
        trusted: Option<Duration>,
        tardy: bool,
    },
}

/// Most questions of one search, so that it does not open links to all of a large job.
const QUESTIONS_MAX: usize = 256;

impl Finding {
    /// When to go on without what is still to come.
    fn until(&self) -> Option<Duration> {
        match self {
            Self::Asked(question) => Some(question.until),
            Self::Trusted { until, .. } => Some(*until),
            Self::NotEntered { trusted, .. } | Self::Done { trusted, .. } => *trusted,
            Self::Silent | Self::Left | Self::Moving { .. } => None,
        }
    }

    /// Whether its rank is certainly one of those who hold the operation up.
    const fn blames(&self) -> bool {
        matches!(self, Self::Silent | Self::NotEntered { held_up: false, .. })
    }
}

/// The search after one stall.
#[derive(Debug)]
pub(super) struct StallInquiry {
    stall: Stall,
    until: Duration,
    findings: BTreeMap<(Rank, Operation), Finding>,
    /// Who waits for them there, as far as the search has followed.
    waiters: BTreeMap<(Rank, Operation), Rank>,
}

impl StallInquiry {
    pub(super) fn open(local: &mut Local, group: &Asked<'_>, mut stall: Stall) -> Self {
        if stall.waits_for.is_empty() {
            stall.waits_for = group.members.to_vec();
        }
        let until = local.now + local.timings.investigation_max;
        let (operation, direct) = (stall.operation, stall.waits_for.clone());
        let mut inquiry =
            Self { stall, until, findings: BTreeMap::new(), waiters: BTreeMap::new() };
        inquiry.follow(local, group, local.me, &Unfinished { operation, waits_for: direct });
        inquiry
    }

    /// Asks those that `waiter` waits for in an operation.
    fn follow(
        &mut self,
        local: &mut Local,
        group: &Asked<'_>,
        waiter: Rank,
        Unfinished { operation, waits_for }: &Unfinished,
    ) {
        let me = local.me;
        for place in waits_for.iter().filter(|rank| **rank != me).map(|rank| (*rank, *operation)) {
            let asked = self.findings.contains_key(&place);
            if !asked && self.findings.len() < QUESTIONS_MAX && group.members.contains(&place.0) {
                let question = Question::ask(local, group.comm, place.0, Some(*operation));
                self.findings.insert(place, Finding::Asked(question));
                self.waiters.insert(place, waiter);
            }
        }
    }

    pub(super) fn answer(
        &mut self,
        local: &mut Local,
        group: &Asked<'_>,
        (from, query): (Rank, u64),
        answer: &Answer,
    ) -> Option<Cause> {
        let asked = |finding: &Finding| match finding {
            Finding::Asked(question) => question.is(from, query),
            _ => false,
        };
        let (&(rank, operation), found) =
            self.findings.iter().find(|(_, finding)| asked(finding))?;
        let tardy = found.until().is_some_and(|until| {
            local.now + local.timings.answer_max > until + local.timings.answer_max / 3
        });
        if let Answer::At { progress, .. } = answer
            && let Progress::Running { description, .. } | Progress::Done { description } = progress
            && operation == self.stall.operation
            && differ(operation, &self.stall.description, description)
        {
            let one = (local.me, self.stall.description.clone());
            return Some(Cause::Mismatch { operation, one, other: (from, description.clone()) });
        }
        let finding = match answer {
            Answer::Failed(cause) => return Some(cause.clone()),
            Answer::Left => Finding::Left,
            // Not opened yet: it has called nothing.
            Answer::Unknown => Finding::NotEntered { last: None, held_up: false, trusted: None },
            Answer::At { progress: Progress::NotEntered { last, unfinished }, .. } => {
                if let Some(unfinished) = unfinished {
                    self.follow(local, group, rank, unfinished);
                }
                let held_up = unfinished.as_ref().is_some_and(|u| !u.waits_for.is_empty());
                let trusted = held_up.then(|| trusted_until(local));
                Finding::NotEntered { last: last.clone(), held_up, trusted }
            }
            Answer::At { progress: Progress::Running { waits_for, behind, .. }, investigating } => {
                let here = Unfinished { operation, waits_for: waits_for.clone() };
                let waits: Vec<Unfinished> = behind.iter().cloned().chain([here]).collect();
                if *investigating {
                    Finding::Trusted { until: trusted_until(local), waits }
                } else {
                    waits.iter().for_each(|waits| self.follow(local, group, rank, waits));
                    Finding::Moving { tardy }
                }
            }
            Answer::At { progress: Progress::Done { .. }, .. } => {
                Finding::Done { trusted: Some(trusted_until(local)), tardy }
            }
            Answer::Well | Answer::At { progress: Progress::Unknown, .. } => {
                Finding::Moving { tardy }
            }
        };
        self.findings.insert((rank, operation), finding);
        self.verdict(local)
    }

    /// `rank` left the job.
    pub(super) fn lose(&mut self, local: &Local, rank: Rank) {
        for finding in self.findings.values_mut() {
            match finding {
                Finding::Asked(question) if question.peer == rank => question.lose(local),
                _ => {}
            }
        }
    }

    pub(super) fn next_tick(&self) -> Option<Duration> {
        self.findings.values().filter_map(Finding::until).chain([self.until]).min()
    }

    pub(super) fn tick(&mut self, local: &mut Local, group: &Asked<'_>) -> Option<Cause> {
        let mut behind = Vec::new();
        for ((rank, _), finding) in &mut self.findings {
            match finding {
                Finding::Asked(question) if local.now >= question.until => {
                    *finding = if question.left { Finding::Left } else { Finding::Silent };
                }
                Finding::Trusted { until, waits } if local.now >= *until => {
                    behind.extend(waits.drain(..).map(|waits| (*rank, waits)));
                    *finding = Finding::Moving { tardy: false };
                }
                Finding::NotEntered { trusted, .. } | Finding::Done { trusted, .. } => {
                    *trusted = trusted.filter(|until| local.now < *until);
                }
                _ => {}
            }
        }
        for (rank, waits) in behind {
            self.follow(local, group, rank, &waits);
        }
        self.verdict(local)
    }

    /// Who it was, once all have answered or time is up.
    fn verdict(&self, local: &Local) -> Option<Cause> {
        // Whoever is next to a culprit does not wait for those who search further off: the
        // culprit may come meanwhile, and then nobody would know who it was.
        let found = self.findings.values().any(Finding::blames);
        let awaited = |finding: &Finding| match finding {
            Finding::Asked(_) => true,
            finding => !found && finding.until().is_some(),
        };
        let open = self.findings.values().any(awaited);
        if open && local.now < self.until {
            return None;
        }
        let mut culprits = self.culprits(false);
        if culprits.is_empty() {
            culprits = self.tardy();
        }
        if culprits.is_empty()
            && let Some(cause) = self.cut()
        {
            return Some(cause);
        }
        if culprits.is_empty() {
            culprits = self.culprits(true);
        }
        if culprits.is_empty() {
            let direct = self.stall.waits_for.iter().filter(|rank| **rank != local.me);
            culprits = direct.map(|rank| (*rank, Absence::Slow)).collect();
        }
        if let Some((rank, _)) = culprits.iter().next()
            && culprits.values().all(|absence| *absence == Absence::Left)
        {
            return Some(Cause::Left { rank: *rank });
        }
        Some(Cause::Stalled {
            by: local.me,
            operation: self.stall.operation,
            description: self.stall.description.clone(),
            missing: culprits.into_iter().collect(),
            after: self.stall.after,
        })
    }

    /// Those who move again, though perhaps not for long.
    fn tardy(&self) -> BTreeMap<Rank, Absence> {
        let is = |finding: &Finding| {
            matches!(finding, Finding::Moving { tardy: true } | Finding::Done { tardy: true, .. })
        };
        let found = self.findings.iter().filter(|(_, finding)| is(finding));
        found.map(|((rank, _), _)| (*rank, Absence::Tardy)).collect()
    }

    /// Somebody waits for what another one has sent: the connection between them is broken, and
    /// only the other end has noticed, if any.
    fn cut(&self) -> Option<Cause> {
        let done = |finding: &Finding| matches!(finding, Finding::Done { .. });
        let (at, _) = self.findings.iter().find(|(_, finding)| done(finding))?;
        let (peer, by) = (at.0, *self.waiters.get(at)?);
        let how = "what the second of them sent in an operation that it has finished does not come";
        Some(Cause::Disconnected { by, peer, how: how.to_owned() })
    }

    fn culprits(&self, those_held_up: bool) -> BTreeMap<Rank, Absence> {
        let absence = |finding: &Finding| match finding {
            Finding::Silent => Some(Absence::Silent),
            Finding::Left => Some(Absence::Left),
            Finding::NotEntered { last, held_up, .. } if *held_up == those_held_up => {
                Some(Absence::NotEntered { last: last.clone() })
            }
            Finding::NotEntered { .. }
            | Finding::Asked(_)
            | Finding::Trusted { .. }
            | Finding::Done { .. }
            | Finding::Moving { .. } => None,
        };
        let found = self.findings.iter().filter_map(|((rank, _), f)| Some((*rank, absence(f)?)));
        found.collect()
    }
}

/// Until when a rank that searches itself is left to it.
fn trusted_until(local: &Local) -> Duration {
    local.answer_by() + local.timings.answer_max / 4
}

/// Whether two ranks called different things, though neither has seen that on the wire: a rank
/// may wait for what another one, in another call, never sends. An all_to_all_v shows what a rank
/// sends, which ranks may differ in.
fn differ(operation: Operation, ours: &str, theirs: &str) -> bool {
    let per_pair = |words: &str| words.contains(" sent");
    matches!(operation, Operation::Collective(_))
        && ours != theirs
        && !(per_pair(ours) && per_pair(theirs))
}
