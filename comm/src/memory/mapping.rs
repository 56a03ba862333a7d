//! Memory shared with other processes.

use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A shared mapping of a file, unmapped when dropped.
///
/// It hands out an address and no reference: other processes write here at any time.
#[derive(Debug)]
pub struct Mapping {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is an address range of the whole process, tied to no thread.
unsafe impl Send for Mapping {}
// SAFETY: `&Mapping` gives out the address and the length only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `file`, readable and writable, shared.
    ///
    /// The file must be at least that long and stay so, or accesses raise `SIGBUS`; seal it.
    pub fn shared(file: impl AsFd, len: usize) -> rustix::io::Result<Self> {
        let (access, kind) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: without a wanted address, no existing mapping is touched.
        let ptr = unsafe { mmap(ptr::null_mut(), len, access, kind, file, 0) }?;
        let ptr = NonNull::new(ptr.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self { ptr, len })
    }

    /// First byte, aligned to a page.
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the range `shared` mapped, and whoever holds its address outlives
        // nothing: users of `as_ptr` keep the mapping alive.
        let unmapped = unsafe { munmap(self.ptr.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}
