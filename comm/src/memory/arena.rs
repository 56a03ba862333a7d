//! The staging arena: scratch memory of running operations, under a byte budget.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::SpanMut;

/// Leases start at multiples of this: a page, so that large scratch is not split by a fault.
const ALIGN_BYTES: usize = 4096;

/// Scratch memory for one operation.
#[derive(Debug)]
pub struct Lease {
    ptr: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a lease owns its memory exclusively, like a `Box<[u8]>`.
unsafe impl Send for Lease {}

impl Lease {
    fn new(bytes: usize) -> Self {
        let layout = layout(bytes);
        // SAFETY: `layout` never has size zero.
        let ptr = unsafe { alloc(layout) };
        let Some(ptr) = NonNull::new(ptr) else { handle_alloc_error(layout) };
        Self { ptr, bytes }
    }

    /// The memory. Its content is unspecified. Use it only while the lease is held.
    pub const fn span(&self) -> SpanMut {
        // SAFETY: the lease owns these bytes. The engine, the only user, keeps the lease for as
        // long as any step of the operation runs, and its edges order the accesses.
        unsafe { SpanMut::new(self.ptr.as_ptr(), self.bytes) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout, and never freed elsewhere.
        unsafe { dealloc(self.ptr.as_ptr(), layout(self.bytes)) };
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes.max(1), ALIGN_BYTES).expect("a lease fits the address space")
}

/// Hands out leases, and keeps returned ones for the next operation of about the same size, so
/// that repeating an operation allocates nothing.
#[derive(Debug)]
pub struct Arena {
    budget_bytes: usize,
    /// Bytes of all leases, those out and those kept.
    held_bytes: usize,
    kept: Vec<Lease>,
}

impl Arena {
    /// An arena that never holds more than `budget_bytes`.
    pub const fn new(budget_bytes: usize) -> Self {
        Self { budget_bytes, held_bytes: 0, kept: Vec::new() }
    }

    /// What all leases together may take.
    pub const fn budget_bytes(&self) -> usize {
        self.budget_bytes
    }

    /// Memory of at least `bytes`; `None` until enough leases are returned.
    pub fn lease(&mut self, bytes: usize) -> Option<Lease> {
        let size = self.size_of(bytes)?;
        if let Some(found) = self.kept.iter().position(|lease| lease.bytes == size) {
            return Some(self.kept.swap_remove(found));
        }
        while self.held_bytes + size > self.budget_bytes {
            let dropped = self.kept.pop()?;
            self.held_bytes -= dropped.bytes;
        }
        self.held_bytes += size;
        Some(Lease::new(size))
    }

    /// Takes a lease back.
    pub fn give_back(&mut self, lease: Lease) {
        self.kept.push(lease);
    }

    /// `bytes` rounded up to one of four sizes per power of two; `None` beyond the budget.
    fn size_of(&self, bytes: usize) -> Option<usize> {
        if bytes > self.budget_bytes {
            return None;
        }
        let step = (bytes.max(ALIGN_BYTES).checked_next_power_of_two()? / 8).max(1);
        Some(bytes.max(1).checked_next_multiple_of(step)?.min(self.budget_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_never_exceeded() {
        let mut arena = Arena::new(100_000);
        let a = arena.lease(60_000).unwrap();
        assert!(a.span().len() >= 60_000);
        assert!(arena.lease(60_000).is_none());
        assert!(arena.lease(100_001).is_none());
        arena.give_back(a);
        let b = arena.lease(100_000).unwrap();
        assert_eq!(b.span().len(), 100_000);
    }

    #[test]
    fn a_repeated_size_reuses_the_same_memory() {
        let mut arena = Arena::new(1 << 20);
        let first = arena.lease(5000).unwrap();
        let at = first.span().as_ptr();
        arena.give_back(first);
        let again = arena.lease(5000).unwrap();
        assert_eq!(again.span().as_ptr(), at);
    }

    #[test]
    fn leases_are_writable_to_the_last_byte() {
        let mut arena = Arena::new(1 << 16);
        let lease = arena.lease(777).unwrap();
        let source = vec![0xa5_u8; lease.span().len()];
        // SAFETY: `source` outlives the span and is not written.
        let from = unsafe { crate::memory::Span::new(source.as_ptr(), source.len()) };
        lease.span().copy_from(from);
    }
}
