//! Calls on a communicator of one rank, with any numbers for types, operators and roots, any
//! options, any handle.

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

use comm::fuzzing::Feed;

use super::ended_well;
use super::given::Given;
use super::joins::by_file;
use crate::communicator::{
    syncline_comm_destroy, syncline_comm_host_of, syncline_comm_split, syncline_comm_subset,
    syncline_comm_t,
};
use crate::inspect::syncline_explain;
use crate::movement::*;
use crate::options::syncline_call_options_t;
use crate::reduction::*;
use crate::status::{syncline_status as Status, syncline_status_t};
use crate::text::syncline_text_free;
use crate::work::{syncline_work_free, syncline_work_t, syncline_work_test, syncline_work_wait};

/// The most elements of a call, and what they may take.
const COUNT_MAX: usize = 64;
const BUFFER_BYTES: usize = COUNT_MAX * 8;
/// Functions of [`make`]; the last one takes no options.
const COLLECTIVES: u8 = 16;
/// Most calls of one input.
const CALLS_MAX: usize = 32;

/// The handle of a communicator of one rank that stays.
fn live() -> *mut syncline_comm_t {
    static LIVE: OnceLock<usize> = OnceLock::new();
    let make = || {
        let mut comm = ptr::null_mut();
        assert!(ended_well(by_file(ptr::null(), &mut comm)));
        comm.addr()
    };
    ptr::without_provenance_mut(*LIVE.get_or_init(make))
}

/// What every collective takes.
struct Call {
    comm: *mut syncline_comm_t,
    count: usize,
    dtype: i32,
    op: i32,
    root: u32,
}

/// Mostly a number of those `known`, or one below or above.
fn number(feed: &mut Feed<'_>, known: u8) -> i32 {
    match feed.u8() {
        255 => feed.u32().cast_signed(),
        small => i32::from(small % (known + 2)) - 1,
    }
}

impl Call {
    fn new(feed: &mut Feed<'_>) -> Self {
        let comm = match feed.u8() {
            0..=239 => live(),
            240..=245 => ptr::null_mut(),
            _ => ptr::without_provenance_mut(feed.u64() as usize),
        };
        Self {
            comm,
            count: usize::from(feed.u8()) % (COUNT_MAX + 1),
            dtype: number(feed, 12),
            op: number(feed, 9),
            root: number(feed, 1).cast_unsigned(),
        }
    }
}

pub(super) fn calls(data: &[u8]) {
    let mut feed = Feed::new(data);
    for _ in 0..CALLS_MAX {
        if feed.is_empty() {
            return;
        }
        let (function, how) = (feed.u8() % 24, feed.u8());
        let call = Call::new(&mut feed);
        if function < COLLECTIVES {
            collective(function, how, &call, &mut feed);
        } else {
            other(function, &call, &mut feed);
        }
    }
}

/// One of the collectives: blocking or not, with or without options and buffers.
fn collective(function: u8, how: u8, call: &Call, feed: &mut Feed<'_>) {
    let (mut input, mut output) = ([0_u8; BUFFER_BYTES], [0_u8; BUFFER_BYTES]);
    let filled = feed.chunk();
    input[..filled.len()].copy_from_slice(filled);
    let options = (how & 1 != 0).then(|| Given::call_options(feed));
    let options_at = options.as_ref().map_or(ptr::null(), Given::at);
    let into: *mut c_void = output.as_mut_ptr().cast();
    let from: *mut c_void = input.as_mut_ptr().cast();
    let (from, into) = match how >> 1 & 7 {
        0 => (from, ptr::null_mut()),
        1 => (ptr::null_mut(), into),
        2 | 3 => (from, from),
        _ => (from, into),
    };
    let mut work = ptr::null_mut();
    let work_at = if how & 0x80 != 0 { &raw mut work } else { ptr::null_mut() };
    // SAFETY: the buffers have room for `COUNT_MAX` elements of the largest type.
    let status = unsafe { make(function, call, from, into, options_at, work_at) };
    let ok = ended_well(status);
    if function + 1 < COLLECTIVES && options.is_some_and(|options| options.is_malformed()) {
        assert!(!ok, "options of a wrong size were taken");
    }
    // SAFETY: a place that was written to, if at all, when the operation was started.
    let work = unsafe { (&raw const work).read() };
    if !work_at.is_null() {
        assert_eq!(ok, !work.is_null(), "a work handle exactly when it was started");
    }
    if !work.is_null() {
        finish(work, feed);
    }
}

