//! The control links of a simulated job: what the control threads' sockets do in production.
//!
//! Messages travel on the data's virtual clock, and arrive late, twice, or in another order. A
//! link to a crashed process breaks when its host says so; one that a partition silences breaks
//! after the keepalive time; one to a stopped process does not break at all.

use std::collections::BTreeMap;
use std::time::Duration;

use super::random::Random;
use super::scenario::MailConfig;
use crate::control::core::{Input, Message};
use crate::error::Rank;
use crate::transport::sim::SimNet;

/// What becomes due.
#[derive(Clone, Debug)]
pub(super) enum Signal {
    /// A message arrives.
    Letter { from: Rank, to: Rank, message: Message },
    /// A rank's end of a link to a peer breaks.
    Broken { to: Rank, peer: Rank, how: &'static str },
    /// A rank wanted to be polled now.
    Timer,
    /// The scenario's fault of this number.
    Fault(usize),
    /// A link was silenced a keepalive time ago.
    Probe(Rank, Rank),
    /// A partition has begun.
    Parted,
    /// A partition has ended.
    Healed,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
struct End {
    /// How long others take to notice.
    noticed: Duration,
    how: &'static str,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Since when something is under way and does not arrive.
    silent_since: Option<Duration>,
    /// When the last message each way is due: of the lower rank, of the higher.
    last_due: [Duration; 2],
}

/// How often a message is tried again while its link is silent.
const RETRY: Duration = Duration::from_millis(50);

/// All control links.
#[derive(Debug)]
pub(super) struct Mail {
    net: SimNet,
    config: MailConfig,
    random: Random,
    signals: Vec<Option<Signal>>,
    /// By the lower rank and the higher.
    links: BTreeMap<(Rank, Rank), Link>,
    ended: Vec<Option<End>>,
    /// Fingerprint of everything sent.
    pub(super) trace: u64,
    pub(super) sent: u64,
}

impl Mail {
    pub(super) fn new(net: SimNet, ranks: Rank, seed: u64, config: MailConfig) -> Self {
        Self {
            net,
            config,
            random: Random::new(seed ^ 0x9a11),
            signals: Vec::new(),
            links: BTreeMap::new(),
            ended: vec![None; ranks as usize],
            trace: 0,
            sent: 0,
        }
    }

    /// Lets `signal` happen at `time`; it concerns `rank`.
    pub(super) fn post(&mut self, time: Duration, rank: Rank, signal: Signal) {
        let token = self.signals.len() as u64;
        self.signals.push(Some(signal));
        self.net.signal_at(time, rank, token);
    }

    /// What a token of the network stands for.
    pub(super) fn take(&mut self, token: u64) -> Option<Signal> {
        self.signals.get_mut(token as usize).and_then(Option::take)
    }

    fn link(&mut self, a: Rank, b: Rank) -> &mut Link {
        self.links.entry((a.min(b), a.max(b))).or_default()
    }

    /// `from` wants a link to `to` that is kept.
    pub(super) fn watch(&mut self, now: Duration, from: Rank, to: Rank) {
        self.link(from, to);
        if let Some(End { noticed, how }) = self.ended[to as usize] {
            let due = now + noticed + self.net.delay(from, to) * 2;
            self.post(due, from, Signal::Broken { to: from, peer: to, how });
        } else if self.net.is_cut(from, to) {
            self.silence(now, from, to);
        }
    }

    pub(super) fn send(&mut self, now: Duration, from: Rank, to: Rank, message: Message) {
        self.sent += 1;
        let bytes = message.encode();
        let note = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        let route = u64::from(from) << 32 | u64::from(to);
        self.trace = bytes.iter().fold(self.trace.rotate_left(7) ^ route, note);
        // Everything travels as bytes.
        let Some(message) = Message::decode(&bytes) else {
            unreachable!("a message that cannot be decoded: {message:?}")
        };
        if let Some(End { noticed, how }) = self.ended[to as usize] {
            let due = now + noticed + self.net.delay(from, to) * 2;
            self.post(due, from, Signal::Broken { to: from, peer: to, how });
            return;
        }
        for copy in 0..2 {
            if copy == 1 && self.random.below(100) >= self.config.duplicated {
                continue;
            }
            let mut due = now + self.net.delay(from, to);
            if self.random.percent(self.config.delayed) || copy == 1 {
                due += self.random.duration(self.config.delay_max);
            }
            let last_due = &mut self.link(from, to).last_due[usize::from(from > to)];
            *last_due = (*last_due).max(due);
            self.post(due, to, Signal::Letter { from, to, message: message.clone() });
        }
    }

    /// A letter is due: hands it over, unless something is in the way.
    pub(super) fn deliver(
        &mut self,
        now: Duration,
        from: Rank,
        to: Rank,
        message: Message,
    ) -> Option<Input> {
        if let Some(End { how, .. }) = self.ended[to as usize] {
            if self.ended[from as usize].is_none() {
                let due = now + self.net.delay(from, to);
                self.post(due, from, Signal::Broken { to: from, peer: to, how });
            }
            return None;
        }
        if !self.net.is_cut(from, to) {
            self.link(from, to).silent_since = None;
            return Some(Input::Message { from, message });
        }
        let keepalive = self.config.keepalive;
        let since = *self.link(from, to).silent_since.get_or_insert(now);
        if now >= since + keepalive {
            self.break_off(now, from, to);
        } else {
            self.post(now + RETRY, to, Signal::Letter { from, to, message });
        }
        None
    }

    /// The link has been silent for too long.
    fn break_off(&mut self, now: Duration, a: Rank, b: Rank) {
        self.link(a, b).silent_since = None;
        for (to, peer) in [(a, b), (b, a)] {
            self.post(now, to, Signal::Broken { to, peer, how: "no answer for too long" });
        }
    }

    fn silence(&mut self, now: Duration, a: Rank, b: Rank) {
        self.link(a, b).silent_since.get_or_insert(now);
        let keepalive = self.config.keepalive;
        self.post(now + keepalive, a, Signal::Probe(a, b));
    }

    /// A link that was silenced a keepalive time ago.
    pub(super) fn probe(&mut self, now: Duration, a: Rank, b: Rank) {
        let keepalive = self.config.keepalive;
        let since = self.link(a, b).silent_since;
        if self.net.is_cut(a, b) && since.is_some_and(|since| now >= since + keepalive) {
            self.break_off(now, a, b);
        }
    }

    /// A partition has just begun.
    pub(super) fn parted(&mut self, now: Duration) {
        let links: Vec<(Rank, Rank)> = self.links.keys().copied().collect();
        for (a, b) in links {
            if self.net.is_cut(a, b) {
                self.silence(now, a, b);
            }
        }
    }

    /// A partition has just ended.
    pub(super) fn healed(&mut self) {
        for (&(a, b), link) in &mut self.links {
            if !self.net.is_cut(a, b) {
                link.silent_since = None;
            }
        }
    }

    /// The process of `rank` ends now: on purpose, when `noticed` is none.
    pub(super) fn end(&mut self, now: Duration, rank: Rank, noticed: Option<Duration>) {
        let is_exit = noticed.is_none();
        let end = End {
            noticed: noticed.unwrap_or_default(),
            how: if is_exit { "it closed the link" } else { "its process died" },
        };
        if self.ended[rank as usize].is_some() {
            return;
        }
        self.ended[rank as usize] = Some(end);
        let links: Vec<((Rank, Rank), Link)> = self.links.iter().map(|(k, v)| (*k, *v)).collect();
        for ((a, b), link) in links {
            if a != rank && b != rank {
                continue;
            }
            let peer = if a == rank { b } else { a };
            let mut due = now + end.noticed + self.net.delay(rank, peer);
            if is_exit {
                // What it sent before it closed the link arrives before the end of the link.
                due = due.max(link.last_due[usize::from(rank > peer)] + Duration::from_nanos(1));
            }
            self.post(due, peer, Signal::Broken { to: peer, peer: rank, how: end.how });
        }
    }

    /// A link's break is due at one end: what the control protocol is told, unless the news does
    /// not get through.
    pub(super) fn broken(
        &mut self,
        now: Duration,
        to: Rank,
        peer: Rank,
        how: &'static str,
    ) -> Option<Input> {
        let is_news = self.ended[peer as usize].is_some();
        if is_news
            && self.net.is_cut(to, peer)
            && self.links.contains_key(&(to.min(peer), to.max(peer)))
        {
            let since = *self.link(to, peer).silent_since.get_or_insert(now);
            if now < since + self.config.keepalive {
                self.post(now + RETRY, to, Signal::Broken { to, peer, how });
                return None;
            }
        }
        Some(Input::Lost { peer, how: how.to_owned() })
    }
}
