//! The root's part without sockets or clocks: whom it knows, what they are told, and who has the
//! table.
//!
//! Whoever drives it says which guests came, what they said and that they went, and carries out
//! what comes back ([`Assembly::next_effect`]). What a join means is the [`Roster`]'s business;
//! here is what follows from it for the guest. The root's I/O and the fault campaign both go
//! through here. Times are measured from any fixed moment.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::member::{Join, MemberInfo, Table, Verdict};
use super::roster::{Admission, Outcome, RETURN_TIME_MAX, Roster, who};
use super::spread::{self, RECEIPT};
use crate::error::Rank;

/// How long the verdict may take to reach everybody.
const DISTRIBUTION_TIME_MAX: Duration = Duration::from_secs(10);
/// When no receipt of the table has come for this long, the root no longer relies on others to
/// pass it on.
const RELIEF_AFTER: Duration = Duration::from_secs(1);
/// How many ranks the root then serves at a time.
const RELIEF_RANKS: usize = 32;
/// How long a bad verdict is given to be read before the connection closes.
const FAREWELL_TIME_MAX: Duration = Duration::from_millis(500);

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Send this to a guest.
    Tell {
        /// To whom.
        guest: u64,
        /// What.
        message: Arc<[u8]>,
    },
    /// Close the connection of a guest, who is forgotten.
    Close {
        /// Whose.
        guest: u64,
    },
}

#[derive(Debug)]
struct Guest {
    encrypted: bool,
    rank: Option<Rank>,
    told: bool,
}

/// What the root is doing.
#[derive(Debug)]
enum Phase {
    /// It waits for ranks.
    Gathering(Roster),
    /// It has everybody, and makes the table.
    Complete,
    /// The table is on its way.
    Spreading(Spreading),
    /// The job has come to nothing, and everybody is told.
    Dismissing { message: Arc<[u8]>, until: Duration },
}

#[derive(Debug)]
struct Spreading {
    table: Table,
    message: Arc<[u8]>,
    until: Duration,
    /// When the last receipt came, or the root helped last.
    progress: Duration,
    /// Ranks whose connection ended before their receipt came: until when they may come again.
    lost: BTreeMap<Rank, Duration>,
}

/// A job that comes together at its root.
#[derive(Debug)]
pub(crate) struct Assembly {
    me: Rank,
    encrypt: bool,
    phase: Phase,
    guests: BTreeMap<u64, Guest>,
    effects: VecDeque<Effect>,
}

impl Assembly {
    /// A job of `ranks` ranks, of which `root` is here. Ranks of another `version`, and those
    /// that encrypt when the root does not or the other way round, are refused.
    pub(crate) fn new(
        root: MemberInfo,
        ranks: Rank,
        version: &str,
        encrypt: bool,
        deadline: Duration,
    ) -> Self {
        Self {
            me: root.rank,
            encrypt,
            phase: Phase::Gathering(Roster::new(root, ranks, version, deadline)),
            guests: BTreeMap::new(),
            effects: VecDeque::new(),
        }
    }

    /// The next thing to do, until there is nothing.
    pub(crate) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Somebody came, who has proved to know the job's secret; the number was never used before.
    pub(crate) fn arrive(&mut self, guest: u64, encrypted: bool) {
        let told = matches!(self.phase, Phase::Dismissing { .. });
        self.guests.insert(guest, Guest { encrypted, rank: None, told });
        if let Phase::Dismissing { message, .. } = &self.phase {
            let message = Arc::clone(message);
            self.effects.push_back(Effect::Tell { guest, message });
        }
    }

    /// A guest said something.
    pub(crate) fn hear(&mut self, guest: u64, message: &[u8], now: Duration) {
        if !self.guests.contains_key(&guest) {
            return;
        }
        match &mut self.phase {
            Phase::Gathering(_) => self.admit(guest, message, now),
            Phase::Spreading(_) if message == RECEIPT => self.receipt(guest, now),
            Phase::Spreading(_) => self.come_late(guest, message),
            // Between two polls nobody speaks; what the dismissed say does not matter any more.
            Phase::Complete | Phase::Dismissing { .. } => {}
        }
    }

    /// The connection of a guest ended.
    pub(crate) fn lose(&mut self, guest: u64, why: &str, now: Duration) {
        let rank = self.guests.remove(&guest).and_then(|guest| guest.rank);
        match &mut self.phase {
            Phase::Gathering(roster) => roster.lose(guest, why, now),
            Phase::Spreading(spreading) => {
                spreading.lost.extend(rank.map(|rank| (rank, now + RETURN_TIME_MAX)));
            }
            Phase::Complete | Phase::Dismissing { .. } => {}
        }
    }

    fn close(&mut self, guest: u64) {
        self.guests.remove(&guest);
        self.effects.push_back(Effect::Close { guest });
    }

