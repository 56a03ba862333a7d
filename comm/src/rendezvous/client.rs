//! The side of everyone but the root: find it, report, wait for the table.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::file;
use super::framed::Framed;
use super::handshake::{Address, Dial, HandshakeError, Hello, PROVEN_HELLO_BYTES, Purpose};
use super::interface;
use super::listener::Listener;
use super::member::{Join, Verdict};
use super::proof::JobKey;
use super::unique_id::UniqueId;
use super::wait::Wait;
use super::{Membership, Participant};
use crate::error::Result;

/// After this long without an answer from one of the root's addresses the next is tried too
/// (Happy Eyeballs, RFC 8305).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// How long a root that cannot be reached is tried again when only its id is known.
const UNREACHABLE_TIME_MAX: Duration = Duration::from_secs(3);
/// The root names the missing ranks when the first deadline has passed; its word needs time to
/// get here.
const VERDICT_GRACE: Duration = Duration::from_secs(1);
/// How often a rendezvous file is looked at.
const FILE_INTERVAL: Duration = Duration::from_millis(50);
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

enum Attempt {
    Joined(Membership),
    /// The root says that the job cannot be assembled.
    Refused(String),
    /// There is a root or somebody else at that address, but not for this job.
    WrongRoot(String),
    Unreachable(String),
    /// The rendezvous file names another root now.
    Superseded,
}

/// Joins the root that `id` names.
pub(crate) fn join_by_id(
    id: &UniqueId,
    me: &Participant<'_>,
    wait: Wait<'_>,
) -> Result<Membership> {
    let give_up = me.deadline.min(Instant::now() + UNREACHABLE_TIME_MAX);
    loop {
        let reason = match attempt(id, me, &mut || false, None, wait)? {
            Attempt::Joined(membership) => return Ok(membership),
            Attempt::Refused(reason) | Attempt::WrongRoot(reason) => return Err(me.error(reason)),
            Attempt::Unreachable(reason) => reason,
            Attempt::Superseded => unreachable!("an id does not change"),
        };
        // The root listened before it gave the id away: if it does not answer, it is gone.
        if Instant::now() >= give_up {
            return Err(me.error(format!("{reason}; is the process that made the id running?")));
        }
        wait(&[], Instant::now() + RETRY_INTERVAL)?;
    }
}

/// Waits for the file and joins the root it names. A file from an earlier job leads nowhere, or
/// to a root that does not want this rank: then the file is read again until the deadline.
pub(crate) fn join_by_file(
    path: &Path,
    me: &Participant<'_>,
    wait: Wait<'_>,
) -> Result<Membership> {
    loop {
        let reason = match file::read(path) {
            Err(reason) => reason,
            Ok(id) => {
                let mut changed = || file::read(path).is_ok_and(|other| other != id);
                match attempt(&id, me, &mut changed, Some(FILE_INTERVAL), wait)? {
                    Attempt::Joined(membership) => return Ok(membership),
                    Attempt::Superseded => continue,
                    Attempt::Refused(_) if changed() => continue,
                    Attempt::Refused(reason) => return Err(me.error(reason)),
                    Attempt::WrongRoot(reason) | Attempt::Unreachable(reason) => {
                        format!("{} names a root that is not there: {reason}", path.display())
                    }
                }
            }
        };
        if Instant::now() >= me.deadline {
            return Err(me.error(format!("{reason}; is rank 0 running?")));
        }
        wait(&[], me.deadline.min(Instant::now() + FILE_INTERVAL))?;
    }
}

/// One try at one root. `tick` is how often `superseded` is asked while waiting.
fn attempt(
    id: &UniqueId,
    me: &Participant<'_>,
    superseded: &mut dyn FnMut() -> bool,
    tick: Option<Duration>,
    wait: Wait<'_>,
) -> Result<Attempt> {
    let mut dialing = Dialing::new(id, me)?;
    let (fd, proven) = loop {
        let next = match dialing.advance() {
            Dialed::Connected(fd, proven) => break (fd, proven),
            Dialed::Failed(outcome) => return Ok(outcome),
            Dialed::Pending(next) => next,
        };
        let now = Instant::now();
        if now >= me.deadline {
            let reason = format!("no answer from {:?}", id.addresses());
            return Ok(Attempt::Unreachable(reason));
        }
        let until = [Some(me.deadline), next, tick.map(|t| now + t)].into_iter().flatten().min();
        wait(&[dialing.epoll.as_fd()], until.unwrap_or(me.deadline))?;
        if superseded() {
            return Ok(Attempt::Superseded);
        }
    };
    dialing.dials.clear();
    let listener = match open_listener(&fd, dialing.key, me.interface) {
        Ok(listener) => Arc::new(listener),
        Err(error) => return Err(me.error(format!("cannot listen: {error}"))),
    };
    let mut root = Framed::new(fd);
    root.push_raw(&proven);
    let patience = me.deadline.saturating_duration_since(Instant::now());
    let join = Join {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ranks: me.ranks,
        patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        member: me.describe(&listener),
    };
    root.push(&join.encode());
    await_verdict(root, me, listener, superseded, tick, wait)
}

