//! The root's side: gathers the members, then tells everybody.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::framed::Framed;
use super::handshake::Purpose;
use super::inbox::Inbox;
use super::listener::Listener;
use super::member::{Join, MESSAGE_BYTES_MAX, Table, Verdict};
use super::roster::{Admission, Outcome, Roster, who};
use super::spread::{self, RECEIPT};
use super::timings::{InitTimings, Lap};
use super::wait::Wait;
use super::{Membership, Participant};
use crate::error::{Error, Rank, Result};

/// How long the verdict may take to reach everybody.
const DISTRIBUTION_TIME_MAX: Duration = Duration::from_secs(10);
/// When no receipt of the table has come for this long, the root no longer relies on others to
/// pass it on.
const RELIEF_AFTER: Duration = Duration::from_secs(1);
/// How many ranks the root then serves at a time.
const RELIEF_RANKS: usize = 32;
/// How long a bad verdict is given to be read before the connection closes.
const FAREWELL_TIME_MAX: Duration = Duration::from_millis(500);

struct Guest {
    framed: Framed,
    encrypted: bool,
    rank: Option<Rank>,
    told: bool,
}

struct Gathering<'a> {
    me: &'a Participant<'a>,
    listener: Arc<Listener>,
    inbox: Inbox,
    epoll: OwnedFd,
    guests: HashMap<u64, Guest>,
    next_token: u64,
    roster: Roster,
    start: Instant,
    /// How many guests came in on each of this host's addresses.
    arrivals: HashMap<std::net::IpAddr, usize>,
}

/// Waits for all other ranks and sends them the table.
pub(crate) fn gather(
    listener: Arc<Listener>,
    me: &Participant<'_>,
    mut timings: InitTimings,
    wait: Wait<'_>,
) -> Result<Membership> {
    let mut lap = Lap::start();
    let mut gathering = Gathering::new(listener, me).map_err(|error| system(me, &error))?;
    // A wait that failed (an abort) must not be called again: the others see the connection end.
    let outcome = gathering.run(wait)?;
    lap.end(&mut timings.gather);
    if let Outcome::Failed(reason) = outcome {
        gathering.dismiss(&reason, wait)?;
        return Err(me.error(reason));
    }
    let table = gathering.table();
    gathering.distribute(&table, wait)?;
    lap.end(&mut timings.table);
    let Table { members, agreed, .. } = table;
    Ok(Membership { members, agreed, listener: gathering.listener, timings })
}

fn system(me: &Participant<'_>, error: &io::Error) -> Error {
    me.error(format!("the root cannot go on: {error}; check the limits (ulimit -a)"))
}

impl<'a> Gathering<'a> {
    fn new(listener: Arc<Listener>, me: &'a Participant<'a>) -> io::Result<Self> {
        listener.set_encrypted(me.encrypt);
        let start = Instant::now();
        let deadline = me.deadline.saturating_duration_since(start);
        let version = env!("CARGO_PKG_VERSION");
        Ok(Self {
            me,
            inbox: listener.register(0, Purpose::Join)?,
            roster: Roster::new(me.describe(&listener), me.ranks, version, deadline),
            listener,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            guests: HashMap::new(),
            next_token: 0,
            start,
            arrivals: HashMap::new(),
        })
    }

    /// Runs until the job is complete or has failed; an error only from `wait` or the system.
    fn run(&mut self, wait: Wait<'_>) -> Result<Outcome> {
        loop {
            for token in self.poll()? {
                self.receive(token);
            }
            let until = match self.roster.outcome(self.start.elapsed()) {
                Outcome::Waiting { until } => until,
                settled => return Ok(settled),
            };
            self.wait(self.start + until, wait)?;
        }
    }

    fn wait(&self, until: Instant, wait: Wait<'_>) -> Result<()> {
        wait(&[self.listener.fd(), self.inbox.fd(), self.epoll.as_fd()], until)
    }

