//! The control thread: one per job that this process is a member of. It sleeps until a message,
//! a request or a moment comes, and never computes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;

use super::core::{Cause, CommId, Core, Input, Message, Operation, Output, Progress, Timings};
use super::fate::Fate;
use super::links::{Event, Links};
use super::requests::{Reply, Request, Requests};
use super::seats::{self, FAREWELL_TIME_MAX, GRACE};
use crate::engine::{
    Clock, MonotonicClock, Patience, PollFds, Polled, Source, Trouble, TroubleKind, WakeOn, wait,
};
use crate::error::Rank;

/// Time between two looks at whether operations move.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// An engine that has not let anybody look for this long does not move.
const LOOK_TIME_MAX: Duration = Duration::from_millis(400);

/// A communicator of this rank.
struct Charge {
    fate: Arc<Fate>,
    grace: Option<Grace>,
}

/// Operations that may still end well.
struct Grace {
    look_at: Duration,
    /// What the engine showed last, since when, and after how many looks.
    mark: u64,
    since: Duration,
    looks: u32,
}

/// The thread's state.
pub(super) struct Attendant {
    clock: MonotonicClock,
    core: Core,
    links: Links,
    requests: Arc<Requests>,
    charges: HashMap<CommId, Charge>,
    agreements: HashMap<(CommId, u64), Arc<Reply>>,
    /// When to go at the latest, once this rank leaves.
    leave_by: Option<Duration>,
}

impl Attendant {
    pub(super) fn new(me: Rank, ranks: Rank, links: Links, requests: Arc<Requests>) -> Self {
        Self {
            clock: MonotonicClock::new(),
            core: Core::new(me, ranks, Timings::default()),
            links,
            requests,
            charges: HashMap::new(),
            agreements: HashMap::new(),
            leave_by: None,
        }
    }

    /// Works until this rank has left the job.
    pub(super) fn run(mut self) {
        self.carry_out(Duration::ZERO);
        while !self.is_done() {
            let clock = self.clock;
            let deadline = self.next_tick();
            // Woken by descriptors alone, it has no need to look around in between.
            let sleep_max = Duration::from_secs(3600);
            let patience =
                Patience { deadline, sleep_max, oversubscribed: true, ..Patience::endless(&clock) };
            wait(&mut self, &patience);
        }
    }

    fn is_done(&self) -> bool {
        let heard = || self.core.may_go() && self.links.is_flushed();
        self.leave_by.is_some_and(|by| heard() || self.clock.now() >= by)
    }

    fn next_tick(&self) -> Option<Duration> {
        let graces = self.charges.values().filter_map(|charge| charge.grace.as_ref());
        let looks = graces.map(|grace| grace.look_at);
        let links = self.links.next_tick(self.clock.now());
        [self.core.next_tick(), links, self.leave_by].into_iter().flatten().chain(looks).min()
    }

    /// Does what can be done now; whether there was anything.
    fn step(&mut self) -> bool {
        let now = self.clock.now();
        let requests = self.requests.take();
        let mut busy = !requests.is_empty();
        for request in requests {
            self.serve(request, now);
        }
        busy |= self.links.poll(now);
        while let Some(event) = self.links.next_event() {
            self.notice(event, now);
        }
        if self.core.next_tick().is_some_and(|at| at <= now) {
            self.core.tick(now);
            busy = true;
        }
        self.tend(now);
        self.carry_out(now);
        busy
    }

    fn notice(&mut self, event: Event, now: Duration) {
        match event {
            Event::Message { from, bytes } => match Message::decode(&bytes) {
                Some(message) => self.core.handle(now, Input::Message { from, message }),
                None => tracing::warn!(from, "dropped a malformed control message"),
            },
            Event::Lost { peer, how } => {
                tracing::debug!(peer, how, "lost the control link");
                self.core.handle(now, Input::Lost { peer, how });
            }
        }
    }

