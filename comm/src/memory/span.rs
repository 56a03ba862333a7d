//! Raw views of memory that other threads, other processes or the network also touch.
//!
//! A Rust reference would promise the compiler that nobody else writes here. A span promises
//! nothing; whoever makes one promises that the memory stays mapped while the span, or any span
//! cut from it, is used, and that the engine's dependency edges order all accesses to it.

/// A readable range of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    ptr: *const u8,
    len: usize,
}

/// A writable range of bytes.
#[derive(Clone, Copy, Debug)]
pub struct SpanMut {
    ptr: *mut u8,
    len: usize,
}

// SAFETY: a span is an address and a length; `new`'s contract covers use from any thread.
unsafe impl Send for Span {}
// SAFETY: as above.
unsafe impl Send for SpanMut {}

impl Span {
    /// The empty span.
    pub const EMPTY: Self = Self { ptr: std::ptr::NonNull::dangling().as_ptr(), len: 0 };

    /// A view of `len` bytes at `ptr`.
    ///
    /// # Safety
    /// The bytes must stay readable for as long as this span or one cut from it is in use, and
    /// must not be written meanwhile except by code ordered after the reads.
    pub const unsafe fn new(ptr: *const u8, len: usize) -> Self {
        Self { ptr, len }
    }

    /// First byte.
    pub const fn as_ptr(self) -> *const u8 {
        self.ptr
    }

    /// Length in bytes.
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether it holds no byte.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The `len` bytes from `offset`. Panics when they do not lie inside.
    #[inline]
    pub fn cut(self, offset: usize, len: usize) -> Self {
        assert!(offset <= self.len && len <= self.len - offset, "span cut out of range");
        Self { ptr: self.ptr.wrapping_add(offset), len }
    }
}

impl SpanMut {
    /// The empty span.
    pub const EMPTY: Self = Self { ptr: std::ptr::NonNull::dangling().as_ptr(), len: 0 };

    /// A view of `len` bytes at `ptr`.
    ///
    /// # Safety
    /// The bytes must stay writable for as long as this span or one cut from it is in use, and
    /// all other accesses to them must be ordered against those through this span.
    pub const unsafe fn new(ptr: *mut u8, len: usize) -> Self {
        Self { ptr, len }
    }

    /// First byte.
    pub const fn as_ptr(self) -> *mut u8 {
        self.ptr
    }

    /// Length in bytes.
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether it holds no byte.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The same bytes, to read.
    pub const fn as_span(self) -> Span {
        Span { ptr: self.ptr, len: self.len }
    }

    /// The `len` bytes from `offset`. Panics when they do not lie inside.
    #[inline]
    pub fn cut(self, offset: usize, len: usize) -> Self {
        assert!(offset <= self.len && len <= self.len - offset, "span cut out of range");
        Self { ptr: self.ptr.wrapping_add(offset), len }
    }

    /// Copies `src` to the start of this span. Panics when it does not fit.
    #[inline]
    pub fn copy_from(self, src: Span) {
        assert!(src.len <= self.len, "span copy out of range");
        if lags_closely(src.ptr.addr(), self.ptr.addr(), src.len) {
            // SAFETY: both ranges are valid by the contracts of `new`, and lie apart.
            unsafe { copy_forwards(src.ptr, self.ptr, src.len) };
        } else {
            // SAFETY: both ranges are valid by the contracts of `new`; `copy` allows overlap.
            unsafe { std::ptr::copy(src.ptr, self.ptr, src.len) };
        }
    }
}

/// Whether a copy from `src` to `dst` is one for [`copy_forwards`].
///
/// From some 4 KiB on, glibc (2.36, say) copies with `rep movsb`. AMD's Zen 3 takes 12 to 20 times
/// as long for that as for any other copy when the destination lies up to 31 bytes behind the
/// source modulo 4096, but not at 0: its stores seem to hit what it is about to load. Memory from
/// `malloc` and a frame in a ring meet so in one frame of 64.
#[inline]
fn lags_closely(src: usize, dst: usize, len: usize) -> bool {
    const BYTES_MIN: usize = 2048;
    let lag = dst.wrapping_sub(src) % 4096;
    cfg!(target_arch = "x86_64")
        && len >= BYTES_MIN
        && lag.wrapping_sub(1) < 31
        && dst.abs_diff(src) >= len
}

/// Copies `len` bytes in plain loads and stores.
///
/// # Safety
/// `len` bytes, at least 64, are readable at `src` and writable at `dst`; they do not overlap.
#[cold]
#[inline(never)]
unsafe fn copy_forwards(src: *const u8, dst: *mut u8, len: usize) {
    type Line = [u64; 8];
    const LINE: usize = size_of::<Line>();
    let line = |at: usize| {
        // SAFETY: `at + 64 <= len` in every use below.
        let line = unsafe { src.wrapping_add(at).cast::<Line>().read_unaligned() };
        // The compiler would make the loop a call of `memcpy`.
        let line = std::hint::black_box(line);
        // SAFETY: as above.
        unsafe { dst.wrapping_add(at).cast::<Line>().write_unaligned(line) };
    };
    for at in (0..=len - LINE).step_by(LINE) {
        line(at);
    }
    // What is left, together with some of what is done.
    line(len - LINE);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{span, span_mut};

    #[test]
    fn copies_wherever_the_ends_lie() {
        let from: Vec<u8> = (0..3 * 4096_u32).map(|i| (i + i / 256) as u8).collect();
        for lag in [0, 1, 8, 16, 31, 32, 4095] {
            for len in [2047, 2048, 2049, 2111, 2112, 4096, 5000] {
                let mut to = vec![0xee_u8; 4 * 4096];
                let at = (from.as_ptr().addr() + lag).wrapping_sub(to.as_ptr().addr()) % 4096;
                span_mut(&mut to).cut(at, len).copy_from(span(&from).cut(0, len));
                assert!(to[at..at + len] == from[..len], "{lag} {len}");
                assert!(to[..at].iter().chain(&to[at + len..]).all(|&byte| byte == 0xee));
            }
        }
    }
}
