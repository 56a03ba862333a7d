//! The boundary: a call's outcome becomes a status, a text and a list of ranks; a panic becomes
//! a status too.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::status::{Failure, Outcome, syncline_status, syncline_status_t};

/// The latest failure of a thread.
struct Latest {
    text: CString,
    ranks: Vec<u32>,
}

thread_local! {
    static LATEST: RefCell<Option<Latest>> = const { RefCell::new(None) };
    /// Where the thread's panic, if there is one, came from.
    static PANIC_AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs the body of an exported function.
pub(crate) fn guard(
    function: &'static str,
    body: impl FnOnce() -> Outcome<()>,
) -> syncline_status_t {
    keep_panics_quiet();
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return syncline_status::SYNCLINE_OK as syncline_status_t,
        Ok(Err(failure)) => failure,
        Err(panic) => internal(&*panic),
    };
    remember(function, failure)
}

fn remember(function: &'static str, failure: Failure) -> syncline_status_t {
    let Failure { status, mut text, ranks, named } = failure;
    if !named {
        text = format!("{function}: {text}");
    }
    text.retain(|c| c != '\0');
    let text = CString::new(text).unwrap_or_default();
    // A thread that is ending has no place for it any more.
    let _ = LATEST.try_with(|latest| {
        if let Ok(mut latest) = latest.try_borrow_mut() {
            *latest = Some(Latest { text, ranks });
        }
    });
    status as syncline_status_t
}

fn internal(panic: &(dyn Any + Send)) -> Failure {
    let said = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked".to_owned());
    let at = PANIC_AT.try_with(|at| at.take()).unwrap_or_default();
    let text = format!("a defect of the library: {said} ({at}); please report this");
    Failure::new(syncline_status::SYNCLINE_ERROR_INTERNAL, text)
}

/// This library has its own copy of Rust's runtime, so the hook is seen by nobody else.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if cfg!(any(test, feature = "fuzzing")) {
            return;
        }
        std::panic::set_hook(Box::new(|info| {
            let at = info.location().map(ToString::to_string).unwrap_or_default();
            let _ = PANIC_AT.try_with(|slot| slot.replace(at));
            tracing::error!("{info}");
        }));
    });
}

/// What the latest call of this thread that failed has to say: which operation, which rank and
/// host, what happened, what to do next. Empty when none has failed. Never NULL; valid until the
/// next call of this thread that fails, and until the thread ends.
#[unsafe(no_mangle)]
pub extern "C" fn syncline_last_error() -> *const c_char {
    let text = |latest: &RefCell<Option<Latest>>| {
        latest.borrow().as_ref().map_or(c"".as_ptr(), |latest| latest.text.as_ptr())
    };
    LATEST.try_with(text).unwrap_or(c"".as_ptr())
}

/// The ranks that the latest call of this thread that failed blames: lost, missing, or of another
/// opinion. Writes up to `capacity` of them to `ranks` (which may be NULL when `capacity` is 0)
/// and returns how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_last_error_ranks(ranks: *mut u32, capacity: usize) -> usize {
    let copy = |latest: &RefCell<Option<Latest>>| {
        let latest = latest.borrow();
        let Some(latest) = latest.as_ref() else { return 0 };
        let count = latest.ranks.len().min(capacity);
        if count > 0 && !ranks.is_null() {
            // SAFETY: the caller gives room for `capacity` ranks at `ranks`, of which nobody in
            // here knows anything else.
            unsafe { latest.ranks.as_ptr().copy_to(ranks, count) };
        }
        latest.ranks.len()
    };
    LATEST.try_with(copy).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn last() -> String {
        // SAFETY: the function returns a C string that lives until the next failure.
        unsafe { CStr::from_ptr(syncline_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_failure_leaves_its_text_and_its_ranks_on_its_thread() {
        assert_eq!(last(), "");
        let failure = Failure { ranks: vec![3, 5], ..Failure::argument("no\0good") };
        let status = guard("syncline_f", || Err(failure));
        assert_eq!(status, syncline_status::SYNCLINE_ERROR_INVALID_ARGUMENT as i32);
        assert_eq!(last(), "syncline_f: nogood");
        let mut ranks = [0; 1];
        // SAFETY: room for one rank.
        let count = unsafe { syncline_last_error_ranks(ranks.as_mut_ptr(), 1) };
        assert_eq!((count, ranks), (2, [3]));
        assert_eq!(guard("syncline_f", || Ok(())), 0);
        assert_eq!(last(), "syncline_f: nogood", "success leaves it");
        assert_eq!(std::thread::spawn(last).join().unwrap(), "");
    }

    #[test]
    fn a_panic_becomes_a_status() {
        let status = guard("syncline_f", || panic!("of {}", 7));
        assert_eq!(status, syncline_status::SYNCLINE_ERROR_INTERNAL as i32);
        assert!(last().contains("a defect of the library: of 7"), "{}", last());
    }
}
