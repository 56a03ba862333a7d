//! Pipes over TCP.
//!
//! Every pipe is a connection of its own, used in one direction: whoever sends opens it, with its
//! first frame. Where nothing is sent nothing is opened, except that a rank about to sleep for
//! a peer it has no connection with opens one, so as to be woken if that peer is gone.
//!
//! Readiness comes from one edge-triggered epoll instance (epoll(7)) per transport: pipes keep
//! what it told them, and one system call per round of polling asks about all of them. Where a small
//! frame is waited for from few peers only, their pipes are read without asking first.
//!
//! Where the job's connections are encrypted, what goes through them is cut into records
//! (`sealing.rs`); the stream inside is the same.
//!
//! Connections arrive through the job's [`Listener`]. Unless a thread attends to it, its descriptor
//! nests in the epoll instance, so that every waiting rank serves it.

mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod incoming;
mod outgoing;
mod peer;
mod sealing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::{Descriptors, Fault, FaultKind, FrameHeader, Lane, Limits, Sleep, Transport};
use crate::error::Rank;
use crate::memory::{Span, SpanMut};
use crate::rendezvous::keepalive::keep_alive;
use crate::rendezvous::{Accepted, Hello, Inbox, Listener, Purpose};
use frame::FRAME_BYTES_MAX;
use incoming::{End, Incoming};
use outgoing::{Noticed, Outgoing};
use peer::Peer;

/// Where the throughput of loopback and of 10 to 100 Gbit/s links levels off, and small enough
/// that a receive buffer and what it is reduced into stay in a level-2 cache.
const FRAME_BYTES_PREFERRED: usize = 256 << 10;
const SMALL_BUFFER_BYTES: usize = 16 << 10;
const BULK_BUFFER_BYTES: usize = 256 << 10;
const BUFFER_BYTES_MIN: usize = 8 << 10;
/// What is read of a bulk pipe before it is known where the payload is to go: small frames come
/// whole, and little of a large one is copied twice.
const BULK_PEEK_BYTES: usize = 4 << 10;
/// Pipes to and from one peer at most, one per lane; each takes a descriptor.
const PIPES_PER_PEER: u64 = 6;
/// Up to so many pipes that small frames are awaited on are read without asking whether there is
/// anything; above that, one poll that asks about all of them costs less.
const TRIED_MAX: u32 = 2;
/// Calls of `progress` between two polls that nothing else caused.
const POLL_INTERVAL: u32 = 16;
/// Calls of `progress` between two looks at the clock.
const CLOCK_INTERVAL: u32 = 1024;
/// Time between two rounds of what is done rarely.
const CHORES_INTERVAL: Duration = Duration::from_millis(250);
const EVENTS_MAX: usize = 64;

const LISTENER_TOKEN: u64 = u64::MAX;
const INBOX_TOKEN: u64 = u64::MAX - 1;
const NO_PEER: u32 = u32::MAX;

/// A rank to talk to.
#[derive(Clone, Debug)]
pub struct TcpPeer {
    /// Its rank in the communicator.
    pub rank: Rank,
    /// Where its process listens ([`crate::rendezvous::MemberInfo::addresses`]).
    pub addresses: Vec<SocketAddr>,
}

/// What a [`TcpTransport`] serves.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Identifies the communicator among all of the job's; the same on all its ranks.
    pub communicator: u64,
    /// Which life of it this is; see [`Hello::epoch`].
    pub epoch: u32,
    /// This process's rank in it.
    pub rank: Rank,
    /// The ranks reached through this transport.
    pub peers: Vec<TcpPeer>,
    /// Bound on the memory of all receive buffers together, as long as it leaves 8 KiB to each
    /// pipe. Buffers are allocated when a pipe is first used.
    pub buffer_bytes_max: usize,
}

