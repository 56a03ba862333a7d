//! Makes the wires of a communicator: shared memory among the ranks of a host, TCP to the others.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::options::{Options, TransportChoice};
use super::{Identity, Job, descriptors};
use crate::control::Fate;
use crate::engine::{self, Outcome};
use crate::error::{Error, Rank, Result};
use crate::rendezvous::{Address, Dial, Hello, Inbox, InitTimings, Lap, MemberInfo, Purpose};
use crate::transport::Transport;
use crate::transport::shm::exchange::{FdReceiver, FdSender};
use crate::transport::shm::{Geometry, Segment, ShmTransport};
use crate::transport::tcp::{TcpConfig, TcpPeer, TcpTransport};

/// Shares of the staging budget.
const SHM_SHARE: usize = 2;
const TCP_SHARE: usize = 4;
const SCRATCH_SHARE: usize = 4;

/// Scratch bytes that operations of a communicator may hold together.
pub(super) fn scratch_bytes_max(options: &Options) -> usize {
    options.staging_bytes_max / SCRATCH_SHARE
}

/// The wires of one rank, and which of them reaches which rank.
pub(super) struct Wires {
    pub(super) transports: Vec<Box<dyn Transport>>,
    pub(super) routes: Vec<u8>,
}

/// How long to wait for the reason of a connection that ended.
const EXPLANATION_TIME_MAX: Duration = Duration::from_millis(500);

/// One communicator in the making.
pub(super) struct Plan<'a> {
    pub(super) job: &'a Job,
    pub(super) identity: Identity,
    pub(super) me: Rank,
    /// Its members, by rank.
    pub(super) members: &'a [MemberInfo],
    pub(super) options: &'a Options,
    /// Fails when a member does, which ends every wait here.
    pub(super) fate: &'a Fate,
    /// That of the communicator it is made from, by a collective call of all ranks: when that has
    /// failed, not all may come.
    pub(super) parent: Option<&'a Fate>,
    pub(super) deadline: Instant,
}

