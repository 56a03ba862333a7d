//! What a rank on its way into the job makes of what happens to it, without sockets or clocks:
//! whether it asks again, and what the root's word means. The rank's I/O and the fault campaign
//! both go through here. Times are measured from any fixed moment.

use std::time::Duration;

use super::member::{Join, MemberInfo, Table, Verdict};
use crate::error::Rank;

/// How long a root that is certain to have listened is tried again.
const UNREACHABLE_TIME_MAX: Duration = Duration::from_secs(3);
/// How long a root that was there and is gone is tried again.
const ABSENT_TIME_MAX: Duration = Duration::from_millis(1500);
/// How often a rank asks the same root again after losing the connection.
const ATTEMPTS_MAX: u32 = 8;
/// The root names the missing ranks when the first deadline has passed; its word needs time to
/// get here.
const VERDICT_GRACE: Duration = Duration::from_secs(1);
/// How long to wait before asking again.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Why one try at a root came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setback {
    /// The root says that the job cannot be assembled.
    Refused(String),
    /// There is a root or somebody else at that address, but not for this job.
    WrongRoot(String),
    /// Nobody is there.
    Unreachable(String),
    /// The connection to the root ended before its verdict came.
    Lost(String),
}

/// What a message that should be a verdict says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The job is complete.
    Table(Table),
    /// There is no place in it for this rank.
    Setback(Setback),
}

/// Whether to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// After [`RETRY_INTERVAL`]; the reason is only of interest if time runs out.
    Again(String),
    /// No: for this reason. What may help depends on how the root was named, if so asked.
    End {
        /// In words.
        reason: String,
        /// Whether the root could not be found.
        hint: bool,
    },
}

/// A rank that wants to take part.
#[derive(Clone, Debug)]
pub(crate) struct Applicant {
    ranks: Rank,
    deadline: Duration,
    attempts: u32,
    /// When to stop trying a root that is certain to be the right one.
    give_up: Option<Duration>,
}

impl Applicant {
    /// One of `ranks`, that waits until `deadline`.
    pub(crate) const fn new(ranks: Rank, deadline: Duration) -> Self {
        Self { ranks, deadline, attempts: 0, give_up: None }
    }

    /// It turns to a root that it has not asked before.
    pub(crate) const fn turn(&mut self) {
        self.attempts = 0;
    }

    /// It is connected to the root: what it says to it.
    pub(crate) fn join(&mut self, member: MemberInfo, version: &str, now: Duration) -> Join {
        let patience = self.deadline.saturating_sub(now);
        let join = Join {
            version: version.to_owned(),
            ranks: self.ranks,
            patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
            attempt: self.attempts,
            member,
        };
        self.attempts += 1;
        join
    }

    /// Until when the root's word is waited for.
    pub(crate) fn verdict_by(&self) -> Duration {
        self.deadline + VERDICT_GRACE
    }

    /// No word has come by then.
    pub(crate) fn unheard(&self) -> Setback {
        Setback::Refused("the root did not complete the job in time".to_owned())
    }

    /// The root cannot be reached; `somebody`: but somebody is there.
    pub(crate) fn unreachable(&mut self, reason: &str, somebody: bool, now: Duration) -> Setback {
        self.give_up.get_or_insert(now + UNREACHABLE_TIME_MAX);
        let reason = if self.attempts > 0 {
            format!("lost the root of the job and cannot reach it again ({reason})")
        } else {
            format!("cannot reach the root ({reason})")
        };
        if somebody { Setback::WrongRoot(reason) } else { Setback::Unreachable(reason) }
    }

    /// The connection to the root ended before its word came.
    pub(crate) fn lost(&mut self, why: &str, now: Duration) -> Setback {
        let reason = format!("lost the root of the job: {why}");
        self.give_up = Some(now + ABSENT_TIME_MAX);
        if self.attempts >= ATTEMPTS_MAX {
            return Setback::WrongRoot(format!("{reason}, {ATTEMPTS_MAX} times"));
        }
        Setback::Lost(reason)
    }

    /// What the root says, itself or by others.
    pub(crate) fn hear(&self, message: &[u8]) -> Word {
        let consistent = |table: &Table| {
            table.members.len() == self.ranks as usize
                && table.members.iter().zip(0..).all(|(member, rank)| member.rank == rank)
        };
        Word::Setback(match Verdict::decode(message) {
            Ok(Verdict::Table(table)) if consistent(&table) => return Word::Table(table),
            Ok(Verdict::Failed(reason)) => Setback::Refused(reason),
            Ok(Verdict::Closed) => Setback::WrongRoot(
                "its job is complete already; every job needs an id of its own".to_owned(),
            ),
            Ok(Verdict::Table(_)) | Err(_) => Setback::Refused(
                "the root sent a malformed table; is it the same version?".to_owned(),
            ),
        })
    }

    /// What follows from a setback. A root that is `certain` to be this job's is not tried for
    /// long when it is gone; otherwise the source may name another one until the deadline.
    pub(crate) fn next(&self, setback: Setback, certain: bool, now: Duration) -> Next {
        let reason = match setback {
            Setback::Refused(reason) => return Next::End { reason, hint: false },
            Setback::WrongRoot(reason) if certain => return Next::End { reason, hint: false },
            Setback::WrongRoot(reason) => {
                format!("what it says leads to a wrong root: {reason}")
            }
            Setback::Unreachable(reason) | Setback::Lost(reason) => reason,
        };
        let give_up = self.give_up.filter(|_| certain).unwrap_or(self.deadline);
        if now >= give_up.min(self.deadline) {
            return Next::End { reason, hint: true };
        }
        Next::Again(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    fn ended(next: Next) -> (String, bool) {
        match next {
            Next::End { reason, hint } => (reason, hint),
            Next::Again(reason) => panic!("goes on after {reason}"),
        }
    }

    #[test]
    fn a_root_that_is_gone_is_not_tried_for_long() {
        let mut applicant = Applicant::new(2, DEADLINE);
        let setback = applicant.unreachable("refused", false, Duration::ZERO);
        assert!(matches!(applicant.next(setback.clone(), true, Duration::ZERO), Next::Again(_)));
        let (reason, hint) = ended(applicant.next(setback.clone(), true, UNREACHABLE_TIME_MAX));
        assert_eq!((&*reason, hint), ("cannot reach the root (refused)", true));
        // A file may name another one any time.
        let next = applicant.next(setback.clone(), false, UNREACHABLE_TIME_MAX);
        assert!(matches!(next, Next::Again(_)));
        assert!(ended(applicant.next(setback, false, DEADLINE)).1);
    }

    #[test]
    fn a_root_that_hangs_up_again_and_again_is_the_wrong_one() {
        let mut applicant = Applicant::new(2, DEADLINE);
        for _ in 0..ATTEMPTS_MAX {
            let setback = applicant.lost("closed", Duration::ZERO);
            assert!(matches!(setback, Setback::Lost(_)));
            assert!(matches!(applicant.next(setback, true, Duration::ZERO), Next::Again(_)));
            applicant.attempts += 1;
        }
        let setback = applicant.lost("closed", Duration::ZERO);
        let (reason, _) = ended(applicant.next(setback, true, Duration::ZERO));
        assert_eq!(reason, "lost the root of the job: closed, 8 times");
    }
}
