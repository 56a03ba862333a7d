//! The collectives that combine.

use std::ffi::c_void;

use comm::collective::{Counts, Request};
use comm::schedule::Collective;

use crate::call::{Call, counts};
use crate::communicator::syncline_comm_t;
use crate::options::{call_options, syncline_call_options_t};
use crate::status::{Outcome, syncline_status_t};
use crate::types::{self, syncline_dtype_t, syncline_op_t, syncline_rank_t};
use crate::work::syncline_work_t;

/// # Safety
/// `options` is null or an options struct.
unsafe fn request(
    collective: Collective,
    count: usize,
    dtype: syncline_dtype_t,
    op: syncline_op_t,
    options: *const syncline_call_options_t,
) -> Outcome<Request> {
    // SAFETY: the function's contract.
    let options = unsafe { call_options(options) }?;
    let op = types::op(op, options.as_ref())?;
    Ok(Request::new(collective, types::dtype(dtype)?, count).op(op))
}

/// The reduction of all ranks' `input` (`count` elements) in every rank's `output` (`count`
/// elements). In place where the two are equal.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_all_reduce(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: syncline_dtype_t,
    op: syncline_op_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_all_reduce", comm, input, output, work };
    // SAFETY: the header asks for what `make` and `request` ask for.
    unsafe { call.make(|_| request(Collective::AllReduce, count, dtype, op, options)) }
}

/// The reduction of all ranks' `input` (`count` elements) in the root's `output` (`count`
/// elements); other ranks' `output` is not used. In place where the two are equal.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_reduce(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: syncline_dtype_t,
    op: syncline_op_t,
    root: syncline_rank_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_reduce", comm, input, output, work };
    // SAFETY: the header asks for what `make` and `request` ask for.
    unsafe { call.make(|_| Ok(request(Collective::Reduce, count, dtype, op, options)?.root(root))) }
}

/// Block r of the reduction of all ranks' `input` (one block of `count` elements per rank) in rank
/// r's `output` (`count` elements). In place where `output` is block r of `input`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_reduce_scatter(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: syncline_dtype_t,
    op: syncline_op_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_reduce_scatter", comm, input, output, work };
    // SAFETY: the header asks for what `make` and `request` ask for.
    unsafe { call.make(|_| request(Collective::ReduceScatter, count, dtype, op, options)) }
}

/// As syncline_reduce_scatter with blocks of `block_counts[r]` elements, packed in rank order;
/// every rank gives the same list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_reduce_scatter_v(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    block_counts: *const usize,
    dtype: syncline_dtype_t,
    op: syncline_op_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_reduce_scatter_v", comm, input, output, work };
    let uneven = |comm: &comm::communicator::Communicator| {
        // SAFETY: the header asks for one count per rank.
        let counts = unsafe { counts(block_counts, comm, "block_counts") }?;
        // SAFETY: the header asks for options or NULL.
        let even = unsafe { request(Collective::ReduceScatter, 0, dtype, op, options) }?;
        Ok(Request { counts: Counts::PerRank(counts), ..even })
    };
    // SAFETY: the header asks for what `make` asks for.
    unsafe { call.make(uneven) }
}

/// The reduction of the `input` of ranks 0 to r in rank r's `output`; `count` elements each. In
/// place where the two are equal.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_scan(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: syncline_dtype_t,
    op: syncline_op_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_scan", comm, input, output, work };
    // SAFETY: the header asks for what `make` and `request` ask for.
    unsafe { call.make(|_| request(Collective::Scan, count, dtype, op, options)) }
}

/// The reduction of the `input` of ranks 0 to r-1 in rank r's `output`; `count` elements each. Rank
/// 0's `output` is left as it is. In place where the two are equal.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_exscan(
    comm: *mut syncline_comm_t,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: syncline_dtype_t,
    op: syncline_op_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    let call = Call { function: "syncline_exscan", comm, input, output, work };
    // SAFETY: the header asks for what `make` and `request` ask for.
    unsafe { call.make(|_| request(Collective::ExScan, count, dtype, op, options)) }
}
