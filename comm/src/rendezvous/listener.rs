//! The one listener of a process in a job: accepts, demands proof, and hands over.
//!
//! It has no thread of its own. Whoever waits at the rendezvous or in a collective polls
//! [`Listener::fd`] and calls [`Listener::service`] when it is readable, on behalf of every
//! communicator of the job. A thread that makes this its business says so by
//! [`Listener::attend`]; from then on the others watch their [`Inbox`] alone. Any thread may call
//! anything at any time: of several that service at once one does the work and the others return,
//! and the lock that inboxes share with it is held for a few instructions at a time.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::desk::{Desk, Key, LastWords, Sorted};
use super::handshake::{Accepting, HandshakeError, Purpose};
use super::inbox::{Accepted, Inbox, Mailbox};
use super::ports::Ports;
use super::proof::JobKey;

/// A connection that has not proved itself after this long is dropped.
const PROOF_TIME_MAX: Duration = Duration::from_secs(5);
/// Unproven connections kept at once; beyond that others wait until the oldest has had its
/// chance.
const UNPROVEN_MAX: usize = 512;
const CHANCE_TIME: Duration = Duration::from_millis(500);
/// How often to look after what makes no event: proofs overdue, last words.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(250);
const BACKLOG: i32 = 4096;
const TCP_TOKEN: u64 = 0;
const LOCAL_TOKEN: u64 = 1;
const FIRST_TOKEN: u64 = 2;

/// Connections that have come in and not proved themselves yet.
struct Entrance {
    unproven: HashMap<u64, Accepting>,
    next_token: u64,
}

/// How many connections a listener has dropped, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// They could not prove that they belong to the job.
    pub strangers: u64,
    /// They belong to the job, but came for a communicator or an epoch of it that is over.
    pub stragglers: u64,
}

/// Accepts connections for all communicators of one process in one job.
pub struct Listener {
    key: JobKey,
    epoll: OwnedFd,
    tcp: OwnedFd,
    local: OwnedFd,
    addresses: Vec<SocketAddr>,
    local_name: Vec<u8>,
    entrance: Mutex<Entrance>,
    desk: Mutex<Desk>,
    attended: AtomicBool,
    encrypted: AtomicBool,
    strangers: AtomicU64,
    stragglers: AtomicU64,
}

impl Listener {
    /// Listens on `addresses`, at one of `ports`: on the one address if there is one, else on all
    /// of the host's.
    pub(crate) fn open(key: JobKey, addresses: &[IpAddr], ports: Ports) -> io::Result<Self> {
        let tcp = ports.bind(|port| match addresses {
            [one] => bind_tcp((*one, port).into()),
            several => bind_any(several, port),
        })?;
        let port = SocketAddr::try_from(rustix::net::getsockname(&tcp)?)?.port();
        let (local, local_name) = bind_local()?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (fd, token) in [(&tcp, TCP_TOKEN), (&local, LOCAL_TOKEN)] {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?;
        }
        let entrance = Entrance { unproven: HashMap::new(), next_token: FIRST_TOKEN };
        Ok(Self {
            key,
            epoll,
            tcp,
            local,
            addresses: addresses.iter().map(|&ip| SocketAddr::new(ip, port)).collect(),
            local_name,
            entrance: Mutex::new(entrance),
            desk: Mutex::default(),
            attended: AtomicBool::new(false),
            encrypted: AtomicBool::new(false),
            strangers: AtomicU64::new(0),
            stragglers: AtomicU64::new(0),
        })
    }

    /// Where the TCP listener can be reached.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Name of the Unix listener in the abstract namespace.
    pub fn local_name(&self) -> &[u8] {
        &self.local_name
    }

    /// What connections of this job are proved with.
    pub fn key(&self) -> &JobKey {
        &self.key
    }

    /// Connections dropped because they could not prove that they belong to the job.
    pub fn strangers(&self) -> u64 {
        self.strangers.load(Ordering::Relaxed)
    }

    /// All connections dropped so far, by reason.
    pub fn refusals(&self) -> Refusals {
        Refusals {
            strangers: self.strangers(),
            stragglers: self.stragglers.load(Ordering::Relaxed),
        }
    }

