//! The connections of the control thread: to whom there is one, and whose broke for good.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::core::Message;
use super::link::{Dialing, Progress};
use crate::error::Rank;
use crate::rendezvous::keepalive::{keep_alive, limit_unheard};
use crate::rendezvous::{
    Accepted, Framed, Hello, Inbox, Listener, MemberInfo, Purpose, descriptors,
};

/// What may wait for a peer. One that takes no more for so long does not live.
const QUEUED_BYTES_MAX: usize = 4 << 20;
/// The control plane's communicator in hellos: it belongs to the job.
const JOB: u64 = 0;
/// Services of the listener in a row, after which it has to rest: a flood must not keep the
/// thread busy.
const SERVICES_MAX: u32 = 64;
const REST: Duration = Duration::from_millis(20);

const REQUESTS_TOKEN: u64 = 0;
const LISTENER_TOKEN: u64 = 1;
const INBOX_TOKEN: u64 = 2;
const FIRST_TOKEN: u64 = 3;

/// What happened on the links.
#[derive(Debug)]
pub(super) enum Event {
    /// A message came.
    Message { from: Rank, bytes: Vec<u8> },
    /// A peer cannot be reached any more, and how that was noticed.
    Lost { peer: Rank, how: String },
}

enum State {
    Dialing(Dialing),
    Open(Framed),
}

struct Connection {
    peer: Rank,
    state: State,
}

/// All control connections of this rank.
pub(super) struct Links {
    me: Rank,
    /// Of the job.
    epoch: u32,
    members: Arc<[MemberInfo]>,
    host_timeout: Duration,
    listener: Arc<Listener>,
    inbox: Inbox,
    epoll: OwnedFd,
    connections: BTreeMap<u64, Connection>,
    next_token: u64,
    /// Messages for peers to whom there is no connection yet.
    outboxes: HashMap<Rank, Vec<Vec<u8>>>,
    lost: HashSet<Rank>,
    events: VecDeque<Event>,
    services: u32,
    /// When to service the listener next, whether or not it is readable.
    service_at: Option<Instant>,
    resting: bool,
}

impl Links {
    /// No connections yet, of this rank in an epoch of the job. `requests` is polled too.
    pub(super) fn new(
        (me, epoch): (Rank, u32),
        members: Arc<[MemberInfo]>,
        listener: Arc<Listener>,
        requests: BorrowedFd<'_>,
        host_timeout: Duration,
    ) -> io::Result<Self> {
        let inbox = listener.register(JOB, Purpose::Control)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (fd, token) in
            [(requests, REQUESTS_TOKEN), (listener.fd(), LISTENER_TOKEN), (inbox.fd(), INBOX_TOKEN)]
        {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?;
        }
        Ok(Self {
            me,
            epoch,
            members,
            host_timeout,
            listener,
            inbox,
            epoll,
            connections: BTreeMap::new(),
            next_token: FIRST_TOKEN,
            outboxes: HashMap::new(),
            lost: HashSet::new(),
            events: VecDeque::new(),
            services: 0,
            service_at: None,
            resting: false,
        })
    }

    /// Readable when there is something to [`poll`](Self::poll), or a request.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// What has happened since the last time.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Why this process cannot take the connections of others at present, if that is so.
    pub(super) fn shortage(&self) -> Option<String> {
        let error = self.listener.shortage()?;
        let lack = descriptors::lack(&error, 1).unwrap_or_else(|| error.to_string());
        Some(format!("it cannot take connections: {lack}"))
    }

    /// Whether nothing waits to be sent, and no connection is being made.
    pub(super) fn is_flushed(&self) -> bool {
        self.connections.values().all(|connection| match &connection.state {
            State::Dialing(_) => false,
            State::Open(link) => link.unsent_bytes() == 0,
        })
    }

    /// When to poll next, even without an event.
    pub(super) fn next_tick(&self, now: Duration) -> Option<Duration> {
        let service = self
            .service_at
            .map(|at| now.saturating_add(at.saturating_duration_since(Instant::now())));
        let dials = self.connections.values().filter_map(|connection| match &connection.state {
            State::Dialing(dialing) => dialing.due,
            State::Open(_) => None,
        });
        dials.chain(service).min()
    }

