//! One engine, shared by the threads of a process.
//!
//! Whoever holds the engine drives it, for everybody. A thread that wants in asks; the driver
//! then lets go, and waits for its own operation like everybody else. A blocking call that meets
//! nobody drives its operation itself, from beginning to end.

use std::any::Any;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError, TryLockError};
use std::time::Duration;

use super::bell::Bell;
use super::completion::{Completion, Gate};
use super::executor::{Buffers, Engine, OpMeta, TaskId};
use super::express::IDLE_MAX;
use super::failure::Names;
use super::primitive::{AtomicBool, AtomicU32, Mutex, MutexGuard, TryMutex, TryMutexGuard, fence};
use super::program::Program;
use super::progress;
use super::recorder::{OpKey, OpRecord, OpReport, Snapshot};
use super::wait::{Clock as _, MonotonicClock, Outcome, Patience, wait};
use super::waiting::{Driving, Entering};
use crate::error::{Error, Result};
use crate::memory::Spares;

/// An engine that threads take turns to drive.
pub struct EngineCell {
    engine: TryMutex<Engine>,
    names: Names,
    pub(super) gate: Arc<Gate>,
    /// Threads that want the engine now.
    wanted: AtomicU32,
    /// Wakes a driver out of its sleep in `poll(2)`. It has no descriptor until a second thread
    /// was met, and until then a driver may sleep on a futex instead.
    pub(super) bell: Bell,
    /// The progress thread looks after this engine.
    pub(super) registered: AtomicBool,
    /// Raised with `verdict`; ends every wait.
    condemned: AtomicBool,
    /// Why this engine takes no more work.
    verdict: Mutex<Option<Error>>,
    /// What others want to know of the engine, or to do to it; whoever holds it does that.
    visits: Mutex<Vec<Visit>>,
    has_visits: AtomicBool,
    /// Told when the engine has failed, once.
    mourner: OnceLock<Box<dyn Mourner>>,
    mourned: AtomicBool,
    /// Completions of operations that have ended.
    spares: Spares<Arc<Completion>>,
}

/// Is told that an engine has failed, by the thread that returns the first error.
pub(crate) trait Mourner: Send + Sync {
    /// Called at most once, when nobody needs to hold the engine.
    fn mourn(&self);
}

/// Something to do with an engine that another thread may be driving.
pub(crate) type Visit = Box<dyn FnOnce(&mut Engine) + Send>;

/// How long an operation that cannot go on waits to be told why. Then it ends with what this
/// rank saw.
const VERDICT_TIME_MAX: Duration = Duration::from_millis(1500);

/// How long an error may be held back to see whether it was the engine's last.
const MOURNING_MAX: Duration = Duration::from_millis(200);

/// The engine, held by this thread.
#[derive(Debug)]
pub(super) struct Held<'a> {
    cell: &'a EngineCell,
    /// `None` only inside `drop`.
    guard: Option<TryMutexGuard<'a, Engine>>,
}

impl Held<'_> {
    pub(super) fn engine(&self) -> &Engine {
        match &self.guard {
            Some(guard) => guard,
            None => unreachable!("the guard lives until drop"),
        }
    }

    /// Does what others want done with the engine.
    pub(super) fn receive_visits(&mut self) {
        self.cell.has_visits.store(false, Ordering::SeqCst);
        let visits = std::mem::take(&mut *self.cell.visits());
        for visit in visits {
            visit(self.engine_mut());
            self.cell.wanted.fetch_sub(1, Ordering::SeqCst);
        }
    }

    pub(super) fn engine_mut(&mut self) -> &mut Engine {
        match &mut self.guard {
            Some(guard) => guard,
            None => unreachable!("the guard lives until drop"),
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.guard = None;
        self.cell.gate.signal();
        self.cell.receive_visits();
        if self.cell.gate.is_pending() && self.cell.registered.load(Ordering::SeqCst) {
            progress::kick();
        }
    }
}

impl std::fmt::Debug for EngineCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineCell")
            .field("names", &self.names)
            .field("condemned", &self.condemned)
            .finish_non_exhaustive()
    }
}

impl EngineCell {
    /// Shares `engine`.
    pub fn new(engine: Engine) -> Arc<Self> {
        Arc::new(Self {
            names: engine.names().clone(),
            engine: TryMutex::new(engine),
            gate: Arc::default(),
            wanted: AtomicU32::new(0),
            bell: Bell::new(),
            registered: AtomicBool::new(false),
            condemned: AtomicBool::new(false),
            verdict: Mutex::default(),
            visits: Mutex::default(),
            has_visits: AtomicBool::new(false),
            mourner: OnceLock::new(),
            mourned: AtomicBool::new(false),
            spares: Spares::default(),
        })
    }

