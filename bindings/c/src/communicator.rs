//! Communicators: the handle's life, who is in one, and communicators made from communicators.

use std::ffi::c_char;
use std::ptr;

use comm::communicator::Communicator;

use crate::boundary::guard;
use crate::handles::{Kind, Table};
use crate::status::{Failure, Outcome, syncline_status_t};
use crate::text;
use crate::types::syncline_rank_t;
use crate::work;

/// A group of ranks that exchange data. Made by syncline_comm_init_* and by calls on other
/// communicators; ended by syncline_comm_destroy. All calls may be made from any thread.
pub struct syncline_comm_t {
    _private: (),
}

static COMMUNICATORS: Table<Communicator> = Table::new(Kind::Communicator);

/// The communicator of a handle.
pub(crate) fn get(handle: *const syncline_comm_t) -> Outcome<Communicator> {
    COMMUNICATORS.get(handle.addr(), "comm")
}

/// Makes a communicator and writes its handle to `result`; on failure NULL.
///
/// # Safety
/// `result` is null or writable.
pub(crate) unsafe fn put(
    result: *mut *mut syncline_comm_t,
    make: impl FnOnce() -> Outcome<Option<Communicator>>,
) -> Outcome<()> {
    // SAFETY: the function's contract.
    unsafe { text::put(result, "result", ptr::null_mut()) }?;
    let Some(comm) = make()? else { return Ok(()) };
    let handle = COMMUNICATORS.insert(comm)?;
    // SAFETY: the function's contract.
    unsafe { text::put(result, "result", ptr::without_provenance_mut(handle)) }
}

/// Destroys `comm`: waits for the operations that were started on it, so that none uses the
/// caller's memory any more when this returns, and closes its connections. To end them instead of
/// waiting, call syncline_comm_abort first. Returns the failure of the first of them that fails;
/// `comm` is destroyed in any case. It never waits longer than its operations may: an operation
/// fails when nothing has moved for the communicator's timeout. Work handles stay valid and have
/// to be freed. A blocking call of another thread goes on to its end, and the connections stay
/// open until then, as they do for an open group. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_destroy(comm: *mut syncline_comm_t) -> syncline_status_t {
    guard("syncline_comm_destroy", || {
        if comm.is_null() {
            return Ok(());
        }
        let removed = COMMUNICATORS.remove(comm.addr(), "comm")?;
        let ended = work::wait_for_all(comm.addr());
        drop(removed);
        ended
    })
}

/// Writes this process's rank in `comm` to `rank`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_rank(
    comm: *const syncline_comm_t,
    rank: *mut syncline_rank_t,
) -> syncline_status_t {
    guard("syncline_comm_rank", || {
        let comm = get(comm)?;
        // SAFETY: the header asks for a place to write to.
        unsafe { text::put(rank, "rank", comm.rank()) }
    })
}

/// Writes the number of ranks of `comm` to `ranks`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_ranks(
    comm: *const syncline_comm_t,
    ranks: *mut syncline_rank_t,
) -> syncline_status_t {
    guard("syncline_comm_ranks", || {
        let comm = get(comm)?;
        // SAFETY: the header asks for a place to write to.
        unsafe { text::put(ranks, "ranks", comm.ranks()) }
    })
}

/// Writes the number of hosts that the ranks of `comm` run on to `hosts`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_hosts(
    comm: *const syncline_comm_t,
    hosts: *mut u32,
) -> syncline_status_t {
    guard("syncline_comm_hosts", || {
        let comm = get(comm)?;
        // SAFETY: the header asks for a place to write to.
        unsafe { text::put(hosts, "hosts", comm.hosts()) }
    })
}

/// Writes the name of the host that `rank` runs on to `host`; free it with syncline_text_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_host_of(
    comm: *const syncline_comm_t,
    rank: syncline_rank_t,
    host: *mut *mut c_char,
) -> syncline_status_t {
    guard("syncline_comm_host_of", || {
        let comm = get(comm)?;
        let member = comm.members().get(rank as usize).ok_or_else(|| {
            let last = comm.ranks() - 1;
            Failure::argument(format!("{rank} is not a rank; there are ranks 0 to {last}"))
        })?;
        // SAFETY: the header asks for a place to write to.
        unsafe { text::give(host, "host", member.host.clone()) }
    })
}

/// Splits `comm`; every rank calls it. Ranks of equal `color` (0 or more) form a new communicator,
/// in which they are ordered by `key`, then by rank. A rank with a negative color gets NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_split(
    comm: *mut syncline_comm_t,
    color: i32,
    key: i32,
    result: *mut *mut syncline_comm_t,
) -> syncline_status_t {
    guard("syncline_comm_split", || {
        // SAFETY: the header asks for a place to write to.
        unsafe { put(result, || Ok(get(comm)?.split(u32::try_from(color).ok(), key)?)) }
    })
}

/// Makes a communicator of the `count` ranks listed in `ranks`, in that order; every rank of `comm`
/// calls it with the same list. A rank that is not listed gets NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_subset(
    comm: *mut syncline_comm_t,
    ranks: *const syncline_rank_t,
    count: usize,
    result: *mut *mut syncline_comm_t,
) -> syncline_status_t {
    guard("syncline_comm_subset", || {
        let make = || {
            let comm = get(comm)?;
            // SAFETY: the header asks for `count` ranks.
            let ranks = unsafe { text::list(ranks, count, "ranks") }?;
            Ok(comm.subset(ranks)?)
        };
        // SAFETY: the header asks for a place to write to.
        unsafe { put(result, make) }
    })
}

/// Makes a communicator of the same ranks, whose operations do not wait for those of `comm`; every
/// rank calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_duplicate(
    comm: *mut syncline_comm_t,
    result: *mut *mut syncline_comm_t,
) -> syncline_status_t {
    guard("syncline_comm_duplicate", || {
        // SAFETY: the header asks for a place to write to.
        unsafe { put(result, || Ok(Some(get(comm)?.duplicate()?))) }
    })
}
