//! Options of communicators, by joining jobs of one rank, or of more who never come.

use std::ffi::c_char;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use comm::fuzzing::Feed;

use super::ended_well;
use super::given::Given;
use super::host::{by_all_gather, by_store};
use crate::communicator::{syncline_comm_destroy, syncline_comm_t};
use crate::job::{
    SYNCLINE_UNIQUE_ID_BYTES, syncline_comm_init_environment, syncline_comm_init_file,
    syncline_comm_init_id, syncline_unique_id_create,
};
use crate::options::syncline_options_t;
use crate::reduction::syncline_all_reduce;
use crate::status::{syncline_status as Status, syncline_status_t};
use crate::types::{syncline_dtype, syncline_op};

/// Everything that takes `syncline_options_t`.
pub(super) fn options(data: &[u8]) {
    let mut feed = Feed::new(data);
    let way = feed.u8();
    let mut given = Given::options(&mut feed);
    let mut comm = ptr::null_mut();
    let status = match way % 8 {
        0..=2 => {
            // SAFETY: options of the size they say, and a place to write to.
            unsafe { syncline_comm_init_environment(given.at(), &raw mut comm) }
        }
        3 | 4 => by_file(given.at(), &mut comm),
        5 => by_id(given.at(), &mut comm),
        6 => by_store(&mut given, &mut feed, &mut comm),
        _ => by_all_gather(&mut given, &mut feed, &mut comm),
    };
    let ok = ended_well(status);
    assert!(ok != comm.is_null(), "a communicator exactly when all went well");
    if given.is_malformed() {
        assert_eq!(status, Status::SYNCLINE_ERROR_INVALID_ARGUMENT as i32);
    }
    if ok {
        try_out(comm);
    }
}

/// Uses and ends a communicator of one rank.
fn try_out(comm: *mut syncline_comm_t) {
    let mut values = [1.5_f32, -2.5];
    let at = values.as_mut_ptr().cast();
    let (dtype, op) = (syncline_dtype::SYNCLINE_F32 as i32, syncline_op::SYNCLINE_SUM as i32);
    // SAFETY: two floats, in place.
    let status =
        unsafe { syncline_all_reduce(comm, at, at, 2, dtype, op, ptr::null(), ptr::null_mut()) };
    assert!(ended_well(status) && values == [1.5, -2.5]);
    // SAFETY: a communicator that nobody uses any more.
    assert!(ended_well(unsafe { syncline_comm_destroy(comm) }));
}

/// A job of one rank.
pub(super) fn by_file(
    options: *const syncline_options_t,
    comm: &mut *mut syncline_comm_t,
) -> syncline_status_t {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("syncline-fuzz-{}-{number}\0", std::process::id());
    let path = std::env::temp_dir().join(name).into_os_string().into_encoded_bytes();
    // SAFETY: a text that ends, options of the size they say, and a place to write to.
    unsafe { syncline_comm_init_file(path.as_ptr().cast(), 0, 1, options, comm) }
}

fn by_id(options: *const syncline_options_t, comm: &mut *mut syncline_comm_t) -> syncline_status_t {
    let mut id = [0 as c_char; SYNCLINE_UNIQUE_ID_BYTES];
    // SAFETY: options of the size they say, and room for an id.
    let status = unsafe { syncline_unique_id_create(options, id.as_mut_ptr(), id.len()) };
    if !ended_well(status) {
        return status;
    }
    // SAFETY: an id, options of the size they say, and a place to write to.
    unsafe { syncline_comm_init_id(id.as_ptr(), 0, 1, options, comm) }
}
