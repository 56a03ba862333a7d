//! The control protocol of one member, without I/O.
//!
//! Whoever drives it hands in what happened ([`Core::handle`], the local requests, the passing of
//! time) and carries out what comes back ([`Core::next_output`]). Nothing here blocks, reads a
//! clock, or knows of sockets. All ranks are **job ranks**: the numbers of the rendezvous, which
//! stay the same in every communicator made from the first one.

mod agree;
mod agreement;
mod cause;
mod codec;
mod group;
mod groups;
mod investigate;
mod lead;
mod local;
mod message;
mod overlay;
mod roster;
mod stall;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use cause::{Absence, Cause};
pub use message::{Answer, Contribution, Message, Part};

use groups::Groups;
use local::Local;
use roster::Departure;

use crate::error::Rank;

/// Names a communicator among all of the job's.
pub type CommId = u64;

/// One operation of a communicator, as its sequence counter numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// The collective of this number.
    Collective(u64),
    /// The `number`-th message from one rank to another.
    Message {
        /// Who sends.
        from: Rank,
        /// Who receives.
        to: Rank,
        /// Its number among the messages from `from` to `to`.
        number: u64,
    },
}

/// Where a rank is in an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has not called it; `last` says, in words, what it called last, if anything.
    NotEntered {
        /// Such as `all_reduce #41 (f32 x 1024, sum, ring)`.
        last: Option<String>,
        /// The oldest operation of the communicator that it is still in, which may be what keeps
        /// it.
        unfinished: Option<Unfinished>,
    },
    /// It is in it.
    Running {
        /// The call in words.
        description: String,
        /// Whom it waits for there, in job ranks.
        waits_for: Vec<Rank>,
        /// An earlier operation that it has to wait for, if that one waits for anybody.
        behind: Option<Unfinished>,
    },
    /// It has finished it.
    Done {
        /// The call in words.
        description: String,
    },
    /// It has no record of it any more, or the communicator is closed here.
    Unknown,
}

/// An operation that a rank is still in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Which.
    pub operation: Operation,
    /// Whom the rank waits for there, in job ranks.
    pub waits_for: Vec<Rank>,
}

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message came. Messages between two members may be repeated and overtake each other.
    Message {
        /// Who sent it; authenticated.
        from: Rank,
        /// What it says.
        message: Message,
    },
    /// The link to a member broke, and could not be made again; or it cannot be made at all. Its
    /// process or host is gone.
    Lost {
        /// Who.
        peer: Rank,
        /// How that was noticed, in words.
        how: String,
    },
    /// The answer to [`Output::Inspect`].
    Inspected {
        /// The question's number.
        query: u64,
        /// Where this rank is in the operation.
        progress: Progress,
    },
}

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this; make a link first if there is none. Links are kept until the job ends. When
    /// that is not possible, hand in [`Input::Lost`].
    Send {
        /// To whom.
        to: Rank,
        /// What.
        message: Message,
    },
    /// Keep links to these from now on, so that their end is noticed. Replaces the previous
    /// choice.
    Watch(Vec<Rank>),
    /// Say where this rank is in an operation, by [`Input::Inspected`].
    Inspect {
        /// Number of the question.
        query: u64,
        /// The communicator.
        comm: CommId,
        /// The operation.
        operation: Operation,
    },
    /// The communicator has failed here, and why; once per communicator. End its operations.
    Failed {
        /// Which.
        comm: CommId,
        /// Why.
        cause: Cause,
    },
    /// An agreement that this rank asked for has ended.
    Agreed {
        /// The communicator.
        comm: CommId,
        /// Number of the agreement in the communicator, counted from 0.
        number: u64,
        /// What was agreed, or why this rank has no part in it.
        outcome: Result<Agreed, Excluded>,
    },
}

/// What the survivors agreed on; the same at all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Bitwise AND of what they brought.
    pub flags: u64,
    /// The members that have no part any more, ascending.
    pub failed: Vec<Rank>,
}

/// The others agreed without this rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excluded {
    /// In words.
    pub reason: String,
}

/// How long the protocol waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// After this a member that does not answer a question counts as silent.
    pub answer_max: Duration,
    /// After this an investigation ends with what is known.
    pub investigation_max: Duration,
    /// A member whose link broke counts as dead after this, unless its farewell comes meanwhile:
    /// at the end of a job members go one after the other, and a new link to one that went in
    /// good order fails just like a link to a dead one. As long, what a member said before it left
    /// may still be on its way: its farewell comes through others too, and overtakes it.
    pub farewell_max: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            answer_max: Duration::from_millis(300),
            investigation_max: Duration::from_millis(800),
            farewell_max: Duration::from_millis(100),
        }
    }
}