/// # Safety
/// What the header says of collectives.
unsafe fn make(
    function: u8,
    call: &Call,
    from: *const c_void,
    to: *mut c_void,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let &Call { comm, count, dtype, op, root } = call;
    let counts = [count];
    let counts = counts.as_ptr();
    // SAFETY: the function's contract.
    unsafe {
        match function {
            0 => syncline_all_reduce(comm, from, to, count, dtype, op, options, work),
            1 => syncline_reduce(comm, from, to, count, dtype, op, root, options, work),
            2 => syncline_reduce_scatter(comm, from, to, count, dtype, op, options, work),
            3 => syncline_reduce_scatter_v(comm, from, to, counts, dtype, op, options, work),
            4 => syncline_scan(comm, from, to, count, dtype, op, options, work),
            5 => syncline_exscan(comm, from, to, count, dtype, op, options, work),
            6 => syncline_broadcast(comm, from, to, count, dtype, root, options, work),
            7 => syncline_all_gather(comm, from, to, count, dtype, options, work),
            8 => syncline_all_gather_v(comm, from, to, counts, dtype, options, work),
            9 => syncline_gather(comm, from, to, count, dtype, root, options, work),
            10 => syncline_gather_v(comm, from, to, counts, dtype, root, options, work),
            11 => syncline_scatter(comm, from, to, count, dtype, root, options, work),
            12 => syncline_scatter_v(comm, from, to, counts, dtype, root, options, work),
            13 => syncline_all_to_all(comm, from, to, count, dtype, options, work),
            14 => syncline_all_to_all_v(comm, from, to, counts, counts, dtype, options, work),
            _ => syncline_barrier(comm, work),
        }
    }
}

/// Waits for a started operation, and frees its handle.
fn finish(work: *mut syncline_work_t, feed: &mut Feed<'_>) {
    let mut ended = 7;
    let limit_s = f64::from_bits(feed.u64());
    // SAFETY: a live handle, and a place to write to.
    assert!(ended_well(unsafe { syncline_work_test(work, &raw mut ended) }));
    assert!(ended == 0 || ended == 1);
    // SAFETY: a live handle.
    ended_well(unsafe { syncline_work_wait(work, limit_s) });
    // SAFETY: a live handle.
    assert!(ended_well(unsafe { syncline_work_wait(work, -1.0) }), "one rank waits for nobody");
    // SAFETY: a live handle.
    assert!(ended_well(unsafe { syncline_work_free(work) }));
    // SAFETY: a handle that is not live any more is refused.
    let again = unsafe { syncline_work_free(work) };
    assert_eq!(again, Status::SYNCLINE_ERROR_INVALID_HANDLE as i32, "freed twice");
}

/// What is no collective.
fn other(function: u8, call: &Call, feed: &mut Feed<'_>) {
    let &Call { comm, count, dtype, op, root } = call;
    let (mut text, mut part) = (ptr::null_mut(), ptr::null_mut());
    let status = match function {
        16..=19 => {
            let (count, number) = (feed.u64() as usize, number(feed, 11));
            // SAFETY: a place to write to.
            unsafe { syncline_explain(comm, number, count, dtype, op, root, &raw mut text) }
        }
        20 => {
            // SAFETY: a place to write to.
            unsafe { syncline_comm_host_of(comm, root, &raw mut text) }
        }
        21 => {
            // SAFETY: a place to write to.
            unsafe { syncline_comm_split(comm, dtype, op, &raw mut part) }
        }
        _ => {
            let ranks: Vec<u32> = (0..count % 4).map(|_| u32::from(feed.u8() % 3)).collect();
            // SAFETY: as many ranks as it says, and a place to write to.
            unsafe { syncline_comm_subset(comm, ranks.as_ptr(), ranks.len(), &raw mut part) }
        }
    };
    let ok = ended_well(status);
    assert!(ok || text.is_null() && part.is_null(), "a result of a call that failed");
    assert!(!ok || function > 20 || !text.is_null());
    // SAFETY: null, or the library's.
    unsafe { syncline_text_free(text) };
    // SAFETY: null, or a live handle that nobody else uses.
    assert!(ended_well(unsafe { syncline_comm_destroy(part) }));
}
