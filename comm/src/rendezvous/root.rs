//! The root's side: gathers the members, then tells everybody.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::assembly::{Assembly, Effect};
use super::framed::Framed;
use super::handshake::Purpose;
use super::inbox::Inbox;
use super::listener::Listener;
use super::member::{MESSAGE_BYTES_MAX, Table};
use super::roster::Outcome;
use super::timings::{InitTimings, Lap};
use super::wait::Wait;
use super::{Membership, Participant};
use crate::error::{Error, Result};

struct Gathering<'a> {
    me: &'a Participant<'a>,
    listener: Arc<Listener>,
    inbox: Inbox,
    epoll: OwnedFd,
    /// The connections, by the numbers that the assembly knows the guests by.
    guests: HashMap<u64, Framed>,
    next_token: u64,
    assembly: Assembly,
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
    gathering.run(wait)?;
    lap.end(&mut timings.gather);
    if let Outcome::Failed(reason) = gathering.assembly.outcome(gathering.start.elapsed()) {
        gathering.assembly.dismiss(&reason, gathering.start.elapsed());
        gathering.run(wait)?;
        return Err(me.error(reason));
    }
    let table = gathering.table();
    gathering.assembly.spread(table.clone(), gathering.start.elapsed());
    gathering.run(wait)?;
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
        let root = me.describe(&listener);
        Ok(Self {
            me,
            inbox: listener.register(0, Purpose::Join)?,
            assembly: Assembly::new(root, me.ranks, version, me.encrypt, deadline),
            listener,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            guests: HashMap::new(),
            next_token: 0,
            start,
            arrivals: HashMap::new(),
        })
    }

    /// Runs until the assembly wants nothing more for now; an error only from `wait` or the
    /// system.
    fn run(&mut self, wait: Wait<'_>) -> Result<()> {
        self.carry_out();
        loop {
            for token in self.poll()? {
                self.receive(token);
            }
            self.assembly.tick(self.start.elapsed());
            self.carry_out();
            let Some(until) = self.assembly.due(self.start.elapsed()) else { return Ok(()) };
            let fds = [self.listener.fd(), self.inbox.fd(), self.epoll.as_fd()];
            wait(&fds, self.start + until)?;
        }
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
            self.assembly.arrive(token, accepted.session.is_some());
            let framed = Framed::new(accepted.fd, accepted.session, MESSAGE_BYTES_MAX);
            self.guests.insert(token, framed);
        }
        Ok(())
    }

    /// Goes on sending to a guest, and reads what it has sent.
    fn receive(&mut self, token: u64) {
        while let Some(guest) = self.guests.get_mut(&token) {
            match guest.flush().and_then(|_| guest.receive()) {
                Ok(None) => return,
                Ok(Some(message)) => self.assembly.hear(token, &message, self.start.elapsed()),
                Err(error) => {
                    self.assembly.lose(token, &error.to_string(), self.start.elapsed());
                    self.guests.remove(&token);
                }
            }
            self.carry_out();
        }
    }

    /// Does what the assembly wants done.
    fn carry_out(&mut self) {
        while let Some(effect) = self.assembly.next_effect() {
            match effect {
                Effect::Tell { guest, message } => {
                    if let Some(guest) = self.guests.get_mut(&guest) {
                        guest.push(&message);
                        // A connection that is gone shows when it is read.
                        guest.flush().ok();
                    }
                }
                Effect::Close { guest } => drop(self.guests.remove(&guest)),
            }
        }
    }

    fn table(&mut self) -> Table {
        let mut members = self.assembly.take_members().expect("the roster is complete");
        let arrivals = &self.arrivals;
        // What others came in on works for others.
        members[self.me.rank as usize]
            .addresses
            .sort_by_key(|a| std::cmp::Reverse(arrivals.get(&a.ip()).copied().unwrap_or(0)));
        let agreed = (self.me.agree)(&members);
        Table { root: self.me.rank, members, agreed }
    }
}