/// Pipes over TCP to some ranks of one communicator.
pub struct TcpTransport {
    communicator: u64,
    epoch: u32,
    rank: Rank,
    peers: Vec<Peer>,
    /// Rank to index in `peers`.
    index: Vec<u32>,
    inbox: Inbox,
    epoll: OwnedFd,
    /// Counts polls.
    polls: u64,
    /// Between `arm` and `disarm` no event is taken from the kernel, so that it ends the sleep.
    armed: bool,
    /// Poll at the next `progress`: a sleep has ended.
    poll_due: bool,
    progress_calls: u32,
    /// Pipes whose next small frame was asked for in vain since the last call of `progress`, and between
    /// that and the one before.
    silent: u32,
    silent_before: u32,
    chores_at: Instant,
    /// Peers that somebody waits for without any connection to them.
    awaited: Vec<u32>,
    faults: VecDeque<Fault>,
    told_of_system: bool,
    bulk_buffer_bytes: usize,
    small_buffer_bytes: usize,
}

impl TcpTransport {
    /// A transport for `config.peers`. Opens no connection.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new(listener: &Arc<Listener>, config: TcpConfig) -> io::Result<Self> {
        let inbox = listener.register(config.communicator, Purpose::Pipe)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let sources = [(inbox.fd(), INBOX_TOKEN), (listener.fd(), LISTENER_TOKEN)];
        let watched = if listener.is_attended() { 1 } else { 2 };
        for (fd, token) in &sources[..watched] {
            let data = epoll::EventData::new_u64(*token);
            epoll::add(&epoll, fd, data, epoll::EventFlags::IN)?;
        }
        let ranks = config.peers.iter().map(|peer| peer.rank as usize + 1).max().unwrap_or(0);
        let mut index = vec![NO_PEER; ranks];
        for (peer, at) in config.peers.iter().zip(0..) {
            index[peer.rank as usize] = at;
        }
        // Per peer one bulk, one point-to-point and one small buffer, in proportion 16:16:1.
        let share = config.buffer_bytes_max / config.peers.len().max(1) / 33;
        let fitted = |bytes: usize, parts| bytes.min(share * parts).max(BUFFER_BYTES_MIN);
        Ok(Self {
            communicator: config.communicator,
            epoch: config.epoch,
            rank: config.rank,
            peers: config.peers.into_iter().map(|p| Peer::new(p.rank, p.addresses)).collect(),
            index,
            inbox,
            epoll,
            polls: 0,
            armed: false,
            poll_due: true,
            progress_calls: 0,
            silent: 0,
            silent_before: 0,
            chores_at: Instant::now(),
            awaited: Vec::new(),
            faults: VecDeque::new(),
            told_of_system: false,
            bulk_buffer_bytes: fitted(BULK_BUFFER_BYTES, 16),
            small_buffer_bytes: fitted(SMALL_BUFFER_BYTES, 1),
        })
    }

    fn at(&self, peer: Rank) -> usize {
        let index = self.index.get(peer as usize).copied().unwrap_or(NO_PEER);
        assert!(index != NO_PEER, "rank {peer} is not reached through this transport");
        index as usize
    }

    /// Asks the kernel what has become ready, and tells the pipes.
    fn poll(&mut self) {
        if self.armed {
            return;
        }
        self.polls += 1;
        self.poll_due = false;
        const NONE: epoll::Event =
            epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut events = [NONE; EVENTS_MAX];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&zero)) {
            Ok(ready) => ready,
            Err(Errno::INTR) => 0,
            Err(errno) => return self.system_fault(&errno.into()),
        };
        for event in &events[..ready] {
            match event.data.u64() {
                LISTENER_TOKEN => self.serve(),
                INBOX_TOKEN => self.claim(),
                token => self.notice(token, event.flags),
            }
        }
    }

    /// Trouble of this process itself, such as a lack of descriptors; told once.
    fn system_fault(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.told_of_system, true) {
            return;
        }
        tracing::warn!(%error, communicator = self.communicator, "tcp cannot go on as it should");
        let kind = FaultKind::System(error.to_string());
        self.faults.push_back(Fault { peer: self.rank, kind });
    }

    fn serve(&mut self) {
        if let Err(error) = self.inbox.listener().service() {
            self.system_fault(&error);
        }
        self.claim();
    }

    /// Takes over connections that have come for this communicator.
    fn claim(&mut self) {
        while let Some(accepted) = self.inbox.take() {
            if let Err(reason) = self.take_over(accepted) {
                tracing::warn!(communicator = self.communicator, reason, "dropped a connection");
            }
        }
    }

    fn take_over(&mut self, accepted: Accepted) -> Result<(), &'static str> {
        let Hello { from, to, lane, .. } = accepted.hello;
        let at = self.index.get(from as usize).copied().filter(|&at| at != NO_PEER);
        let (Some(at), Some(lane)) =
            (at, Lane::ALL.into_iter().find(|&l| l as u8 == lane).filter(|_| to == self.rank))
        else {
            return Err("it is meant for another rank or lane");
        };
        let slot = &mut self.peers[at as usize].incoming[lane as usize];
        if slot.is_some() {
            return Err("there is one like it already");
        }
        let (buffer, peek) = match lane {
            Lane::Small => (self.small_buffer_bytes, self.small_buffer_bytes),
            Lane::Bulk | Lane::PointToPoint => (self.bulk_buffer_bytes, BULK_PEEK_BYTES),
        };
        let incoming = Box::new(Incoming::new(accepted.fd, accepted.session, buffer, peek));
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(token(at, lane, Direction::In));
        keep_alive(incoming.fd(), outgoing::SILENCE_MAX).map_err(|_| "it cannot be kept alive")?;
        epoll::add(&self.epoll, incoming.fd(), data, flags).map_err(|_| "it cannot be polled")?;
        *slot = Some(incoming);
        Ok(())
    }

    /// Passes an event on to its pipe.
    fn notice(&mut self, token: u64, flags: epoll::EventFlags) {
        let (at, lane, direction) = untoken(token);
        let hung_up = flags
            .intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR);
        let peer = &mut self.peers[at];
        match direction {
            Direction::In => {
                let Some(incoming) = &mut peer.incoming[lane] else { return };
                incoming.notice(hung_up);
                if hung_up {
                    // Looks for a goodbye, or for nothing.
                    incoming.head();
                    self.judge(at);
                }
            }
            Direction::Out => {
                let Some(outgoing) = &mut peer.outgoing[lane] else { return };
                match outgoing.notice(self.inbox.listener().key()) {
                    Noticed::Nothing => {}
                    Noticed::Redialed => self.watch_outgoing(at, lane),
                    Noticed::Ended => self.judge(at),
                }
            }
        }
    }

    fn judge(&mut self, at: usize) {
        // What the peer sent last may not have been accepted yet, nor been looked at by the thread
        // that attends to the listener.
        self.serve();
        let peer = &mut self.peers[at];
        self.faults.extend(peer.judge(Instant::now()));
        if let Some(until) = peer.doubtful_until {
            self.chores_at = self.chores_at.min(until);
        }
    }

    /// Opens the pipe on `lane` to a peer.
    fn open(&mut self, at: usize, lane: Lane) {
        let descriptors_max = PIPES_PER_PEER * self.peers.len() as u64;
        let peer = &mut self.peers[at];
        let hello = Hello {
            communicator: self.communicator,
            epoch: self.epoch,
            purpose: Purpose::Pipe,
            lane: lane as u8,
            encrypted: self.inbox.listener().is_encrypted(),
            from: self.rank,
            to: peer.rank,
            tag: 0,
        };
        let outgoing = Outgoing::open(hello, &peer.addresses, descriptors_max);
        peer.outgoing[lane as usize] = Some(Box::new(outgoing));
        self.watch_outgoing(at, lane as usize);
    }

    fn watch_outgoing(&mut self, at: usize, lane: usize) {
        let Some(outgoing) = &self.peers[at].outgoing[lane] else { return };
        let Some(fd) = outgoing.fd() else { return self.judge(at) };
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        let token = token(at as u32, Lane::ALL[lane], Direction::Out);
        let added = epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags);
        if let Err(errno) = added {
            self.system_fault(&errno.into());
        }
    }

    /// What is done a few times a second at most.
    fn chores(&mut self) {
        let now = Instant::now();
        if now < self.chores_at {
            return;
        }
        self.chores_at = now + CHORES_INTERVAL;
        if !self.inbox.listener().is_attended() {
            // Drops strangers whose time is up.
            self.serve();
        }
        for at in 0..self.peers.len() {
            if self.peers[at].doubtful_until.is_some() {
                self.judge(at);
            }
        }
    }

    /// After the consumption of payload of a peer that has hung up: its end may be next.
    fn look_for_the_end(&mut self, lane: Lane, peer: Rank) {
        let at = self.at(peer);
        if let Some(incoming) = &mut self.peers[at].incoming[lane as usize] {
            incoming.head();
            self.judge(at);
        }
    }

    /// Whether pipes of `lane` are read without asking whether there is anything: what comes is then
    /// found and taken by one system call. (Large messages came slower that way: many reads of
    /// little, and each keeps the kernel from delivering meanwhile.)
    fn tries(&self, lane: Lane) -> bool {
        lane == Lane::Small && self.silent.max(self.silent_before) <= TRIED_MAX
    }

    /// Takes note of a pipe that was read in vain. If a sleep has just ended, it was for another
    /// reason.
    fn found_silent(&mut self) {
        self.silent += 1;
        if self.poll_due {
            self.poll();
        }
    }

    /// The receiving end of a pipe that has a head frame.
    fn receiving(&mut self, lane: Lane, peer: Rank) -> (&mut Incoming, Rank) {
        let at = self.at(peer);
        let incoming = self.peers[at].incoming[lane as usize].as_mut();
        (incoming.expect("`head` has returned a frame of this pipe"), peer)
    }
}