    fn serve(&mut self, request: Request, now: Duration) {
        match request {
            Request::Open(fate) => {
                self.core.open(now, fate.seats.comm, Arc::clone(&fate.seats.jobs));
                self.charges.insert(fate.seats.comm, Charge { fate, grace: None });
            }
            Request::Close(comm) => {
                self.core.close(now, comm);
                self.charges.remove(&comm);
            }
            Request::Investigate(comm, trouble) => self.investigate(comm, trouble, now),
            Request::Inspected(query, progress) => {
                self.core.handle(now, Input::Inspected { query, progress });
            }
            Request::Revoke(comm, reason) => self.core.revoke(now, comm, &reason),
            Request::Abort(comm, reason) => self.core.abort(now, comm, &reason),
            Request::Agree(comm, flags, limit, reply) => {
                let number = self.core.agree(now, comm, flags, now.saturating_add(limit));
                self.agreements.insert((comm, number), reply);
            }
            Request::Leave => {
                self.core.leave(now);
                self.leave_by = Some(now + FAREWELL_TIME_MAX);
            }
        }
    }

    /// Hands what an engine saw to the protocol.
    fn investigate(&mut self, comm: CommId, mut trouble: Trouble, now: Duration) {
        if matches!(trouble.kind, TroubleKind::Stall { .. })
            && let Some(reason) = self.links.shortage()
        {
            trouble.kind = TroubleKind::System { reason };
        }
        let Some(Charge { fate, .. }) = self.charges.get(&comm) else { return };
        fate.seats.investigate(&mut self.core, now, trouble);
    }

    /// Does what the protocol wants done.
    fn carry_out(&mut self, now: Duration) {
        while let Some(output) = self.core.next_output() {
            match output {
                Output::Send { to, message } => self.links.send(to, message.encode(), now),
                Output::Watch(peers) => {
                    peers.into_iter().for_each(|peer| self.links.keep(peer, now));
                }
                Output::Inspect { query, comm, operation } => {
                    self.inspect(query, comm, operation, now);
                }
                Output::Failed { comm, cause } => self.fail(comm, &cause, now),
                Output::Agreed { comm, number, outcome } => {
                    if let Some(reply) = self.agreements.remove(&(comm, number)) {
                        reply.give(outcome);
                    }
                }
            }
        }
    }

    /// Finds out where this rank is in an operation that somebody waits for.
    fn inspect(&mut self, query: u64, comm: CommId, operation: Operation, now: Duration) {
        if let Some(reason) = self.links.shortage() {
            self.core.revoke(now, comm, &reason);
        }
        match self.charges.get(&comm) {
            Some(charge) => charge.fate.inspect(query, operation, &self.requests),
            None => {
                let progress = Progress::Unknown;
                self.core.handle(now, Input::Inspected { query, progress });
            }
        }
    }

    fn fail(&mut self, comm: CommId, cause: &Cause, now: Duration) {
        tracing::debug!(comm, ?cause, "a communicator failed");
        let Some(charge) = self.charges.get_mut(&comm) else { return };
        if seats::may_go_on(cause) {
            charge.fate.doom(cause);
            charge.fate.look();
            let looks = charge.fate.pulse().looks.load(Ordering::Acquire);
            charge.grace = Some(Grace { look_at: now + LOOK_INTERVAL, mark: 0, since: now, looks });
        } else {
            charge.fate.condemn(cause);
        }
    }

    /// Ends the operations of communicators that lost a member, once they do not move.
    fn tend(&mut self, now: Duration) {
        for Charge { fate, grace } in self.charges.values_mut() {
            let Some(state) = grace.as_mut().filter(|state| now >= state.look_at) else { continue };
            let pulse = fate.pulse();
            let looks = pulse.looks.load(Ordering::Acquire).wrapping_sub(state.looks);
            let mark = pulse.mark.load(Ordering::Relaxed);
            if looks > 0 && mark != state.mark {
                (state.mark, state.since) = (mark, now);
                state.looks = state.looks.wrapping_add(looks);
            }
            let still = now.saturating_sub(state.since);
            let is_over = pulse.idle.load(Ordering::Relaxed)
                || (still >= GRACE && looks > 1)
                || still >= LOOK_TIME_MAX;
            if is_over {
                fate.carry_out();
                *grace = None;
            } else {
                fate.look();
                state.look_at = now + LOOK_INTERVAL;
            }
        }
    }
}

impl Source for Attendant {
    fn poll(&mut self) -> Polled {
        if self.step() { Polled::Done } else { Polled::Idle }
    }

    fn wake_on(&self) -> WakeOn<'_> {
        WakeOn::Fds(PollFds::from_iter([PollFd::from_borrowed_fd(self.links.fd(), PollFlags::IN)]))
    }
}
