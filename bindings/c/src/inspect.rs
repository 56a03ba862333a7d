//! What a call will use, and what the last ones did.

use std::ffi::c_char;

use comm::collective::Request;

use crate::boundary::guard;
use crate::communicator::{self, syncline_comm_t};
use crate::status::syncline_status_t;
use crate::text;
use crate::types::{self, syncline_collective_t, syncline_dtype_t, syncline_op_t, syncline_rank_t};

/// Writes what a call of `collective` with `count` elements will use, and why, to `explanation`:
/// algorithm, wires, predicted duration, the runner-up. `op` and `root` matter where the collective
/// has one. Sends nothing. Free the text with syncline_text_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_explain(
    comm: *mut syncline_comm_t,
    collective: syncline_collective_t,
    count: usize,
    dtype: syncline_dtype_t,
    op: syncline_op_t,
    root: syncline_rank_t,
    explanation: *mut *mut c_char,
) -> syncline_status_t {
    guard("syncline_explain", || {
        let comm = communicator::get(comm)?;
        // SAFETY: the header asks for a place to write to.
        unsafe { text::put(explanation, "explanation", std::ptr::null_mut()) }?;
        let request = Request::new(types::collective(collective)?, types::dtype(dtype)?, count);
        let request = request.op(types::op_without_factor(op)?).root(root);
        // SAFETY: as above.
        unsafe { text::give(explanation, "explanation", comm.explain(&request)?.to_string()) }
    })
}

/// Writes what this rank knows about the last operations on `comm` to `json`, for `collbench doctor`,
/// which reads the dumps of all ranks: which operations they were, how they ended, and what those
/// under way wait for. Works at any time, also after a failure. Free the text with
/// syncline_text_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_dump(
    comm: *const syncline_comm_t,
    json: *mut *mut c_char,
) -> syncline_status_t {
    guard("syncline_comm_dump", || {
        let comm = communicator::get(comm)?;
        // SAFETY: the header asks for a place to write to.
        unsafe { text::put(json, "json", std::ptr::null_mut()) }?;
        // SAFETY: as above.
        unsafe { text::give(json, "json", comm.dump().to_json()) }
    })
}
