//! Making one control connection, and having the kernel watch over it.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;

use super::core::Message;
use crate::rendezvous::{Address, Dial, Framed, Hello, JobKey};

/// How long to wait for a peer to take up a new connection after one that broke.
const REDIAL_TIME_MAX: Duration = Duration::from_secs(1);
/// How long to wait for one of several addresses of a peer.
const ADDRESS_TIME_MAX: Duration = Duration::from_secs(1);

/// A connection that is being made, address by address.
pub(super) struct Dialing {
    dial: Option<Dial>,
    addresses: VecDeque<Address>,
    hello: Hello,
    /// When to give up the present address.
    pub(super) until: Option<Duration>,
    patience: Duration,
    /// How an earlier connection broke.
    pub(super) broke: Option<String>,
    failures: Vec<String>,
}

/// How far a dial is.
pub(super) enum Dialed {
    Pending,
    /// There is another socket to poll.
    Next,
    Open(Box<Framed>),
    /// No address works.
    Failed(String),
}

impl Dialing {
    /// Dials one address after the other, each for at most `patience` until there is a
    /// connection. A process that is connected and does not answer may be stopped: it is waited
    /// for, unless a connection to it `broke`.
    pub(super) fn new(
        addresses: Vec<Address>,
        hello: Hello,
        patience: Duration,
        broke: Option<String>,
    ) -> Self {
        let several = addresses.len() > 1;
        let patience = if several { patience.min(ADDRESS_TIME_MAX) } else { patience };
        let patience = if broke.is_some() { patience.min(REDIAL_TIME_MAX) } else { patience };
        let (dial, until, failures) = (None, None, Vec::new());
        Self { dial, addresses: addresses.into(), hello, until, patience, broke, failures }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.dial.as_ref().map(Dial::fd)
    }

    /// Goes as far as possible.
    pub(super) fn advance(&mut self, now: Duration, key: &JobKey) -> Dialed {
        let Some(dial) = &mut self.dial else { return self.next(now) };
        match dial.advance(key) {
            Ok(false) if self.until.is_some_and(|until| now >= until) => {
                let connected = rustix::net::getpeername(dial.fd()).is_ok();
                if connected && self.broke.is_none() {
                    self.until = None;
                    return Dialed::Pending;
                }
                self.fail(now, "no answer")
            }
            Ok(false) => Dialed::Pending,
            Ok(true) => match self.dial.take() {
                Some(dial) => {
                    let (fd, session) = dial.into_parts();
                    Dialed::Open(Box::new(Framed::new(fd, session, Message::BYTES_MAX)))
                }
                None => Dialed::Pending,
            },
            Err(error) => self.fail(now, &error.to_string()),
        }
    }

    fn fail(&mut self, now: Duration, reason: &str) -> Dialed {
        self.failures.push(reason.to_owned());
        self.dial = None;
        self.next(now)
    }

    fn next(&mut self, now: Duration) -> Dialed {
        while let Some(address) = self.addresses.pop_front() {
            match Dial::start(&address, &self.hello) {
                Ok(dial) => {
                    self.dial = Some(dial);
                    self.until = Some(now + self.patience);
                    return Dialed::Next;
                }
                Err(error) => self.failures.push(error.to_string()),
            }
        }
        self.failures.dedup();
        let refused = self.failures.join(", ");
        Dialed::Failed(match &self.broke {
            Some(broke) => format!("{broke}, and it cannot be reached again ({refused})"),
            None => format!("it cannot be reached ({refused})"),
        })
    }
}

/// Has the kernel find out whether the other host is still there, within `timeout`.
pub(super) fn keep_alive(socket: BorrowedFd<'_>, timeout: Duration) -> Result<(), Errno> {
    const PROBES: u32 = 3;
    let interval = (timeout / (PROBES + 1)).max(Duration::from_secs(1));
    let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_keepidle(socket, interval)?;
    sockopt::set_tcp_keepintvl(socket, interval)?;
    sockopt::set_tcp_keepcnt(socket, PROBES)?;
    sockopt::set_tcp_user_timeout(socket, timeout_ms)?;
    sockopt::set_socket_keepalive(socket, true)
}
