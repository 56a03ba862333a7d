//! The library's log, handed to a callback. Nothing is ever printed.
//!
//! The shared library has its own copy of `tracing`, so the subscriber here is seen by no other
//! Rust code of the process.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_void};
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Once, PoisonError, RwLock};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::boundary::guard;
use crate::status::{Failure, syncline_status_t};

/// How important a line of the log is: one of enum syncline_log_level.
pub type syncline_log_level_t = i32;

/// How important a line of the log is.
#[repr(C)]
pub enum syncline_log_level {
    /// Something failed.
    SYNCLINE_LOG_ERROR = 1,
    /// Something is not as it should be.
    SYNCLINE_LOG_WARN = 2,
    /// What a user may want to know.
    SYNCLINE_LOG_INFO = 3,
    /// What a developer may want to know.
    SYNCLINE_LOG_DEBUG = 4,
    /// Everything.
    SYNCLINE_LOG_TRACE = 5,
}

/// Receives a line of the log: its level, the part of the library it comes from, and its text,
/// both valid during the call only. It is called from any thread, also from the library's own, and
/// from several at once; it must return soon, and must not call the library, throw, or longjmp.
pub type syncline_log_callback_t = Option<
    unsafe extern "C" fn(
        level: syncline_log_level_t,
        target: *const c_char,
        text: *const c_char,
        user_data: *mut c_void,
    ),
>;

struct Sink {
    callback: syncline_log_callback_t,
    user_data: *mut c_void,
}

// SAFETY: the header demands a callback, with its data, that any thread may call.
unsafe impl Send for Sink {}
// SAFETY: as above, and several at once.
unsafe impl Sync for Sink {}

static SINK: RwLock<Sink> = RwLock::new(Sink { callback: None, user_data: std::ptr::null_mut() });
/// The least important level that is wanted; 0 for none.
static LEVEL: AtomicI32 = AtomicI32::new(0);

thread_local! {
    /// The callback runs on this thread.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

fn number(level: &Level) -> i32 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// Hands the log to whatever callback is set.
struct ToCallback;

impl Subscriber for ToCallback {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        number(metadata.level()) <= LEVEL.load(Ordering::Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEVEL.load(Ordering::Relaxed) {
            0 => LevelFilter::OFF,
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let metadata = event.metadata();
        deliver(number(metadata.level()), metadata.target(), line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn deliver(level: i32, target: &str, line: Line) {
    let text = |text: String| CString::new(text.replace('\0', "")).unwrap_or_default();
    let (target, line) = (text(target.to_owned()), text(line.message + &line.fields));
    if INSIDE.try_with(|inside| inside.replace(true)).unwrap_or(true) {
        return;
    }
    let sink = SINK.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(callback) = sink.callback {
        // SAFETY: the header demands a callback that may be called like this as long as it is
        // set, which it is while the lock is held.
        unsafe { callback(level, target.as_ptr(), line.as_ptr(), sink.user_data) };
    }
    drop(sink);
    let _ = INSIDE.try_with(|inside| inside.set(false));
}

/// An event as text: its message, then its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// Hands the log's lines of `level` (one of enum syncline_log_level) and more important ones to
/// `callback`, with `user_data`, from now on and for all communicators of the process. A NULL
/// callback ends it. When this returns, the callback that was set before is not running and will
/// not be called again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_set_log_callback(
    callback: syncline_log_callback_t,
    level: syncline_log_level_t,
    user_data: *mut c_void,
) -> syncline_status_t {
    guard("syncline_set_log_callback", || {
        if callback.is_some() && !(1..=5).contains(&level) {
            let text = format!(
                "level {level} is unknown; there are 1 error, 2 warn, 3 info, 4 debug, 5 trace"
            );
            return Err(Failure::argument(text));
        }
        if INSIDE.get() {
            return Err(Failure::argument("the log callback itself cannot call this"));
        }
        *SINK.write().unwrap_or_else(PoisonError::into_inner) = Sink { callback, user_data };
        LEVEL.store(if callback.is_some() { level } else { 0 }, Ordering::Relaxed);
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // Fails where this crate is linked into a Rust program that logs in its own way.
            let _theirs = tracing::subscriber::set_global_default(ToCallback);
        });
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::sync::Mutex;

    use super::*;

    unsafe extern "C" fn keep(
        level: i32,
        target: *const c_char,
        text: *const c_char,
        lines: *mut c_void,
    ) {
        // SAFETY: the test passes a mutex that outlives the callback.
        let lines = unsafe { &*lines.cast::<Mutex<Vec<String>>>() };
        // SAFETY: the callback is given C strings.
        let target = unsafe { CStr::from_ptr(target) }.to_str().unwrap();
        // SAFETY: as above.
        let text = unsafe { CStr::from_ptr(text) }.to_str().unwrap();
        lines.lock().unwrap().push(format!("{level} {target}: {text}"));
        // SAFETY: takes any callback and data.
        let status = unsafe { syncline_set_log_callback(None, 0, std::ptr::null_mut()) };
        assert_eq!(status, 1, "refused from inside");
        tracing::error!("not delivered: it would never end");
    }

    fn set(callback: syncline_log_callback_t, level: i32, lines: &Mutex<Vec<String>>) -> i32 {
        let lines = std::ptr::from_ref(lines).cast_mut().cast();
        // SAFETY: the lines outlive the callback.
        unsafe { syncline_set_log_callback(callback, level, lines) }
    }

    #[test]
    fn lines_arrive_from_their_level_on_until_it_is_reset() {
        let lines = Mutex::new(Vec::new());
        tracing::error!("nobody hears this");
        assert_eq!(set(Some(keep), 3, &lines), 0);
        tracing::info!(target: "here", peer = 7, "accepted {}", "it");
        tracing::debug!("too detailed");
        assert_eq!(set(Some(keep), 4, &lines), 0);
        tracing::debug!(target: "there", "now");
        assert_eq!(set(None, 0, &lines), 0);
        tracing::error!("over");
        assert_eq!(*lines.lock().unwrap(), ["3 here: accepted it peer=7", "4 there: now"]);
        assert_eq!(set(Some(keep), 9, &lines), 1);
    }
}
