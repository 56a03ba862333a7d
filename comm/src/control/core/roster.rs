//! Who is still in the job.
//!
//! Every member watches its two successors on the ring of those present, so one of them notices at
//! once when a process ends, even if the other has stopped: its connection closes. (A host that is
//! cut off is noticed by the kernel's keepalive on the same connection. A process that is merely
//! stopped keeps its connection, and is not dead.) Whoever notices tells its neighbours in the
//! overlay, who pass it on; when a departure gives a member new neighbours, they are told of all
//! departures, as they may have missed what went through the one that departed.
//!
//! A member that leaves tells its neighbours, and goes when all of them have heard: those pass it
//! on. One that is leaving itself may be gone before it does, so it answers with its own farewell
//! instead, which gives the leaving member another neighbour to tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Message, overlay};
use crate::error::Rank;

/// What became of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// Its link broke. Dead, unless its farewell comes by `until`.
    Doubtful { until: Duration, how: String },
    /// It is dead.
    Dead { how: String },
    /// It left in good order. What it said to this member last may come until `until`, after its
    /// farewell, which others pass on; `None`: that time is over.
    Left { until: Option<Duration> },
}

/// The members of the job, and what became of them.
#[derive(Debug)]
pub(super) struct Roster {
    me: Rank,
    ranks: Rank,
    departed: BTreeMap<Rank, Departure>,
    neighbours: BTreeSet<Rank>,
    /// What each neighbour knows, because it was told or told us.
    told: BTreeMap<Rank, BTreeSet<Rank>>,
    /// This member leaves: whom it has told, and who has heard.
    leaving: Option<Leaving>,
}

#[derive(Debug, Default)]
struct Leaving {
    told: BTreeSet<Rank>,
    heard: BTreeSet<Rank>,
}

impl Roster {
    pub(super) fn new(me: Rank, ranks: Rank) -> Self {
        let mut roster = Self {
            me,
            ranks,
            departed: BTreeMap::new(),
            neighbours: BTreeSet::new(),
            told: BTreeMap::new(),
            leaving: None,
        };
        roster.neighbours = roster.overlay();
        roster
    }

    /// Whether `rank` is a member at all.
    pub(super) fn is_peer(&self, rank: Rank) -> bool {
        rank < self.ranks && rank != self.me
    }

    pub(super) fn departure(&self, rank: Rank) -> Option<&Departure> {
        self.departed.get(&rank)
    }

    /// Whether nothing is to be expected of `rank` any more.
    pub(super) fn is_gone(&self, rank: Rank) -> bool {
        self.departed.contains_key(&rank)
    }

    /// Whether nothing that `rank` said is on its way any more either.
    pub(super) fn is_silent(&self, rank: Rank) -> bool {
        let departure = self.departed.get(&rank);
        matches!(departure, Some(Departure::Dead { .. } | Departure::Left { until: None }))
    }

    pub(super) fn is_dead(&self, rank: Rank) -> bool {
        matches!(self.departed.get(&rank), Some(Departure::Dead { .. }))
    }

    /// Notes a departure unless a final one is known; answers whether it was news.
    pub(super) fn note(&mut self, rank: Rank, departure: Departure) -> bool {
        if matches!(self.departed.get(&rank), Some(Departure::Dead { .. } | Departure::Left { .. }))
            || self.departed.get(&rank) == Some(&departure)
        {
            return false;
        }
        self.departed.insert(rank, departure);
        true
    }

    /// `teller` knows of the departure of `rank`.
    pub(super) fn note_told(&mut self, teller: Rank, rank: Rank) {
        self.told.entry(teller).or_default().insert(rank);
    }

    /// Whom to watch.
    pub(super) fn successors(&self) -> Vec<Rank> {
        let present = |at: usize| !self.is_gone(at as Rank);
        let found = overlay::successors(self.me as usize, self.ranks as usize, present);
        found.map(|at| at as Rank).collect()
    }

    fn overlay(&self) -> BTreeSet<Rank> {
        let present = |at: usize| !self.is_gone(at as Rank);
        let found = overlay::neighbours(self.me as usize, self.ranks as usize, present);
        found.into_iter().map(|at| at as Rank).collect()
    }

    /// What is to be told to whom after `news` departed: that to all neighbours, and everything
    /// to new neighbours.
    pub(super) fn spread(&mut self, news: Rank) -> Vec<(Rank, Message)> {
        self.told.remove(&news);
        let neighbours = self.overlay();
        let mut messages = Vec::new();
        for neighbour in &neighbours {
            let told = self.told.entry(*neighbour).or_default();
            let fresh = !self.neighbours.contains(neighbour);
            for (rank, departure) in &self.departed {
                let message = match departure {
                    _ if !fresh && *rank != news => continue,
                    Departure::Doubtful { .. } => continue,
                    Departure::Dead { how } => Message::Dead { rank: *rank, how: how.clone() },
                    Departure::Left { .. } => Message::Farewell { rank: *rank },
                };
                if told.insert(*rank) {
                    messages.push((*neighbour, message));
                }
            }
        }
        self.neighbours = neighbours;
        messages
    }

    /// This member leaves.
    pub(super) fn leave(&mut self) {
        self.leaving.get_or_insert_default();
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// The farewells that are still to be said.
    pub(super) fn farewells(&mut self) -> Vec<(Rank, Message)> {
        let Some(leaving) = &mut self.leaving else { return Vec::new() };
        let message = Message::Farewell { rank: self.me };
        let untold = self.neighbours.iter().filter(|neighbour| leaving.told.insert(**neighbour));
        untold.map(|neighbour| (*neighbour, message.clone())).collect()
    }

    /// What `from` is answered when it says farewell itself.
    pub(super) fn farewell_answer(&mut self, from: Rank) -> Option<Message> {
        match &mut self.leaving {
            None => Some(Message::FarewellHeard),
            Some(leaving) => {
                leaving.told.insert(from).then_some(Message::Farewell { rank: self.me })
            }
        }
    }

    /// `from` has heard this member's farewell.
    pub(super) fn note_heard(&mut self, from: Rank) {
        if let Some(leaving) = &mut self.leaving {
            leaving.heard.insert(from);
        }
    }

    /// This member leaves, and all its neighbours have heard.
    pub(super) fn may_go(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| self.neighbours.is_subset(&leaving.heard))
    }

    /// When the last words of a member that left are next to be given up.
    pub(super) fn next_silence(&self) -> Option<Duration> {
        let times = self.departed.values().filter_map(|departure| match departure {
            Departure::Left { until } => *until,
            _ => None,
        });
        times.min()
    }

    /// Gives up last words that are due, and answers whose.
    pub(super) fn silence(&mut self, now: Duration) -> Vec<Rank> {
        let mut silent = Vec::new();
        for (rank, departure) in &mut self.departed {
            if let Departure::Left { until } = departure
                && until.is_some_and(|until| until <= now)
            {
                *until = None;
                silent.push(*rank);
            }
        }
        silent
    }

    /// Members in doubt, and until when.
    pub(super) fn doubts(&self) -> impl Iterator<Item = (Rank, Duration, &str)> {
        self.departed.iter().filter_map(|(rank, departure)| match departure {
            Departure::Doubtful { until, how } => Some((*rank, *until, how.as_str())),
            _ => None,
        })
    }
}
