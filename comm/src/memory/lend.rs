//! From callers' buffers to spans. The engine works on spans; whoever starts an operation on
//! borrowed, owned or foreign memory says here how long that memory lasts.

use std::marker::PhantomData;

use super::{Span, SpanMut};

/// Borrowed memory on loan to an operation. Whoever takes spans out of it ends every use of them
/// before the loan ends: a blocking call by returning, a started one by waiting.
#[derive(Debug)]
pub(crate) struct Loan<'a> {
    pub(crate) input: Span,
    pub(crate) output: SpanMut,
    _memory: PhantomData<&'a mut [u8]>,
}

impl<'a> Loan<'a> {
    /// Lends `input` to read and `output` to write.
    pub(crate) fn new(input: &'a [u8], output: &'a mut [u8]) -> Self {
        // SAFETY: the bytes stay borrowed for 'a, which no use of the span outlives (see the
        // type), and nobody can write them meanwhile.
        let input = unsafe { Span::new(input.as_ptr(), input.len()) };
        // SAFETY: as above, and the exclusive borrow keeps everybody else away.
        let output = unsafe { SpanMut::new(output.as_mut_ptr(), output.len()) };
        Self { input, output, _memory: PhantomData }
    }

    /// The memory as slices, while no operation uses it.
    pub(crate) fn slices(&mut self) -> (&[u8], &mut [u8]) {
        // SAFETY: readable for 'a by the contract of the loan's maker, and nobody writes it.
        let input = unsafe { std::slice::from_raw_parts(self.input.as_ptr(), self.input.len()) };
        let (at, bytes) = (self.output.as_ptr(), self.output.len());
        // SAFETY: as above; input and output of one loan do not overlap, and the borrow of the
        // loan keeps other users of it away.
        let output = unsafe { std::slice::from_raw_parts_mut(at, bytes) };
        (input, output)
    }
}

/// Addresses of the buffers of one call of another language. How long they are follows from the
/// call.
#[derive(Clone, Copy, Debug)]
pub struct RawBuffers {
    input: *const u8,
    output: *mut u8,
}

// SAFETY: two addresses; `new`'s contract covers use from any thread.
unsafe impl Send for RawBuffers {}
// SAFETY: as above.
unsafe impl Sync for RawBuffers {}

impl RawBuffers {
    /// The buffers at `input` and `output`; a call that has no use for one takes any address.
    ///
    /// # Safety
    /// From the moment a call is given this until the operation has ended (when a blocking call
    /// returns; when the wait for a started operation returns its result; whatever becomes of
    /// the handle): as many bytes as the call says must be readable at `input` and written by
    /// nobody, and as many as it says must be writable at `output` and used by nobody else.
    pub const unsafe fn new(input: *const u8, output: *mut u8) -> Self {
        Self { input, output }
    }

    /// Addresses of input and output.
    pub fn addresses(&self) -> (usize, usize) {
        (self.input.addr(), self.output.addr())
    }

    /// As many bytes as the call says, which do not overlap. Only for the one call that was
    /// given this.
    pub(crate) fn lend(&self, input_bytes: usize, output_bytes: usize) -> Loan<'static> {
        let (mut input, mut output) = (Span::EMPTY, SpanMut::EMPTY);
        if input_bytes > 0 {
            // SAFETY: the contract of `new`.
            input = unsafe { Span::new(self.input, input_bytes) };
        }
        if output_bytes > 0 {
            // SAFETY: the contract of `new`.
            output = unsafe { SpanMut::new(self.output, output_bytes) };
        }
        Loan { input, output, _memory: PhantomData }
    }

    /// The one buffer of a call in place: it starts where the lower of the two starts.
    pub(crate) fn lend_one(&self, bytes: usize) -> Loan<'static> {
        let lower = if self.input.addr() < self.output.addr() {
            Self { output: self.input.cast_mut(), ..*self }
        } else {
            *self
        };
        lower.lend(0, bytes)
    }
}

/// A span over the elements of `data`, which moves into the second value; keep that until no
/// operation uses the span any more.
pub(crate) fn own<T: bytemuck::Pod>(mut data: Vec<T>) -> (SpanMut, Vec<T>) {
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut data);
    let (ptr, len) = (bytes.as_mut_ptr(), bytes.len());
    // SAFETY: moving a vector does not move its elements, and the caller keeps it, untouched,
    // for as long as the span is used.
    let span = unsafe { SpanMut::new(ptr, len) };
    (span, data)
}
