//! Spans over the buffers of tests and benchmarks.
//!
//! The lifetimes are the test's business: it keeps each buffer alive and leaves it alone while a
//! span cut from it is in use, which every test does within one function.

use super::{Span, SpanMut};

/// The bytes of `buffer`, to read.
pub fn span(buffer: &[u8]) -> Span {
    // SAFETY: the slice is readable; see the module's documentation for how long.
    unsafe { Span::new(buffer.as_ptr(), buffer.len()) }
}

/// The bytes of `buffer`, to write.
pub fn span_mut(buffer: &mut [u8]) -> SpanMut {
    // SAFETY: the slice is writable; see the module's documentation for how long.
    unsafe { SpanMut::new(buffer.as_mut_ptr(), buffer.len()) }
}

/// A copy of what `span` shows.
pub fn bytes(span: Span) -> Vec<u8> {
    let mut copy = vec![0; span.len()];
    span_mut(&mut copy).copy_from(span);
    copy
}
