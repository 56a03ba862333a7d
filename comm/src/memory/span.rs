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
        // SAFETY: both ranges are valid by the contracts of `new`; `copy` allows overlap.
        unsafe { std::ptr::copy(src.ptr, self.ptr, src.len) };
    }
}
