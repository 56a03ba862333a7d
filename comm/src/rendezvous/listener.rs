//! The one listener of a process in a job: accepts, demands proof, and hands over.
//!
//! It has no thread. Whoever waits in a collective polls its descriptor and calls
//! [`Listener::service`] when it is readable, on behalf of every communicator of the job.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::handshake::{Accepting, HandshakeError, Hello, Purpose};
use super::inbox::{Accepted, Inbox, Mailbox};
use super::member::Verdict;
use super::proof::JobKey;

/// A connection that has not proved itself after this long is dropped.
const PROOF_TIME_MAX: Duration = Duration::from_secs(5);
/// Unproven connections kept at once; beyond that others wait until the oldest has had its
/// chance.
const UNPROVEN_MAX: usize = 512;
const CHANCE_TIME: Duration = Duration::from_millis(500);
/// Proven connections kept for communicators that this process has not made yet.
const UNCLAIMED_MAX: usize = 8192;
/// Destroyed communicators remembered, to turn latecomers away.
const RETIRED_MAX: usize = 4096;
const BACKLOG: i32 = 4096;
const TCP_TOKEN: u64 = 0;
const LOCAL_TOKEN: u64 = 1;
const FIRST_TOKEN: u64 = 2;

type Key = (u64, Purpose);

struct State {
    unproven: HashMap<u64, Accepting>,
    next_token: u64,
    mailboxes: HashMap<Key, Arc<Mailbox>>,
    unclaimed: VecDeque<Accepted>,
    retired: VecDeque<Key>,
    /// Last words on connections whose buffer was full when their owner was dropped.
    lingering: Vec<(OwnedFd, Vec<u8>, Instant)>,
}

/// Accepts connections for all communicators of one process in one job.
pub struct Listener {
    key: JobKey,
    epoll: OwnedFd,
    tcp: OwnedFd,
    local: OwnedFd,
    addresses: Vec<SocketAddr>,
    local_name: Vec<u8>,
    state: Mutex<State>,
    strangers: AtomicU64,
}