    /// Runs one operation to its end.
    ///
    /// `patience.abort` is replaced by this engine's own flag, see [`Self::condemn`].
    ///
    /// # Errors
    /// What [`Engine::submit`] refuses; [`Error::Timeout`] when patience ends, and whatever went
    /// wrong on the way. After an error other than a refusal the engine takes no more work.
    pub fn run_blocking(
        &self,
        program: &Arc<Program>,
        buffers: Buffers,
        meta: &OpMeta,
        patience: &Patience<'_>,
    ) -> Result<()> {
        let result = self.run(program, buffers, meta, patience);
        self.mourn_if_failed(result.is_err());
        result
    }

    fn run(
        &self,
        program: &Arc<Program>,
        buffers: Buffers,
        meta: &OpMeta,
        patience: &Patience<'_>,
    ) -> Result<()> {
        let mut held = match self.try_hold() {
            Some(held) => held,
            None => self.enter(meta, &self.patience(patience))?,
        };
        // With more ranks than cores, whoever waits gives up its core at once.
        let yields = patience.oversubscribed || held.engine().yields;
        let idle_max = if yields { 0 } else { IDLE_MAX };
        let started = held.engine_mut().submit_and_walk(program, buffers, meta, idle_max)?;
        match started {
            None => Ok(()),
            Some(id) => self.drive(held, id, meta, &self.patience(patience)),
        }
    }

