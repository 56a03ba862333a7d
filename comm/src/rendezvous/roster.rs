//! The root's list of who has come: a state machine without sockets or clocks.
//!
//! Whoever drives it reports the joins that arrive and the guests whose connection ended, in
//! whatever order the network brings them; the roster says what that means. A rank that lost its
//! connection may come again: its process is recognised by the name of its local listener, which
//! is random, and its attempts are counted, so that a join that was delayed or delivered twice
//! changes nothing. A process that was started again takes the seat of the one that is gone. The
//! final list depends on the last attempt of every rank alone.

use std::collections::HashMap;
use std::time::Duration;

use super::member::{Join, MemberInfo};
use crate::error::Rank;

/// How long a rank whose connection ended may take to come again.
pub(crate) const RETURN_TIME_MAX: Duration = Duration::from_secs(2);

/// What a join meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The rank has its seat.
    Seated,
    /// The rank was here before, as that guest, and comes again: the old connection is void.
    Returned {
        /// The guest whose connection is void, if it is still there.
        instead_of: Option<u64>,
    },
    /// An earlier attempt of a rank that has come again since, or one join twice: void.
    Stale,
    /// The job cannot be assembled; [`Roster::outcome`] says why.
    Fatal,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Ranks are missing; ask again when something has come, or at that time.
    Waiting {
        /// When something changes even if nothing comes.
        until: Duration,
    },
    /// All ranks are here.
    Complete,
    /// The job cannot be assembled, for this reason.
    Failed(String),
}

/// A seat that is taken.
#[derive(Clone, Debug)]
struct Seat {
    member: MemberInfo,
    attempt: u32,
    /// `None`: the root itself.
    guest: Option<u64>,
    /// When and how its connection ended, until it comes again.
    lost: Option<(Duration, String)>,
}

/// Who has come. Times are measured from any fixed moment.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    version: String,
    root: Rank,
    seats: Vec<Option<Seat>>,
    guests: HashMap<u64, Rank>,
    missing: usize,
    lost: usize,
    deadline: Duration,
    failure: Option<String>,
}

impl Roster {
    /// A job of `ranks` ranks, of which `root` is here. Ranks of another `version` are refused.
    pub(crate) fn new(root: MemberInfo, ranks: Rank, version: &str, deadline: Duration) -> Self {
        let mut seats = vec![None; ranks as usize];
        let rank = root.rank;
        seats[rank as usize] =
            Some(Seat { member: root, attempt: u32::MAX, guest: None, lost: None });
        Self {
            version: version.to_owned(),
            root: rank,
            seats,
            guests: HashMap::new(),
            missing: ranks as usize - 1,
            lost: 0,
            deadline,
            failure: None,
        }
    }

    fn ranks(&self) -> usize {
        self.seats.len()
    }

    /// Ends the gathering.
    pub(crate) fn fail(&mut self, reason: String) -> Admission {
        // The first reason is the one to report.
        self.failure.get_or_insert(reason);
        Admission::Fatal
    }

    /// The guest with this number, which was never used before, asks to take part.
    pub(crate) fn admit(&mut self, guest: u64, join: Join, now: Duration) -> Admission {
        let member = join.member;
        if join.version != self.version {
            let reason = format!(
                "version mismatch: {} runs Syncline {}, the root, rank {}, runs {}; install the \
                 same version everywhere",
                who(&member),
                join.version,
                self.root,
                self.version
            );
            return self.fail(reason);
        }
        if join.ranks as usize != self.ranks() {
            let reason = format!(
                "{} was started as one of {} ranks, rank {} as one of {}; start all with the \
                 same number",
                who(&member),
                join.ranks,
                self.root,
                self.ranks()
            );
            return self.fail(reason);
        }
        let rank = member.rank;
        let Some(seat) = self.seats.get_mut(rank as usize) else {
            return self.fail(format!("{} is out of range; ranks count from 0", who(&member)));
        };
        let admission = match seat {
            None => {
                self.missing -= 1;
                Admission::Seated
            }
            // A process that came in the place of one that is gone takes its seat.
            Some(seated) if !same_process(&seated.member, &member) && seated.lost.is_none() => {
                let reason = format!(
                    "{} and {} claim the same rank; give every process a rank of its own",
                    who(&seated.member),
                    who(&member)
                );
                return self.fail(reason);
            }
            Some(seated)
                if same_process(&seated.member, &member) && join.attempt <= seated.attempt =>
            {
                return Admission::Stale;
            }
            Some(seated) => {
                self.lost -= usize::from(seated.lost.is_some());
                let instead_of = seated.guest.filter(|_| seated.lost.is_none());
                if let Some(old) = seated.guest {
                    self.guests.remove(&old);
                }
                Admission::Returned { instead_of }
            }
        };
        *seat = Some(Seat { member, attempt: join.attempt, guest: Some(guest), lost: None });
        self.guests.insert(guest, rank);
        let patience = Duration::from_millis(join.patience_ms.min(1 << 40));
        self.deadline = self.deadline.min(now + patience);
        admission
    }

