//! The one listener of a process in a job: accepts, demands proof, and hands over.
//!
//! It has no thread of its own. Whoever waits at the rendezvous or in a collective polls
//! [`Listener::fd`] and calls [`Listener::service`] when it is readable, on behalf of every
//! communicator of the job. A thread that makes this its business says so by
//! [`Listener::attend`]; from then on the others watch their [`Inbox`] alone. Any thread may call
//! anything at any time: of several that service at once one does the work and the others return,
//! and the lock that inboxes share with it is held for a few instructions at a time.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::desk::{Desk, Key, LastWords, Sorted};
use super::entrance::{Entrance, Guest, Source};
use super::handshake::{Accepting, HandshakeError, Hello, Purpose};
use super::inbox::{Accepted, Inbox, Mailbox};
use super::ports::Ports;
use super::proof::JobKey;

/// How often to look after what makes no event: proofs overdue, last words.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(250);
/// Connections accepted from one socket before whoever services the listener gets on.
const BATCH: usize = 64;
/// When one service has dropped this many strangers there is a flood: nothing is accepted for
/// [`PAUSE_FACTOR`] times as long as the service took, so that a flood costs a fifth of one core.
const FLOOD: u64 = 16;
const PAUSE_FACTOR: u32 = 4;
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// How long to wait for descriptors or memory to become free.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);
const BACKLOG: i32 = 4096;
const TCP_TOKEN: u64 = 0;
const LOCAL_TOKEN: u64 = 1;
const TIMER_TOKEN: u64 = 2;
const FIRST_TOKEN: u64 = 3;

/// How many connections a listener has dropped, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// They could not prove that they belong to the job.
    pub strangers: u64,
    /// They belong to the job, but came for a communicator or an epoch of it that is over.
    pub stragglers: u64,
    /// They had to make room for others before their time to prove themselves was up: a flood.
    pub rate_limited: u64,
    /// How often this process had no descriptor or memory for a connection, and the connection had
    /// to wait.
    pub shortages: u64,
}

/// Accepts connections for all communicators of one process in one job.
pub struct Listener {
    key: JobKey,
    epoll: OwnedFd,
    tcp: OwnedFd,
    local: OwnedFd,
    timer: OwnedFd,
    addresses: Vec<SocketAddr>,
    local_name: Vec<u8>,
    entrance: Mutex<Entrance>,
    desk: Mutex<Desk>,
    attended: AtomicBool,
    encrypted: AtomicBool,
    strangers: AtomicU64,
    stragglers: AtomicU64,
    rate_limited: AtomicU64,
    shortages: AtomicU64,
    /// The error number that keeps connections outside at present; 0: none.
    shortage: AtomicI32,
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
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        for (fd, token) in [(&tcp, TCP_TOKEN), (&local, LOCAL_TOKEN), (&timer, TIMER_TOKEN)] {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?;
        }
        Ok(Self {
            key,
            epoll,
            tcp,
            local,
            timer,
            addresses: addresses.iter().map(|&ip| SocketAddr::new(ip, port)).collect(),
            local_name,
            entrance: Mutex::new(Entrance::new(FIRST_TOKEN)),
            desk: Mutex::default(),
            attended: AtomicBool::new(false),
            encrypted: AtomicBool::new(false),
            strangers: AtomicU64::new(0),
            stragglers: AtomicU64::new(0),
            rate_limited: AtomicU64::new(0),
            shortages: AtomicU64::new(0),
            shortage: AtomicI32::new(0),
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
            rate_limited: self.rate_limited.load(Ordering::Relaxed),
            shortages: self.shortages.load(Ordering::Relaxed),
        }
    }

