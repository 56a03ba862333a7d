//! The version, the unique id, and joining a job.

use std::ffi::c_char;

use comm::communicator::{Communicator, Rendezvous, UniqueId};

use crate::boundary::guard;
use crate::communicator::{self, syncline_comm_t};
use crate::options::{self, syncline_options_t};
use crate::status::{Failure, Outcome, syncline_status_t};
use crate::text;
use crate::types::syncline_rank_t;

/// Room for the text of a unique id with its final NUL.
pub const SYNCLINE_UNIQUE_ID_BYTES: usize = 129;

const _: () = assert!(SYNCLINE_UNIQUE_ID_BYTES == UniqueId::TEXT_BYTES_MAX + 1);

/// The version of the library, such as "0.1.0". Compare SYNCLINE_VERSION_MAJOR and
/// SYNCLINE_VERSION_MINOR, which are those of the header.
#[unsafe(no_mangle)]
pub extern "C" fn syncline_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Names a new job: opens the listener of its root in this process, and writes the id, at most 128
/// characters and a NUL, to `text`, which has room for `capacity` bytes (SYNCLINE_UNIQUE_ID_BYTES
/// suffice). Carry it to the other ranks; whoever knows it can join. This process has to take part
/// in the job, with any rank. Of `options` (may be NULL) network_interface and ports count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_unique_id_create(
    options: *const syncline_options_t,
    text: *mut c_char,
    capacity: usize,
) -> syncline_status_t {
    guard("syncline_unique_id_create", || {
        check_room(text, capacity)?;
        // SAFETY: the header asks for options or NULL.
        let options = unsafe { options::options(options) }?;
        let id = UniqueId::listen_at(options.interface.as_deref(), options.ports)?;
        // SAFETY: the header asks for room for `capacity` bytes, which was checked.
        unsafe { put_id(text, &id) }
    })
}

/// Refuses too little room for an id.
pub(crate) fn check_room(text: *mut c_char, capacity: usize) -> Outcome<()> {
    text::check_result(text, "text")?;
    if capacity < SYNCLINE_UNIQUE_ID_BYTES {
        let needed = SYNCLINE_UNIQUE_ID_BYTES;
        return Err(Failure::argument(format!("capacity is {capacity}; give {needed} bytes")));
    }
    Ok(())
}

/// Writes an id and a NUL.
///
/// # Safety
/// There is room for `SYNCLINE_UNIQUE_ID_BYTES` at `text`.
pub(crate) unsafe fn put_id(text: *mut c_char, id: &UniqueId) -> Outcome<()> {
    let id = id.to_string();
    // SAFETY: the id fits, see the assertion above, and is no part of the caller's memory.
    unsafe { id.as_ptr().copy_to(text.cast(), id.len()) };
    // SAFETY: it has one byte less than there is room for.
    unsafe { text.add(id.len()).write(0) };
    Ok(())
}

/// Whether `text` is a unique id: undamaged, and of this version.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_unique_id_check(text: *const c_char) -> syncline_status_t {
    // SAFETY: the header asks for a C string.
    guard("syncline_unique_id_check", || unsafe { parse(text) }.map(|_| ()))
}

/// # Safety
/// `text` is null or a C string.
pub(crate) unsafe fn parse(text: *const c_char) -> Outcome<UniqueId> {
    // SAFETY: the function's contract.
    Ok(unsafe { text::required(text, "the unique id") }?.parse::<UniqueId>()?)
}

/// Joins the job of the unique id `id` as `rank` of `ranks`, and returns when all ranks have come.
/// `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_init_id(
    id: *const c_char,
    rank: syncline_rank_t,
    ranks: syncline_rank_t,
    options: *const syncline_options_t,
    result: *mut *mut syncline_comm_t,
) -> syncline_status_t {
    guard("syncline_comm_init_id", || {
        // SAFETY: the header asks for a C string.
        let at = || unsafe { parse(id) }.map(Rendezvous::Id);
        // SAFETY: the header asks for options or NULL, and a place to write to.
        unsafe { init(at, (rank, ranks), options, result) }
    })
}

/// Joins the job that meets at the file `path`, which all ranks can see, as `rank` of `ranks`, and
/// returns when all have come. Rank 0 makes the file, replacing what an earlier job may have left,
/// and removes it when all have come. `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_init_file(
    path: *const c_char,
    rank: syncline_rank_t,
    ranks: syncline_rank_t,
    options: *const syncline_options_t,
    result: *mut *mut syncline_comm_t,
) -> syncline_status_t {
    guard("syncline_comm_init_file", || {
        let at = || {
            // SAFETY: the header asks for a C string.
            let path = unsafe { text::path(path) };
            path.map(Rendezvous::File).ok_or_else(|| Failure::argument("path is null"))
        };
        // SAFETY: the header asks for options or NULL, and a place to write to.
        unsafe { init(at, (rank, ranks), options, result) }
    })
}

/// Joins the job that a launcher started this process as part of: torchrun, Slurm, Open MPI, Hydra,
/// PALS, or collbench. Without one, set SYNCLINE_RANK, SYNCLINE_WORLD_SIZE and SYNCLINE_RENDEZVOUS (a
/// path that all ranks share). `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_init_environment(
    options: *const syncline_options_t,
    result: *mut *mut syncline_comm_t,
) -> syncline_status_t {
    guard("syncline_comm_init_environment", || {
        let make = || {
            // SAFETY: the header asks for options or NULL.
            let options = unsafe { options::options(options) }?;
            Ok(Some(Communicator::init_from_environment(options)?))
        };
        // SAFETY: the header asks for a place to write to.
        unsafe { communicator::put(result, make) }
    })
}

/// # Safety
/// `options` is null or an options struct; `result` is null or writable.
pub(crate) unsafe fn init(
    at: impl FnOnce() -> Outcome<Rendezvous>,
    (rank, ranks): (u32, u32),
    given: *const syncline_options_t,
    result: *mut *mut syncline_comm_t,
) -> Outcome<()> {
    let make = || {
        let at = at()?;
        // SAFETY: the function's contract.
        let options = unsafe { options::options(given) }?;
        Ok(Some(Communicator::init(&at, rank, ranks, options)?))
    };
    // SAFETY: the function's contract.
    unsafe { communicator::put(result, make) }
}
