//! Connections that have come in and not proved themselves yet: how many there may be, who has to
//! make room, and when to stop accepting for a while.
//!
//! Nothing here is refused by address: a member and an attacker may share a host. When the room is
//! used up, the source with the most unproven connections loses its oldest, so that a flood pushes
//! out itself; a member needs its place for a round trip only.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use super::handshake::Accepting;

/// A connection that has not proved itself after this long is dropped.
const PROOF_TIME_MAX: Duration = Duration::from_secs(5);
/// Unproven connections kept at once, and the share of this process's descriptors they may take.
const UNPROVEN_MAX: usize = 512;
const UNPROVEN_MIN: usize = 16;
const DESCRIPTOR_SHARE: usize = 8;
/// Time between two lines of one kind in the log.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// An IPv4 address, or the /64 network of an IPv6 address: what one host has at its disposal.
    Network(IpAddr),
    /// A process of this host.
    Process(i32),
    /// It has gone already.
    Unknown,
}

impl Source {
    pub(super) fn of_tcp(fd: &OwnedFd) -> Self {
        let peer = rustix::net::getpeername(fd).ok().flatten();
        let Some(Ok(peer)) = peer.map(SocketAddr::try_from) else { return Self::Unknown };
        Self::Network(match peer.ip().to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from(network))
            }
            v4 => v4,
        })
    }

    pub(super) fn of_local(fd: &OwnedFd) -> Self {
        rustix::net::sockopt::socket_peercred(fd).map_or(Self::Unknown, |credentials| {
            Self::Process(credentials.pid.as_raw_nonzero().get())
        })
    }

    pub(super) fn is_local(self) -> bool {
        matches!(self, Self::Process(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(IpAddr::V4(address)) => address.fmt(f),
            Self::Network(IpAddr::V6(network)) => write!(f, "{network}/64"),
            Self::Process(pid) => write!(f, "process {pid} of this host"),
            Self::Unknown => f.write_str("an unknown place"),
        }
    }
}

pub(super) struct Guest {
    pub(super) accepting: Accepting,
    pub(super) source: Source,
}

/// A line in the log that must not come often.
#[derive(Default)]
pub(super) struct Rarely {
    next: Option<Instant>,
    suppressed: u64,
}

impl Rarely {
    /// Whether to log now; then, how many times it was not said since the last time.
    pub(super) fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.next.is_some_and(|next| now < next) {
            self.suppressed += 1;
            return None;
        }
        self.next = Some(now + LOG_INTERVAL);
        Some(std::mem::take(&mut self.suppressed))
    }
}

pub(super) struct Entrance {
    /// By token; lower ones are older.
    guests: BTreeMap<u64, Guest>,
    per_source: HashMap<Source, usize>,
    next_token: u64,
    guests_max: usize,
    /// Nothing is accepted before.
    pub(super) paused_until: Option<Instant>,
    pub(super) stranger_log: Rarely,
    pub(super) system_log: Rarely,
    pub(super) crowd_log: Rarely,
    /// When the timer goes off.
    pub(super) timer_at: Option<Instant>,
}

impl Entrance {
    /// Tokens count from `first_token`.
    pub(super) fn new(first_token: u64) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        Self {
            guests: BTreeMap::new(),
            per_source: HashMap::new(),
            next_token: first_token,
            guests_max: (descriptors / DESCRIPTOR_SHARE).clamp(UNPROVEN_MIN, UNPROVEN_MAX),
            paused_until: None,
            stranger_log: Rarely::default(),
            system_log: Rarely::default(),
            crowd_log: Rarely::default(),
            timer_at: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.guests.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.guests.len() >= self.guests_max
    }

    /// The token that the next guest will have.
    pub(super) fn next_token(&self) -> u64 {
        self.next_token
    }

    pub(super) fn insert(&mut self, guest: Guest) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        *self.per_source.entry(guest.source).or_default() += 1;
        self.guests.insert(token, guest);
        token
    }

    pub(super) fn get_mut(&mut self, token: u64) -> Option<&mut Guest> {
        self.guests.get_mut(&token)
    }

    pub(super) fn remove(&mut self, token: u64) -> Option<Guest> {
        let guest = self.guests.remove(&token)?;
        if let Some(count) = self.per_source.get_mut(&guest.source) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&guest.source);
            }
        }
        Some(guest)
    }

    /// Who has to make room: the oldest guest of the source that has the most.
    pub(super) fn first_to_go(&self) -> Option<u64> {
        let (&crowd, _) = self.per_source.iter().max_by_key(|&(_, &count)| count)?;
        let oldest = self.guests.iter().find(|(_, guest)| guest.source == crowd);
        oldest.map(|(&token, _)| token)
    }

    /// A guest whose time is up.
    pub(super) fn overdue(&self, now: Instant) -> Option<u64> {
        let (&token, oldest) = self.guests.first_key_value()?;
        (now.duration_since(oldest.accepting.since) > PROOF_TIME_MAX).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(source: Source) -> Guest {
        let (fd, _) = std::os::unix::net::UnixStream::pair().unwrap();
        Guest { accepting: Accepting::new(fd.into(), Instant::now()), source }
    }

    fn network(text: &str) -> Source {
        Source::Network(text.parse().unwrap())
    }

    #[test]
    fn a_flood_pushes_out_itself_oldest_first() {
        let mut entrance = Entrance::new(0);
        let (flood, member) = (network("10.0.0.1"), network("10.0.0.2"));
        let early = entrance.insert(guest(member));
        let floods: Vec<u64> = (0..5).map(|_| entrance.insert(guest(flood))).collect();
        for expected in floods {
            if entrance.per_source[&flood] > 1 {
                assert_eq!(entrance.first_to_go(), Some(expected));
            }
            assert!(entrance.remove(expected).is_some());
        }
        assert_eq!(entrance.first_to_go(), Some(early));
        entrance.remove(early);
        assert_eq!(entrance.first_to_go(), None);
        assert!(entrance.per_source.is_empty() && entrance.is_empty());
    }

    #[test]
    fn the_log_says_how_often_it_was_silent() {
        let mut log = Rarely::default();
        let start = Instant::now();
        assert_eq!(log.allow(start), Some(0));
        for _ in 0..7 {
            assert_eq!(log.allow(start + LOG_INTERVAL / 2), None);
        }
        assert_eq!(log.allow(start + LOG_INTERVAL), Some(7));
    }

    #[test]
    fn one_host_is_one_source() {
        let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let source = Source::of_tcp(&stream.into());
        assert_eq!((source, source.to_string()), (network("::"), "::/64".to_owned()));
        let (pair, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(Source::of_local(&pair.into()), Source::Process(me));
    }
}
