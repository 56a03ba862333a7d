//! The progress thread: drives started operations while nobody waits for them.
//!
//! There is at most one per process, whatever the number of communicators. It exists while
//! there is work, and a little longer; it never holds an engine that another thread wants.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;

use super::cell::{EngineCell, Held};
use super::completion::Gate;
use super::drive::readable;
use super::primitive::AtomicBool;
use super::registry::{Client, Registry, drop_finished};
use super::wait::{
    Clock, MonotonicClock, Outcome, Patience, PollFds, Polled, Source, WakeOn, wait,
};
use crate::error::{Error, Result};
use crate::transport::Sleep;

/// How long the thread stays when there is no work.
const LINGER: Duration = Duration::from_secs(1);

impl Client for EngineCell {
    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn registered(&self) -> &AtomicBool {
        &self.registered
    }
}

#[cfg(not(all(test, syncline_loom)))]
static REGISTRY: Registry<EngineCell> = Registry::new();
/// Not used by the models, which make registries of their own.
#[cfg(all(test, syncline_loom))]
static REGISTRY: std::sync::LazyLock<Registry<EngineCell>> =
    std::sync::LazyLock::new(Registry::new);

/// Sees to it that the progress thread is there for what will be started on `cell`.
pub(super) fn prepare(cell: &EngineCell) -> Result<()> {
    if cell.registered.load(Ordering::SeqCst) {
        return Ok(());
    }
    REGISTRY.prepare(start).map_err(|error| Error::System {
        what: "starting the progress thread".to_owned(),
        source_text: error.to_string(),
        hint: "raise the limit of threads (ulimit -u, or the pids limit of the container), or \
               use blocking calls"
            .to_owned(),
    })
}

/// Has the progress thread look after `cell`; starts the thread if there is none any more.
pub(super) fn register(cell: &Arc<EngineCell>) {
    if let Err(error) = REGISTRY.register(cell, start) {
        // What was started moves on when somebody waits for it or asks.
        tracing::warn!(%error, "no progress thread");
    }
}

fn start() -> std::io::Result<()> {
    let name = "syncline-progress".to_owned();
    std::thread::Builder::new().name(name).spawn(run).map(drop)
}

/// Has the progress thread look at its engines again.
pub(super) fn kick() {
    REGISTRY.bell.ring();
}

/// The thread.
fn run() {
    let clock = MonotonicClock::new();
    let mut cells: Vec<Arc<EngineCell>> = Vec::new();
    loop {
        drop_finished(&mut cells);
        REGISTRY.collect(&mut cells);
        let deadline = cells.is_empty().then(|| clock.now() + LINGER);
        let held = cells.iter().map(|_| None).collect();
        let mut driver = Driver { cells: &cells, held, armed: false };
        // It must not take a core from the thread that computes meanwhile.
        let patience = Patience { deadline, oversubscribed: true, ..Patience::endless(&clock) };
        let outcome = wait(&mut driver, &patience);
        if outcome == Outcome::Deadline && REGISTRY.leave() {
            return;
        }
    }
}

/// Drives several engines; done when their set must change.
struct Driver<'a> {
    cells: &'a [Arc<EngineCell>],
    /// As a rule made without an allocation: there is one of these for every burst of work.
    held: SmallVec<[Option<Held<'a>>; 4]>,
    armed: bool,
}

impl Source for Driver<'_> {
    fn poll(&mut self) -> Polled {
        if REGISTRY.has_news() {
            return Polled::Done;
        }
        let mut moved = false;
        for (cell, held) in self.cells.iter().zip(&mut self.held) {
            if cell.is_wanted() {
                if let Some(mut held) = held.take()
                    && self.armed
                {
                    held.engine_mut().disarm();
                }
                continue;
            }
            if held.is_none() && !self.armed {
                *held = cell.try_hold();
            }
            if let Some(held) = held {
                moved |= held.engine_mut().poll();
            }
            if !cell.gate.is_pending() {
                return Polled::Done;
            }
        }
        if moved { Polled::Moved } else { Polled::Idle }
    }

    fn arm(&mut self) {
        for held in self.held.iter_mut().flatten() {
            held.engine_mut().find_strays();
            held.engine_mut().arm(Sleep::Poll);
        }
        self.armed = true;
    }

    fn disarm(&mut self) {
        for (cell, held) in self.cells.iter().zip(&mut self.held) {
            if let Some(held) = held {
                held.engine_mut().disarm();
                cell.bell.silence();
            }
        }
        self.armed = false;
        REGISTRY.bell.silence();
    }

    fn wake_on(&self) -> WakeOn<'_> {
        let mut fds: PollFds<'_> = REGISTRY.bell.fd().map(readable).into_iter().collect();
        for (cell, held) in self.cells.iter().zip(&self.held) {
            if let Some(held) = held {
                held.engine().poll_fds(&mut fds);
                fds.extend(cell.bell.fd().map(readable));
            }
        }
        WakeOn::Fds(fds)
    }
}
