//! Connecting to a process that may be reached at several addresses.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::descriptors;
use super::dial::{Address, Dial};
use super::handshake::{HandshakeError, Hello};
use super::noise::Session;
use super::proof::JobKey;

/// After this long without an answer from one address the next is tried too (Happy Eyeballs,
/// RFC 8305).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Nothing tells when a full queue has room again.
const QUEUE_INTERVAL: Duration = Duration::from_millis(5);

pub(crate) const EMPTY_EVENT: epoll::Event =
    epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };

/// How a connection attempt stands.
pub(crate) enum Dialed {
    /// Connected, both ends proven; with the keys if it is encrypted.
    Connected(OwnedFd, Option<Session>),
    Failed(Unreachable),
    /// Nothing yet; something new starts at that time.
    Pending(Option<Instant>),
}

/// No address leads to the process.
pub(crate) struct Unreachable {
    pub(crate) reason: String,
    /// At one of them there is another process.
    pub(crate) somebody: bool,
    /// This process has no descriptors left to find out with: how that is told.
    pub(crate) lack: Option<String>,
}

/// Connects to whichever of the addresses answers first.
pub(crate) struct Multidial {
    key: JobKey,
    hello: Hello,
    epoll: OwnedFd,
    waiting: std::vec::IntoIter<Address>,
    next_at: Instant,
    dials: Vec<(Address, Dial)>,
    failures: Vec<String>,
    somebody: bool,
    lack: Option<String>,
    answered: Option<Instant>,
}

impl Multidial {
    pub(crate) fn new(addresses: Vec<Address>, key: JobKey, hello: Hello) -> Result<Self, Errno> {
        Ok(Self {
            key,
            hello,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            waiting: addresses.into_iter(),
            next_at: Instant::now(),
            dials: Vec::new(),
            failures: Vec::new(),
            somebody: false,
            lack: None,
            answered: None,
        })
    }

    /// Readable when there is something to do.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// When the first connection stood, before anything was proven.
    pub(crate) fn answered(&self) -> Option<Instant> {
        self.answered
    }

    fn start_next(&mut self, now: Instant) {
        while self.waiting.len() > 0 && (self.dials.is_empty() || now >= self.next_at) {
            let address = self.waiting.next().expect("checked above");
            self.next_at = now + ATTEMPT_DELAY;
            let started = Dial::start(&address, &self.hello).and_then(|dial| {
                let interest =
                    epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
                epoll::add(&self.epoll, dial.fd(), epoll::EventData::new_u64(0), interest)?;
                Ok(dial)
            });
            match started {
                Ok(dial) => self.dials.push((address, dial)),
                Err(error) => {
                    self.lack = descriptors::lack(&error, 1).or_else(|| self.lack.take());
                    self.failures.push(describe(&address, &HandshakeError::Io(error)));
                }
            }
        }
    }

    /// Goes as far as possible.
    pub(crate) fn advance(&mut self) -> Dialed {
        let mut events = [EMPTY_EVENT; 16];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            match epoll::wait(&self.epoll, &mut events, Some(&zero)) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    self.failures.push(errno.to_string());
                    return self.failed();
                }
            }
        }
        let now = Instant::now();
        loop {
            self.start_next(now);
            if let Some(connected) = self.advance_dials(now) {
                return connected;
            }
            if !self.dials.is_empty() {
                let queuing = self.dials.iter().any(|(_, dial)| dial.is_queuing());
                let again = queuing.then(|| now + QUEUE_INTERVAL);
                let next = (self.waiting.len() > 0).then_some(self.next_at);
                return Dialed::Pending(again.into_iter().chain(next).min());
            }
            if self.waiting.len() == 0 {
                return self.failed();
            }
        }
    }

    fn failed(&mut self) -> Dialed {
        self.failures.dedup();
        let reason = self.failures.join("; ");
        Dialed::Failed(Unreachable { reason, somebody: self.somebody, lack: self.lack.take() })
    }

    fn advance_dials(&mut self, now: Instant) -> Option<Dialed> {
        let mut at = 0;
        while at < self.dials.len() {
            let (address, dial) = &mut self.dials[at];
            let advanced = dial.advance(&self.key);
            if dial.is_connected() {
                self.answered.get_or_insert(now);
            }
            match advanced {
                Ok(false) => at += 1,
                Ok(true) => {
                    let (_, dial) = self.dials.swap_remove(at);
                    let (fd, session) = dial.into_parts();
                    return Some(Dialed::Connected(fd, session));
                }
                Err(error) => {
                    self.somebody |= !matches!(error, HandshakeError::Io(_));
                    self.failures.push(describe(address, &error));
                    self.dials.swap_remove(at);
                }
            }
        }
        None
    }
}

/// What went wrong at an address, and what that usually means.
fn describe(address: &Address, error: &HandshakeError) -> String {
    let hint = match error {
        HandshakeError::Io(error) if let Some(lack) = descriptors::lack(error, 1) => {
            return format!("{address}: {lack}");
        }
        HandshakeError::Io(error) => match Errno::from_io_error(error) {
            Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ADDRNOTAVAIL) => {
                "; no route leads there from this host: name an interface that the hosts share"
            }
            Some(Errno::TIMEDOUT) => "; is a firewall in between?",
            _ => "",
        },
        _ => "",
    };
    format!("{address}: {error}{hint}")
}