    /// The connection of this guest ended. One that never had a seat, or whose rank has come
    /// again, is no loss.
    pub(crate) fn lose(&mut self, guest: u64, why: &str, now: Duration) {
        let Some(rank) = self.guests.remove(&guest) else { return };
        if let Some(seat) = &mut self.seats[rank as usize] {
            seat.lost = Some((now, why.to_owned()));
            self.lost += 1;
        }
    }

    /// The guest sent what is no join.
    pub(crate) fn reject(&mut self, guest: u64, message: &[u8]) -> Admission {
        let rank = self.guests.get(&guest);
        let sender = rank.and_then(|&rank| self.seats[rank as usize].as_ref());
        let name = sender.map_or_else(|| "a process".to_owned(), |seat| who(&seat.member));
        match Join::version_of(message).filter(|theirs| *theirs != self.version) {
            Some(theirs) => self.fail(format!(
                "version mismatch: {name} runs Syncline {theirs:?}, the root, rank {}, runs {}; \
                 install the same version everywhere",
                self.root, self.version
            )),
            None => self.fail(format!("{name} sent a malformed request; is it the same version?")),
        }
    }

    /// How things stand at `now`.
    pub(crate) fn outcome(&self, now: Duration) -> Outcome {
        if let Some(reason) = &self.failure {
            return Outcome::Failed(reason.clone());
        }
        if self.missing == 0 && self.lost == 0 {
            return Outcome::Complete;
        }
        let mut until = self.deadline;
        if self.lost > 0 {
            for seat in self.seats.iter().flatten() {
                let Some((since, why)) = &seat.lost else { continue };
                if now >= *since + RETURN_TIME_MAX || now >= self.deadline {
                    return Outcome::Failed(format!(
                        "{} came and was lost ({why}) before all ranks had come; see what it \
                         printed last",
                        who(&seat.member)
                    ));
                }
                until = until.min(*since + RETURN_TIME_MAX);
            }
        }
        if now >= self.deadline {
            return Outcome::Failed(self.absent());
        }
        Outcome::Waiting { until }
    }

    fn absent(&self) -> String {
        let absent =
            (0..).zip(&self.seats).filter(|(_, seat)| seat.is_none()).map(|(rank, _)| rank);
        format!(
            "{} of {} ranks have not come: {}; check that they were started, for this job, and \
             that they can reach this host",
            self.missing,
            self.ranks(),
            ranges(absent)
        )
    }

    /// Everybody, in order of rank; `None` unless the job is complete.
    pub(crate) fn into_members(self) -> Option<Vec<MemberInfo>> {
        self.seats.into_iter().map(|seat| seat.map(|seat| seat.member)).collect()
    }
}

/// Whether two joins come from one process: its listener's name is random.
fn same_process(a: &MemberInfo, b: &MemberInfo) -> bool {
    a.local_name == b.local_name && a.pid == b.pid && a.host_identity == b.host_identity
}

pub(crate) fn who(member: &MemberInfo) -> String {
    format!("rank {} (process {} on {})", member.rank, member.pid, member.host)
}

