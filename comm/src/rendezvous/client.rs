//! The side of everyone but the root: find it, report, wait for the table.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::applicant::{Applicant, Next, RETRY_INTERVAL, Setback, Word};
use super::dial::Address;
use super::dialing::{Dialed, EMPTY_EVENT, Multidial, Unreachable};
use super::framed::Framed;
use super::handshake::{Hello, Purpose};
use super::inbox::Inbox;
use super::interface;
use super::listener::Listener;
use super::member::{MESSAGE_BYTES_MAX, Table};
use super::noise::Session;
use super::proof::JobKey;
use super::source::{Look, Source, Target};
use super::spread::{self, RECEIPT};
use super::timings::{InitTimings, Lap};
use super::wait::Wait;
use super::{Membership, Participant};
use crate::error::Result;

enum Attempt {
    Joined(Membership),
    Setback(Setback),
    /// The source names another root now.
    Superseded,
}

/// Joins the root that `source` names. An id that may be an earlier job's leads nowhere, or to a
/// root that does not want this rank: then the source is asked again until the deadline.
pub(crate) fn join(
    source: &mut dyn Source,
    me: &Participant<'_>,
    timings: InitTimings,
    wait: Wait<'_>,
) -> Result<Membership> {
    let mut visitor = Visitor::new(me, timings);
    let mut looks = 0;
    loop {
        let id = match source.look(me, wait)? {
            Look::Found(id) => id,
            Look::NotYet(reason) => {
                if Instant::now() >= me.deadline {
                    return Err(me.error(format!("{reason}; {}", source.hint())));
                }
                wait(&[], me.deadline.min(Instant::now() + source.interval(looks)))?;
                looks += 1;
                continue;
            }
        };
        visitor.lap.end(&mut visitor.timings.resolve);
        let certain = source.recheck().is_none();
        let setback = match visitor.attempt(&id, source, wait)? {
            Attempt::Joined(membership) => return Ok(membership),
            Attempt::Superseded => continue,
            Attempt::Setback(Setback::Refused(_)) if changed(source, &id, me, wait)? => continue,
            Attempt::Setback(setback) => setback,
        };
        match visitor.applicant.next(setback, certain, visitor.now()) {
            Next::Again(_) => wait(&[], Instant::now() + RETRY_INTERVAL)?,
            Next::End { reason, hint: false } => return Err(me.error(reason)),
            Next::End { reason, hint: true } => {
                return Err(me.error(format!("{reason}; {}", source.hint())));
            }
        }
    }
}

/// Whether the source names another root than `id` now.
fn changed(
    source: &mut dyn Source,
    id: &Target,
    me: &Participant<'_>,
    wait: Wait<'_>,
) -> Result<bool> {
    if source.recheck().is_none() {
        return Ok(false);
    }
    Ok(matches!(source.look(me, wait)?, Look::Found(other) if other != *id))
}

/// A rank on its way into the job.
struct Visitor<'a> {
    me: &'a Participant<'a>,
    applicant: Applicant,
    /// What the applicant's times are measured from.
    start: Instant,
    /// Kept over attempts at one root: the root knows a process by it.
    listener: Option<(Target, Arc<Listener>)>,
    timings: InitTimings,
    lap: Lap,
}

