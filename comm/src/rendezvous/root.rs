//! The root's side: gathers the members, then tells everybody.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::framed::Framed;
use super::handshake::Purpose;
use super::inbox::Inbox;
use super::listener::Listener;
use super::member::{Join, MemberInfo, Verdict};
use super::wait::Wait;
use super::{Membership, Participant};
use crate::error::{Error, Rank, Result};

/// How long the verdict may take to reach everybody.
const DISTRIBUTION_TIME_MAX: Duration = Duration::from_secs(10);

struct Guest {
    framed: Framed,
    rank: Option<Rank>,
}

struct Gathering<'a> {
    me: &'a Participant<'a>,
    listener: Arc<Listener>,
    inbox: Inbox,
    epoll: OwnedFd,
    guests: HashMap<u64, Guest>,
    next_token: u64,
    members: Vec<Option<MemberInfo>>,
    missing: usize,
    deadline: Instant,
    /// How many guests came in on each of this host's addresses.
    arrivals: HashMap<std::net::IpAddr, usize>,
}

/// Waits for all other ranks and sends them the table.
pub(crate) fn gather(
    listener: Arc<Listener>,
    me: &Participant<'_>,
    wait: Wait<'_>,
) -> Result<Membership> {
    let mut gathering = Gathering::new(listener, me).map_err(|error| system(me, &error))?;
    let verdict = gathering.run(wait);
    // A wait that failed (an abort) must not be called again: the others see the connection end.
    let verdict = verdict?;
    gathering.distribute(&verdict, wait)?;
    match verdict {
        Verdict::Table { members, agreed } => {
            Ok(Membership { members, agreed, listener: gathering.listener })
        }
        Verdict::Failed(reason) => Err(me.error(reason)),
        Verdict::Closed => unreachable!("the root does not turn its own job away"),
    }
}

fn system(me: &Participant<'_>, error: &io::Error) -> Error {
    me.error(format!("the root cannot go on: {error}; check the limits (ulimit -a)"))
}

impl<'a> Gathering<'a> {
    fn new(listener: Arc<Listener>, me: &'a Participant<'a>) -> io::Result<Self> {
        let mut members: Vec<Option<MemberInfo>> = vec![None; me.ranks as usize];
        members[me.rank as usize] = Some(me.describe(&listener));
        Ok(Self {
            me,
            inbox: listener.register(0, Purpose::Join)?,
            listener,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            guests: HashMap::new(),
            next_token: 0,
            members,
            missing: me.ranks as usize - 1,
            deadline: me.deadline,
            arrivals: HashMap::new(),
        })
    }

    /// Runs until the job is complete or has failed; an error only from `wait` or the system.
    fn run(&mut self, wait: Wait<'_>) -> Result<Verdict> {
        loop {
            self.listener.service().map_err(|error| system(self.me, &error))?;
            self.admit().map_err(|error| system(self.me, &error))?;
            for token in self.ready()? {
                if let Err(reason) = self.receive(token) {
                    return Ok(Verdict::Failed(reason));
                }
            }
            if self.missing == 0 {
                return Ok(self.table());
            }
            if Instant::now() >= self.deadline {
                return Ok(Verdict::Failed(self.absent()));
            }
            let fds = [self.listener.fd(), self.inbox.fd(), self.epoll.as_fd()];
            wait(&fds, self.deadline)?;
        }
    }

    fn admit(&mut self) -> io::Result<()> {
        while let Some(accepted) = self.inbox.take() {
            let local = rustix::net::getsockname(&accepted.fd)?;
            if let Ok(local) = SocketAddr::try_from(local) {
                *self.arrivals.entry(local.ip().to_canonical()).or_default() += 1;
            }
            let token = self.next_token;
            self.next_token += 1;
            let data = epoll::EventData::new_u64(token);
            epoll::add(&self.epoll, &accepted.fd, data, epoll::EventFlags::IN)?;
            self.guests.insert(token, Guest { framed: Framed::new(accepted.fd), rank: None });
        }
        Ok(())
    }

