//! From Rust's buffers to spans. The engine works on spans; whoever starts an operation on
//! borrowed or owned memory says here how long that memory lasts.

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