    /// Moves everything as far as it goes; whether there was anything to do.
    pub(super) fn poll(&mut self, now: Duration) -> bool {
        let mut events = [NO_EVENT; 64];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = epoll::wait(&self.epoll, &mut events, Some(&zero)).unwrap_or(0);
        for event in &events[..ready] {
            match event.data.u64() {
                REQUESTS_TOKEN => {}
                LISTENER_TOKEN => self.service(now),
                INBOX_TOKEN => self.accept(now),
                token => self.advance(token, now),
            }
        }
        self.chores(now);
        ready > 0 || !self.events.is_empty()
    }

    /// Whatever is due.
    fn chores(&mut self, now: Duration) {
        if self.service_at.is_some_and(|at| Instant::now() >= at) {
            self.rest(false);
            self.services = 0;
            self.service(now);
        }
        let is_due = |connection: &Connection| match &connection.state {
            State::Dialing(dialing) => dialing.due.is_some_and(|due| now >= due),
            State::Open(_) => false,
        };
        let due = self.connections.iter().filter(|(_, connection)| is_due(connection));
        for token in due.map(|(&token, _)| token).collect::<Vec<_>>() {
            self.advance(token, now);
        }
    }

    fn service(&mut self, now: Duration) {
        self.services += 1;
        match self.listener.service() {
            Ok(due) => {
                self.service_at = due;
                if self.services > SERVICES_MAX {
                    self.rest(true);
                }
            }
            Err(error) => {
                // Short of descriptors, most likely: others may be closed meanwhile.
                tracing::warn!(%error, "cannot accept connections");
                self.rest(true);
            }
        }
        self.accept(now);
    }

    /// Begins or ends not to look at the listener.
    fn rest(&mut self, resting: bool) {
        if std::mem::replace(&mut self.resting, resting) != resting {
            let flags = if resting { epoll::EventFlags::empty() } else { epoll::EventFlags::IN };
            let data = epoll::EventData::new_u64(LISTENER_TOKEN);
            // Fails only for a descriptor that is not there.
            let _ = epoll::modify(&self.epoll, self.listener.fd(), data, flags);
        }
        if resting {
            self.service_at = Some(Instant::now() + REST);
        }
    }

    /// Takes over what peers have dialled.
    fn accept(&mut self, now: Duration) {
        while let Some(Accepted { hello, fd, session }) = self.inbox.take() {
            let Hello { from, to, .. } = hello;
            if to != self.me || from == self.me || from as usize >= self.members.len() {
                tracing::warn!(from, to, "dropped a control connection for somebody else");
                continue;
            }
            let link = Framed::new(fd, session, Message::BYTES_MAX);
            let token = self.open(from, link);
            for message in self.outboxes.remove(&from).unwrap_or_default() {
                self.send_on(token, &message, now);
            }
        }
    }

    /// Takes over a connection whose handshake is complete.
    fn open(&mut self, peer: Rank, link: Framed) -> u64 {
        guard(&link, self.host_timeout);
        self.add(peer, State::Open(link))
    }

