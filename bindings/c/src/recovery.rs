//! After a failure: give up, agree on who is left, go on without the others, admit new ones.

use std::ffi::c_char;

use comm::communicator::UniqueId;

use crate::boundary::guard;
use crate::communicator::{get, put, syncline_comm_t};
use crate::job::{check_room, parse, put_id};
use crate::status::syncline_status_t;
use crate::text;
use crate::types::syncline_rank_t;

/// Gives `comm` up: every call of this rank that is under way on it ends with
/// SYNCLINE_ERROR_ABORTED within 100 ms, also those that wait in other threads, and so does every
/// call that comes. The other ranks' calls end with an error that names this rank and `reason` (may
/// be NULL), and they can shrink to a communicator without it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_abort(
    comm: *mut syncline_comm_t,
    reason: *const c_char,
) -> syncline_status_t {
    guard("syncline_comm_abort", || {
        let comm = get(comm)?;
        // SAFETY: the header asks for a C string or NULL.
        let reason = unsafe { text::optional(reason, "reason") }?;
        comm.abort(reason.as_deref().unwrap_or("the application called syncline_comm_abort"));
        Ok(())
    })
}

/// Ends `comm` for everybody: calls under way end on every rank with SYNCLINE_ERROR_REVOKED, this
/// rank and `reason` (may be NULL) in their texts. Only syncline_comm_agree, syncline_comm_shrink,
/// syncline_comm_failure and syncline_comm_destroy work afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_revoke(
    comm: *mut syncline_comm_t,
    reason: *const c_char,
) -> syncline_status_t {
    guard("syncline_comm_revoke", || {
        let comm = get(comm)?;
        // SAFETY: the header asks for a C string or NULL.
        let reason = unsafe { text::optional(reason, "reason") }?;
        comm.revoke(reason.as_deref().unwrap_or("the application called syncline_comm_revoke"));
        Ok(())
    })
}

/// Why `comm` takes no more calls: the status that they return, with its text and its ranks.
/// SYNCLINE_OK while it works. Never blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_failure(comm: *const syncline_comm_t) -> syncline_status_t {
    guard("syncline_comm_failure", || match get(comm)?.failure() {
        None => Ok(()),
        Some(error) => Err(error.into()),
    })
}

/// Agrees with the other survivors; every rank that can calls it. Works on a failed communicator,
/// and ends even when ranks fail meanwhile: those that do not come within the timeout are left out,
/// those that are known to be dead at once. `*flags` is what this rank brings and becomes the
/// bitwise AND of what the survivors brought. Writes up to `capacity` of the ranks that have no part
/// any more to `failed`, ascending, and their number to `failed_count`; both are the same at all
/// survivors. `failed` may be NULL when `capacity` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_agree(
    comm: *mut syncline_comm_t,
    flags: *mut u64,
    failed: *mut syncline_rank_t,
    capacity: usize,
    failed_count: *mut usize,
) -> syncline_status_t {
    guard("syncline_comm_agree", || {
        let comm = get(comm)?;
        // SAFETY: the header asks for one number.
        let brought = unsafe { text::list(flags, 1, "flags") }?[0];
        if capacity > 0 {
            text::check_result(failed, "failed")?;
        }
        // SAFETY: the header asks for a place to write to.
        unsafe { text::put(failed_count, "failed_count", 0) }?;
        let agreement = comm.agree(brought)?;
        let shown = agreement.failed.len().min(capacity);
        if shown > 0 {
            // SAFETY: the header asks for room for `capacity` ranks.
            unsafe { agreement.failed.as_ptr().copy_to(failed, shown) };
        }
        // SAFETY: as above.
        unsafe { text::put(failed_count, "failed_count", agreement.failed.len()) }?;
        // SAFETY: it was read above.
        unsafe { text::put(flags, "flags", agreement.flags) }
    })
}

/// Makes a communicator of the ranks that are left, renumbered in order; all of them call it. Works
/// on a failed communicator. Ranks that fail meanwhile are left out too. `comm` is still to be
/// destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_shrink(
    comm: *mut syncline_comm_t,
    result: *mut *mut syncline_comm_t,
) -> syncline_status_t {
    guard("syncline_comm_shrink", || {
        // SAFETY: the header asks for a place to write to.
        unsafe { put(result, || Ok(Some(get(comm)?.shrink()?))) }
    })
}

/// Opens the door for new ranks: writes the id for them to join with to `text`, which has room for
/// `capacity` bytes (SYNCLINE_UNIQUE_ID_BYTES suffice). This rank then gives it to
/// syncline_comm_grow. The id holds a secret: pass it on with care.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_invite(
    comm: *mut syncline_comm_t,
    text: *mut c_char,
    capacity: usize,
) -> syncline_status_t {
    guard("syncline_comm_invite", || {
        check_room(text, capacity)?;
        let id = get(comm)?.invite()?;
        // SAFETY: the header asks for room for `capacity` bytes, which was checked.
        unsafe { put_id(text, &id) }
    })
}

/// Makes a communicator of `ranks` ranks; every rank of `comm` calls it and keeps its number. The
/// others are those that join with the invitation, by syncline_comm_init_id as ranks (number of
/// ranks of `comm`) to `ranks` - 1 of `ranks`, with the same options. Exactly one rank passes the
/// `invitation` that it made with syncline_comm_invite, the others NULL. `comm` works on, and is
/// still to be destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_grow(
    comm: *mut syncline_comm_t,
    invitation: *const c_char,
    ranks: syncline_rank_t,
    result: *mut *mut syncline_comm_t,
) -> syncline_status_t {
    guard("syncline_comm_grow", || {
        let make = || {
            let comm = get(comm)?;
            let id: Option<UniqueId> = match invitation.is_null() {
                true => None,
                // SAFETY: the header asks for a C string or NULL.
                false => Some(unsafe { parse(invitation) }?),
            };
            Ok(Some(comm.grow(id.as_ref(), ranks)?))
        };
        // SAFETY: the header asks for a place to write to.
        unsafe { put(result, make) }
    })
}
