//! Entry points for fuzzers: structs that say their own size, of any size and with anything in
//! them, and calls with any numbers, through the functions that C programs call. See
//! `comm::fuzzing`.
//!
//! What the header demands of callers is kept: as many bytes as a struct says it has are readable
//! (and no more, so that a sanitizer sees a read too far), texts end, functions can be called,
//! buffers are as large as the call says.

mod calls;
mod given;
mod host;
mod joins;

use std::ffi::CStr;

use comm::fuzzing::Target;

use crate::boundary::syncline_last_error;
use crate::status::{syncline_status as Status, syncline_status_name, syncline_status_t};

/// All of the C interface's.
pub const TARGETS: &[Target] = &[("c_options", joins::options), ("c_calls", calls::calls)];

/// Whether the call went well; it may fail, but only as the header says.
fn ended_well(status: syncline_status_t) -> bool {
    // SAFETY: the function returns a C string that lives until the next failure.
    let text = unsafe { CStr::from_ptr(syncline_last_error()) }.to_string_lossy();
    assert_ne!(status, Status::SYNCLINE_ERROR_INTERNAL as i32, "{text}");
    // SAFETY: a text that is never freed.
    let name = unsafe { CStr::from_ptr(syncline_status_name(status)) };
    assert_ne!(name, c"unknown status", "status {status}: {text}");
    let ok = status == Status::SYNCLINE_OK as i32;
    assert!(ok || !text.is_empty(), "a failure without a text");
    ok
}
