//! Making one control connection.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::core::Message;
use crate::rendezvous::{Address, Dialed, Framed, Hello, JobKey, Multidial, Unreachable};

/// How long to wait for a peer to take up a new connection after one that broke.
const REDIAL_TIME_MAX: Duration = Duration::from_secs(1);
/// Time between two attempts of a process that has no descriptors left.
const LACK_PAUSE: Duration = Duration::from_millis(50);

/// A connection that is being made, at whichever address answers first.
pub(super) struct Dialing {
    addresses: Vec<Address>,
    hello: Hello,
    dial: Option<Multidial>,
    /// When to go on, even without an event.
    pub(super) due: Option<Duration>,
    /// When to give up.
    until: Duration,
    /// How an earlier connection broke.
    broke: Option<String>,
}

/// How far a dial is.
pub(super) enum Progress {
    Pending,
    /// There is another descriptor to poll.
    Next,
    Open(Box<Framed>),
    /// No address works.
    Failed(String),
}

impl Dialing {
    /// Tries for at most `patience` to get a connection. A process that is connected and does not
    /// answer may be stopped: it is waited for, unless a connection to it `broke`.
    pub(super) fn new(
        addresses: Vec<Address>,
        hello: Hello,
        patience: Duration,
        broke: Option<String>,
        now: Duration,
    ) -> Self {
        let patience = if broke.is_some() { patience.min(REDIAL_TIME_MAX) } else { patience };
        let until = now.saturating_add(patience);
        Self { addresses, hello, dial: None, due: None, until, broke }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.dial.as_ref().map(Multidial::fd)
    }

    /// Goes as far as possible.
    pub(super) fn advance(&mut self, now: Duration, key: &JobKey) -> Progress {
        let Some(dial) = &mut self.dial else { return self.start(now, key) };
        match dial.advance() {
            Dialed::Connected(fd, session) => {
                Progress::Open(Box::new(Framed::new(fd, session, Message::BYTES_MAX)))
            }
            Dialed::Failed(Unreachable { lack: Some(lack), .. }) => self.lack(now, &lack),
            Dialed::Failed(Unreachable { reason, .. }) => self.failed(&reason),
            Dialed::Pending(next) => {
                let waits_on = dial.answered().is_some() && self.broke.is_none();
                if now >= self.until && !waits_on {
                    return self.failed("no answer");
                }
                let next = next.map(|at| now + at.saturating_duration_since(Instant::now()));
                let end = (!waits_on).then_some(self.until);
                self.due = next.into_iter().chain(end).min();
                Progress::Pending
            }
        }
    }

    fn start(&mut self, now: Duration, key: &JobKey) -> Progress {
        match Multidial::new(self.addresses.clone(), key.clone(), self.hello) {
            Ok(dial) => {
                self.dial = Some(dial);
                Progress::Next
            }
            Err(errno) => self.lack(now, &errno.to_string()),
        }
    }

    /// That this process is out of descriptors says nothing about the peer: tries again, however
    /// long that takes.
    fn lack(&mut self, now: Duration, how: &str) -> Progress {
        tracing::debug!(peer = self.hello.to, how, "cannot open a control connection yet");
        self.dial = None;
        self.until = self.until.max(now.saturating_add(REDIAL_TIME_MAX));
        self.due = Some(now + LACK_PAUSE);
        Progress::Pending
    }

    fn failed(&self, reason: &str) -> Progress {
        Progress::Failed(match &self.broke {
            Some(broke) => format!("{broke}, and it cannot be reached again ({reason})"),
            None => format!("it cannot be reached ({reason})"),
        })
    }
}