impl<'a> Visitor<'a> {
    fn new(me: &'a Participant<'a>, timings: InitTimings) -> Self {
        let start = Instant::now();
        let applicant = Applicant::new(me.ranks, me.deadline.saturating_duration_since(start));
        Self { me, applicant, start, listener: None, timings, lap: Lap::start() }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// One try at one root.
    fn attempt(&mut self, id: &Target, source: &mut dyn Source, wait: Wait<'_>) -> Result<Attempt> {
        let key = JobKey::new(&id.secret);
        let (fd, session) = match self.reach(id, &key, source, wait)? {
            Ok(connected) => connected,
            Err(outcome) => return Ok(outcome),
        };
        let listener = self.listener(id, key.clone(), &fd)?;
        let mut root = Framed::new(fd, session, MESSAGE_BYTES_MAX);
        let (member, now) = (self.me.describe(&listener), self.now());
        let join = self.applicant.join(member, env!("CARGO_PKG_VERSION"), now);
        root.push(&join.encode());
        let mut audience = Audience::new(root, &listener)
            .map_err(|error| self.me.error(format!("cannot poll: {error}; check ulimit -n")))?;
        let heard = self.await_verdict(&mut audience, id, source, wait)?;
        self.lap.end(&mut self.timings.gather);
        match heard {
            Ok(message) => self.judge(&message, audience, listener, &key, wait),
            Err(other) => Ok(other),
        }
    }

    /// Connects to the root.
    fn reach(
        &mut self,
        id: &Target,
        key: &JobKey,
        source: &mut dyn Source,
        wait: Wait<'_>,
    ) -> Result<std::result::Result<(OwnedFd, Option<Session>), Attempt>> {
        let hello = Hello {
            communicator: 0,
            epoch: 0,
            purpose: Purpose::Join,
            lane: 0,
            encrypted: self.me.encrypt,
            from: self.me.rank,
            to: 0,
            tag: 0,
        };
        let addresses = id.addresses.iter().copied().map(Address::Tcp).collect();
        let mut dialing = Multidial::new(addresses, key.clone(), hello)
            .map_err(|errno| self.me.error(format!("cannot poll: {errno}; check ulimit -n")))?;
        let start = Instant::now();
        loop {
            let next = match dialing.advance() {
                Dialed::Connected(fd, session) => {
                    let answered = dialing.answered().unwrap_or(start).duration_since(start);
                    self.timings.connect += answered;
                    self.timings.handshake += start.elapsed().saturating_sub(answered);
                    self.lap = Lap::start();
                    return Ok(Ok((fd, session)));
                }
                Dialed::Failed(Unreachable { reason, somebody, .. }) => {
                    let now = self.now();
                    let setback = self.applicant.unreachable(&reason, somebody, now);
                    return Ok(Err(Attempt::Setback(setback)));
                }
                Dialed::Pending(next) => next,
            };
            let now = Instant::now();
            if now >= self.me.deadline {
                let reason = format!(
                    "no answer from {:?}; is a firewall in between, or no route?",
                    id.addresses
                );
                let setback = self.applicant.unreachable(&reason, false, self.now());
                return Ok(Err(Attempt::Setback(setback)));
            }
            let tick = source.recheck().map(|interval| now + interval);
            let until = [Some(self.me.deadline), next, tick].into_iter().flatten().min();
            wait(&[dialing.fd()], until.unwrap_or(self.me.deadline))?;
            if tick.is_some_and(|tick| Instant::now() >= tick)
                && changed(source, id, self.me, wait)?
            {
                return Ok(Err(Attempt::Superseded));
            }
        }
    }

    /// This rank's listener: where the connection to the root comes from, others reach this host
    /// the same way.
    fn listener(&mut self, id: &Target, key: JobKey, root: &OwnedFd) -> Result<Arc<Listener>> {
        if let Some((_, listener)) = self.listener.as_ref().filter(|(other, _)| other == id) {
            return Ok(Arc::clone(listener));
        }
        self.applicant.turn();
        let opened = local_address(root)
            .and_then(|local| interface::facing(local, self.me.interface))
            .and_then(|addresses| Listener::open(key, &addresses, self.me.ports));
        let listener = opened
            .map(Arc::new)
            .map_err(|error| self.me.error(format!("cannot listen: {error}")))?;
        listener.set_encrypted(self.me.encrypt);
        self.listener = Some((id.clone(), Arc::clone(&listener)));
        Ok(listener)
    }

    /// Waits for the word of the root, from itself or passed on.
    fn await_verdict(
        &mut self,
        audience: &mut Audience,
        id: &Target,
        source: &mut dyn Source,
        wait: Wait<'_>,
    ) -> Result<std::result::Result<Vec<u8>, Attempt>> {
        let until = self.start + self.applicant.verdict_by();
        loop {
            match audience.listen() {
                Ok(None) => {}
                Ok(Some(message)) => return Ok(Ok(message)),
                Err(error) => {
                    let now = self.now();
                    let setback = self.applicant.lost(&error.to_string(), now);
                    return Ok(Err(Attempt::Setback(setback)));
                }
            }
            let now = Instant::now();
            if now >= until {
                return Ok(Err(Attempt::Setback(self.applicant.unheard())));
            }
            let tick = source.recheck().map(|interval| now + interval);
            wait(&audience.fds(), tick.map_or(until, |tick| until.min(tick)))?;
            if tick.is_some_and(|tick| Instant::now() >= tick)
                && changed(source, id, self.me, wait)?
            {
                return Ok(Err(Attempt::Superseded));
            }
        }
    }

    /// Takes the verdict: a table is passed on before anything else.
    fn judge(
        &mut self,
        message: &[u8],
        mut audience: Audience,
        listener: Arc<Listener>,
        key: &JobKey,
        wait: Wait<'_>,
    ) -> Result<Attempt> {
        let me = self.me;
        let table = match self.applicant.hear(message) {
            Word::Table(table) => table,
            Word::Setback(setback) => return Ok(Attempt::Setback(setback)),
        };
        audience.root.push(RECEIPT);
        // A root that does not hear of it sends the table once more, to nobody.
        audience.root.flush().ok();
        spread::pass_on(me, &table, message, key, wait)?;
        self.lap.end(&mut self.timings.table);
        let Table { members, agreed, .. } = table;
        Ok(Attempt::Joined(Membership { members, agreed, listener, timings: self.timings }))
    }
}

fn local_address(connection: &OwnedFd) -> std::io::Result<IpAddr> {
    Ok(SocketAddr::try_from(rustix::net::getsockname(connection)?)?.ip())
}

/// Whom a rank listens to until it knows: the root, and whoever may pass the table on.
struct Audience {
    root: Framed,
    listener: Arc<Listener>,
    inbox: Inbox,
    others: Vec<Framed>,
    epoll: OwnedFd,
}

impl Audience {
    fn new(root: Framed, listener: &Arc<Listener>) -> std::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&epoll, root.fd(), epoll::EventData::new_u64(0), interest)?;
        Ok(Self {
            root,
            inbox: listener.register(0, Purpose::Table)?,
            listener: Arc::clone(listener),
            others: Vec::new(),
            epoll,
        })
    }

    fn fds(&self) -> [BorrowedFd<'_>; 3] {
        [self.epoll.as_fd(), self.listener.fd(), self.inbox.fd()]
    }

    /// A verdict if one has come; an error when the root is gone.
    fn listen(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut events = [EMPTY_EVENT; 16];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Only clears the edges; what is there is found by trying.
        match epoll::wait(&self.epoll, &mut events, Some(&zero)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.listener.service()?;
        while let Some(accepted) = self.inbox.take() {
            let interest = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&self.epoll, &accepted.fd, epoll::EventData::new_u64(0), interest)?;
            self.others.push(Framed::new(accepted.fd, accepted.session, MESSAGE_BYTES_MAX));
        }
        let mut heard = None;
        self.others.retain_mut(|other| match other.receive() {
            Ok(None) => true,
            Ok(Some(message)) => {
                heard = Some(message);
                false
            }
            Err(_) => false,
        });
        if heard.is_some() {
            return Ok(heard);
        }
        self.root.flush()?;
        self.root.receive()
    }
}