    /// Why connections have to wait outside at present, if they do: this process lacks something.
    pub fn shortage(&self) -> Option<io::Error> {
        match self.shortage.load(Ordering::Relaxed) {
            0 => None,
            number => Some(io::Error::from_raw_os_error(number)),
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
        self.set_timer(UPKEEP_INTERVAL);
    }

    /// Accepts what has come, goes on with handshakes, and hands over proven connections.
    /// Never blocks. [`Self::fd`] also becomes readable when something is due that no connection
    /// announces; the returned time says when, for those who do not watch it.
    ///
    /// A lack of descriptors or memory is no error: connections wait outside until there are some.
    ///
    /// # Errors
    /// When the process cannot poll at all.
    pub fn service(&self) -> io::Result<Option<Instant>> {
        let now = Instant::now();
        let mut entrance = match self.entrance.try_lock() {
            Ok(entrance) => entrance,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody is at it. What comes after their look keeps the descriptor readable.
            Err(TryLockError::WouldBlock) => return Ok(Some(now + UPKEEP_INTERVAL)),
        };
        let entrance = &mut *entrance;
        let mut events = [EMPTY_EVENT; 128];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&zero)) {
            Ok(ready) => ready,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        if entrance.paused_until.is_some_and(|until| now >= until) {
            entrance.paused_until = None;
            self.listen_for(epoll::EventFlags::IN);
        }
        let dropped_before = self.dropped();
        // Those who are inside first: they may have to make room for those who wait outside.
        let tokens = || events[..ready].iter().map(|event| event.data.u64());
        for token in tokens().filter(|&token| token >= FIRST_TOKEN) {
            self.advance(entrance, token, now);
        }
        for token in tokens() {
            match token {
                TCP_TOKEN => self.accept(entrance, &self.tcp, Source::of_tcp, now),
                LOCAL_TOKEN => self.accept(entrance, &self.local, Source::of_local, now),
                TIMER_TOKEN => {
                    entrance.timer_at = None;
                    // Only clears it.
                    rustix::io::read(&self.timer, &mut [0; 8]).ok();
                }
                _ => {}
            }
        }
        while let Some(token) = entrance.overdue(now) {
            self.drop_stranger(entrance, token, "it did not prove itself in time", now);
        }
        if self.dropped() - dropped_before >= FLOOD {
            let pause = (now.elapsed() * PAUSE_FACTOR).clamp(PAUSE_MIN, PAUSE_MAX);
            self.pause(entrance, Instant::now() + pause);
        }
        let mut desk = self.desk();
        desk.flush_lingering(now);
        let idle = entrance.is_empty() && desk.lingering.is_empty();
        drop(desk);
        Ok(self.schedule(entrance, idle, now))
    }

    /// Sets the timer for what is due next.
    fn schedule(&self, entrance: &mut Entrance, idle: bool, now: Instant) -> Option<Instant> {
        let set = entrance.timer_at.filter(|&at| at > now);
        let upkeep = (!idle).then(|| set.unwrap_or(now + UPKEEP_INTERVAL));
        let due = [upkeep, entrance.paused_until].into_iter().flatten().min();
        if let Some(due) = due.filter(|&due| set.is_none_or(|set| due < set)) {
            self.set_timer(due.saturating_duration_since(now));
            entrance.timer_at = Some(due);
        }
        due
    }