    /// Readable when there is something to [`service`](Self::service). Suited to be put into
    /// another epoll instance.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Promises that a thread will service this listener until the last communicator of the job
    /// is gone. Transports made from now on watch their inbox alone.
    pub fn attend(&self) {
        self.attended.store(true, Ordering::Release);
    }

    /// Whether a thread services this listener.
    pub fn is_attended(&self) -> bool {
        self.attended.load(Ordering::Acquire)
    }

    /// Whether connections over TCP must be encrypted. At the rendezvous they need not: there a
    /// rank that differs is told.
    pub(crate) fn set_encrypted(&self, encrypted: bool) {
        self.encrypted.store(encrypted, Ordering::Release);
    }

    /// Whether connections over TCP are to be encrypted in this job.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted.load(Ordering::Acquire)
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Every change to it is complete before anything that could panic.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects the connections for one communicator and purpose, including those that came
    /// before. Dropping the inbox turns later ones away.
    ///
    /// Poll [`Inbox::fd`], and [`Listener::fd`] too unless the listener
    /// [is attended](Self::is_attended).
    pub fn register(self: &Arc<Self>, communicator: u64, purpose: Purpose) -> io::Result<Inbox> {
        let mailbox = Arc::new(Mailbox::new()?);
        let key = (communicator, purpose);
        self.desk().register(key, &mailbox);
        Ok(Inbox::new(Arc::clone(self), key, mailbox))
    }

    pub(crate) fn retire(&self, key: Key) {
        self.desk().retire(key);
    }

    /// Ends all epochs of a communicator before `first`: connections that were made in one of
    /// them, for whatever purpose, are dropped from now on and counted as
    /// [stragglers](Refusals::stragglers). Those that an inbox has handed out stay open.
    pub fn retire_epochs(&self, communicator: u64, first: u32) {
        let dropped = self.desk().retire_epochs(communicator, first);
        self.stragglers.fetch_add(dropped as u64, Ordering::Relaxed);
    }

    /// Takes over a socket whose owner goes away before its last bytes fitted into the buffer;
    /// sends them when there is room, for at most `time`.
    pub(crate) fn linger(&self, fd: OwnedFd, bytes: Vec<u8>, time: Duration) {
        self.desk().lingering.push(LastWords { fd, bytes, until: Instant::now() + time });
    }