fn await_verdict(
    mut root: Framed,
    me: &Participant<'_>,
    listener: Arc<Listener>,
    superseded: &mut dyn FnMut() -> bool,
    tick: Option<Duration>,
    wait: Wait<'_>,
) -> Result<Attempt> {
    let until = me.deadline + VERDICT_GRACE;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
        .and_then(|epoll| {
            let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(&epoll, root.fd(), epoll::EventData::new_u64(0), interest)?;
            Ok(epoll)
        })
        .map_err(|errno| me.error(format!("cannot poll: {errno}; check ulimit -n")))?;
    loop {
        let mut events = [EMPTY_EVENT; 1];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Only clears the edge; what is there is found by trying.
        epoll::wait(&epoll, &mut events, Some(&zero)).ok();
        match root.flush().and_then(|_| root.receive()) {
            Ok(None) => {}
            Ok(Some(message)) => return Ok(judge(&message, me, listener)),
            Err(error) => {
                return Ok(Attempt::WrongRoot(format!("lost the root of the job: {error}")));
            }
        }
        let now = Instant::now();
        if now >= until {
            let reason = "the root did not complete the job in time";
            return Ok(Attempt::Refused(reason.to_owned()));
        }
        wait(&[epoll.as_fd()], tick.map_or(until, |tick| until.min(now + tick)))?;
        if superseded() {
            return Ok(Attempt::Superseded);
        }
    }
}

fn judge(message: &[u8], me: &Participant<'_>, listener: Arc<Listener>) -> Attempt {
    match Verdict::decode(message) {
        Ok(Verdict::Table { members, agreed })
            if members.len() == me.ranks as usize
                && members.iter().zip(0..).all(|(member, rank)| member.rank == rank) =>
        {
            Attempt::Joined(Membership { members, agreed, listener })
        }
        Ok(Verdict::Failed(reason)) => Attempt::Refused(reason),
        Ok(Verdict::Closed) => Attempt::WrongRoot(
            "its job is complete already; every job needs an id of its own".to_owned(),
        ),
        Ok(Verdict::Table { .. }) | Err(_) => {
            Attempt::Refused("the root sent a malformed table; is it the same version?".to_owned())
        }
    }
}

/// Listens where the connection to the root comes from: others reach this host the same way.
fn open_listener(
    root: &OwnedFd,
    key: JobKey,
    interface: Option<&str>,
) -> std::io::Result<Listener> {
    let addresses = match interface {
        Some(text) => interface::chosen(text)?,
        None => {
            let local = SocketAddr::try_from(rustix::net::getsockname(root)?)?;
            vec![local.ip()]
        }
    };
    Listener::open(key, &addresses)
}

enum Dialed {
    Connected(OwnedFd, [u8; PROVEN_HELLO_BYTES]),
    Failed(Attempt),
    /// Nothing yet; something new starts at that time.
    Pending(Option<Instant>),
}

/// Connects to whichever of the root's addresses answers first.
struct Dialing {
    key: JobKey,
    hello: Hello,
    epoll: OwnedFd,
    waiting: std::vec::IntoIter<SocketAddr>,
    next_at: Instant,
    dials: Vec<(SocketAddr, Dial)>,
    failures: Vec<String>,
    wrong_root: bool,
}

const EMPTY_EVENT: epoll::Event =
    epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };

impl Dialing {
    fn new(id: &UniqueId, me: &Participant<'_>) -> Result<Self> {
        let hello = Hello {
            communicator: 0,
            epoch: 0,
            purpose: Purpose::Join,
            lane: 0,
            from: me.rank,
            to: 0,
            tag: 0,
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|errno| me.error(format!("cannot poll: {errno}; check ulimit -n")))?;
        Ok(Self {
            key: JobKey::new(id.secret()),
            hello,
            epoll,
            waiting: id.addresses().into_iter(),
            next_at: Instant::now(),
            dials: Vec::new(),
            failures: Vec::new(),
            wrong_root: false,
        })
    }

    fn start_next(&mut self, now: Instant) {
        while self.waiting.len() > 0 && (self.dials.is_empty() || now >= self.next_at) {
            let address = self.waiting.next().expect("checked above");
            self.next_at = now + ATTEMPT_DELAY;
            let started = Dial::start(&Address::Tcp(address), &self.hello).and_then(|dial| {
                let interest =
                    epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
                epoll::add(&self.epoll, dial.fd(), epoll::EventData::new_u64(0), interest)?;
                Ok(dial)
            });
            match started {
                Ok(dial) => self.dials.push((address, dial)),
                Err(error) => self.failures.push(format!("{address}: {error}")),
            }
        }
    }

    fn advance(&mut self) -> Dialed {
        let mut events = [EMPTY_EVENT; 16];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            match epoll::wait(&self.epoll, &mut events, Some(&zero)) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Dialed::Failed(Attempt::Unreachable(errno.to_string())),
            }
        }
        let now = Instant::now();
        loop {
            self.start_next(now);
            let mut at = 0;
            while at < self.dials.len() {
                let (address, dial) = &mut self.dials[at];
                match dial.advance(&self.key) {
                    Ok(None) => at += 1,
                    Ok(Some(proven)) => {
                        let (_, dial) = self.dials.swap_remove(at);
                        return Dialed::Connected(dial.into_fd(), proven);
                    }
                    Err(error) => {
                        self.wrong_root |= !matches!(error, HandshakeError::Io(_));
                        self.failures.push(format!("{address}: {error}"));
                        self.dials.swap_remove(at);
                    }
                }
            }
            if !self.dials.is_empty() {
                let next = (self.waiting.len() > 0).then_some(self.next_at);
                return Dialed::Pending(next);
            }
            if self.waiting.len() == 0 {
                let reason = format!("cannot reach the root ({})", self.failures.join("; "));
                return Dialed::Failed(if self.wrong_root {
                    Attempt::WrongRoot(reason)
                } else {
                    Attempt::Unreachable(reason)
                });
            }
        }
    }
}
