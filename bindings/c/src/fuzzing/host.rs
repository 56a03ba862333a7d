//! Host programs whose store or all-gather answers anything.

use std::cell::RefCell;
use std::ffi::{c_char, c_void};
use std::ptr;

use comm::fuzzing::Feed;

use super::given::Given;
use crate::communicator::syncline_comm_t;
use crate::host::{syncline_comm_init_all_gather, syncline_comm_init_store, syncline_store_t};
use crate::status::{syncline_status as Status, syncline_status_t};

/// What a host program's function does: its status, how many bytes it says it wrote, and those.
struct Answer {
    status: i32,
    claimed_bytes: usize,
    value: Vec<u8>,
}

impl Answer {
    fn new(feed: &mut Feed<'_>) -> Self {
        let (status, kind) = (i32::from(feed.u8() % 4 == 3), feed.u8());
        let value = feed.chunk().to_vec();
        let claimed_bytes = match kind {
            0..=127 => value.len(),
            128..=191 => usize::from(feed.u16()),
            _ => feed.u64() as usize,
        };
        Self { status, claimed_bytes, value }
    }
}

/// The last answer comes first. When all are given everything fails, so that nobody waits.
type Script = RefCell<Vec<Answer>>;

/// # Safety
/// `user_data` is a script.
unsafe extern "C" fn set(
    _key: *const c_char,
    _value: *const c_void,
    _bytes: usize,
    user_data: *mut c_void,
) -> i32 {
    // SAFETY: the function's contract.
    let script = unsafe { &*user_data.cast::<Script>() };
    script.borrow_mut().pop().map_or(0, |answer| answer.status)
}

/// # Safety
/// `user_data` is a script; there is room for `capacity` bytes at `value`, and for `bytes`.
unsafe extern "C" fn get(
    _key: *const c_char,
    value: *mut c_void,
    capacity: usize,
    bytes: *mut usize,
    user_data: *mut c_void,
) -> i32 {
    // SAFETY: the function's contract.
    let script = unsafe { &*user_data.cast::<Script>() };
    let Some(answer) = script.borrow_mut().pop() else { return 1 };
    let count = answer.value.len().min(capacity);
    // SAFETY: the function's contract.
    unsafe { answer.value.as_ptr().copy_to(value.cast(), count) };
    // SAFETY: as above.
    unsafe { bytes.write(answer.claimed_bytes) };
    answer.status
}

/// # Safety
/// `user_data` is a script; there is room for at least `bytes` at `all`.
unsafe extern "C" fn gather(
    mine: *const c_void,
    all: *mut c_void,
    bytes: usize,
    user_data: *mut c_void,
) -> i32 {
    // SAFETY: the function's contract.
    let script = unsafe { &*user_data.cast::<Script>() };
    let Some(answer) = script.borrow_mut().pop() else { return 1 };
    // SAFETY: the function's contract.
    unsafe { mine.cast::<u8>().copy_to(all.cast(), bytes) };
    let count = answer.value.len().min(bytes);
    // SAFETY: the function's contract.
    unsafe { answer.value.as_ptr().copy_to(all.cast(), count) };
    answer.status
}

/// A few answers, and a place in a job.
fn script(feed: &mut Feed<'_>) -> (Script, u32, u32) {
    let kind = feed.u8();
    let (rank, ranks) = match kind % 8 {
        0..=5 => (u32::from(feed.u8() % 5), u32::from(feed.u8() % 5)),
        _ => (feed.u32(), feed.u32()),
    };
    let answers = (0..kind / 8 % 4).map(|_| Answer::new(feed)).collect();
    (RefCell::new(answers), rank, ranks)
}

pub(super) fn by_store(
    given: &mut Given,
    feed: &mut Feed<'_>,
    comm: &mut *mut syncline_comm_t,
) -> syncline_status_t {
    given.hurry();
    let (script, rank, ranks) = script(feed);
    let present = feed.u8();
    let set_at = set as unsafe extern "C" fn(_, _, _, _) -> _ as *const ();
    let get_at = get as unsafe extern "C" fn(_, _, _, _, _) -> _ as *const ();
    let fields = [
        if present % 8 == 6 { 0 } else { set_at.expose_provenance() },
        if present % 8 == 7 { 0 } else { get_at.expose_provenance() },
        (&raw const script).expose_provenance(),
    ];
    let store = Given::with_fields::<syncline_store_t>(&fields, feed);
    let mut name = feed.chunk().to_vec();
    name.push(0);
    let name = if present & 0x80 != 0 { ptr::null() } else { name.as_ptr().cast() };
    // SAFETY: structs of the size they say, a text that ends, and a place to write to.
    let status =
        unsafe { syncline_comm_init_store(store.at(), name, rank, ranks, given.at(), comm) };
    if store.is_malformed() {
        assert_eq!(status, Status::SYNCLINE_ERROR_INVALID_ARGUMENT as i32);
    }
    status
}

pub(super) fn by_all_gather(
    given: &mut Given,
    feed: &mut Feed<'_>,
    comm: &mut *mut syncline_comm_t,
) -> syncline_status_t {
    given.hurry();
    let (script, rank, ranks) = script(feed);
    let function = (feed.u8() % 8 != 7).then_some(gather as _);
    let user_data = (&raw const script).cast_mut().cast();
    // SAFETY: options of the size they say, a function and what it asks for, and a place to write
    // to.
    unsafe { syncline_comm_init_all_gather(function, user_data, rank, ranks, given.at(), comm) }
}