    /// Drives the engine until operation `id` has ended.
    fn drive<'a>(
        &'a self,
        held: Held<'a>,
        id: TaskId,
        meta: &OpMeta,
        patience: &Patience<'_>,
    ) -> Result<()> {
        let mut driving = Driving::new(self, id, Some(held), None);
        let outcome = wait(&mut driving, patience);
        let (held, completion, result) = driving.finish();
        match result {
            Some(result) => result,
            None => self.give_up(held, (id, meta, completion), outcome, patience),
        }
    }

    /// Starts one operation, which proceeds whether or not anybody waits for it. `keep` lives
    /// until it has ended: put what owns the buffers there.
    ///
    /// # Errors
    /// What [`Engine::submit`] refuses, and [`Error::System`] when the progress thread cannot be
    /// started.
    pub fn start(
        self: &Arc<Self>,
        program: &Arc<Program>,
        buffers: Buffers,
        meta: &OpMeta,
        keep: Box<dyn Any + Send>,
        patience: &Patience<'_>,
    ) -> Result<Work> {
        let started = self.start_quietly(program, buffers, meta, keep, patience);
        self.mourn_if_failed(started.is_err());
        started
    }

    fn start_quietly(
        self: &Arc<Self>,
        program: &Arc<Program>,
        buffers: Buffers,
        meta: &OpMeta,
        keep: Box<dyn Any + Send>,
        patience: &Patience<'_>,
    ) -> Result<Work> {
        self.bell.prepare();
        // Before there is anything to be undone.
        progress::prepare(self)?;
        let mut held = self.enter(meta, &self.patience(patience))?;
        let id = held.engine_mut().submit(program, buffers, meta)?;
        let completion = self.completion(keep);
        held.engine_mut().notify(id, Arc::clone(&completion));
        held.engine_mut().poll();
        drop(held);
        let work = Work { cell: Arc::clone(self), id, meta: *meta, completion };
        if !work.completion.has_ended() {
            progress::register(self);
        }
        Ok(work)
    }

    fn completion(&self, keep: Box<dyn Any + Send>) -> Arc<Completion> {
        // Whoever has told of its end may not have let go of it yet.
        let spare = self.spares.take(|spare| Arc::get_mut(spare).is_some());
        let Some(mut spare) = spare else {
            return Arc::new(Completion::new(&self.gate, Some(keep)));
        };
        Arc::get_mut(&mut spare).expect("nobody else has it").renew(Some(keep));
        spare
    }

    /// Fails everything under way on this engine, and refuses everything that comes, because
    /// this rank wants it. Wakes every thread that waits here.
    pub fn abort(&self, reason: &str) {
        self.condemn(&self.names.aborted(&OpMeta::ABORT, reason));
    }

    /// Fails everything under way on this engine, and refuses everything that comes, with the
    /// cause that `error` gives. Wakes every thread that waits here.
    pub fn condemn(&self, error: &Error) {
        self.verdict_slot().get_or_insert_with(|| error.clone());
        self.condemned.store(true, Ordering::SeqCst);
        self.bell.ring();
        if let Some(mut held) = self.try_hold() {
            self.carry_out(&mut held);
        }
        self.gate.signal();
    }

    /// Refuses everything that comes, with the cause that `error` gives. What is under way may
    /// still end well; if it runs into trouble, this was why.
    pub(crate) fn doom(&self, error: &Error) {
        let error = error.clone();
        self.visit(Box::new(move |engine| engine.doom(&error)));
    }

    /// Has `visit` done by whoever holds the engine, or now. A driver that sleeps may take as
    /// long as one sleep to notice.
    pub(crate) fn visit(&self, visit: Visit) {
        // First: whoever makes the visit takes this back.
        self.wanted.fetch_add(1, Ordering::SeqCst);
        self.visits().push(visit);
        self.has_visits.store(true, Ordering::SeqCst);
        // Either the holder sees them when it lets go, or they see that it has.
        fence(Ordering::SeqCst);
        self.bell.ring();
        self.receive_visits();
    }

    fn visits(&self) -> MutexGuard<'_, Vec<Visit>> {
        // Held for a push or a swap only.
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what others want done with the engine, if nobody holds it; otherwise its holder
    /// will.
    fn receive_visits(&self) {
        if self.has_visits.load(Ordering::SeqCst)
            && let Some(mut held) = self.try_hold()
        {
            held.receive_visits();
            // Letting go looks again.
        }
    }

    /// Whether, and why, this engine takes no more work; `None` also while another thread drives
    /// it.
    pub fn broken(&self) -> Option<Error> {
        self.try_hold()?.engine().broken().cloned()
    }

    fn verdict_slot(&self) -> MutexGuard<'_, Option<Error>> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry_out(&self, held: &mut Held<'_>) {
        if let Some(error) = &*self.verdict_slot() {
            held.engine_mut().condemn(error);
        }
    }

    fn patience<'a>(&'a self, given: &Patience<'a>) -> Patience<'a> {
        Patience { abort: Some(&self.condemned), ..*given }
    }

    /// Whether another thread wants the engine.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) > 0
    }

    /// The engine, if nobody holds it.
    pub(super) fn try_hold(&self) -> Option<Held<'_>> {
        let guard = match self.engine.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Held { cell: self, guard: Some(guard) })
    }

    /// Where this rank is in operation `key`; `None` when whoever drives the engine does not let
    /// go of it `within` this time: it computes.
    pub fn report(&self, key: OpKey, within: Duration) -> Option<OpReport> {
        self.hold_within(within).map(|mut held| held.engine_mut().report(key))
    }

    /// The last operations, see [`Engine::records`]; `None` as for [`Self::report`].
    pub fn records(&self, within: Duration) -> Option<Vec<OpRecord>> {
        self.hold_within(within).map(|mut held| held.engine_mut().records())
    }

    /// Everything there is to say about the engine; `None` as for [`Self::report`].
    pub fn snapshot(&self, within: Duration) -> Option<Snapshot> {
        self.hold_within(within).map(|mut held| held.engine_mut().snapshot())
    }

    /// Has `mourner` told of the engine's failure. The first one stays.
    pub(crate) fn set_mourner(&self, mourner: Box<dyn Mourner>) {
        // A second one is not told.
        let _ = self.mourner.set(mourner);
    }

    /// Tells the mourner, if the engine has failed and it was not told yet. For whoever is about
    /// to return an error, and does not hold the engine.
    #[cold]
    pub(crate) fn mourn(&self) {
        let Some(mourner) = self.mourner.get() else { return };
        let held = self.hold_within(MOURNING_MAX);
        let failed = held.is_some_and(|held| held.engine().broken().is_some());
        if failed && !self.mourned.swap(true, Ordering::SeqCst) {
            mourner.mourn();
        }
    }

    #[inline]
    fn mourn_if_failed(&self, failed: bool) {
        if failed {
            self.mourn();
        }
    }

    fn hold_within(&self, within: Duration) -> Option<Held<'_>> {
        let clock = MonotonicClock::new();
        // Whoever only looks must not take a core from those who work.
        let patience = Patience {
            deadline: Some(clock.now() + within),
            oversubscribed: true,
            ..Patience::endless(&clock)
        };
        self.request(&patience).ok()
    }

    /// The engine, as soon as its driver lets go.
    fn enter(&self, meta: &OpMeta, patience: &Patience<'_>) -> Result<Held<'_>> {
        self.request(patience).map_err(|outcome| match (outcome, &*self.verdict_slot()) {
            (Outcome::Aborted, Some(error)) => error.at(self.names.call(meta)),
            _ => Error::InvalidArgument {
                operation: meta.description.name(),
                reason: "another thread keeps the communicator busy; use a duplicate of it".into(),
            },
        })
    }

    fn request(&self, patience: &Patience<'_>) -> Result<Held<'_>, Outcome> {
        if let Some(held) = self.try_hold() {
            return Ok(held);
        }
        self.wanted.fetch_add(1, Ordering::SeqCst);
        self.bell.ring();
        let mut entering = Entering::new(self);
        let outcome = wait(&mut entering, patience);
        let held = entering.finish();
        self.wanted.fetch_sub(1, Ordering::SeqCst);
        self.gate.signal();
        held.ok_or(outcome)
    }

    /// Ends an operation whose waiter has lost patience.
    fn give_up(
        &self,
        held: Option<Held<'_>>,
        (id, meta, completion): (TaskId, &OpMeta, Option<Arc<Completion>>),
        outcome: Outcome,
        patience: &Patience<'_>,
    ) -> Result<()> {
        let endless = Patience { abort: None, ..Patience::endless(patience.clock) };
        let mut held = match held {
            Some(held) => held,
            None => self.enter(meta, &endless)?,
        };
        let after = match outcome {
            Outcome::Stalled(after) => after,
            _ => patience.stall_max.or(patience.deadline).unwrap_or_default(),
        };
        if outcome == Outcome::Aborted {
            self.carry_out(&mut held);
        } else {
            held.engine_mut().time_out(id, after);
        }
        self.await_verdict(held, (id, meta, completion), patience)
    }

    /// Waits until it is known why an operation cannot go on.
    fn await_verdict<'a>(
        &'a self,
        held: Held<'a>,
        (id, meta, completion): (TaskId, &OpMeta, Option<Arc<Completion>>),
        patience: &Patience<'_>,
    ) -> Result<()> {
        let deadline = Some(patience.clock.now() + VERDICT_TIME_MAX);
        let brief = Patience { deadline, stall_max: None, oversubscribed: true, ..*patience };
        let mut driving = Driving::new(self, id, Some(held), completion);
        let outcome = wait(&mut driving, &brief);
        let (held, completion, result) = driving.finish();
        if let Some(result) = result {
            return result;
        }
        let endless = Patience { abort: None, ..Patience::endless(patience.clock) };
        let mut held = match held {
            Some(held) => held,
            None => self.enter(meta, &endless)?,
        };
        if outcome == Outcome::Aborted {
            self.carry_out(&mut held);
        }
        held.engine_mut().despair();
        let result = match completion {
            Some(completion) => completion.result(),
            None => held.engine_mut().take(id),
        };
        result.unwrap_or_else(|| Err(self.names.aborted(meta, "its result was lost")))
    }
}

