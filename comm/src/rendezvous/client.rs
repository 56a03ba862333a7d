//! The side of everyone but the root: find it, report, wait for the table.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::dial::Address;
use super::dialing::{Dialed, Dialing, EMPTY_EVENT};
use super::framed::Framed;
use super::handshake::{Hello, Purpose};
use super::inbox::Inbox;
use super::interface;
use super::listener::Listener;
use super::member::{Join, MESSAGE_BYTES_MAX, Table, Verdict};
use super::noise::Session;
use super::proof::JobKey;
use super::source::{Look, Source, Target};
use super::spread::{self, RECEIPT};
use super::timings::{InitTimings, Lap};
use super::wait::Wait;
use super::{Membership, Participant};
use crate::error::Result;

/// How long a root that is certain to have listened is tried again.
const UNREACHABLE_TIME_MAX: Duration = Duration::from_secs(3);
/// How long a root that was there and is gone is tried again.
const ABSENT_TIME_MAX: Duration = Duration::from_millis(1500);
/// How often a rank asks the same root again after losing the connection.
const ATTEMPTS_MAX: u32 = 8;
/// The root names the missing ranks when the first deadline has passed; its word needs time to
/// get here.
const VERDICT_GRACE: Duration = Duration::from_secs(1);
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

enum Attempt {
    Joined(Membership),
    /// The root says that the job cannot be assembled.
    Refused(String),
    /// There is a root or somebody else at that address, but not for this job.
    WrongRoot(String),
    Unreachable(String),
    /// The connection to the root ended before its verdict came.
    Lost(String),
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
    let mut applicant =
        Applicant { me, listener: None, attempts: 0, give_up: None, timings, lap: Lap::start() };
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
        applicant.lap.end(&mut applicant.timings.resolve);
        let certain = source.recheck().is_none();
        let reason = match applicant.attempt(&id, source, wait)? {
            Attempt::Joined(membership) => return Ok(membership),
            Attempt::Superseded => continue,
            Attempt::Refused(_) if changed(source, &id, me, wait)? => continue,
            Attempt::Refused(reason) => return Err(me.error(reason)),
            Attempt::WrongRoot(reason) if certain => return Err(me.error(reason)),
            Attempt::WrongRoot(reason) => format!("what it says leads to a wrong root: {reason}"),
            Attempt::Unreachable(reason) | Attempt::Lost(reason) => reason,
        };
        let give_up = if certain { applicant.give_up } else { None };
        if Instant::now() >= give_up.unwrap_or(me.deadline).min(me.deadline) {
            return Err(me.error(format!("{reason}; {}", source.hint())));
        }
        wait(&[], Instant::now() + RETRY_INTERVAL)?;
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
struct Applicant<'a> {
    me: &'a Participant<'a>,
    /// Kept over attempts at one root: the root knows a process by it.
    listener: Option<(Target, Arc<Listener>)>,
    attempts: u32,
    /// When to stop trying a root that is certain to be the right one.
    give_up: Option<Instant>,
    timings: InitTimings,
    lap: Lap,
}

impl Applicant<'_> {
    /// One try at one root.
    fn attempt(&mut self, id: &Target, source: &mut dyn Source, wait: Wait<'_>) -> Result<Attempt> {
        let key = JobKey::new(&id.secret);
        let (fd, session) = match self.reach(id, &key, source, wait)? {
            Ok(connected) => connected,
            Err(outcome) => {
                self.give_up.get_or_insert_with(|| Instant::now() + UNREACHABLE_TIME_MAX);
                return Ok(outcome);
            }
        };
        let listener = self.listener(id, key.clone(), &fd)?;
        let mut root = Framed::new(fd, session, MESSAGE_BYTES_MAX);
        let patience = self.me.deadline.saturating_duration_since(Instant::now());
        let join = Join {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ranks: self.me.ranks,
            patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
            attempt: self.attempts,
            member: self.me.describe(&listener),
        };
        root.push(&join.encode());
        self.attempts += 1;
        let mut audience = Audience::new(root, &listener)
            .map_err(|error| self.me.error(format!("cannot poll: {error}; check ulimit -n")))?;
        let heard = self.await_verdict(&mut audience, id, source, wait)?;
        self.lap.end(&mut self.timings.gather);
        match heard {
            Ok(message) => self.judge(&message, audience, listener, &key, wait),
            Err(Attempt::Lost(reason)) => {
                self.give_up = Some(Instant::now() + ABSENT_TIME_MAX);
                if self.attempts >= ATTEMPTS_MAX {
                    let reason = format!("{reason}, {ATTEMPTS_MAX} times");
                    return Ok(Attempt::WrongRoot(reason));
                }
                Ok(Attempt::Lost(reason))
            }
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
        let mut dialing = Dialing::new(addresses, key.clone(), hello)
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
                Dialed::Failed { reason, somebody } => {
                    let reason = if self.attempts > 0 {
                        format!("lost the root of the job and cannot reach it again ({reason})")
                    } else {
                        format!("cannot reach the root ({reason})")
                    };
                    return Ok(Err(if somebody {
                        Attempt::WrongRoot(reason)
                    } else {
                        Attempt::Unreachable(reason)
                    }));
                }
                Dialed::Pending(next) => next,
            };
            let now = Instant::now();
            if now >= self.me.deadline {
                let reason = format!(
                    "cannot reach the root (no answer from {:?}; is a firewall in between, or no \
                     route?)",
                    id.addresses
                );
                return Ok(Err(Attempt::Unreachable(reason)));
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
        self.attempts = 0;
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
        let until = self.me.deadline + VERDICT_GRACE;
        loop {
            match audience.listen() {
                Ok(None) => {}
                Ok(Some(message)) => return Ok(Ok(message)),
                Err(error) => {
                    let reason = format!("lost the root of the job: {error}");
                    return Ok(Err(Attempt::Lost(reason)));
                }
            }
            let now = Instant::now();
            if now >= until {
                let reason = "the root did not complete the job in time";
                return Ok(Err(Attempt::Refused(reason.to_owned())));
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
        let table = match Verdict::decode(message) {
            Ok(Verdict::Table(table)) if is_consistent(&table, me) => table,
            Ok(Verdict::Failed(reason)) => return Ok(Attempt::Refused(reason)),
            Ok(Verdict::Closed) => {
                return Ok(Attempt::WrongRoot(
                    "its job is complete already; every job needs an id of its own".to_owned(),
                ));
            }
            Ok(Verdict::Table(_)) | Err(_) => {
                let reason = "the root sent a malformed table; is it the same version?";
                return Ok(Attempt::Refused(reason.to_owned()));
            }
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

fn is_consistent(table: &Table, me: &Participant<'_>) -> bool {
    table.members.len() == me.ranks as usize
        && table.root < me.ranks
        && table.members.iter().zip(0..).all(|(member, rank)| member.rank == rank)
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
