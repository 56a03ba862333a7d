//! The collectives that move data unchanged, and the barrier.

use std::ffi::c_void;
use std::ptr;

use comm::collective::{Counts, Request};
use comm::communicator::Communicator;
use comm::reduce::DType;
use comm::schedule::Collective;

use crate::call::{Call, counts};
use crate::communicator::syncline_comm_t;
use crate::options::{call_options, syncline_call_options_t};
use crate::status::{Outcome, syncline_status_t};
use crate::types::{self, syncline_dtype_t, syncline_rank_t};
use crate::work::syncline_work_t;

/// # Safety
/// `options` is null or an options struct.
unsafe fn even(
    collective: Collective,
    count: usize,
    dtype: syncline_dtype_t,
    options: *const syncline_call_options_t,
) -> Outcome<Request> {
    // SAFETY: the function's contract.
    let _no_field_concerns_these = unsafe { call_options(options) }?;
    Ok(Request::new(collective, types::dtype(dtype)?, count))
}

/// # Safety
/// `block_counts` is null or has one count per rank; `options` is null or an options struct.
unsafe fn uneven(
    comm: &Communicator,
    collective: Collective,
    block_counts: *const usize,
    dtype: syncline_dtype_t,
    options: *const syncline_call_options_t,
) -> Outcome<Request> {
    // SAFETY: the function's contract.
    let counts = unsafe { counts(block_counts, comm, "block_counts") }?;
    // SAFETY: the function's contract.
    let even = unsafe { even(collective, 0, dtype, options) }?;
    Ok(Request { counts: Counts::PerRank(counts), ..even })
}

/// The root's `input` (`count` elements) in every rank's `output` (`count` elements); other ranks'
/// `input` is not used. In place where the two are equal.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_broadcast(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: syncline_dtype_t,
    root: syncline_rank_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_broadcast", comm, input, output, work };
    // SAFETY: the header asks for what `make` and `even` ask for.
    unsafe { call.make(|_| Ok(even(Collective::Broadcast, count, dtype, options)?.root(root))) }
}

/// Every rank's `input` (`count` elements), in rank order, in every rank's `output` (one block of
/// `count` elements per rank). In place where `input` is the own block of `output`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_all_gather(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: syncline_dtype_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_all_gather", comm, input, output, work };
    // SAFETY: the header asks for what `make` and `even` ask for.
    unsafe { call.make(|_| even(Collective::AllGather, count, dtype, options)) }
}

/// As syncline_all_gather with blocks of `block_counts[r]` elements, packed in rank order; every
/// rank gives the same list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_all_gather_v(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    block_counts: *const usize,
    dtype: syncline_dtype_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_all_gather_v", comm, input, output, work };
    // SAFETY: the header asks for what `make` and `uneven` ask for.
    unsafe { call.make(|comm| uneven(comm, Collective::AllGather, block_counts, dtype, options)) }
}

/// Every rank's `input` (`count` elements), in rank order, in the root's `output` (one block of
/// `count` elements per rank); other ranks' `output` is not used. In place at the root where
/// `input` is its own block of `output`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_gather(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: syncline_dtype_t,
    root: syncline_rank_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_gather", comm, input, output, work };
    // SAFETY: the header asks for what `make` and `even` ask for.
    unsafe { call.make(|_| Ok(even(Collective::Gather, count, dtype, options)?.root(root))) }
}

/// As syncline_gather with blocks of `block_counts[r]` elements, packed in rank order; every rank
/// gives the same list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_gather_v(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    block_counts: *const usize,
    dtype: syncline_dtype_t,
    root: syncline_rank_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_gather_v", comm, input, output, work };
    // SAFETY: the header asks for what `make` and `uneven` ask for.
    unsafe {
        call.make(|comm| {
            Ok(uneven(comm, Collective::Gather, block_counts, dtype, options)?.root(root))
        })
    }
}

/// Block r of the root's `input` (one block of `count` elements per rank) in rank r's `output`
/// (`count` elements); other ranks' `input` is not used. In place at the root where `output` is
/// its own block of `input`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_scatter(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: syncline_dtype_t,
    root: syncline_rank_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_scatter", comm, input, output, work };
    // SAFETY: the header asks for what `make` and `even` ask for.
    unsafe { call.make(|_| Ok(even(Collective::Scatter, count, dtype, options)?.root(root))) }
}

/// As syncline_scatter with blocks of `block_counts[r]` elements, packed in rank order; every rank
/// gives the same list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_scatter_v(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    block_counts: *const usize,
    dtype: syncline_dtype_t,
    root: syncline_rank_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_scatter_v", comm, input, output, work };
    // SAFETY: the header asks for what `make` and `uneven` ask for.
    unsafe {
        call.make(|comm| {
            Ok(uneven(comm, Collective::Scatter, block_counts, dtype, options)?.root(root))
        })
    }
}

/// Block r of every rank's `input`, in rank order, in rank r's `output`; both have one block of
/// `count` elements per rank. In place where the two are equal.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_all_to_all(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: syncline_dtype_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_all_to_all", comm, input, output, work };
    // SAFETY: the header asks for what `make` and `even` ask for.
    unsafe { call.make(|_| even(Collective::AllToAll, count, dtype, options)) }
}

/// As syncline_all_to_all: `send_counts[r]` elements go to rank r and `receive_counts[r]` come from
/// it, packed in rank order in `input` and `output`. Not in place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_all_to_all_v(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    send_counts: *const usize,
    receive_counts: *const usize,
    dtype: syncline_dtype_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_all_to_all_v", comm, input, output, work };
    let request = |comm: &Communicator| {
        // SAFETY: the header asks for one count per rank.
        let send = unsafe { counts(send_counts, comm, "send_counts") }?;
        // SAFETY: the header asks for one count per rank.
        let receive = unsafe { counts(receive_counts, comm, "receive_counts") }?;
        // SAFETY: the header asks for options or NULL.
        let even = unsafe { even(Collective::AllToAll, 0, dtype, options) }?;
        Ok(Request { counts: Counts::PerPair { send, receive }, ..even })
    };
    // SAFETY: the header asks for what `make` asks for.
    unsafe { call.make(request) }
}

/// Ends when every rank has called it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_barrier(
    comm: *mut syncline_comm_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let (input, output) = (ptr::null(), ptr::null_mut());
    let call = Call { function: "syncline_barrier", comm, input, output, work };
    // SAFETY: the header asks for what `make` asks for; no buffer is used.
    unsafe { call.make(|_| Ok(Request::new(Collective::Barrier, DType::U8, 0))) }
}