    /// Accepts who has come; the guests of whom something is to be expected.
    fn poll(&mut self) -> Result<Vec<u64>> {
        self.listener.service().map_err(|error| system(self.me, &error))?;
        self.accept().map_err(|error| system(self.me, &error))?;
        let mut events = Vec::with_capacity(256);
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let buffer = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, buffer, Some(&zero)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(system(self.me, &errno.into())),
        }
        Ok(events.iter().map(|event| event.data.u64()).collect())
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some(accepted) = self.inbox.take() {
            let local = rustix::net::getsockname(&accepted.fd)?;
            if let Ok(local) = SocketAddr::try_from(local) {
                *self.arrivals.entry(local.ip().to_canonical()).or_default() += 1;
            }
            let token = self.next_token;
            self.next_token += 1;
            let data = epoll::EventData::new_u64(token);
            // Edges: whoever is reported is read and written until nothing more goes.
            let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(&self.epoll, &accepted.fd, data, interest)?;
            let encrypted = accepted.session.is_some();
            let framed = Framed::new(accepted.fd, accepted.session, MESSAGE_BYTES_MAX);
            self.guests.insert(token, Guest { framed, encrypted, rank: None, told: false });
        }
        Ok(())
    }

    /// Reads what a guest has sent.
    fn receive(&mut self, token: u64) {
        while let Some(guest) = self.guests.get_mut(&token) {
            match guest.framed.receive() {
                Ok(None) => return,
                Ok(Some(message)) => self.admit(token, &message),
                Err(error) => {
                    self.roster.lose(token, &error.to_string(), self.start.elapsed());
                    self.guests.remove(&token);
                }
            }
        }
    }

    fn admit(&mut self, token: u64, message: &[u8]) {
        let Ok(join) = Join::decode(message) else {
            self.roster.reject(token, message);
            return;
        };
        let rank = join.member.rank;
        let encrypted = self.guests.get(&token).is_some_and(|guest| guest.encrypted);
        if encrypted != self.me.encrypt {
            let how = |encrypted| if encrypted { "encrypted" } else { "in the clear" };
            self.roster.fail(format!(
                "{} comes {}, rank {} {}; set the option `encrypt` alike on every rank",
                who(&join.member),
                how(encrypted),
                self.me.rank,
                how(self.me.encrypt)
            ));
            return;
        }
        match self.roster.admit(token, join, self.start.elapsed()) {
            Admission::Seated | Admission::Returned { instead_of: None } => {}
            Admission::Returned { instead_of: Some(old) } => {
                self.guests.remove(&old);
            }
            Admission::Stale => {
                self.guests.remove(&token);
            }
            // The guest stays to hear the reason.
            Admission::Fatal => return,
        }
        if let Some(guest) = self.guests.get_mut(&token) {
            guest.rank = Some(rank);
        }
    }

    fn table(&mut self) -> Table {
        let roster = std::mem::replace(
            &mut self.roster,
            Roster::new(self.me.describe(&self.listener), self.me.ranks, "", Duration::ZERO),
        );
        let mut members = roster.into_members().expect("the roster is complete");
        let arrivals = &self.arrivals;
        // What others came in on works for others.
        members[self.me.rank as usize]
            .addresses
            .sort_by_key(|a| std::cmp::Reverse(arrivals.get(&a.ip()).copied().unwrap_or(0)));
        let agreed = (self.me.agree)(&members);
        Table { root: self.me.rank, members, agreed }
    }

    /// Sends the table to those who pass it on, and waits for everybody's receipt; whoever is not
    /// reached that way gets it from here. One that is lost now will be missed by its
    /// communicator.
    fn distribute(&mut self, table: &Table, wait: Wait<'_>) -> Result<()> {
        let message = Verdict::Table(table.clone()).encode();
        let until = Instant::now() + DISTRIBUTION_TIME_MAX;
        let first: Vec<Rank> =
            spread::children(self.me.rank, self.me.rank, self.me.ranks).collect();
        self.tell(&message, usize::MAX, |rank| first.contains(&rank));
        let mut progress = Instant::now();
        while !self.guests.is_empty() && Instant::now() < until {
            self.wait(until.min(progress + RELIEF_AFTER), wait)?;
            for token in self.poll()? {
                if self.hear(token, table, &message) {
                    progress = Instant::now();
                }
            }
            if progress.elapsed() >= RELIEF_AFTER {
                self.tell(&message, RELIEF_RANKS, |_| true);
                progress = Instant::now();
            }
        }
        Ok(())
    }

    /// Sends the table to at most `ranks_max` of the guests that `chosen` names.
    fn tell(&mut self, message: &[u8], ranks_max: usize, chosen: impl Fn(Rank) -> bool) {
        let untold = self.guests.values_mut().filter(|g| !g.told && g.rank.is_some_and(&chosen));
        for guest in untold.take(ranks_max) {
            guest.told = true;
            guest.framed.push(message);
            // A connection that is gone shows when it is read.
            guest.framed.flush().ok();
        }
    }

    /// Goes on with a guest while the table spreads; whether it has said that it has it.
    fn hear(&mut self, token: u64, table: &Table, message: &[u8]) -> bool {
        let Some(guest) = self.guests.get_mut(&token) else { return false };
        let received = guest.framed.flush().and_then(|_| guest.framed.receive());
        match received {
            Ok(None) => false,
            Ok(Some(receipt)) if receipt == RECEIPT => {
                self.guests.remove(&token);
                true
            }
            Ok(Some(other)) => {
                // A rank that lost its connection comes again, late.
                let known = Join::decode(&other).is_ok_and(|join| {
                    let member = table.members.get(join.member.rank as usize);
                    member.is_some_and(|m| m.local_name == join.member.local_name)
                });
                guest.told = true;
                let answer = if known { message.to_vec() } else { Verdict::Closed.encode() };
                guest.framed.push(&answer);
                guest.framed.flush().ok();
                false
            }
            Err(_) => {
                self.guests.remove(&token);
                false
            }
        }
    }

    /// Tells everybody that it has come to nothing, and gives them time to hear it.
    fn dismiss(&mut self, reason: &str, wait: Wait<'_>) -> Result<()> {
        let message = Verdict::Failed(reason.to_owned()).encode();
        let until = Instant::now() + FAREWELL_TIME_MAX;
        let mut told = 0;
        while told < self.next_token || (!self.guests.is_empty() && Instant::now() < until) {
            // Those who come now are told, too; they have that much time of their own.
            for token in told..self.next_token {
                let Some(guest) = self.guests.get_mut(&token) else { continue };
                guest.framed.push(&message);
                guest.framed.flush().ok();
            }
            told = self.next_token;
            if !self.guests.is_empty() {
                self.wait(until, wait)?;
            }
            for token in self.poll()? {
                self.part(token);
            }
        }
        Ok(())
    }

    /// Reads and drops what a guest that has been told says, until it hangs up.
    fn part(&mut self, token: u64) {
        while let Some(guest) = self.guests.get_mut(&token) {
            match guest.framed.flush().and_then(|_| guest.framed.receive()) {
                Ok(None) => return,
                Ok(Some(_)) => {}
                Err(_) => {
                    self.guests.remove(&token);
                }
            }
        }
    }
}