    fn set_timer(&self, after: Duration) {
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would stop the timer.
        let after = Timespec::try_from(after.max(Duration::from_micros(1))).unwrap_or(none);
        let spec = Itimerspec { it_interval: none, it_value: after };
        // Fails only for times that are none.
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec).ok();
    }

    fn dropped(&self) -> u64 {
        self.strangers.load(Ordering::Relaxed) + self.rate_limited.load(Ordering::Relaxed)
    }

    /// Accepts nothing until then; who comes waits in the kernel.
    fn pause(&self, entrance: &mut Entrance, until: Instant) {
        entrance.paused_until = Some(until);
        self.listen_for(epoll::EventFlags::empty());
    }

    fn listen_for(&self, flags: epoll::EventFlags) {
        for (fd, token) in [(&self.tcp, TCP_TOKEN), (&self.local, LOCAL_TOKEN)] {
            // Changing what is there needs no memory.
            epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token), flags).ok();
        }
    }

    fn accept(
        &self,
        entrance: &mut Entrance,
        from: &OwnedFd,
        source: impl Fn(&OwnedFd) -> Source,
        now: Instant,
    ) {
        for _ in 0..BATCH {
            if entrance.paused_until.is_some() {
                return;
            }
            if entrance.is_full()
                && let Some(token) = entrance.first_to_go()
            {
                self.make_room(entrance, token, now);
            }
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let accepted = rustix::net::accept_with(from, flags).and_then(|fd| {
                let interest = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
                let data = epoll::EventData::new_u64(entrance.next_token());
                epoll::add(&self.epoll, &fd, data, interest).map(|()| fd)
            });
            match accepted {
                Ok(fd) => {
                    self.shortage.store(0, Ordering::Relaxed);
                    let source = source(&fd);
                    let token =
                        entrance.insert(Guest { accepting: Accepting::new(fd, now), source });
                    // The greeting is often here already.
                    self.advance(entrance, token, now);
                }
                Err(Errno::AGAIN) => {
                    self.shortage.store(0, Ordering::Relaxed);
                    return;
                }
                Err(errno) if is_shortage(errno) => return self.fall_short(entrance, errno, now),
                // The connection went away again, or accept(2) reports its network error.
                Err(_) => {}
            }
        }
    }

    /// Drops a guest before its time, unless its proof is here.
    fn make_room(&self, entrance: &mut Entrance, token: u64, now: Instant) {
        self.advance(entrance, token, now);
        if entrance.remove(token).is_some() {
            self.rate_limited.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The process has no descriptor or memory left: strangers give theirs back, and who comes
    /// waits outside.
    fn fall_short(&self, entrance: &mut Entrance, errno: Errno, now: Instant) {
        self.shortages.fetch_add(1, Ordering::Relaxed);
        self.shortage.store(errno.raw_os_error(), Ordering::Relaxed);
        if let Some(silent) = entrance.system_log.allow(now) {
            tracing::warn!(
                %errno,
                silent,
                "cannot accept connections; raise the limit on open files (ulimit -n)"
            );
        }
        for _ in 0..BATCH {
            let Some(token) = entrance.first_to_go() else { break };
            self.make_room(entrance, token, now);
        }
        self.pause(entrance, now + SHORTAGE_PAUSE);
    }

    fn advance(&self, entrance: &mut Entrance, token: u64, now: Instant) {
        let Some(guest) = entrance.get_mut(token) else { return };
        match guest.accepting.advance(&self.key) {
            Ok(None) => {}
            Ok(Some(hello)) if self.is_too_open(&hello, guest.source) => {
                let why = "it is not encrypted, and this job is";
                self.drop_stranger(entrance, token, why, now);
            }
            Ok(Some(hello)) => {
                let Some(guest) = entrance.remove(token) else { return };
                // Fails only for descriptors that are not there.
                epoll::delete(&self.epoll, guest.accepting.fd()).ok();
                let (fd, session) = guest.accepting.into_parts();
                self.hand_over(entrance, Accepted { hello, fd, session }, now);
            }
            // A rank that tries several addresses hangs up on all but the first to answer.
            Err(HandshakeError::Io(_)) if guest.accepting.is_greeted() => {
                entrance.remove(token);
            }
            Err(error) => self.drop_stranger(entrance, token, &error.to_string(), now),
        }
    }

    /// Whether a proven connection is in the clear though the job's are encrypted. At the
    /// rendezvous, a rank that differs is told; what stays on this host needs no encryption.
    fn is_too_open(&self, hello: &Hello, source: Source) -> bool {
        self.is_encrypted()
            && !hello.encrypted
            && hello.purpose != Purpose::Join
            && !source.is_local()
    }

    fn drop_stranger(&self, entrance: &mut Entrance, token: u64, why: &str, now: Instant) {
        let Some(guest) = entrance.remove(token) else { return };
        self.strangers.fetch_add(1, Ordering::Relaxed);
        if let Some(silent) = entrance.stranger_log.allow(now) {
            tracing::warn!(from = %guest.source, why, silent, "dropped a stranger's connection");
        }
    }

    fn hand_over(&self, entrance: &mut Entrance, accepted: Accepted, now: Instant) {
        let hello = accepted.hello;
        let sorted = self.desk().sort(accepted);
        match sorted {
            Sorted::Kept | Sorted::Refused => {}
            Sorted::Straggler => {
                self.stragglers.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(?hello, "dropped a connection to what is over");
            }
            Sorted::Crowded => {
                if let Some(silent) = entrance.crowd_log.allow(now) {
                    let what = "too many connections for communicators that do not exist here";
                    tracing::warn!(silent, "{what}");
                }
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

fn is_shortage(errno: Errno) -> bool {
    // NOSPC: the limit on watches of epoll(7).
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC)
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