    fn admit(&mut self, guest: u64, message: &[u8], now: Duration) {
        let (me, encrypt) = (self.me, self.encrypt);
        let (Phase::Gathering(roster), Some(known)) = (&mut self.phase, self.guests.get(&guest))
        else {
            return;
        };
        let Ok(join) = Join::decode(message) else {
            roster.reject(guest, message);
            return;
        };
        if known.encrypted != encrypt {
            let how = |encrypted| if encrypted { "encrypted" } else { "in the clear" };
            roster.fail(format!(
                "{} comes {}, rank {me} {}; set the option `encrypt` alike on every rank",
                who(&join.member),
                how(known.encrypted),
                how(encrypt)
            ));
            return;
        }
        let rank = join.member.rank;
        match roster.admit(guest, join, now) {
            Admission::Seated | Admission::Returned { instead_of: None } => {}
            Admission::Returned { instead_of: Some(old) } => self.close(old),
            // A guest that has its seat said the same thing twice; others are void.
            Admission::Stale if known.rank == Some(rank) => {}
            Admission::Stale => self.close(guest),
            // The guest stays to hear the reason.
            Admission::Fatal => return,
        }
        if let Some(known) = self.guests.get_mut(&guest) {
            known.rank = Some(rank);
        }
    }

    /// How the gathering stands at `now`.
    pub(crate) fn outcome(&self, now: Duration) -> Outcome {
        match &self.phase {
            Phase::Gathering(roster) => roster.outcome(now),
            _ => Outcome::Complete,
        }
    }

    /// Everybody, in order of rank, once; `None` unless the gathering is complete.
    pub(crate) fn take_members(&mut self) -> Option<Vec<MemberInfo>> {
        match std::mem::replace(&mut self.phase, Phase::Complete) {
            Phase::Gathering(roster) => roster.into_members(),
            _ => None,
        }
    }

    /// Has the table reach everybody: those who pass it on get it, and everybody's receipt is
    /// waited for; whoever is not reached that way gets it from here. One that is lost now will be
    /// missed by its communicator.
    pub(crate) fn spread(&mut self, table: Table, now: Duration) {
        let ranks = Rank::try_from(table.members.len()).unwrap_or(Rank::MAX);
        let first: Vec<Rank> = spread::children(self.me, self.me, ranks).collect();
        let message: Arc<[u8]> = Verdict::Table(table.clone()).encode().into();
        self.tell(&message, usize::MAX, |rank| first.contains(&rank));
        let until = now + DISTRIBUTION_TIME_MAX;
        let lost = BTreeMap::new();
        self.phase = Phase::Spreading(Spreading { table, message, until, progress: now, lost });
    }

    /// Has everybody told that it has come to nothing, and gives them time to hear it.
    pub(crate) fn dismiss(&mut self, reason: &str, now: Duration) {
        let message: Arc<[u8]> = Verdict::Failed(reason.to_owned()).encode().into();
        for &guest in self.guests.keys() {
            self.effects.push_back(Effect::Tell { guest, message: Arc::clone(&message) });
        }
        self.phase = Phase::Dismissing { message, until: now + FAREWELL_TIME_MAX };
    }

    /// Sends the table to at most `ranks_max` of the guests that `chosen` names.
    fn tell(&mut self, message: &Arc<[u8]>, ranks_max: usize, chosen: impl Fn(Rank) -> bool) {
        let untold = self.guests.iter_mut().filter(|(_, g)| !g.told && g.rank.is_some_and(&chosen));
        for (&guest, known) in untold.take(ranks_max) {
            known.told = true;
            self.effects.push_back(Effect::Tell { guest, message: Arc::clone(message) });
        }
    }

    fn receipt(&mut self, guest: u64, now: Duration) {
        if let Phase::Spreading(spreading) = &mut self.phase {
            spreading.progress = now;
        }
        self.close(guest);
    }

    /// A rank that lost its connection comes again, late; or one that is none of this job's.
    fn come_late(&mut self, guest: u64, message: &[u8]) {
        let Phase::Spreading(spreading) = &mut self.phase else { return };
        let rank = Join::decode(message).ok().map(|join| join.member).and_then(|member| {
            let seated = spreading.table.members.get(member.rank as usize)?;
            (seated.local_name == member.local_name).then_some(member.rank)
        });
        let message = match rank {
            Some(_) => Arc::clone(&spreading.message),
            None => Verdict::Closed.encode().into(),
        };
        if let Some(rank) = rank {
            spreading.lost.remove(&rank);
        }
        if let Some(guest) = self.guests.get_mut(&guest) {
            (guest.told, guest.rank) = (true, rank);
        }
        self.effects.push_back(Effect::Tell { guest, message });
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Duration) {
        let Phase::Spreading(spreading) = &mut self.phase else { return };
        if now >= spreading.progress + RELIEF_AFTER {
            spreading.progress = now;
            let message = Arc::clone(&spreading.message);
            self.tell(&message, RELIEF_RANKS, |_| true);
        }
    }

    /// When [`Self::tick`] or [`Self::outcome`] has something new though nothing comes; `None`
    /// when the root is done.
    pub(crate) fn due(&self, now: Duration) -> Option<Duration> {
        let due = match &self.phase {
            Phase::Gathering(roster) => match roster.outcome(now) {
                Outcome::Waiting { until } => return Some(until),
                Outcome::Complete | Outcome::Failed(_) => return None,
            },
            Phase::Complete => return None,
            Phase::Spreading(Spreading { until, progress, lost, .. }) => {
                let back = lost.values().copied().filter(|by| *by > now).max();
                if self.guests.is_empty() {
                    return back.map(|by| by.min(*until)).filter(|by| *by > now);
                }
                (*until, (*until).min(*progress + RELIEF_AFTER))
            }
            Phase::Dismissing { until, .. } => (*until, *until),
        };
        let (until, next) = due;
        (now < until && !self.guests.is_empty()).then_some(next)
    }
}
