//! Work handles.

use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comm::communicator::RawWork;

use crate::boundary::guard;
use crate::communicator::syncline_comm_t;
use crate::handles::{Kind, Table};
use crate::status::{Failure, Outcome, syncline_status, syncline_status_t};
use crate::text;

/// An operation that was started. It goes on in the background; several may be under way, and may
/// be waited for in any order and from any thread. Until it has ended the operation uses the
/// buffers it was given: they must stay, the input unchanged and the output untouched.
pub struct syncline_work_t {
    _private: (),
}

static WORKS: Table<Arc<Started>> = Table::new(Kind::Work);

/// A started operation of one communicator.
struct Started {
    /// The communicator's handle.
    comm: usize,
    state: Mutex<State>,
}

enum State {
    /// It keeps the communicator's connections open.
    Running(Arc<RawWork>),
    Ended(comm::Result<()>),
}

impl Started {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_running(&self) -> bool {
        matches!(*self.state(), State::Running(_))
    }

    /// The result, as soon as `look` at the running operation finds one.
    fn result(
        &self,
        look: impl FnOnce(&RawWork) -> Option<comm::Result<()>>,
    ) -> Option<comm::Result<()>> {
        let running = match &*self.state() {
            State::Running(work) => Arc::clone(work),
            State::Ended(result) => return Some(result.clone()),
        };
        let result = look(&running)?;
        *self.state() = State::Ended(result.clone());
        Some(result)
    }
}

/// Gives the handle of a started operation to the caller.
///
/// # Safety
/// `at` is writable.
pub(crate) unsafe fn put(
    at: *mut *mut syncline_work_t,
    comm: *mut syncline_comm_t,
    work: RawWork,
) -> Outcome<()> {
    let state = Mutex::new(State::Running(Arc::new(work)));
    let started = Arc::new(Started { comm: comm.addr(), state });
    let handle = WORKS.insert(Arc::clone(&started)).inspect_err(|_| {
        // Nobody could wait for it, and it uses the caller's memory.
        let _ended = started.result(|work| work.wait(None));
    })?;
    // SAFETY: the function's contract.
    unsafe { text::put(at, "work", ptr::without_provenance_mut(handle)) }
}

/// Waits for everything that is under way on a communicator, as far as anybody knows.
pub(crate) fn wait_for_all(comm: usize) -> Outcome<()> {
    let mut first = Ok(());
    for started in WORKS.filter(|started| started.comm == comm && started.is_running()) {
        let ended = started.result(|work| work.wait(None)).unwrap_or(Ok(()));
        first = first.and(ended);
    }
    Ok(first?)
}

fn in_progress() -> Failure {
    let text = "the operation has not ended; wait for it, or abort its communicator";
    Failure::new(syncline_status::SYNCLINE_IN_PROGRESS, text)
}

/// Moves the operation on and writes 1 to `ended` if it has ended, otherwise 0. Never blocks.
/// Returns the operation's failure if it has ended badly.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_work_test(
    work: *mut syncline_work_t,
    ended: *mut i32,
) -> syncline_status_t {
    guard("syncline_work_test", || {
        // SAFETY: the header asks for a place to write to.
        unsafe { text::put(ended, "ended", 0) }?;
        let result = WORKS.get(work.addr(), "work")?.result(RawWork::test);
        // SAFETY: as above.
        unsafe { text::put(ended, "ended", i32::from(result.is_some())) }?;
        Ok(result.unwrap_or(Ok(()))?)
    })
}

/// Waits for the end of the operation, at most `limit_s` seconds (SYNCLINE_WAIT_FOREVER: until it
/// ends, which it does at the latest when nothing has moved for the communicator's timeout).
/// Returns its status; SYNCLINE_IN_PROGRESS when the limit has passed first, and the operation goes
/// on. May be called again; the handle has to be freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_work_wait(
    work: *mut syncline_work_t,
    limit_s: f64,
) -> syncline_status_t {
    guard("syncline_work_wait", || {
        if limit_s.is_nan() {
            return Err(Failure::argument("limit_s is NaN; give seconds"));
        }
        let limit = if limit_s < 0.0 {
            None
        } else {
            Some(Duration::try_from_secs_f64(limit_s).unwrap_or(Duration::MAX))
        };
        let started = WORKS.get(work.addr(), "work")?;
        Ok(started.result(|work| work.wait(limit)).ok_or_else(in_progress)??)
    })
}

/// Frees the handle of an operation that has ended, well or not. While it is under way the handle
/// stays, and SYNCLINE_IN_PROGRESS says so: the operation uses the caller's memory. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_work_free(work: *mut syncline_work_t) -> syncline_status_t {
    guard("syncline_work_free", || {
        if work.is_null() {
            return Ok(());
        }
        // The operation's own failure was for whoever waited.
        let _result =
            WORKS.get(work.addr(), "work")?.result(RawWork::test).ok_or_else(in_progress)?;
        WORKS.remove(work.addr(), "work").map(|_| ())
    })
}
