//! What threads that share an engine wait for, as sources of the wait loop.

use std::sync::Arc;

use super::cell::{EngineCell, Held};
use super::completion::Completion;
use super::executor::TaskId;
use super::wait::{PollFds, Polled, Source, WakeOn};
use crate::error::Result;
use crate::transport::Sleep;

/// What was armed for a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    Nothing,
    /// The engine's transports.
    Engine(Sleep),
    /// The gate, with the value to sleep on.
    Gate(u32),
}

/// Waits for one operation: drives the engine while it may, and otherwise waits for whoever
/// does.
pub(super) struct Driving<'a> {
    cell: &'a EngineCell,
    id: TaskId,
    held: Option<Held<'a>>,
    /// Tells of the end when somebody else drove it there.
    completion: Option<Arc<Completion>>,
    result: Option<Result<()>>,
    armed: Armed,
    /// Sleeps since something moved.
    sleeps: u32,
}

impl<'a> Driving<'a> {
    /// Either the engine is held, or the operation has a completion.
    pub(super) const fn new(
        cell: &'a EngineCell,
        id: TaskId,
        held: Option<Held<'a>>,
        completion: Option<Arc<Completion>>,
    ) -> Self {
        Self { cell, id, held, completion, result: None, armed: Armed::Nothing, sleeps: 0 }
    }

    /// The engine if it is held, the completion, and the result if there is one.
    pub(super) fn finish(self) -> (Option<Held<'a>>, Option<Arc<Completion>>, Option<Result<()>>) {
        (self.held, self.completion, self.result)
    }

    /// Lets another thread have the engine.
    fn let_go(&mut self) {
        self.disarm();
        let Some(mut held) = self.held.take() else { return };
        if self.completion.is_none() {
            let completion = Arc::new(Completion::new(&self.cell.gate, None));
            held.engine_mut().notify(self.id, Arc::clone(&completion));
            self.completion = Some(completion);
        }
    }

    /// Does what others want with the engine, or lets them have it.
    #[cold]
    fn oblige(&mut self) -> Polled {
        if let Some(held) = &mut self.held {
            held.receive_visits();
        }
        if self.cell.is_wanted() {
            self.let_go();
            return Polled::Moved;
        }
        self.poll_held()
    }

    fn poll_held(&mut self) -> Polled {
        let Some(held) = &mut self.held else { return Polled::Idle };
        let engine = held.engine_mut();
        let moved = engine.poll();
        self.result = match &self.completion {
            None => engine.take(self.id),
            Some(completion) => completion.result(),
        };
        match (&self.result, moved) {
            (Some(_), _) => Polled::Done,
            (None, true) => {
                self.sleeps = 0;
                Polled::Moved
            }
            (None, false) => Polled::Idle,
        }
    }
}

impl Source for Driving<'_> {
    #[inline]
    fn yields(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.engine().yields)
    }

    #[inline]
    fn poll(&mut self) -> Polled {
        if self.held.is_some() {
            if self.cell.is_wanted() {
                return self.oblige();
            }
            return self.poll_held();
        }
        self.result = self.completion.as_ref().and_then(|completion| completion.result());
        if self.result.is_some() {
            return Polled::Done;
        }
        if !self.cell.is_wanted()
            && let Some(held) = self.cell.try_hold()
        {
            self.disarm();
            self.held = Some(held);
            return Polled::Moved;
        }
        Polled::Idle
    }

    fn arm(&mut self) {
        self.armed = match &mut self.held {
            Some(held) => {
                self.sleeps = self.sleeps.saturating_add(1);
                if self.sleeps > 1 {
                    held.engine_mut().find_strays();
                }
                let how = held.engine().sleep_kind(self.cell.bell.fd().is_none());
                held.engine_mut().arm(how);
                Armed::Engine(how)
            }
            None => Armed::Gate(self.cell.gate.arm()),
        };
    }

    fn disarm(&mut self) {
        match (std::mem::replace(&mut self.armed, Armed::Nothing), &mut self.held) {
            (Armed::Engine(_), Some(held)) => {
                held.engine_mut().disarm();
                self.cell.bell.silence();
            }
            (Armed::Gate(_), _) => self.cell.gate.disarm(),
            (Armed::Engine(_) | Armed::Nothing, _) => {}
        }
    }

    fn wake_on(&self) -> WakeOn<'_> {
        match (self.armed, &self.held) {
            (Armed::Engine(how), Some(held)) => held.engine().wake_on(how, self.cell.bell.fd()),
            (Armed::Gate(value), _) => WakeOn::Private { word: self.cell.gate.word(), value },
            (Armed::Engine(_) | Armed::Nothing, _) => WakeOn::Fds(PollFds::new()),
        }
    }
}

/// Waits for the engine itself.
pub(super) struct Entering<'a> {
    cell: &'a EngineCell,
    held: Option<Held<'a>>,
    seen: u32,
}

impl<'a> Entering<'a> {
    pub(super) const fn new(cell: &'a EngineCell) -> Self {
        Self { cell, held: None, seen: 0 }
    }

    pub(super) fn finish(self) -> Option<Held<'a>> {
        self.held
    }
}

impl Source for Entering<'_> {
    fn poll(&mut self) -> Polled {
        self.held = self.cell.try_hold();
        if self.held.is_some() { Polled::Done } else { Polled::Idle }
    }

    fn arm(&mut self) {
        self.seen = self.cell.gate.arm();
    }

    fn disarm(&mut self) {
        self.cell.gate.disarm();
    }

    fn wake_on(&self) -> WakeOn<'_> {
        WakeOn::Private { word: self.cell.gate.word(), value: self.seen }
    }
}