impl Plan<'_> {
    /// Makes the wires; a collective call among the members. Adds how long it takes to `timings`.
    ///
    /// # Errors
    /// [`Error::Rendezvous`] when the ranks of a host cannot share memory or do not come before
    /// the deadline; [`Error::InvalidArgument`] when shared memory is demanded across hosts.
    pub(super) fn wires(&self, timings: &mut InitTimings) -> Result<Wires> {
        let mut lap = Lap::start();
        let mine = &self.members[self.me as usize];
        let shares_memory = |rank: Rank| {
            self.options.transport != TransportChoice::Tcp
                && self.members[rank as usize].same_host(mine)
        };
        let ranks = 0..u32::try_from(self.members.len()).unwrap_or(Rank::MAX);
        let (local, remote): (Vec<Rank>, Vec<Rank>) = ranks.partition(|&rank| shares_memory(rank));
        if self.options.transport == TransportChoice::Shm && !remote.is_empty() {
            let other = &self.members[remote[0] as usize];
            return Err(Error::InvalidArgument {
                operation: "init",
                reason: format!(
                    "transport shm cannot reach rank {} on {} from rank {} on {}; use auto",
                    remote[0], other.host, self.me, mine.host
                ),
            });
        }
        let mut wires = Wires { transports: Vec::new(), routes: vec![0; self.members.len()] };
        if local.len() > 1 {
            descriptors::check("sharing memory", descriptors::to_share(local.len()))?;
            wires.add(Box::new(self.shared_memory(&local)?), &local);
            lap.end(&mut timings.shm);
        }
        let over_tcp: Vec<Rank> = remote.into_iter().filter(|&rank| rank != self.me).collect();
        if !over_tcp.is_empty() {
            wires.add(Box::new(self.tcp(&over_tcp)?), &over_tcp);
            lap.end(&mut timings.tcp);
        }
        Ok(wires)
    }

    fn tcp(&self, peers: &[Rank]) -> Result<TcpTransport> {
        let peer = |&rank: &Rank| TcpPeer {
            rank,
            addresses: self.members[rank as usize].addresses.clone(),
        };
        let config = TcpConfig {
            communicator: self.identity.id,
            epoch: self.identity.epoch,
            rank: self.me,
            peers: peers.iter().map(peer).collect(),
            buffer_bytes_max: self.options.staging_bytes_max / TCP_SHARE,
        };
        TcpTransport::new(&self.job.listener, config)
            .map_err(|error| self.error(format!("cannot prepare connections: {error}")))
    }

    /// The host's lowest rank makes the segment and passes it to the others.
    fn shared_memory(&self, local: &[Rank]) -> Result<ShmTransport> {
        let position = |rank| local.iter().position(|&r| r == rank).unwrap_or(0) as u32;
        let count = u32::try_from(local.len()).unwrap_or(u32::MAX);
        let segment = if self.me == local[0] {
            let geometry = Geometry::new(count, self.options.staging_bytes_max / SHM_SHARE)?;
            let segment = Segment::create(geometry)?;
            self.hand_out(&segment, local.len() - 1)?;
            segment
        } else {
            Segment::attach(self.fetch(local)?, count)?
        };
        ShmTransport::new(segment, position(self.me), local)
    }

    /// Passes the segment's descriptors to `receivers` ranks as they come.
    fn hand_out(&self, segment: &Segment, receivers: usize) -> Result<()> {
        let inbox = self
            .job
            .listener
            .register(self.identity.id, Purpose::Local)
            .map_err(|e| self.io(&e))?;
        let fds = segment.fds();
        let mut handing: Vec<(UnixStream, FdSender)> = Vec::new();
        let mut handed = 0;
        while handed < receivers {
            while let Some(accepted) = inbox.take() {
                handing.push((UnixStream::from(accepted.fd), FdSender::default()));
            }
            let mut kept = Vec::new();
            for (stream, mut sender) in handing {
                match sender.step(&stream, &fds) {
                    Ok(true) => handed += 1,
                    Ok(false) => kept.push((stream, sender)),
                    // Its rank gives up or comes again; the deadline looks after the rest.
                    Err(error) => tracing::debug!(%error, "handing out shared memory"),
                }
            }
            handing = kept;
            if handed < receivers {
                self.wait_for_more(&inbox, &handing)?;
            }
        }
        Ok(())
    }

    fn wait_for_more(&self, inbox: &Inbox, handing: &[(UnixStream, FdSender)]) -> Result<()> {
        let mut fds = vec![PollFd::from_borrowed_fd(inbox.fd(), PollFlags::IN)];
        fds.extend(handing.iter().map(|(stream, _)| PollFd::new(stream, PollFlags::OUT)));
        self.wait(fds, "the other ranks of this host to fetch its shared memory")
    }

    /// Fetches the segment's descriptors from the host's lowest rank.
    fn fetch(&self, local: &[Rank]) -> Result<Vec<OwnedFd>> {
        let leader = &self.members[local[0] as usize];
        let hello = Hello {
            communicator: self.identity.id,
            epoch: self.identity.epoch,
            purpose: Purpose::Local,
            lane: 0,
            encrypted: false,
            from: self.me,
            to: local[0],
            tag: 0,
        };
        let address = Address::Local(leader.local_name.clone());
        let mut dial = Dial::start(&address, &hello).map_err(|e| self.io(&e))?;
        while !dial.advance(self.job.listener.key()).map_err(|e| self.io(&e))? {
            self.wait_readable(dial.fd(), "the lowest rank of this host")?;
        }
        let stream = UnixStream::from(dial.into_parts().0);
        let mut receiver = FdReceiver::default();
        loop {
            let fds = receiver.step(&stream, local.len() + 1).map_err(|e| self.io(&e))?;
            if let Some(fds) = fds {
                return Ok(fds);
            }
            self.wait_readable(stream.as_fd(), "this host's shared memory")?;
        }
    }

    /// Why nobody need come any more, if so.
    fn failure(&self) -> Option<Error> {
        let mut fates = self.parent.into_iter().chain([self.fate]);
        fates.find_map(|fate| fate.failure("init", 0))
    }

    /// Why this rank could not make its part, now that this is what it looks like. A rank that
    /// gives up closes its connections here, and says why through control, a moment later.
    pub(super) fn explained(&self, error: Error) -> Error {
        if matches!(error, Error::System { .. }) {
            return error;
        }
        let fates = self.parent.into_iter().chain([self.fate]);
        let bells = fates.filter_map(Fate::fd);
        let mut fds: Vec<_> = bells.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let until = self.deadline.min(Instant::now() + EXPLANATION_TIME_MAX);
        engine::wait_fds_until(&mut fds, until);
        self.failure().unwrap_or(error)
    }

    fn wait_readable(&self, fd: BorrowedFd<'_>, what: &str) -> Result<()> {
        self.wait(vec![PollFd::from_borrowed_fd(fd, PollFlags::IN)], what)
    }

    fn wait<'a>(&'a self, mut fds: Vec<PollFd<'a>>, what: &str) -> Result<()> {
        let fates = self.parent.into_iter().chain([self.fate]);
        let bells = fates.filter_map(Fate::fd);
        fds.extend(bells.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let outcome = engine::wait_fds_until(&mut fds, self.deadline);
        if let Some(error) = self.failure() {
            return Err(error);
        }
        match outcome {
            Outcome::Done => Ok(()),
            _ => Err(self.error(format!(
                "waited for {what} until the deadline; check that every rank has come this far"
            ))),
        }
    }

    fn io(&self, error: &dyn std::fmt::Display) -> Error {
        self.error(format!("cannot share memory with the ranks of this host: {error}"))
    }

    fn error(&self, reason: String) -> Error {
        let world = u32::try_from(self.members.len()).unwrap_or(Rank::MAX);
        Error::Rendezvous { rank: self.me, world, reason }
    }
}

impl Wires {
    /// Name of the wire to every rank; none to `me`.
    pub(super) fn names(&self, me: Rank) -> Vec<Option<&'static str>> {
        let name = |(rank, &route): (Rank, &u8)| {
            (rank != me).then(|| self.transports[usize::from(route)].name())
        };
        (0..).zip(&self.routes).map(name).collect()
    }

    fn add(&mut self, transport: Box<dyn Transport>, peers: &[Rank]) {
        let index = u8::try_from(self.transports.len()).unwrap_or(u8::MAX);
        for &peer in peers {
            self.routes[peer as usize] = index;
        }
        self.transports.push(transport);
    }
}

/// The moment at which `timeout` from now has passed.
pub(super) fn deadline_after(timeout: Duration) -> Instant {
    let now = Instant::now();
    // A timeout beyond what a clock can hold means for ever; a year is for ever.
    now.checked_add(timeout).unwrap_or(now + Duration::from_secs(365 * 24 * 3600))
}
