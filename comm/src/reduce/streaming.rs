//! Results that go around the caches, see [`crate::memory::drain_streams`].

use std::mem::MaybeUninit;

use super::{Format, Reducer};
use crate::memory::{Span, SpanMut, drain_streams};

/// What is computed at a time, and then streamed: it stays in the L1 cache.
const BLOCK_BYTES: usize = 8 << 10;

#[repr(align(64))]
struct Block(MaybeUninit<[u8; BLOCK_BYTES]>);

impl Reducer {
    /// As [`Self::combine`] to [`Format::Data`], for a `dst` that overlaps no operand.
    pub fn combine_streaming(
        &self,
        dst: SpanMut,
        (a, a_format): (Span, Format),
        (b, b_format): (Span, Format),
    ) {
        let part = |span: Span, format: Format, at: usize, len: usize| {
            let size = self.size(format);
            span.cut(at * size, len * size)
        };
        self.stream(dst, |block, at, len| {
            let (a, b) = (part(a, a_format, at, len), part(b, b_format, at, len));
            self.combine(block, Format::Data, a, a_format, b, b_format);
        });
    }

    /// As [`Self::copy`] to [`Format::Data`], for a `dst` that does not overlap `src`.
    pub fn copy_streaming(&self, dst: SpanMut, src: Span, src_format: Format) {
        if src_format == Format::Data {
            dst.stream_from(src);
            drain_streams();
            return;
        }
        let size = self.size(src_format);
        self.stream(dst, |block, at, len| {
            self.copy(block, Format::Data, src.cut(at * size, len * size), src_format);
        });
    }

    /// Has `fill` make `dst` block by block: the block, its first element, its elements.
    fn stream(&self, dst: SpanMut, fill: impl Fn(SpanMut, usize, usize)) {
        let size = self.size(Format::Data);
        let count = dst.len() / size;
        // The first block is shorter, so that the others start where a cache line does.
        let ahead = dst.as_ptr().align_offset(64) / size;
        let mut block = Block(MaybeUninit::uninit());
        // SAFETY: the block lives to the end, and nothing else touches it; it is written before
        // it is read.
        let block = unsafe { SpanMut::new(block.0.as_mut_ptr().cast(), BLOCK_BYTES) };
        let mut at = 0;
        while at < count {
            let whole = BLOCK_BYTES / size;
            let len = if at == 0 && ahead > 0 { ahead.min(whole) } else { whole }.min(count - at);
            let made = block.cut(0, len * size);
            fill(made, at, len);
            dst.cut(at * size, len * size).stream_from(made.as_span());
            at += len;
        }
        drain_streams();
    }
}
