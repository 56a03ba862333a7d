//! Calls on buffers given by address: what the bindings of other languages make.
//!
//! Which of the two buffers of a call are one is told from the addresses, as NCCL does; see
//! [`Contract::is_in_place`](crate::collective::Contract::is_in_place).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;

use super::message::Message;
use super::{Communicator, Inner};
use crate::collective::{self, Request};
use crate::engine::{self, Buffers, Patience};
use crate::error::{Error, Rank, Result};
use crate::memory::{Loan, RawBuffers, own};
use crate::reduce::DType;

/// Operations on a caller's memory, started together. Dropping this leaves them running, on
/// that memory.
#[must_use = "wait for it: until then the operation uses the caller's buffers"]
pub struct RawWork {
    inner: Arc<Inner>,
    /// One, except of a group.
    parts: SmallVec<[Part; 1]>,
}

struct Part {
    work: engine::Work,
    /// Where what was packed belongs, until it is there.
    unpack: Mutex<Vec<Loan<'static>>>,
}

impl RawWork {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, parts: SmallVec::new() }
    }

    /// The result, if all of it has ended; moves it on otherwise.
    pub fn test(&self) -> Option<Result<()>> {
        let ended: SmallVec<[Option<Result<()>>; 1]> =
            self.parts.iter().map(|part| part.ended(part.work.test()?)).collect();
        ended.into_iter().try_fold(Ok(()), |first: Result<()>, ended| Some(first.and(ended?)))
    }

    /// Waits for the end, at most for `limit`; `None` when that has passed first, and the
    /// operations go on. Without a limit they end at the latest when nothing has moved for the
    /// communicator's timeout.
    pub fn wait(&self, limit: Option<Duration>) -> Option<Result<()>> {
        let mut patience = self.inner.patience();
        patience.deadline = limit.map(|limit| patience.clock.now().saturating_add(limit));
        // All of them, whatever becomes of the first: they use the caller's memory.
        let wait = |first: Result<()>, part: &Part| {
            let ended = part.ended(part.work.wait(&patience)?)?;
            Some(first.and(ended))
        };
        self.parts.iter().try_fold(Ok(()), wait)
    }

    pub(super) fn start_message(&mut self, message: &Message, loan: &Loan<'_>) -> Result<()> {
        let buffers = Buffers::separate(loan.input, loan.output);
        let patience = self.inner.patience();
        let cell = &self.inner.cell;
        let keep = Box::new(());
        let work = cell.start(&message.program, buffers, &message.meta, keep, &patience)?;
        self.parts.push(Part { work, unpack: Mutex::default() });
        Ok(())
    }

    fn start(&mut self, request: &Request, loan: &Loan<'_>, in_place: bool) -> Result<()> {
        let plan = self.inner.plan(request, in_place)?;
        let meta = plan.meta(self.inner.next_sequence());
        let patience = self.inner.patience();
        let cell = &self.inner.cell;
        let buffers = buffers(loan, in_place);
        let work = cell.start(&plan.program, buffers, &meta, Box::new(()), &patience)?;
        self.parts.push(Part { work, unpack: Mutex::default() });
        Ok(())
    }

    /// Starts a collective in place on the output of `loan`.
    pub(super) fn start_in_place(&mut self, request: &Request, loan: &Loan<'_>) -> Result<()> {
        self.start(request, loan, true)
    }

    /// Starts a collective in place on `packed`, which is copied out to `unpack` at the end.
    pub(super) fn start_packed(
        &mut self,
        request: &Request,
        packed: Vec<u8>,
        unpack: Vec<Loan<'static>>,
    ) -> Result<()> {
        let plan = self.inner.plan(request, true)?;
        let meta = plan.meta(self.inner.next_sequence());
        let patience: Patience<'_> = self.inner.patience();
        let (span, packed) = own(packed);
        let buffers = Buffers::in_place(span);
        let cell = &self.inner.cell;
        let work = cell.start(&plan.program, buffers, &meta, Box::new(packed), &patience)?;
        self.parts.push(Part { work, unpack: Mutex::new(unpack) });
        Ok(())
    }
}

impl Part {
    /// Does what is left to do at the end.
    fn ended(&self, result: Result<()>) -> Option<Result<()>> {
        let mut unpack = self.unpack.lock().unwrap_or_else(PoisonError::into_inner);
        let targets = std::mem::take(&mut *unpack);
        if result.is_ok()
            && !targets.is_empty()
            && let Some(packed) = self.work.take_kept()
            && let Ok(packed) = packed.downcast::<Vec<u8>>()
        {
            let mut rest = packed.as_slice();
            for mut target in targets {
                let (_, output) = target.slices();
                let (mine, after) = rest.split_at(output.len());
                output.copy_from_slice(mine);
                rest = after;
            }
        }
        Some(result)
    }
}

fn buffers(loan: &Loan<'_>, in_place: bool) -> Buffers {
    if in_place {
        Buffers::in_place(loan.output)
    } else {
        Buffers::separate(loan.input, loan.output)
    }
}

