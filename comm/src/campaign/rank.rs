//! One simulated rank: the engines and the control protocol of the library, and a user's program.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::calls::{Calls, Place};
use super::comm::{Comm, Flight};
use super::log::{Entry, What};
use super::mail::{Mail, Signal};
use super::scenario::{Call, Deviation, DeviationKind, Ending, Scenario, Stage};
use crate::control::core::{
    Agreed, Cause, CommId, Core, Excluded, Input, Output, Progress, Timings,
};
use crate::control::seats;
use crate::error::Rank;
use crate::rendezvous::MemberInfo;
use crate::transport::sim::SimNet;

/// Communicators that survivors make one after the other, at most; more would be a live-lock.
const GENERATIONS_MAX: usize = 40;
/// Brought to an agreement by a rank whose calls ended well.
const ALL_WELL: u64 = 1;
const FIRST_COMM: CommId = 0;

/// What ranks share in a run.
pub(super) struct Shared<'a> {
    pub(super) scenario: &'a Scenario,
    /// As the rendezvous brought them together.
    pub(super) members: Vec<MemberInfo>,
    /// The host of every one of them, counted from 0.
    pub(super) hosts: Vec<u32>,
    pub(super) net: SimNet,
    pub(super) mail: Mail,
    pub(super) calls: &'a mut Calls,
    pub(super) log: Vec<Entry>,
    /// Stages that somebody came to just now.
    pub(super) stages: Vec<Stage>,
}

impl Shared<'_> {
    pub(super) fn note(&mut self, rank: Rank, what: What) {
        self.log.push(Entry { time: self.net.now(), rank, what });
    }
}

/// Where the program is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Doing {
    /// It makes its calls in the newest communicator.
    Calls { next: usize, not_before: Option<Duration> },
    /// It waits for an agreement.
    Agreement { number: u64, purpose: Purpose },
    /// It has left the job, and waits until it was heard, but not for longer than this.
    Leaving { by: Duration },
    /// It has ended.
    Nothing,
}

/// What a rank agrees for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Purpose {
    /// To see whether all is well.
    Check,
    /// To see who is left, at the beginning of `shrink`.
    Before,
    /// To see whether all have made the new communicator of those who did not fail before.
    After { failed: Vec<Rank> },
}

/// One rank.
pub(super) struct SimRank {
    me: Rank,
    core: Core,
    comms: Vec<Comm>,
    /// A communicator that is made and not in use yet.
    made: Option<Comm>,
    /// Attempts to shrink the newest communicator.
    attempts: u64,
    doing: Doing,
    flights: VecDeque<Flight>,
    program: Vec<Call>,
    inputs: Vec<Input>,
    /// Agreements that have ended.
    agreed: Vec<(CommId, u64, Result<Agreed, Excluded>)>,
    /// Deviations that are still to come.
    deviations: Vec<Deviation>,
    timer: Option<Duration>,
}

impl SimRank {
    pub(super) fn new(me: Rank, shared: &mut Shared<'_>) -> Self {
        let scenario = shared.scenario;
        let deviations = scenario.deviations.iter().filter(|d| d.rank == me).cloned().collect();
        let mut rank = Self {
            me,
            core: Core::new(me, scenario.ranks, Timings::default()),
            comms: Vec::new(),
            made: None,
            attempts: 0,
            doing: Doing::Nothing,
            flights: VecDeque::new(),
            program: Vec::new(),
            inputs: Vec::new(),
            agreed: Vec::new(),
            deviations,
            timer: None,
        };
        rank.make(shared, FIRST_COMM, (0..scenario.ranks).collect(), 0);
        rank.enter(scenario);
        rank
    }

    /// Whether its program has ended.
    pub(super) fn is_done(&self) -> bool {
        self.doing == Doing::Nothing
    }

    /// Something for the control protocol, taken at the next poll.
    pub(super) fn receive(&mut self, input: Input) {
        self.inputs.push(input);
    }

    /// Makes a communicator of `members`.
    fn make(
        &mut self,
        shared: &mut Shared<'_>,
        id: CommId,
        members: Arc<[Rank]>,
        generation: usize,
    ) {
        let Some(comm) = Comm::new(shared, self.me, id, &members, generation) else { return };
        shared.note(self.me, What::Opened { comm: id, members: Arc::clone(&members), generation });
        self.core.open(shared.net.now(), id, members);
        self.made = Some(comm);
    }

