//! A communicator at one simulated rank: its engine, and what the rank keeps about it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::calls::{Job, Place};
use super::rank::Shared;
use crate::control::core::{Cause, CommId, Core};
use crate::control::seats::{self, Seats};
use crate::engine::{Engine, EngineConfig, Judge, TaskId, Trouble};
use crate::error::{Error, Peer, Rank};

/// How long an operation that stopped waits for the reason, as
/// [`EngineCell`](crate::engine::EngineCell) has it.
const VERDICT_TIME_MAX: Duration = Duration::from_millis(1500);

/// Keeps what an engine cannot make sense of until the rank looks.
#[derive(Default)]
struct Inbox(Mutex<Vec<Trouble>>);

impl Judge for Inbox {
    fn investigate(&self, trouble: Trouble) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(trouble);
    }
}

/// A communicator at one rank.
pub(super) struct Comm {
    pub(super) seats: Seats,
    pub(super) place: Place,
    pub(super) generation: usize,
    /// Gone when the communicator is closed.
    pub(super) engine: Option<Engine>,
    inbox: Arc<Inbox>,
    sequence: u64,
    /// Messages so far, by peer and direction.
    messages: BTreeMap<(Rank, bool), u64>,
    pub(super) last_moved: Duration,
    /// When to give up waiting for a verdict.
    verdict_by: Option<Duration>,
    /// Operations go on as long as they move, and then end with this.
    doomed: Option<(Doom, Error)>,
}

/// When operations moved last, and what they looked like then.
struct Doom {
    mark: u64,
    since: Duration,
}

/// A call of the program that has not ended.
pub(super) struct Flight {
    pub(super) index: usize,
    pub(super) jobs: Vec<(Option<TaskId>, Job)>,
    pub(super) started: Duration,
    pub(super) error: Option<Error>,
}

impl Comm {
    /// The end of job rank `job` in communicator `id` of `members`; `None` when it is none of
    /// them.
    pub(super) fn new(
        shared: &Shared<'_>,
        job: Rank,
        id: CommId,
        members: &Arc<[Rank]>,
        generation: usize,
    ) -> Option<Self> {
        let scenario = shared.scenario;
        let host = |rank: &Rank| shared.hosts[*rank as usize];
        let me = members.iter().position(|member| *member == job)? as Rank;
        let peers: Arc<[Peer]> = (0..)
            .zip(&**members)
            .map(|(rank, member)| Peer {
                rank,
                host: shared.members[*member as usize].host.clone(),
            })
            .collect();
        let hosts = members.iter().map(host).collect();
        let place = Place { hosts, me, reproducible: scenario.reproducible };
        let inbox = Arc::new(Inbox::default());
        let engine = Engine::new(EngineConfig {
            rank: me,
            peers: Arc::clone(&peers),
            transports: vec![Box::new(shared.net.join(id, Arc::clone(members), me))],
            routes: vec![0; members.len()],
            staging_bytes_max: 1 << 24,
            flight_records: 64,
            judge: Some(Arc::clone(&inbox) as Arc<dyn Judge>),
        });
        Some(Self {
            seats: Seats { comm: id, me, peers, jobs: Arc::clone(members) },
            place,
            generation,
            engine: engine.ok(),
            inbox,
            sequence: 0,
            messages: BTreeMap::new(),
            last_moved: shared.net.now(),
            verdict_by: None,
            doomed: None,
        })
    }

    /// Moves the engine, and has the control protocol look into its troubles; whether anything
    /// moved.
    pub(super) fn drive(&mut self, core: &mut Core, now: Duration) -> bool {
        let Some(engine) = &mut self.engine else { return false };
        let mut moved = false;
        while engine.poll() {
            self.last_moved = now;
            moved = true;
        }
        let troubles =
            std::mem::take(&mut *self.inbox.0.lock().unwrap_or_else(PoisonError::into_inner));
        for trouble in troubles {
            moved = true;
            self.verdict_by = Some(now + VERDICT_TIME_MAX);
            self.seats.investigate(core, now, trouble);
        }
        if self.verdict_by.is_some_and(|due| due <= now) {
            self.verdict_by = None;
            engine.despair();
            moved = true;
        }
        let mark = engine.mark();
        let over = |(doom, _): &mut (Doom, Error)| {
            if doom.mark != mark {
                *doom = Doom { mark, since: now };
            }
            now >= doom.since + seats::GRACE
        };
        if let Some((_, error)) = self.doomed.take_if(over) {
            engine.condemn(&error);
            moved = true;
        }
        moved
    }

    /// It has failed.
    pub(super) fn fail(&mut self, now: Duration, cause: &Cause) {
        let error = self.seats.error(cause);
        let Some(engine) = &mut self.engine else { return };
        if seats::may_go_on(cause) {
            engine.doom(&error);
            self.doomed = Some((Doom { mark: engine.mark(), since: now }, error));
        } else {
            engine.condemn(&error);
        }
    }

    /// Notices that the oldest call, `flight`, does not move.
    pub(super) fn time_out(&mut self, flight: &Flight, now: Duration, timeout: Duration) -> bool {
        let since = self.last_moved.max(flight.started);
        let waiting = flight.jobs.iter().find_map(|(id, _)| *id);
        let (Some(engine), Some(id)) = (&mut self.engine, waiting) else { return false };
        if now < since + timeout {
            return false;
        }
        self.last_moved = now;
        engine.time_out(id, now - since);
        true
    }

    /// When [`Self::drive`] has something to do though nothing comes.
    pub(super) fn due(&self) -> impl Iterator<Item = Duration> {
        let doomed = self.doomed.as_ref().map(|(doom, _)| doom.since + seats::GRACE);
        self.verdict_by.into_iter().chain(doomed)
    }

    /// Starts the operations of one call.
    pub(super) fn submit(&mut self, now: Duration, index: usize, jobs: Vec<Job>) -> Flight {
        let mut flight = Flight { index, jobs: Vec::new(), started: now, error: None };
        for mut job in jobs {
            let sequence = match job.message {
                None => &mut self.sequence,
                Some(end) => self.messages.entry(end).or_default(),
            };
            job.meta.sequence = *sequence;
            *sequence += 1;
            let Some(engine) = &mut self.engine else { continue };
            match engine.submit(&job.program, job.buffers, &job.meta) {
                Ok(id) => flight.jobs.push((Some(id), job)),
                Err(error) => flight.error = Some(error),
            }
        }
        flight
    }
}
