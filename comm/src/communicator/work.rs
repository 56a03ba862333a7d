//! Operations that go on by themselves.

use std::time::Duration;

use super::{Communicator, Inner};
use crate::collective::Request;
use crate::engine;
use crate::error::{Error, Rank, Result};
use crate::memory::{Span, own};
use crate::reduce::{Element, ReduceOp};
use crate::schedule::Collective;

use std::sync::Arc;

/// The buffers of a started operation.
struct Kept<T> {
    input: Vec<T>,
    output: Vec<T>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { input: Vec::new(), output: Vec::new() }
    }
}

impl<T: Element> Kept<T> {
    /// In a box, of which `inner` may have one left.
    fn boxed(self, inner: &Inner) -> Box<Self> {
        let spare = inner.spare_kept.take(|spare| spare.is::<Self>());
        let mut place = spare.and_then(|spare| spare.downcast().ok()).unwrap_or_default();
        *place = self;
        place
    }
}

/// A started operation. It goes on in the background; several may be in flight, and may be
/// waited for in any order. Dropping this leaves the operation running.
#[must_use = "wait for it to get the buffer back"]
pub struct Work<T> {
    inner: Arc<Inner>,
    work: engine::Work,
    _element: std::marker::PhantomData<fn() -> T>,
}

impl<T: Element> Work<T> {
    /// Whether the operation has ended, well or not. Moves it on if it has not.
    pub fn test(&self) -> bool {
        self.work.test().is_some()
    }

    /// Waits for the end and returns the output (in place: the one buffer; for a send: what was
    /// sent).
    ///
    /// # Errors
    /// Whatever went wrong; [`Error::Timeout`] when nothing moved for the communicator's timeout.
    pub fn wait(self) -> Result<Vec<T>> {
        let patience = self.inner.patience();
        let ended = self.work.wait(&patience).unwrap_or_else(|| self.lost());
        ended.and_then(|()| self.output())
    }

    /// Waits for the end for at most `limit`; `Err(self)` when that has passed first, and the
    /// operation goes on.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), inside the `Ok`.
    pub fn wait_for(self, limit: Duration) -> std::result::Result<Result<Vec<T>>, Self> {
        let mut patience = self.inner.patience();
        patience.deadline = Some(patience.clock.now().saturating_add(limit));
        match self.work.wait(&patience) {
            None => Err(self),
            Some(ended) => Ok(ended.and_then(|()| self.output())),
        }
    }

    fn output(&self) -> Result<Vec<T>> {
        let kept = self.work.take_kept().and_then(|kept| kept.downcast::<Kept<T>>().ok());
        match kept {
            Some(mut kept) => {
                let Kept { input, output } = std::mem::take(&mut *kept);
                self.inner.spare_kept.keep(kept);
                Ok(if output.is_empty() { input } else { output })
            }
            None => self.lost().map(|()| Vec::new()),
        }
    }

    fn lost(&self) -> Result<()> {
        Err(Error::InvalidArgument {
            operation: "wait",
            reason: "the buffer was taken already".to_owned(),
        })
    }
}

impl Communicator {
    /// Starts a collective on buffers that it owns until it has ended; `input: None` is in place.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what [`run`](Self::run) refuses, and when the request's type
    /// is not `T`'s.
    pub fn start<T: Element>(
        &self,
        request: &Request,
        input: Option<Vec<T>>,
        output: Vec<T>,
    ) -> Result<Work<T>> {
        let in_place = input.is_none();
        let input = input.unwrap_or_default();
        if request.dtype != T::DTYPE {
            return Err(Error::InvalidArgument {
                operation: request.collective.name(),
                reason: format!(
                    "the request says {}, the buffers hold {}",
                    request.dtype.name(),
                    T::DTYPE.name()
                ),
            });
        }
        let plan = self.inner.plan(request, in_place)?;
        plan.check_elements(in_place, input.len(), output.len())?;
        let ((input_span, input), (output_span, output)) = (own(input), own(output));
        let buffers = if in_place {
            engine::Buffers::in_place(output_span)
        } else {
            engine::Buffers::separate(input_span.as_span(), output_span)
        };
        let keep = Kept { input, output }.boxed(&self.inner);
        let meta = plan.meta(self.inner.next_sequence());
        let patience = self.inner.patience();
        let work = self.inner.cell.start(&plan.program, buffers, &meta, keep, &patience)?;
        Ok(Work { inner: Arc::clone(&self.inner), work, _element: std::marker::PhantomData })
    }

    /// Starts an in-place all_reduce of `data` (n).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_all_reduce<T: Element>(&self, data: Vec<T>, op: ReduceOp) -> Result<Work<T>> {
        let request = Request::new(Collective::AllReduce, T::DTYPE, data.len()).op(op);
        self.start(&request, None, data)
    }

    /// Starts to send `data` to `peer`, which must receive as many elements of the same type.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `peer` is not a rank.
    pub fn start_send<T: Element>(&self, data: Vec<T>, peer: Rank) -> Result<Work<T>> {
        let message = self.inner.message(T::DTYPE, data.len(), peer, true)?;
        let (span, input) = own(data);
        let buffers = engine::Buffers::separate(span.as_span(), crate::memory::SpanMut::EMPTY);
        self.start_message(&message, buffers, Kept { input, output: Vec::new() })
    }

    /// Starts to receive into `data` from `peer`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `peer` is not a rank.
    pub fn start_recv<T: Element>(&self, data: Vec<T>, peer: Rank) -> Result<Work<T>> {
        let message = self.inner.message(T::DTYPE, data.len(), peer, false)?;
        let (span, output) = own(data);
        let buffers = engine::Buffers::separate(Span::EMPTY, span);
        self.start_message(&message, buffers, Kept { input: Vec::new(), output })
    }

    fn start_message<T: Element>(
        &self,
        message: &super::message::Message,
        buffers: engine::Buffers,
        kept: Kept<T>,
    ) -> Result<Work<T>> {
        let patience = self.inner.patience();
        let cell = &self.inner.cell;
        let keep = kept.boxed(&self.inner);
        let work = cell.start(&message.program, buffers, &message.meta, keep, &patience)?;
        Ok(Work { inner: Arc::clone(&self.inner), work, _element: std::marker::PhantomData })
    }
}