/// The control protocol of one member.
#[derive(Debug)]
pub struct Core {
    local: Local,
    groups: Groups,
    /// The members watched.
    watched: Vec<Rank>,
}

impl Core {
    /// Member `me` of a job of `ranks`.
    pub fn new(me: Rank, ranks: Rank, timings: Timings) -> Self {
        let local = Local::new(me, ranks, timings);
        let mut core = Self { local, groups: Groups::default(), watched: Vec::new() };
        core.watch();
        core
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, now: Duration, input: Input) {
        self.pass(now);
        match input {
            Input::Message { from, message } => self.receive(from, message),
            Input::Lost { peer, how } => self.lose(peer, how),
            Input::Inspected { query, progress } => {
                self.groups.inspected(&mut self.local, query, progress);
            }
        }
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Duration) {
        self.pass(now);
        let due = self.local.roster.doubts().filter(|(_, until, _)| *until <= now);
        let dead: Vec<_> = due.map(|(rank, _, how)| (rank, how.to_owned())).collect();
        for (rank, how) in dead {
            self.depart(rank, Departure::Dead { how });
        }
        for rank in self.local.roster.silence(self.local.now) {
            self.groups.each(&mut self.local, |group, local| group.agreements_lose(local, rank));
        }
        self.groups.tick(&mut self.local);
    }

    /// When [`Self::tick`] is to be called next.
    pub fn next_tick(&self) -> Option<Duration> {
        let doubts = self.local.roster.doubts().map(|(_, until, _)| until).min();
        let silence = self.local.roster.next_silence();
        doubts.into_iter().chain(silence).chain(self.groups.next_tick()).min()
    }

    /// The next thing to do, until there is nothing.
    pub fn next_output(&mut self) -> Option<Output> {
        self.local.outputs.pop_front()
    }

    /// This rank now has a communicator of these members, listed by rank in it. Others may have
    /// opened it, and even failed in it, before.
    pub fn open(&mut self, now: Duration, comm: CommId, members: Arc<[Rank]>) {
        self.pass(now);
        self.groups.open(&mut self.local, comm, members);
    }

    /// This rank leaves the communicator in good order.
    pub fn close(&mut self, now: Duration, comm: CommId) {
        self.pass(now);
        self.groups.close(&mut self.local, comm);
    }

    /// This rank's engine lost its pipe to `peer`: find out why. [`Output::Failed`] follows
    /// within [`Timings::investigation_max`].
    pub fn suspect(&mut self, now: Duration, comm: CommId, peer: Rank, how: &str) {
        self.pass(now);
        self.groups.with(comm, &mut self.local, |group, local| group.suspect(local, peer, how));
    }

    /// `peer` broke the wire protocol. [`Output::Failed`] follows.
    pub fn protocol_broken(&mut self, now: Duration, comm: CommId, peer: Rank, reason: &str) {
        self.fail(now, comm, Cause::Protocol { rank: peer, reason: reason.to_owned() });
    }

    /// An operation of this rank, `description` in words, made no progress for `after`, while it
    /// waited for `waits_for`: find out who holds it up. [`Output::Failed`] follows within
    /// [`Timings::investigation_max`].
    pub fn stalled(&mut self, now: Duration, comm: CommId, stall: Stall) {
        self.pass(now);
        self.groups.with(comm, &mut self.local, |group, local| group.stalled(local, stall));
    }

    /// `peer` is in another operation than this rank: find out in which. [`Output::Failed`]
    /// follows within [`Timings::investigation_max`].
    pub fn mismatch(&mut self, now: Duration, comm: CommId, mismatch: Mismatch) {
        self.pass(now);
        self.groups.with(comm, &mut self.local, |group, local| group.mismatch(local, mismatch));
    }

    /// Ends the communicator everywhere; the members stay members.
    pub fn revoke(&mut self, now: Duration, comm: CommId, reason: &str) {
        let by = self.local.me;
        self.fail(now, comm, Cause::Revoked { by, reason: reason.to_owned() });
    }

    /// Ends the communicator everywhere, because this rank gives up. It has no part in later
    /// agreements.
    pub fn abort(&mut self, now: Duration, comm: CommId, reason: &str) {
        self.pass(now);
        self.groups.with(comm, &mut self.local, |group, local| group.abort(local, reason));
    }

    /// Takes part in the communicator's next agreement; answers its number. [`Output::Agreed`]
    /// follows by `deadline`, or a little later: ranks that have not come by then are left out.
    /// Works on communicators that failed.
    pub fn agree(&mut self, now: Duration, comm: CommId, flags: u64, deadline: Duration) -> u64 {
        self.pass(now);
        self.groups.agree(&mut self.local, comm, flags, deadline)
    }