impl Transport for TcpTransport {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn limits(&self, _peer: Rank) -> Limits {
        // Reducing out of the receive buffer saves the copy to staging memory that would
        // otherwise follow the kernel's.
        Limits {
            frame_bytes_max: FRAME_BYTES_MAX,
            frame_bytes_preferred: FRAME_BYTES_PREFERRED,
            in_place: true,
        }
    }

    fn send(
        &mut self,
        lane: Lane,
        peer: Rank,
        header: &FrameHeader,
        parts: &[Span],
        accepted: &mut usize,
    ) -> Result<bool, Fault> {
        assert!(header.payload_bytes as usize <= FRAME_BYTES_MAX, "frame too large for tcp");
        let at = self.at(peer);
        if self.peers[at].outgoing[lane as usize].is_none() {
            if let Some(kind) = self.peers[at].unreachable() {
                return Err(Fault { peer, kind });
            }
            self.open(at, lane);
        }
        for _ in 0..2 {
            let outgoing = self.peers[at].outgoing[lane as usize].as_mut().expect("just opened");
            match outgoing.send(header, parts, accepted) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(kind) => {
                    self.judge(at);
                    return Err(Fault { peer, kind });
                }
            }
            if outgoing.asked != self.polls {
                outgoing.asked = self.polls;
                return Ok(false);
            }
            self.poll();
        }
        Ok(false)
    }

    fn head(&mut self, lane: Lane, peer: Rank) -> Result<Option<FrameHeader>, Fault> {
        let at = self.at(peer);
        let tries = self.tries(lane);
        for _ in 0..2 {
            let polls = self.polls;
            let there = &mut self.peers[at];
            let asked = match &mut there.incoming[lane as usize] {
                Some(incoming) => {
                    if tries {
                        incoming.notice(false);
                    }
                    if let Some(header) = incoming.head() {
                        return Ok(Some(header));
                    }
                    if let Some(end) = incoming.end() {
                        self.judge(at);
                        let kind = match end {
                            End::Goodbye { .. } => peer::left(),
                            End::Fault(kind) => kind,
                        };
                        return Err(Fault { peer, kind });
                    }
                    if tries {
                        self.found_silent();
                        return Ok(None);
                    }
                    &mut incoming.asked
                }
                None => {
                    if let Some(kind) = there.absence(lane) {
                        return Err(Fault { peer, kind });
                    }
                    if !there.is_watched() && !self.awaited.contains(&(at as u32)) {
                        self.awaited.push(at as u32);
                    }
                    &mut there.asked[lane as usize]
                }
            };
            if *asked != polls {
                *asked = polls;
                break;
            }
            self.poll();
        }
        // A large message may go on elsewhere: what ended a sleep is asked at once.
        self.silent += u32::from(lane == Lane::Small);
        Ok(None)
    }

    fn peek(&mut self, lane: Lane, peer: Rank) -> Option<FrameHeader> {
        let at = self.at(peer);
        self.peers[at].incoming[lane as usize].as_mut()?.head()
    }

    fn view(&mut self, lane: Lane, peer: Rank, min_bytes: usize) -> Result<Span, Fault> {
        let (incoming, peer) = self.receiving(lane, peer);
        let shown = incoming.view(min_bytes);
        match incoming.end_short_of(min_bytes.max(1)) {
            Some(kind) => Err(Fault { peer, kind }),
            None => Ok(shown),
        }
    }

    fn consume(&mut self, lane: Lane, peer: Rank, bytes: usize) -> Result<(), Fault> {
        let (incoming, _) = self.receiving(lane, peer);
        incoming.consume(bytes);
        if incoming.is_ending() {
            self.look_for_the_end(lane, peer);
        }
        Ok(())
    }

    fn read(&mut self, lane: Lane, peer: Rank, dst: SpanMut) -> Result<usize, Fault> {
        let (incoming, peer) = self.receiving(lane, peer);
        let moved = incoming.read(dst);
        if moved == 0
            && let Some(kind) = incoming.end_short_of(1)
        {
            return Err(Fault { peer, kind });
        }
        if incoming.is_ending() {
            self.look_for_the_end(lane, peer);
        }
        Ok(moved)
    }

    fn progress(&mut self) -> Result<(), Fault> {
        self.progress_calls = self.progress_calls.wrapping_add(1);
        self.silent_before = std::mem::take(&mut self.silent);
        let woken = self.poll_due;
        // Who waits for few pipes looks at these first.
        let looks = (1..=TRIED_MAX).contains(&self.silent_before);
        if woken && !looks || self.progress_calls.is_multiple_of(POLL_INTERVAL) {
            self.poll();
        }
        let chores_due = woken || self.progress_calls.is_multiple_of(CLOCK_INTERVAL);
        if chores_due && !self.armed {
            self.chores();
        }
        match self.faults.pop_front() {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    fn arm(&mut self, _how: Sleep) {
        // The end of a connection is the only way to learn that a peer is gone.
        while let Some(at) = self.awaited.pop() {
            let peer = &self.peers[at as usize];
            if !peer.is_watched() && peer.unreachable().is_none() {
                self.open(at as usize, Lane::Small);
            }
        }
        self.armed = true;
    }

    fn disarm(&mut self) {
        self.armed = false;
        self.poll_due = true;
    }

    fn asks_kernel(&self) -> bool {
        true
    }

    fn futex(&self) -> Option<(&AtomicU32, u32)> {
        None
    }

    fn poll_fds(&self) -> Descriptors<'_> {
        Descriptors::from_iter([self.epoll.as_fd()])
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.armed = false;
        // Who is on the way in gets a goodbye too.
        self.serve();
        for peer in &mut self.peers {
            let lanes = peer.opened_lanes();
            for outgoing in peer.outgoing.iter_mut().filter_map(Option::take) {
                outgoing.leave(lanes, self.inbox.listener());
            }
            for incoming in peer.incoming.iter_mut().filter_map(Option::take) {
                incoming.leave(lanes);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

fn token(at: u32, lane: Lane, direction: Direction) -> u64 {
    u64::from(at) << 3 | (lane as u64) << 1 | u64::from(direction == Direction::Out)
}

fn untoken(token: u64) -> (usize, usize, Direction) {
    let direction = if token & 1 == 0 { Direction::In } else { Direction::Out };
    let at = usize::try_from(token >> 3).expect("made from 32 bits");
    (at, (token >> 1 & 3) as usize, direction)
}