impl Listener {
    /// Listens on `addresses`, port chosen by the system: on the one address if there is one,
    /// else on all of the host's.
    pub(crate) fn open(key: JobKey, addresses: &[IpAddr]) -> io::Result<Self> {
        let tcp = match addresses {
            [one] => bind_tcp((*one, 0).into())?,
            several => bind_any(several)?,
        };
        let port = SocketAddr::try_from(rustix::net::getsockname(&tcp)?)?.port();
        let (local, local_name) = bind_local()?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (fd, token) in [(&tcp, TCP_TOKEN), (&local, LOCAL_TOKEN)] {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?;
        }
        let state = State {
            unproven: HashMap::new(),
            next_token: FIRST_TOKEN,
            mailboxes: HashMap::new(),
            unclaimed: VecDeque::new(),
            retired: VecDeque::new(),
            lingering: Vec::new(),
        };
        Ok(Self {
            key,
            epoll,
            tcp,
            local,
            addresses: addresses.iter().map(|&ip| SocketAddr::new(ip, port)).collect(),
            local_name,
            state: Mutex::new(state),
            strangers: AtomicU64::new(0),
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

    /// Readable when there is something to [`service`](Self::service). Suited to be put into
    /// another epoll instance.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change to the state is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects the connections for one communicator and purpose, including those that came
    /// before. Dropping the inbox turns later ones away.
    pub fn register(self: &Arc<Self>, communicator: u64, purpose: Purpose) -> io::Result<Inbox> {
        let mailbox = Arc::new(Mailbox::new()?);
        let mut state = self.state();
        let mine = |hello: &Hello| hello.communicator == communicator && hello.purpose == purpose;
        let unclaimed = std::mem::take(&mut state.unclaimed);
        for accepted in unclaimed {
            if mine(&accepted.hello) {
                mailbox.push(accepted);
            } else {
                state.unclaimed.push_back(accepted);
            }
        }
        state.retired.retain(|&key| key != (communicator, purpose));
        state.mailboxes.insert((communicator, purpose), Arc::clone(&mailbox));
        drop(state);
        Ok(Inbox::new(Arc::clone(self), (communicator, purpose), mailbox))
    }

    pub(crate) fn retire(&self, key: Key) {
        let mut state = self.state();
        state.mailboxes.remove(&key);
        if state.retired.len() >= RETIRED_MAX {
            state.retired.pop_front();
        }
        state.retired.push_back(key);
    }

    /// Takes over a socket whose owner goes away before its last bytes fitted into the buffer;
    /// sends them when there is room, for at most `time`.
    pub(crate) fn linger(&self, fd: OwnedFd, bytes: Vec<u8>, time: Duration) {
        self.state().lingering.push((fd, bytes, Instant::now() + time));
    }

    /// Accepts what has come, goes on with handshakes, and hands over proven connections.
    /// Never blocks. Fails only when the process itself is out of descriptors or memory.
    pub fn service(&self) -> io::Result<()> {
        let mut state = self.state();
        flush_lingering(&mut state.lingering);
        let now = Instant::now();
        let mut events = [EMPTY_EVENT; 64];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&zero)) {
            Ok(ready) => ready,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        for event in &events[..ready] {
            match event.data.u64() {
                TCP_TOKEN => self.accept(&mut state, &self.tcp, now)?,
                LOCAL_TOKEN => self.accept(&mut state, &self.local, now)?,
                token => self.advance(&mut state, token),
            }
        }
        let late = |a: &Accepting| now.duration_since(a.since) > PROOF_TIME_MAX;
        let before = state.unproven.len();
        state.unproven.retain(|_, accepting| !late(accepting));
        self.count_strangers(before - state.unproven.len());
        Ok(())
    }

    fn count_strangers(&self, count: usize) {
        self.strangers.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn accept(&self, state: &mut State, from: &OwnedFd, now: Instant) -> io::Result<()> {
        // Bounded, so that a flood cannot keep the caller here.
        for _ in 0..64 {
            if state.unproven.len() >= UNPROVEN_MAX {
                let oldest = state.unproven.iter().min_by_key(|(_, a)| a.since);
                let (&token, oldest) = oldest.expect("not empty");
                if now.duration_since(oldest.since) < CHANCE_TIME {
                    return Ok(());
                }
                state.unproven.remove(&token);
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
            let token = state.next_token;
            state.next_token += 1;
            let interest = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
            epoll::add(&self.epoll, &fd, epoll::EventData::new_u64(token), interest)?;
            state.unproven.insert(token, Accepting::new(fd, now));
            // The greeting is often here already.
            self.advance(state, token);
        }
        Ok(())
    }

    fn advance(&self, state: &mut State, token: u64) {
        let Some(accepting) = state.unproven.get_mut(&token) else { return };
        match accepting.advance(&self.key) {
            Ok(None) => {}
            Ok(Some(hello)) => {
                let accepting = state.unproven.remove(&token).expect("found above");
                // Fails only for descriptors that are not there.
                epoll::delete(&self.epoll, accepting.fd()).ok();
                self.hand_over(state, Accepted { hello, fd: accepting.into_fd() });
            }
            Err(error) => {
                // A rank that tries several addresses hangs up on all but the first to answer.
                let hung_up = accepting.is_greeted() && matches!(error, HandshakeError::Io(_));
                if let HandshakeError::Version(theirs) = error {
                    tracing::warn!(theirs, "dropped a connection of another protocol version");
                }
                state.unproven.remove(&token);
                self.count_strangers(usize::from(!hung_up));
            }
        }
    }

    fn hand_over(&self, state: &mut State, accepted: Accepted) {
        let key = (accepted.hello.communicator, accepted.hello.purpose);
        if let Some(mailbox) = state.mailboxes.get(&key) {
            mailbox.push(accepted);
        } else if accepted.hello.purpose == Purpose::Join {
            // Best effort: the connection is closed in any case.
            let refusal = super::framed::frame(&Verdict::Closed.encode());
            rustix::net::send(&accepted.fd, &refusal, rustix::net::SendFlags::NOSIGNAL).ok();
        } else if !state.retired.contains(&key) {
            if state.unclaimed.len() >= UNCLAIMED_MAX {
                tracing::warn!("too many connections for communicators that do not exist here");
                state.unclaimed.pop_front();
            }
            state.unclaimed.push_back(accepted);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        flush_lingering(&mut self.state().lingering);
    }
}

const EMPTY_EVENT: epoll::Event =
    epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };

fn flush_lingering(lingering: &mut Vec<(OwnedFd, Vec<u8>, Instant)>) {
    if lingering.is_empty() {
        return;
    }
    let now = Instant::now();
    lingering.retain_mut(|(fd, bytes, until)| {
        match rustix::net::send(&*fd, bytes, rustix::net::SendFlags::NOSIGNAL) {
            Ok(sent) => {
                bytes.drain(..sent);
                !bytes.is_empty() && now < *until
            }
            Err(Errno::AGAIN | Errno::INTR) => now < *until,
            Err(_) => false,
        }
    });
}

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
    rustix::net::bind(&fd, &address)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// Listens on every address of the families in `addresses`: one dual-stack socket if needed.
fn bind_any(addresses: &[IpAddr]) -> io::Result<OwnedFd> {
    if addresses.iter().all(IpAddr::is_ipv4) {
        return bind_tcp(([0, 0, 0, 0], 0).into());
    }
    let fd = stream_socket(AddressFamily::INET6)?;
    sockopt::set_ipv6_v6only(&fd, false)?;
    rustix::net::bind(&fd, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd)
}

fn bind_local() -> io::Result<(OwnedFd, Vec<u8>)> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let name = format!("syncline-{:032x}", u128::from_ne_bytes(random)).into_bytes();
    let fd = stream_socket(AddressFamily::UNIX)?;
    rustix::net::bind(&fd, &SocketAddrUnix::new_abstract_name(&name)?)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok((fd, name))
}