    /// This member leaves the job in good order. The core has to be driven on until
    /// [`Self::may_go`], or for a short while: if nobody hears the farewell, this member counts
    /// as dead.
    pub fn leave(&mut self, now: Duration) {
        self.pass(now);
        self.groups.close_all(&mut self.local);
        self.local.roster.leave();
        self.say_farewell();
        self.watch();
    }

    /// This member left, and those who have to know have heard.
    pub fn may_go(&self) -> bool {
        self.local.roster.may_go()
    }

    fn say_farewell(&mut self) {
        for (to, message) in self.local.roster.farewells() {
            self.local.send(to, message);
        }
    }

    fn pass(&mut self, now: Duration) {
        self.local.now = self.local.now.max(now);
    }

    fn fail(&mut self, now: Duration, comm: CommId, cause: Cause) {
        self.pass(now);
        self.groups.with(comm, &mut self.local, |group, local| group.fail(local, cause, None));
    }

    fn receive(&mut self, from: Rank, message: Message) {
        if !self.local.roster.is_peer(from) {
            return;
        }
        if self.local.roster.is_dead(from) {
            self.disown(from, &message);
            return;
        }
        match message {
            Message::Dead { rank, how } if rank == self.local.me => self.outcast(&how),
            Message::Dead { rank, how } => {
                self.local.roster.note_told(from, rank);
                self.depart(rank, Departure::Dead { how });
            }
            Message::Farewell { rank } => {
                self.local.roster.note_told(from, rank);
                let until = Some(self.local.now + self.local.timings.farewell_max);
                self.depart(rank, Departure::Left { until });
                if rank == from
                    && let Some(message) = self.local.roster.farewell_answer(from)
                {
                    self.local.outputs.push_back(Output::Send { to: from, message });
                }
            }
            Message::FarewellHeard => self.local.roster.note_heard(from),
            Message::Failed { comm, cause } => {
                self.groups.failed(&mut self.local, from, comm, cause);
            }
            Message::Ask { comm, query, operation } => {
                self.groups.asked(&mut self.local, from, comm, query, operation);
            }
            Message::Answer { comm, query, answer } => {
                self.groups.with(comm, &mut self.local, |group, local| {
                    group.answered(local, from, query, &answer);
                });
            }
            Message::Agreement { comm, number, ballot, part } => {
                self.groups.with(comm, &mut self.local, |group, local| {
                    group.agreement(local, from, number, ballot, part);
                });
            }
        }
    }

    /// A member that is held for dead speaks: the others have gone on without it, which it is to
    /// know. What it says is no longer heard.
    fn disown(&mut self, from: Rank, message: &Message) {
        if let Some(Departure::Dead { how }) = self.local.roster.departure(from)
            && !matches!(message, Message::Dead { .. })
        {
            let message = Message::Dead { rank: from, how: how.clone() };
            self.local.outputs.push_back(Output::Send { to: from, message });
        }
    }

    /// The others hold this member for dead.
    fn outcast(&mut self, how: &str) {
        self.groups.each(&mut self.local, |group, local| group.outcast(local, how));
    }

    fn lose(&mut self, peer: Rank, how: String) {
        if self.local.roster.is_peer(peer) && !self.local.roster.is_gone(peer) {
            let until = self.local.now + self.local.timings.farewell_max;
            self.depart(peer, Departure::Doubtful { until, how });
        }
    }

    fn depart(&mut self, rank: Rank, departure: Departure) {
        if !self.local.roster.is_peer(rank) {
            return;
        }
        if self.local.roster.note(rank, departure) {
            for (to, message) in self.local.roster.spread(rank) {
                self.local.send(to, message);
            }
            self.say_farewell();
            self.watch();
            self.groups.each(&mut self.local, |group, local| group.depart(local, rank));
        }
    }

    fn watch(&mut self) {
        let roster = &self.local.roster;
        let successors = if roster.is_leaving() { Vec::new() } else { roster.successors() };
        if successors != self.watched {
            self.watched.clone_from(&successors);
            self.local.outputs.push_back(Output::Watch(successors));
        }
    }
}

/// What a rank knows of an operation that does not move.
#[derive(Clone, Debug)]
pub struct Stall {
    /// Which.
    pub operation: Operation,
    /// In words.
    pub description: String,
    /// Whom this rank waits for.
    pub waits_for: Vec<Rank>,
    /// For how long nothing moved.
    pub after: Duration,
}

/// What a rank knows of a call that differs.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// What this rank called.
    pub operation: Operation,
    /// In words.
    pub description: String,
    /// Who called something else.
    pub peer: Rank,
    /// What its frame said: the low 32 bits of its sequence number, and its fingerprint.
    pub theirs: (u32, u64),
}