    fn ready(&self) -> Result<Vec<u64>> {
        let mut events = Vec::with_capacity(256);
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let buffer = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, buffer, Some(&zero)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(system(self.me, &errno.into())),
        }
        Ok(events.iter().map(|event| event.data.u64()).collect())
    }

    /// Reads what a guest has sent. An error is the end of the job.
    fn receive(&mut self, token: u64) -> Result<(), String> {
        let Some(guest) = self.guests.get_mut(&token) else { return Ok(()) };
        match guest.framed.receive() {
            Ok(None) => Ok(()),
            Ok(Some(message)) => match Join::decode(&message) {
                Ok(join) if guest.rank.is_none() => self.seat(token, join),
                _ => {
                    self.guests.remove(&token);
                    Err("a process sent a malformed request; is it the same version?".to_owned())
                }
            },
            Err(error) => {
                let rank = guest.rank;
                self.guests.remove(&token);
                match rank.and_then(|rank| self.members[rank as usize].as_ref()) {
                    None => Ok(()),
                    Some(member) => Err(format!(
                        "{} came and was lost ({error}) before all ranks had come",
                        who(member)
                    )),
                }
            }
        }
    }

    fn seat(&mut self, token: u64, join: Join) -> Result<(), String> {
        let member = join.member;
        if join.version != env!("CARGO_PKG_VERSION") {
            return Err(format!(
                "version mismatch: {} runs Syncline {}, the root {}",
                who(&member),
                join.version,
                env!("CARGO_PKG_VERSION")
            ));
        }
        if join.ranks != self.me.ranks {
            return Err(format!(
                "{} was started as one of {} ranks, rank {} as one of {}",
                who(&member),
                join.ranks,
                self.me.rank,
                self.me.ranks
            ));
        }
        let Some(seat) = self.members.get_mut(member.rank as usize) else {
            return Err(format!("{} is out of range; ranks count from 0", who(&member)));
        };
        if let Some(other) = seat {
            return Err(format!("{} and {} claim the same rank", who(other), who(&member)));
        }
        let patience = Duration::from_millis(join.patience_ms.min(1 << 40));
        self.deadline = self.deadline.min(Instant::now() + patience);
        self.guests.get_mut(&token).expect("it has just spoken").rank = Some(member.rank);
        *seat = Some(member);
        self.missing -= 1;
        Ok(())
    }

    fn absent(&self) -> String {
        let absent = (0..self.me.ranks).filter(|&rank| self.members[rank as usize].is_none());
        format!(
            "{} of {} ranks have not come: {}; check that they were started with this id or \
             file, and that they can reach {}",
            self.missing,
            self.me.ranks,
            ranges(absent),
            addresses(self.listener.addresses())
        )
    }

    fn table(&mut self) -> Verdict {
        let arrivals = &self.arrivals;
        let root = self.members[self.me.rank as usize].as_mut().expect("seated first");
        // What others came in on works for others.
        root.addresses
            .sort_by_key(|a| std::cmp::Reverse(arrivals.get(&a.ip()).copied().unwrap_or(0)));
        let members: Vec<MemberInfo> =
            self.members.iter_mut().map(|m| m.take().expect("all have come")).collect();
        let agreed = (self.me.agree)(&members);
        Verdict::Table { members, agreed }
    }

    /// Sends the verdict to all guests. One that is lost now will be missed by its communicator.
    fn distribute(&mut self, verdict: &Verdict, wait: Wait<'_>) -> Result<()> {
        let message = verdict.encode();
        let until = Instant::now() + DISTRIBUTION_TIME_MAX;
        let mut lost = Vec::new();
        for (&token, guest) in &mut self.guests {
            guest.framed.push(&message);
            let data = epoll::EventData::new_u64(token);
            if epoll::modify(&self.epoll, guest.framed.fd(), data, epoll::EventFlags::OUT).is_err()
            {
                lost.push(token);
            }
        }
        self.guests.retain(|token, _| !lost.contains(token));
        self.guests.retain(|_, guest| matches!(guest.framed.flush(), Ok(false)));
        while !self.guests.is_empty() && Instant::now() < until {
            wait(&[self.epoll.as_fd()], until)?;
            for token in self.ready()? {
                let Some(guest) = self.guests.get_mut(&token) else { continue };
                if !matches!(guest.framed.flush(), Ok(false)) {
                    self.guests.remove(&token);
                }
            }
        }
        Ok(())
    }
}

fn who(member: &MemberInfo) -> String {
    format!("rank {} (process {} on {})", member.rank, member.pid, member.host)
}

fn addresses(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

/// Ranks in increasing order, with runs shortened: `1, 4-7, 9`.
fn ranges(ranks: impl Iterator<Item = Rank>) -> String {
    let mut runs: Vec<(Rank, Rank)> = Vec::new();
    for rank in ranks {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == rank => *last = rank,
            _ => runs.push((rank, rank)),
        }
    }
    let show = |&(first, last): &(Rank, Rank)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.iter().map(show).collect::<Vec<_>>().join(", ")
}
