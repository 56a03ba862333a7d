//! Connecting to a process that may be reached at several addresses.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::dial::{Address, Dial};
use super::handshake::{HandshakeError, Hello};
use super::noise::Session;
use super::proof::JobKey;

/// After this long without an answer from one address the next is tried too (Happy Eyeballs,
/// RFC 8305).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

pub(crate) const EMPTY_EVENT: epoll::Event =
    epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };

/// How a connection attempt stands.
pub(crate) enum Dialed {
    /// Connected, both ends proven; with the keys if it is encrypted.
    Connected(OwnedFd, Option<Session>),
    /// No address leads to the process. `somebody`: at one of them there is another one.
    Failed { reason: String, somebody: bool },
    /// Nothing yet; something new starts at that time.
    Pending(Option<Instant>),
}

/// Connects to whichever of the addresses answers first.
pub(crate) struct Dialing {
    key: JobKey,
    hello: Hello,
    epoll: OwnedFd,
    waiting: std::vec::IntoIter<Address>,
    next_at: Instant,
    dials: Vec<(Address, Dial)>,
    failures: Vec<String>,
    somebody: bool,
    answered: Option<Instant>,
}

impl Dialing {
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
                Err(error) => self.failures.push(describe(&address, &HandshakeError::Io(error))),
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
                    return Dialed::Failed { reason: errno.to_string(), somebody: false };
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
                return Dialed::Pending((self.waiting.len() > 0).then_some(self.next_at));
            }
            if self.waiting.len() == 0 {
                let reason = self.failures.join("; ");
                return Dialed::Failed { reason, somebody: self.somebody };
            }
        }
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