/// Ranks in increasing order, with runs shortened: `1, 4-7, 9`.
pub(crate) fn ranges(ranks: impl Iterator<Item = Rank>) -> String {
    let mut runs: Vec<(Rank, Rank)> = Vec::new();
    for rank in ranks {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == rank => *last = rank,
            _ => runs.push((rank, rank)),
        }
    }
    let show = |&(first, last): &(Rank, Rank)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.iter().map(show).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    fn member(rank: Rank, process: u8) -> MemberInfo {
        MemberInfo {
            rank,
            host: "node".to_owned(),
            host_identity: "boot/net".to_owned(),
            pid: u32::from(process),
            processors: 1,
            addresses: Vec::new(),
            local_name: vec![process],
            payload: Vec::new(),
        }
    }

    fn join(rank: Rank, ranks: Rank, process: u8, attempt: u32) -> Join {
        Join {
            version: "1".to_owned(),
            ranks,
            patience_ms: 60_000,
            attempt,
            member: member(rank, process),
        }
    }

    fn roster(ranks: Rank) -> Roster {
        Roster::new(member(0, 0), ranks, "1", DEADLINE)
    }

    fn failed(roster: &Roster, at: Duration) -> String {
        match roster.outcome(at) {
            Outcome::Failed(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_rank_that_comes_again_keeps_its_seat() {
        let mut roster = roster(3);
        let second = Duration::from_secs(1);
        assert_eq!(roster.admit(1, join(1, 3, 1, 0), second), Admission::Seated);
        roster.lose(1, "reset", second);
        assert_eq!(roster.outcome(second), Outcome::Waiting { until: second + RETURN_TIME_MAX });
        assert_eq!(roster.admit(2, join(2, 3, 2, 0), second), Admission::Seated);
        assert!(matches!(roster.outcome(second), Outcome::Waiting { .. }), "rank 1 is away");
        let returned = Admission::Returned { instead_of: None };
        assert_eq!(roster.admit(3, join(1, 3, 1, 1), 2 * second), returned);
        assert_eq!(roster.outcome(2 * second), Outcome::Complete);
        // The old connection's end is heard of late, and its join once more.
        roster.lose(1, "reset", 2 * second);
        assert_eq!(roster.admit(4, join(1, 3, 1, 0), 2 * second), Admission::Stale);
        roster.lose(4, "closed", 2 * second);
        assert_eq!(roster.outcome(2 * second), Outcome::Complete);
    }

    #[test]
    fn a_rank_that_stays_away_is_named() {
        let mut roster = roster(3);
        roster.admit(1, join(1, 3, 1, 0), Duration::ZERO);
        roster.lose(1, "reset by peer", Duration::ZERO);
        let reason = failed(&roster, RETURN_TIME_MAX);
        assert!(reason.starts_with("rank 1 (process 1 on node) came and was lost (reset by peer)"));
    }

    #[test]
    fn a_process_that_was_started_again_takes_the_seat() {
        let mut roster = roster(2);
        roster.admit(1, join(1, 2, 1, 3), Duration::ZERO);
        roster.lose(1, "reset", Duration::ZERO);
        let returned = Admission::Returned { instead_of: None };
        assert_eq!(roster.admit(2, join(1, 2, 2, 0), Duration::ZERO), returned);
        assert_eq!(roster.outcome(Duration::ZERO), Outcome::Complete);
        // But two that are there at the same time are one too many.
        assert_eq!(roster.admit(3, join(1, 2, 1, 4), Duration::ZERO), Admission::Fatal);
        assert!(failed(&roster, Duration::ZERO).contains("claim the same rank"));
    }

    #[test]
    fn conflicts_fail_the_job_and_name_both() {
        let mut two = roster(3);
        two.admit(1, join(1, 3, 1, 0), Duration::ZERO);
        assert_eq!(two.admit(2, join(1, 3, 2, 0), Duration::ZERO), Admission::Fatal);
        let reason = failed(&two, Duration::ZERO);
        assert!(
            reason.starts_with(
                "rank 1 (process 1 on node) and rank 1 (process 2 on node) claim the same rank"
            ),
            "{reason}"
        );
        let mut root = roster(3);
        assert_eq!(root.admit(1, join(0, 3, 1, 0), Duration::ZERO), Admission::Fatal);
        let mut size = roster(3);
        size.admit(1, join(1, 4, 1, 0), Duration::ZERO);
        let reason = failed(&size, Duration::ZERO);
        assert!(reason.contains("one of 4 ranks, rank 0 as one of 3"), "{reason}");
        let mut old = roster(3);
        let foreign = Join { version: "0.9".to_owned(), ..join(1, 3, 1, 0) };
        old.admit(1, foreign, Duration::ZERO);
        let reason = failed(&old, Duration::ZERO);
        assert!(reason.contains("runs Syncline 0.9, the root, rank 0, runs 1"), "{reason}");
    }

    #[test]
    fn the_first_deadline_of_any_rank_counts() {
        let mut roster = roster(4);
        let hurried = Join { patience_ms: 500, ..join(2, 4, 2, 0) };
        roster.admit(1, hurried, Duration::from_secs(1));
        let until = Duration::from_millis(1500);
        assert_eq!(roster.outcome(Duration::from_secs(1)), Outcome::Waiting { until });
        assert!(failed(&roster, until).starts_with("2 of 4 ranks have not come: 1, 3;"));
    }

    #[test]
    fn runs_are_shortened() {
        assert_eq!(ranges([1, 4, 5, 6, 9].into_iter()), "1, 4-6, 9");
        assert_eq!(ranges([].into_iter()), "");
    }

    /// What happens on one connection: a join, twice perhaps, and its end.
    #[derive(Clone, Debug)]
    enum Event {
        Join { guest: u64, rank: Rank, attempt: u32 },
        End { guest: u64 },
    }

    /// Every rank comes `attempts` times; all connections but the last end. What the network may
    /// do to that: any order among connections, and joins twice.
    fn weather() -> impl Strategy<Value = (Vec<u32>, Vec<Event>)> {
        proptest::collection::vec(1..4u32, 1..9).prop_flat_map(|attempts| {
            let mut events = Vec::new();
            let mut guest = 0;
            for (rank, &count) in (1..).zip(&attempts) {
                for attempt in 0..count {
                    events.push(Event::Join { guest, rank, attempt });
                    events.push(Event::Join { guest: guest + 1000, rank, attempt });
                    if attempt + 1 < count {
                        events.push(Event::End { guest });
                    }
                    guest += 1;
                }
            }
            (Just(attempts), Just(events).prop_shuffle())
        })
    }

    proptest! {
        #[test]
        fn order_and_repetition_change_nothing((attempts, events) in weather()) {
            let ranks = attempts.len() as Rank + 1;
            let mut roster = roster(ranks);
            let mut ended = Vec::new();
            for event in &events {
                match *event {
                    // A connection's end is not heard of before what was sent on it.
                    Event::End { guest } => ended.push(guest),
                    Event::Join { guest, rank, attempt } => {
                        let join = join(rank, ranks, rank as u8, attempt);
                        let admission = roster.admit(guest, join, Duration::ZERO);
                        prop_assert_ne!(admission, Admission::Fatal);
                        if ended.contains(&guest) {
                            roster.lose(guest, "end", Duration::ZERO);
                        }
                    }
                }
            }
            for guest in ended {
                roster.lose(guest, "end", Duration::ZERO);
            }
            // The last attempt of every rank stays connected, and it is the one that counts.
            prop_assert_eq!(roster.outcome(Duration::ZERO), Outcome::Complete);
            let members = roster.into_members().unwrap();
            let all: Vec<Rank> = members.iter().map(|m| m.rank).collect();
            prop_assert_eq!(all, (0..ranks).collect::<Vec<_>>());
        }

        #[test]
        fn it_is_complete_exactly_when_all_have_come(
            present in proptest::collection::btree_set(1..12u32, 0..11)
        ) {
            let mut roster = roster(12);
            for &rank in &present {
                roster.admit(u64::from(rank), join(rank, 12, rank as u8, 0), Duration::ZERO);
            }
            let complete = roster.outcome(Duration::ZERO) == Outcome::Complete;
            prop_assert_eq!(complete, present.len() == 11);
            if !complete {
                let named = failed(&roster, DEADLINE);
                let absent = ranges((1..12).filter(|rank| !present.contains(rank)));
                let expected = format!(" {absent};");
                prop_assert!(named.contains(&expected), "{}", named);
            }
        }
    }
}