    /// Polls a new connection from now on.
    fn add(&mut self, peer: Rank, state: State) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.connections.insert(token, Connection { peer, state });
        self.watch(token);
        token
    }

    fn watch(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let fd = match &connection.state {
            State::Dialing(dialing) => dialing.fd(),
            State::Open(link) => Some(link.fd()),
        };
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        if let Some(fd) = fd
            && let Err(error) = epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags)
            && error != Errno::EXIST
        {
            tracing::warn!(%error, "cannot poll a control connection");
        }
    }

    /// The open connection to a peer that was made first.
    fn open_to(&self, peer: Rank) -> Option<u64> {
        let is_open = |c: &Connection| c.peer == peer && matches!(c.state, State::Open(_));
        self.connections.iter().find(|(_, c)| is_open(c)).map(|(&token, _)| token)
    }

    fn is_connected_or_dialing(&self, peer: Rank) -> bool {
        self.connections.values().any(|connection| connection.peer == peer)
    }

    /// Keeps a connection to `peer` from now on.
    pub(super) fn keep(&mut self, peer: Rank, now: Duration) {
        if !self.lost.contains(&peer) && !self.is_connected_or_dialing(peer) {
            self.dial(peer, None, now);
        }
    }

    /// Sends a message, sooner or later.
    pub(super) fn send(&mut self, peer: Rank, bytes: Vec<u8>, now: Duration) {
        if let Some(token) = self.open_to(peer) {
            return self.send_on(token, &bytes, now);
        }
        if self.lost.contains(&peer) || peer as usize >= self.members.len() {
            return;
        }
        let outbox = self.outboxes.entry(peer).or_default();
        if outbox.iter().map(Vec::len).sum::<usize>() < QUEUED_BYTES_MAX {
            outbox.push(bytes);
        }
        self.keep(peer, now);
    }

    fn send_on(&mut self, token: u64, bytes: &[u8], now: Duration) {
        let Some(Connection { state: State::Open(link), .. }) = self.connections.get_mut(&token)
        else {
            return;
        };
        link.push(bytes);
        let sent = link.flush();
        let queued = link.unsent_bytes();
        match sent {
            Err(error) => self.broke(token, &error.to_string(), now),
            Ok(_) if queued > QUEUED_BYTES_MAX => {
                self.broke(token, "it takes no messages", now);
            }
            Ok(_) => {}
        }
    }

    fn dial(&mut self, peer: Rank, broke: Option<String>, now: Duration) {
        let (Some(them), Some(mine)) =
            (self.members.get(peer as usize), self.members.get(self.me as usize))
        else {
            return;
        };
        let local = them.same_host(mine);
        let addresses = them.reached_from(mine);
        let hello = Hello {
            communicator: JOB,
            epoch: self.epoch,
            purpose: Purpose::Control,
            lane: 0,
            encrypted: !local && self.listener.is_encrypted(),
            from: self.me,
            to: peer,
            tag: 0,
        };
        let dialing = Dialing::new(addresses, hello, self.host_timeout, broke, now);
        let token = self.add(peer, State::Dialing(dialing));
        self.advance(token, now);
    }

    /// Goes on with one connection.
    fn advance(&mut self, token: u64, now: Duration) {
        let Some(Connection { peer, state }) = self.connections.get_mut(&token) else { return };
        let peer = *peer;
        match state {
            State::Open(_) => self.exchange(token, now),
            State::Dialing(dialing) => match dialing.advance(now, self.listener.key()) {
                Progress::Pending => {}
                Progress::Next => {
                    self.watch(token);
                    self.advance(token, now);
                }
                Progress::Failed(how) => {
                    self.connections.remove(&token);
                    self.lose(peer, how);
                }
                Progress::Open(link) => {
                    guard(&link, self.host_timeout);
                    *state = State::Open(*link);
                    self.watch(token);
                    for message in self.outboxes.remove(&peer).unwrap_or_default() {
                        self.send_on(token, &message, now);
                    }
                    self.exchange(token, now);
                }
            },
        }
    }

    /// Receives what has come, and sends what fits.
    fn exchange(&mut self, token: u64, now: Duration) {
        let Some(Connection { peer, state: State::Open(link) }) = self.connections.get_mut(&token)
        else {
            return;
        };
        let mut result = link.flush().map(drop);
        while result.is_ok() {
            match link.receive() {
                Ok(Some(bytes)) => self.events.push_back(Event::Message { from: *peer, bytes }),
                Ok(None) => return,
                Err(error) => result = Err(error),
            }
        }
        if let Err(error) = result {
            let how = match error.kind() {
                io::ErrorKind::UnexpectedEof => "its process ended".to_owned(),
                _ => error.to_string(),
            };
            self.broke(token, &how, now);
        }
    }

    /// A connection has ended: makes another one, unless there is one.
    fn broke(&mut self, token: u64, how: &str, now: Duration) {
        let Some(Connection { peer, .. }) = self.connections.remove(&token) else { return };
        if !self.is_connected_or_dialing(peer) && !self.lost.contains(&peer) {
            self.dial(peer, Some(how.to_owned()), now);
        }
    }

    /// There is no way to a peer any more.
    fn lose(&mut self, peer: Rank, how: String) {
        // It may have come to us meanwhile.
        if !self.is_connected_or_dialing(peer) && self.lost.insert(peer) {
            self.outboxes.remove(&peer);
            self.events.push_back(Event::Lost { peer, how });
        }
    }
}

/// Has the kernel find out when the other host is gone.
fn guard(link: &Framed, host_timeout: Duration) {
    // Fails on sockets that are not TCP, which end with their process.
    let _ =
        keep_alive(link.fd(), host_timeout).and_then(|()| limit_unheard(link.fd(), host_timeout));
}

const NO_EVENT: epoll::Event =
    epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
