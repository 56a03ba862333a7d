//! What all collectives have in common: look up, check, run or start.

use std::ffi::c_void;
use std::ptr;

use comm::collective::Request;
use comm::communicator::Communicator;
use comm::memory::RawBuffers;

use crate::boundary::guard;
use crate::communicator::{self, syncline_comm_t};
use crate::status::{Outcome, syncline_status_t};
use crate::text;
use crate::work::{self, syncline_work_t};

/// The arguments that every collective has.
pub(crate) struct Call {
    pub(crate) function: &'static str,
    pub(crate) comm: *mut syncline_comm_t,
    pub(crate) input: *const c_void,
    pub(crate) output: *mut c_void,
    pub(crate) work: *mut *mut syncline_work_t,
}

impl Call {
    /// Makes the call: to its end, or started where the caller gave a place for a work handle.
    ///
    /// # Safety
    /// What the header says of collectives: the buffers are as large as the request says and
    /// stay so until the operation has ended; `work` is null or writable.
    pub(crate) unsafe fn make(
        self,
        request: impl FnOnce(&Communicator) -> Outcome<Request>,
    ) -> syncline_status_t {
        guard(self.function, || {
            if !self.work.is_null() {
                // SAFETY: the function's contract.
                unsafe { text::put(self.work, "work", ptr::null_mut()) }?;
            }
            let comm = communicator::get(self.comm)?;
            let request = request(&comm)?;
            // SAFETY: the function's contract.
            let at = unsafe { RawBuffers::new(self.input.cast(), self.output.cast()) };
            if self.work.is_null() {
                return Ok(comm.run_raw(&request, at)?);
            }
            let started = comm.start_raw(&request, at)?;
            // SAFETY: the function's contract.
            unsafe { work::put(self.work, self.comm, started) }
        })
    }
}

/// One count per rank of `comm`.
///
/// # Safety
/// `counts` is null, or has one count per rank.
pub(crate) unsafe fn counts(
    counts: *const usize,
    comm: &Communicator,
    name: &str,
) -> Outcome<Vec<usize>> {
    // SAFETY: the function's contract.
    Ok(unsafe { text::list(counts, comm.ranks() as usize, name) }?.to_vec())
}