impl Communicator {
    /// The memory of a call at `at`, and whether it is in place.
    pub(super) fn lend(&self, request: &Request, at: RawBuffers) -> Result<(Loan<'static>, bool)> {
        let contract = collective::contract(request, self.rank(), self.ranks())?;
        let size = request.dtype.size();
        let (input, output) = at.addresses();
        let in_place = contract.is_in_place(size, input, output)?;
        let (input_bytes, output_bytes) = contract.bytes(size);
        let loan = if in_place {
            at.lend_one(input_bytes.max(output_bytes))
        } else {
            at.lend(input_bytes, output_bytes)
        };
        Ok((loan, in_place))
    }

    /// Runs one collective on the buffers at `at`.
    ///
    /// # Errors
    /// As [`run`](Self::run); and [`Error::InvalidArgument`] when a buffer is null or the two
    /// overlap in part.
    pub fn run_raw(&self, request: &Request, at: RawBuffers) -> Result<()> {
        let (mut loan, in_place) = self.lend(request, at)?;
        if self.needs_pieces(request) {
            let (input, output) = loan.slices();
            return self.run(request, (!in_place).then_some(input), output);
        }
        let plan = self.inner.plan(request, in_place)?;
        let meta = plan.meta(self.inner.next_sequence());
        let buffers = buffers(&loan, in_place);
        self.inner.cell.run_blocking(&plan.program, buffers, &meta, &self.inner.patience())
    }

    /// Starts one collective on the buffers at `at`.
    ///
    /// # Errors
    /// As [`start`](Self::start); and [`Error::InvalidArgument`] when a buffer is null or the
    /// two overlap in part.
    pub fn start_raw(&self, request: &Request, at: RawBuffers) -> Result<RawWork> {
        let (loan, in_place) = self.lend(request, at)?;
        let mut work = RawWork::new(Arc::clone(&self.inner));
        work.start(request, &loan, in_place)?;
        Ok(work)
    }

    /// Sends `count` elements at `at` to `peer`.
    ///
    /// # Errors
    /// As [`send`](Self::send); and [`Error::InvalidArgument`] when the buffer is null or cannot
    /// exist.
    pub fn send_raw(&self, dtype: DType, count: usize, peer: Rank, at: RawBuffers) -> Result<()> {
        let loan = self.inner.lend_message(dtype, count, true, at)?;
        self.exchange(&self.inner.message(dtype, count, peer, true)?, &loan)
    }

    /// Receives `count` elements at `at` from `peer`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); and [`Error::InvalidArgument`] when the buffer is null or cannot
    /// exist.
    pub fn recv_raw(&self, dtype: DType, count: usize, peer: Rank, at: RawBuffers) -> Result<()> {
        let loan = self.inner.lend_message(dtype, count, false, at)?;
        self.exchange(&self.inner.message(dtype, count, peer, false)?, &loan)
    }

    /// Starts to send `count` elements at `at` to `peer`.
    ///
    /// # Errors
    /// As [`send_raw`](Self::send_raw), of what is wrong before anything is sent.
    pub fn start_send_raw(
        &self,
        dtype: DType,
        count: usize,
        peer: Rank,
        at: RawBuffers,
    ) -> Result<RawWork> {
        self.start_message_raw((dtype, count), peer, true, at)
    }

    /// Starts to receive `count` elements at `at` from `peer`.
    ///
    /// # Errors
    /// As [`recv_raw`](Self::recv_raw), of what is wrong before anything is sent.
    pub fn start_recv_raw(
        &self,
        dtype: DType,
        count: usize,
        peer: Rank,
        at: RawBuffers,
    ) -> Result<RawWork> {
        self.start_message_raw((dtype, count), peer, false, at)
    }

    fn start_message_raw(
        &self,
        (dtype, count): (DType, usize),
        peer: Rank,
        send: bool,
        at: RawBuffers,
    ) -> Result<RawWork> {
        let loan = self.inner.lend_message(dtype, count, send, at)?;
        let message = self.inner.message(dtype, count, peer, send)?;
        let mut work = RawWork::new(Arc::clone(&self.inner));
        work.start_message(&message, &loan)?;
        Ok(work)
    }
}

impl Inner {
    /// The memory of a message at `at`.
    pub(super) fn lend_message(
        &self,
        dtype: DType,
        count: usize,
        send: bool,
        at: RawBuffers,
    ) -> Result<Loan<'static>> {
        let operation = if send { "send" } else { "recv" };
        let bytes = message_bytes(operation, dtype, count)?;
        let (input, output) = at.addresses();
        let address = if send { input } else { output };
        if bytes > 0 && (address == 0 || address.checked_add(bytes).is_none()) {
            let reason = if address == 0 {
                format!("the buffer is null, and this call needs {bytes} bytes")
            } else {
                format!("the buffer of {bytes} bytes would pass the end of the address space")
            };
            return Err(Error::InvalidArgument { operation, reason });
        }
        Ok(if send { at.lend(bytes, 0) } else { at.lend(0, bytes) })
    }
}

/// Bytes of a message of `count` elements.
pub(super) fn message_bytes(operation: &'static str, dtype: DType, count: usize) -> Result<usize> {
    count.checked_mul(dtype.size()).filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(|| {
        let reason =
            format!("{count} elements of {} would not fit into an address space", dtype.name());
        Error::InvalidArgument { operation, reason }
    })
}