    /// Goes on with the communicator that was made last.
    fn enter(&mut self, scenario: &Scenario) {
        let Some(comm) = self.made.take() else { return };
        self.program = program(scenario, &comm.place, comm.generation);
        self.doing = Doing::Calls { next: 0, not_before: None };
        self.attempts = 0;
        self.flights.clear();
        self.comms.push(comm);
    }

    fn comm(&mut self) -> &mut Comm {
        match self.comms.last_mut() {
            Some(comm) => comm,
            None => unreachable!("the first communicator is opened at the start"),
        }
    }

    /// Does all that can be done now.
    pub(super) fn poll(&mut self, shared: &mut Shared<'_>) {
        let now = shared.net.now();
        loop {
            let mut moved = self.drive_engines(now);
            for input in std::mem::take(&mut self.inputs) {
                self.core.handle(now, input);
            }
            if self.core.next_tick().is_some_and(|due| due <= now) {
                self.core.tick(now);
            }
            moved |= self.carry_out(shared);
            moved |= self.step(shared);
            moved |= !self.inputs.is_empty();
            if !moved {
                break;
            }
        }
        self.set_timer(shared);
    }

    /// Moves the engines, and has the control protocol look into their troubles.
    fn drive_engines(&mut self, now: Duration) -> bool {
        let Self { comms, made, core, .. } = self;
        let mut moved = false;
        for comm in comms.iter_mut().chain(made) {
            moved |= comm.drive(core, now);
        }
        moved
    }

    /// Does what the control protocol wants done.
    fn carry_out(&mut self, shared: &mut Shared<'_>) -> bool {
        let now = shared.net.now();
        let mut moved = false;
        while let Some(output) = self.core.next_output() {
            moved = true;
            match output {
                Output::Send { to, message } => shared.mail.send(now, self.me, to, message),
                Output::Watch(peers) => {
                    peers.into_iter().for_each(|peer| shared.mail.watch(now, self.me, peer));
                }
                Output::Inspect { query, comm, operation } => {
                    let known = self.comms.iter_mut().chain(&mut self.made);
                    let found = known.into_iter().find(|known| known.seats.comm == comm);
                    let engine = found.and_then(|comm| Some((comm.engine.as_mut()?, &comm.seats)));
                    let progress = engine.map_or(Progress::Unknown, |(engine, seats)| {
                        seats.progress(engine, operation)
                    });
                    self.inputs.push(Input::Inspected { query, progress });
                }
                Output::Failed { comm, cause } => self.fail(shared, comm, cause),
                Output::Agreed { comm, number, outcome } => {
                    let noted = outcome.clone();
                    shared.note(self.me, What::Agreed { comm, number, outcome: noted });
                    self.agreed.push((comm, number, outcome));
                }
            }
        }
        moved
    }

    /// A communicator has failed.
    fn fail(&mut self, shared: &mut Shared<'_>, comm: CommId, cause: Cause) {
        let now = shared.net.now();
        let noted = Box::new(cause.clone());
        shared.note(self.me, What::Cause { comm, cause: noted });
        shared.stages.push(Stage::Failure);
        let known = self.comms.iter_mut().chain(&mut self.made);
        let Some(comm) = known.into_iter().find(|known| known.seats.comm == comm) else { return };
        comm.fail(now, &cause);
    }

    /// Goes on with the program, if it can.
    fn step(&mut self, shared: &mut Shared<'_>) -> bool {
        match self.doing.clone() {
            Doing::Nothing => false,
            Doing::Calls { next, not_before } => self.step_calls(shared, next, not_before),
            Doing::Agreement { number, purpose } => self.step_agreement(shared, number, purpose),
            Doing::Leaving { by } => {
                let goes = self.core.may_go() || by <= shared.net.now();
                if goes {
                    self.exit(shared);
                }
                goes
            }
        }
    }

    fn step_calls(
        &mut self,
        shared: &mut Shared<'_>,
        next: usize,
        not_before: Option<Duration>,
    ) -> bool {
        let now = shared.net.now();
        if let Some(failed) = self.land(shared) {
            if failed {
                self.give_up(shared);
            }
            return true;
        }
        if self.time_out(now, shared.scenario.timeout) {
            return true;
        }
        if not_before.is_some_and(|time| now < time) {
            return false;
        }
        if next == self.program.len() {
            if self.flights.is_empty() {
                self.finish_calls(shared);
                return true;
            }
            return false;
        }
        if self.flights.len() >= shared.scenario.in_flight {
            return false;
        }
        self.start(shared, next);
        true
    }