/// A started operation. Dropping it leaves the operation running.
#[derive(Debug)]
pub struct Work {
    cell: Arc<EngineCell>,
    id: TaskId,
    meta: OpMeta,
    completion: Arc<Completion>,
}

impl Work {
    /// The result, if the operation has ended; moves it on otherwise.
    pub fn test(&self) -> Option<Result<()>> {
        if !self.completion.has_ended()
            && !self.cell.is_wanted()
            && let Some(mut held) = self.cell.try_hold()
        {
            held.engine_mut().poll();
        }
        let result = self.completion.result();
        self.cell.mourn_if_failed(matches!(result, Some(Err(_))));
        result
    }

    /// Waits for the end. `None` when `patience.deadline` passes first: the operation goes on.
    /// When nothing moves for `patience.stall_max` the operation fails.
    pub fn wait(&self, patience: &Patience<'_>) -> Option<Result<()>> {
        let result = self.wait_quietly(patience);
        self.cell.mourn_if_failed(matches!(result, Some(Err(_))));
        result
    }

    fn wait_quietly(&self, patience: &Patience<'_>) -> Option<Result<()>> {
        let patience = self.cell.patience(patience);
        let completion = Arc::clone(&self.completion);
        let mut driving = Driving::new(&self.cell, self.id, None, Some(completion));
        let outcome = wait(&mut driving, &patience);
        let (held, completion, result) = driving.finish();
        match (result, outcome) {
            (Some(result), _) => Some(result),
            (None, Outcome::Deadline) => None,
            (None, outcome) => {
                let task = (self.id, &self.meta, completion);
                Some(self.cell.give_up(held, task, outcome, &patience))
            }
        }
    }

    /// What was kept alive for the operation, once it has ended; `None` before, and after the
    /// first time.
    pub fn take_kept(&self) -> Option<Box<dyn Any + Send>> {
        self.completion.take_kept()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.completion.has_ended() {
            drop(self.completion.take_kept());
            self.cell.spares.keep(Arc::clone(&self.completion));
        }
    }
}
