//! Copies that go around the caches.
//!
//! An ordinary store first reads the cache line that it writes to. Where the result is larger
//! than the caches and nobody looks at it soon, that read is a third of all the traffic, and the
//! result drives out what is still needed. Streaming stores write whole lines, and keep neither.

use super::{Span, SpanMut};

/// What is written at a time; streaming stores that fill a line do not read it.
pub(crate) const LINE_BYTES: usize = 64;

impl SpanMut {
    /// Copies `src`, which does not overlap it, to the start of this span, around the caches
    /// where the CPU can. Call [`drain_streams`] before anybody else is told of the bytes.
    /// Panics when they do not fit.
    #[inline]
    pub fn stream_from(self, src: Span) {
        assert!(src.len() <= self.len(), "span copy out of range");
        let ahead = self.as_ptr().align_offset(LINE_BYTES).min(src.len());
        let lines = (src.len() - ahead) / LINE_BYTES;
        let end = ahead + lines * LINE_BYTES;
        self.copy_from(src.cut(0, ahead));
        let from = src.as_ptr().wrapping_add(ahead);
        // SAFETY: `lines` whole lines lie in both spans from `ahead` on, where `self` is at the
        // start of a line; the caller says that they do not overlap.
        unsafe { lines_from(self.as_ptr().wrapping_add(ahead), from, lines) };
        self.cut(end, src.len() - end).copy_from(src.cut(end, src.len() - end));
    }
}

/// Orders streamed bytes before everything this thread writes later.
#[inline]
pub fn drain_streams() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of the architecture.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Copies whole lines.
///
/// # Safety
/// `lines` lines are readable at `src` and writable at `dst`, which starts at a line; they do not
/// overlap.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn lines_from(dst: *mut u8, src: *const u8, lines: usize) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    const WORDS: usize = LINE_BYTES / size_of::<__m128i>();
    let (dst, src) = (dst.cast::<__m128i>(), src.cast::<__m128i>());
    for line in 0..lines {
        let at = line * WORDS;
        let mut words = [std::mem::MaybeUninit::<__m128i>::uninit(); WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            // SAFETY: within the lines at `src`; SSE2 is part of the architecture.
            word.write(unsafe { _mm_loadu_si128(src.wrapping_add(at + index)) });
        }
        for (index, word) in words.iter().enumerate() {
            // SAFETY: initialised above.
            let word = unsafe { word.assume_init() };
            // SAFETY: within the lines at `dst`, and aligned as they are.
            unsafe { _mm_stream_si128(dst.wrapping_add(at + index), word) };
        }
    }
}

/// Copies whole lines.
///
/// # Safety
/// `lines` lines are readable at `src` and writable at `dst`; they do not overlap.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
unsafe fn lines_from(dst: *mut u8, src: *const u8, lines: usize) {
    // SAFETY: by contract.
    unsafe { std::ptr::copy_nonoverlapping(src, dst, lines * LINE_BYTES) };
}

#[cfg(test)]
mod tests {
    use super::super::testing::{span, span_mut};
    use super::*;

    #[test]
    fn any_part_arrives_and_nothing_else_changes() {
        let from: Vec<u8> = (0..600_u32).map(|i| i as u8).collect();
        for start in [0, 1, 63, 64, 65] {
            for len in [0, 1, 62, 63, 64, 65, 127, 128, 129, 400] {
                let mut to = vec![0xee_u8; 600];
                span_mut(&mut to).cut(start, len).stream_from(span(&from).cut(7, len));
                drain_streams();
                assert_eq!(to[start..start + len], from[7..7 + len], "{start} {len}");
                assert!(to[..start].iter().chain(&to[start + len..]).all(|&b| b == 0xee));
            }
        }
    }
}