    /// Takes the result of the oldest call, if it has ended: whether it failed.
    fn land(&mut self, shared: &mut Shared<'_>) -> Option<bool> {
        let comm = self.comms.last_mut()?;
        let engine = comm.engine.as_mut()?;
        let flight = self.flights.front_mut()?;
        for (id, _) in &mut flight.jobs {
            if let Some(result) = id.and_then(|id| engine.take(id)) {
                *id = None;
                flight.error = flight.error.take().or_else(|| result.err());
            }
        }
        if flight.jobs.iter().any(|(id, _)| id.is_some()) {
            return None;
        }
        let (comm, flight) = (comm.seats.comm, self.flights.pop_front()?);
        let index = flight.index;
        let failed = flight.error.is_some();
        shared.note(
            self.me,
            match flight.error {
                Some(error) => What::Failed { comm, index, error: Box::new(error) },
                None => What::Ended {
                    comm,
                    index,
                    right: flight.jobs.iter().all(|(_, job)| job.is_right()),
                },
            },
        );
        Some(failed)
    }

    /// Notices that the oldest call does not move.
    fn time_out(&mut self, now: Duration, timeout: Duration) -> bool {
        match (self.comms.last_mut(), self.flights.front()) {
            (Some(comm), Some(flight)) => comm.time_out(flight, now, timeout),
            _ => false,
        }
    }

    /// Starts call `index` of the program, or does what this rank does in its place.
    fn start(&mut self, shared: &mut Shared<'_>, index: usize) {
        let now = shared.net.now();
        let me = self.me;
        let comm = self.comm();
        let (id, generation) = (comm.seats.comm, comm.generation);
        let mut call = self.program[index].clone();
        let mut different = false;
        let due = |d: &Deviation| generation == 0 && d.call == index;
        if let Some(at) = self.deviations.iter().position(due) {
            match self.deviations.remove(at).kind {
                DeviationKind::Calls(other) => {
                    call = other;
                    different = true;
                }
                DeviationKind::Late(by) => {
                    shared.note(me, What::Dawdles { until: now + by });
                    self.doing = Doing::Calls { next: index, not_before: Some(now + by) };
                    return;
                }
                DeviationKind::Revokes => {
                    shared.note(me, What::Revoked { comm: id });
                    self.core.revoke(now, id, "the campaign wants it");
                    return;
                }
                DeviationKind::Aborts => {
                    shared.note(me, What::Aborted { comm: id });
                    self.core.abort(now, id, "the campaign wants it");
                    return;
                }
            }
        }
        shared.note(me, What::Called { comm: id, index, call: call.clone(), different });
        let jobs = shared.calls.jobs(&call, &self.comm().place);
        let flight = self.comm().submit(now, index, jobs);
        self.flights.push_back(flight);
        self.doing = Doing::Calls { next: index + 1, not_before: None };
    }

    /// A call failed: the others fail with it, and then the survivors see who is left.
    fn give_up(&mut self, shared: &mut Shared<'_>) {
        while let Some(_failed) = self.land(shared) {}
        // What the broken engine has not ended (there is nothing) could not be waited for.
        let aborted =
            |entry: &Entry| matches!(entry.what, What::Aborted { .. }) && entry.rank == self.me;
        if shared.log.iter().any(aborted) {
            self.end(shared);
        } else {
            let first = shared.scenario.agrees_first;
            let (flags, purpose) =
                if first { (0, Purpose::Check) } else { (ALL_WELL, Purpose::Before) };
            self.agree(shared, flags, purpose);
        }
    }

    fn finish_calls(&mut self, shared: &mut Shared<'_>) {
        match shared.scenario.ending {
            Ending::Leave => self.end(shared),
            Ending::Agree => self.agree(shared, ALL_WELL, Purpose::Check),
        }
    }

    fn agree(&mut self, shared: &mut Shared<'_>, flags: u64, purpose: Purpose) {
        let now = shared.net.now();
        // The upper bits show whether the AND is taken over the right ranks.
        let flags = !(2 << (self.me % 62)) & !ALL_WELL | flags;
        let comm = self.comm().seats.comm;
        let deadline = now + shared.scenario.timeout;
        let number = self.core.agree(now, comm, flags, deadline);
        shared.note(self.me, What::Agreeing { comm, number, flags });
        shared.stages.push(Stage::Agreement);
        self.doing = Doing::Agreement { number, purpose };
    }