    /// Accepts what has come, goes on with handshakes, and hands over proven connections.
    /// Never blocks. Returns when to call again at the latest, even if [`Self::fd`] does not
    /// become readable; `None` when there is no need. Fails only when the process itself is out
    /// of descriptors or memory.
    pub fn service(&self) -> io::Result<Option<Instant>> {
        let now = Instant::now();
        let mut entrance = match self.entrance.try_lock() {
            Ok(entrance) => entrance,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody is at it. What comes after their look keeps the descriptor readable.
            Err(TryLockError::WouldBlock) => return Ok(Some(now + UPKEEP_INTERVAL)),
        };
        let mut events = [EMPTY_EVENT; 64];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&zero)) {
            Ok(ready) => ready,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        for event in &events[..ready] {
            match event.data.u64() {
                TCP_TOKEN => self.accept(&mut entrance, &self.tcp, now)?,
                LOCAL_TOKEN => self.accept(&mut entrance, &self.local, now)?,
                token => self.advance(&mut entrance, token),
            }
        }
        let late = |a: &Accepting| now.duration_since(a.since) > PROOF_TIME_MAX;
        let before = entrance.unproven.len();
        entrance.unproven.retain(|_, accepting| !late(accepting));
        self.count_strangers(before - entrance.unproven.len());
        let mut desk = self.desk();
        desk.flush_lingering(now);
        let idle = entrance.unproven.is_empty() && desk.lingering.is_empty();
        Ok((!idle).then(|| now + UPKEEP_INTERVAL))
    }

    fn count_strangers(&self, count: usize) {
        self.strangers.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn accept(&self, entrance: &mut Entrance, from: &OwnedFd, now: Instant) -> io::Result<()> {
        // Bounded, so that a flood cannot keep the caller here.
        for _ in 0..64 {
            if entrance.unproven.len() >= UNPROVEN_MAX {
                let oldest = entrance.unproven.iter().min_by_key(|(_, a)| a.since);
                let (&token, oldest) = oldest.expect("not empty");
                if now.duration_since(oldest.since) < CHANCE_TIME {
                    return Ok(());
                }
                entrance.unproven.remove(&token);
                self.count_strangers(1);
            }
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let fd = match rustix::net::accept_with(from, flags) {
                Ok(fd) => fd,
                Err(Errno::AGAIN) => return Ok(()),
                // The connection went away again, or accept(2) reports its network error.
                Err(errno) if is_fault_of_the_connection(errno) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let token = entrance.next_token;
            entrance.next_token += 1;
            let interest = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
            epoll::add(&self.epoll, &fd, epoll::EventData::new_u64(token), interest)?;
            entrance.unproven.insert(token, Accepting::new(fd, now));
            // The greeting is often here already.
            self.advance(entrance, token);
        }
        Ok(())
    }

    fn advance(&self, entrance: &mut Entrance, token: u64) {
        let Some(accepting) = entrance.unproven.get_mut(&token) else { return };
        match accepting.advance(&self.key) {
            Ok(None) => {}
            Ok(Some(hello)) => {
                let accepting = entrance.unproven.remove(&token).expect("found above");
                // Fails only for descriptors that are not there.
                epoll::delete(&self.epoll, accepting.fd()).ok();
                let (fd, session) = accepting.into_parts();
                self.hand_over(Accepted { hello, fd, session });
            }
            Err(error) => {
                // A rank that tries several addresses hangs up on all but the first to answer.
                let hung_up = accepting.is_greeted() && matches!(error, HandshakeError::Io(_));
                if let HandshakeError::Version(theirs) = error {
                    tracing::warn!(theirs, "dropped a connection of another protocol version");
                }
                entrance.unproven.remove(&token);
                self.count_strangers(usize::from(!hung_up));
            }
        }
    }

    fn hand_over(&self, accepted: Accepted) {
        let hello = accepted.hello;
        let sorted = self.desk().sort(accepted);
        match sorted {
            Sorted::Kept | Sorted::Refused => {}
            Sorted::Straggler => {
                self.stragglers.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(?hello, "dropped a connection to what is over");
            }
            Sorted::Crowded => {
                tracing::warn!("too many connections for communicators that do not exist here");
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.desk().flush_lingering(Instant::now());
    }
}

const EMPTY_EVENT: epoll::Event =
    epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };

fn is_fault_of_the_connection(errno: Errno) -> bool {
    !matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::BADF)
}

fn stream_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
}

fn bind_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = stream_socket(family)?;
    listen(fd, address)
}

/// Connections of an earlier job that linger at a port of a range do not keep it (as for any
/// server); a port that another process listens at stays refused.
fn listen(fd: OwnedFd, address: SocketAddr) -> io::Result<OwnedFd> {
    if address.port() != 0 {
        sockopt::set_socket_reuseaddr(&fd, true)?;
    }
    rustix::net::bind(&fd, &address)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// Listens on every address of the families in `addresses`: one dual-stack socket if needed.
fn bind_any(addresses: &[IpAddr], port: u16) -> io::Result<OwnedFd> {
    if addresses.iter().all(IpAddr::is_ipv4) {
        return bind_tcp(([0, 0, 0, 0], port).into());
    }
    let fd = stream_socket(AddressFamily::INET6)?;
    sockopt::set_ipv6_v6only(&fd, false)?;
    listen(fd, (Ipv6Addr::UNSPECIFIED, port).into())
}

pub(super) fn bind_local() -> io::Result<(OwnedFd, Vec<u8>)> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let name = format!("syncline-{:032x}", u128::from_ne_bytes(random)).into_bytes();
    let fd = stream_socket(AddressFamily::UNIX)?;
    rustix::net::bind(&fd, &SocketAddrUnix::new_abstract_name(&name)?)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok((fd, name))
}