    fn step_agreement(&mut self, shared: &mut Shared<'_>, number: u64, purpose: Purpose) -> bool {
        let comm = self.comm().seats.comm;
        let ended = |(of, n, _): &(CommId, u64, _)| (*of, *n) == (comm, number);
        let Some(at) = self.agreed.iter().position(ended) else { return false };
        let (_, _, outcome) = self.agreed.remove(at);
        let Ok(Agreed { flags, failed }) = outcome else {
            self.end(shared);
            return true;
        };
        let well = flags & ALL_WELL != 0;
        match purpose {
            Purpose::Check if well && failed.is_empty() => self.end(shared),
            Purpose::Check => self.agree(shared, ALL_WELL, Purpose::Before),
            Purpose::Before => self.shrink(shared, failed),
            Purpose::After { failed: before } if failed == before && well => {
                shared.stages.push(Stage::Shrunk);
                self.enter(shared.scenario);
            }
            Purpose::After { .. } => {
                let now = shared.net.now();
                if let Some(made) = self.made.take() {
                    self.core.close(now, made.seats.comm);
                    shared.note(self.me, What::Closed { comm: made.seats.comm });
                }
                self.agree(shared, ALL_WELL, Purpose::Before);
            }
        }
        true
    }

    /// Makes the communicator of those who did not fail, as far as this rank can.
    fn shrink(&mut self, shared: &mut Shared<'_>, failed: Vec<Rank>) {
        let (comm, generation) = (self.comm().seats.comm, self.comm().generation);
        let stays = |rank: &Rank| !failed.contains(rank);
        let members: Arc<[Rank]> = self.comm().seats.jobs.iter().copied().filter(stays).collect();
        // Connecting to a dead rank fails.
        let well = members.iter().all(|rank| !shared.net.is_crashed(*rank));
        self.attempts += 1;
        if well && generation + self.attempts as usize <= GENERATIONS_MAX {
            self.make(shared, child(comm, self.attempts), members, generation + 1);
        }
        self.agree(shared, u64::from(well), Purpose::After { failed });
    }

    /// The program has ended: the rank leaves its communicators and the job.
    fn end(&mut self, shared: &mut Shared<'_>) {
        let now = shared.net.now();
        for comm in self.comms.iter_mut().chain(&mut self.made) {
            if comm.engine.take().is_some() {
                self.core.close(now, comm.seats.comm);
                shared.note(self.me, What::Closed { comm: comm.seats.comm });
            }
        }
        self.core.leave(now);
        self.doing = Doing::Leaving { by: now + seats::FAREWELL_TIME_MAX };
    }

    /// The process ends.
    fn exit(&mut self, shared: &mut Shared<'_>) {
        self.doing = Doing::Nothing;
        shared.note(self.me, What::Done);
        shared.mail.end(shared.net.now(), self.me, None);
    }

    /// Has this rank polled when something is due.
    fn set_timer(&mut self, shared: &mut Shared<'_>) {
        if self.doing == Doing::Nothing {
            return;
        }
        let mut due: Vec<Duration> = self.core.next_tick().into_iter().collect();
        for comm in self.comms.iter().chain(&self.made) {
            due.extend(comm.due());
        }
        if let (Some(comm), Some(flight)) = (self.comms.last(), self.flights.front()) {
            due.push(comm.last_moved.max(flight.started) + shared.scenario.timeout);
        }
        match self.doing {
            Doing::Calls { not_before, .. } => due.extend(not_before),
            Doing::Leaving { by } => due.push(by),
            _ => {}
        }
        let now = shared.net.now();
        let Some(due) = due.into_iter().filter(|due| *due > now).min() else { return };
        if self.timer.is_none_or(|set| set > due || set <= now) {
            self.timer = Some(due);
            shared.mail.post(due, self.me, Signal::Timer);
        }
    }
}

/// The communicator of the survivors of `comm` that is made by this attempt to shrink it.
const fn child(comm: CommId, attempt: u64) -> CommId {
    comm.wrapping_mul(1000).wrapping_add(attempt)
}

/// What ranks do in a communicator of this generation.
fn program(scenario: &Scenario, place: &Place, generation: usize) -> Vec<Call> {
    if generation == 0 {
        return scenario.calls.clone();
    }
    let all_reduce = super::generate::check_call(scenario.seed, generation);
    let first = super::generate::fit(&scenario.calls[0], place.ranks());
    vec![all_reduce, first]
}
