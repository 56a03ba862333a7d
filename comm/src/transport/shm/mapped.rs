//! The control words, frames and doorbells of a segment in mapped memory.
//!
//! Another process writes here whenever it likes. Control words are atomics; payload is copied
//! through raw pointers and never borrowed.

use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::doorbell::BellMemory;
use super::geometry::{CONTROL_BYTES, LINE_BYTES, RANK_BYTES};
use super::pace::{self, Pace};
use super::ring::{INLINE_BYTES, RingMemory};
use crate::memory::{Mapping, Span, SpanMut};
use crate::transport::FrameHeader;

/// Offsets in a ring's control words.
const HEAD_AT: usize = 0;
const WANTS_AT: usize = 128;
/// Offsets in a frame's first unit.
const FINGERPRINT_AT: usize = 8;
const SEQUENCE_AT: usize = 16;
const PAYLOAD_BYTES_AT: usize = 20;
const INLINE_AT: usize = LINE_BYTES - INLINE_BYTES;
/// Offsets in a rank's block.
const STATE_AT: usize = 0;
const WORD_AT: usize = 4;
const PID_AT: usize = 64;
const CLOSED_AT: usize = 68;
const STARTED_AT: usize = 72;
const NAMESPACE_AT: usize = 80;
const ATTACHED_AT: usize = 88;

/// A word of `base`'s block.
///
/// # Safety
/// `base + at` lies in mapped memory for `'a`, aligned to 4, and only atomics access it.
unsafe fn word32<'a>(base: *mut u8, at: usize) -> &'a AtomicU32 {
    // SAFETY: by the contract above.
    unsafe { AtomicU32::from_ptr(base.wrapping_add(at).cast()) }
}

/// As [`word32`], aligned to 8.
///
/// # Safety
/// As [`word32`], aligned to 8.
unsafe fn word64<'a>(base: *mut u8, at: usize) -> &'a AtomicU64 {
    // SAFETY: by the contract above.
    unsafe { AtomicU64::from_ptr(base.wrapping_add(at).cast()) }
}

/// One ring.
pub(super) struct MappedRing {
    base: *mut u8,
    units: u32,
    pace: Pace,
}

// SAFETY: an address range, tied to no thread; see `new` for how long it is valid.
unsafe impl Send for MappedRing {}

impl MappedRing {
    /// The ring of `bytes` bytes at `base`.
    ///
    /// # Safety
    /// The range is mapped, aligned to a page, and holds nothing but this ring. It stays mapped
    /// for as long as the ring, or a span it returned, is in use.
    pub(super) unsafe fn new(base: *mut u8, bytes: usize) -> Self {
        let units = (bytes - CONTROL_BYTES) / LINE_BYTES;
        let units = u32::try_from(units).expect("a ring is small");
        Self { base, units, pace: Pace::new() }
    }

    fn head_word(&self) -> &AtomicU64 {
        // SAFETY: a control word of this ring, aligned to 128.
        unsafe { word64(self.base, HEAD_AT) }
    }

    fn wants_word(&self) -> &AtomicU32 {
        // SAFETY: a control word of this ring, aligned to 128.
        unsafe { word32(self.base, WANTS_AT) }
    }

    /// First byte of `unit`, which exists.
    #[inline]
    fn unit(&self, unit: u32) -> *mut u8 {
        debug_assert!(unit < self.units);
        self.base.wrapping_add(CONTROL_BYTES + unit as usize * LINE_BYTES)
    }

    #[inline]
    fn publish_word(&self, unit: u32) -> &AtomicU64 {
        // SAFETY: the ends of a ring name only units below `units`; a line is aligned to 64.
        unsafe { word64(self.unit(unit), 0) }
    }

    /// The fields of the header of the frame at `unit`.
    #[inline]
    fn fields(&self, unit: u32) -> (&AtomicU64, &AtomicU32, &AtomicU32) {
        let line = self.unit(unit);
        // SAFETY: within the line, at a multiple of 8.
        let fingerprint = unsafe { word64(line, FINGERPRINT_AT) };
        // SAFETY: within the line, at a multiple of 4.
        let sequence = unsafe { word32(line, SEQUENCE_AT) };
        // SAFETY: within the line, at a multiple of 4.
        let payload_bytes = unsafe { word32(line, PAYLOAD_BYTES_AT) };
        (fingerprint, sequence, payload_bytes)
    }

    /// Where the payload of a frame of this size at `unit` starts.
    #[inline]
    fn payload_at(&self, unit: u32, payload_bytes: usize) -> *mut u8 {
        let skip = if payload_bytes <= INLINE_BYTES { INLINE_AT } else { LINE_BYTES };
        self.unit(unit).wrapping_add(skip)
    }
}

impl RingMemory for MappedRing {
    #[inline]
    fn units(&self) -> u32 {
        self.units
    }

    #[inline]
    fn word(&self, unit: u32) -> u64 {
        self.publish_word(unit).load(Ordering::Acquire)
    }

    #[inline]
    fn publish(&self, unit: u32, word: u64) {
        self.publish_word(unit).store(word, Ordering::Release);
    }

    #[inline]
    fn clear(&self, unit: u32) {
        self.publish_word(unit).store(0, Ordering::Relaxed);
    }

    #[inline]
    fn prepare(&self, unit: u32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint, which neither faults nor changes anything; CPUs without the instruction
        // take it for one that does nothing.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) self.unit(unit),
                options(nostack, preserves_flags, readonly));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = unit;
    }

    #[inline]
    fn write(&mut self, unit: u32, header: &FrameHeader, parts: &[Span]) {
        let bytes = header.payload_bytes as usize;
        let (fingerprint, sequence, payload_bytes) = self.fields(unit);
        fingerprint.store(header.fingerprint, Ordering::Relaxed);
        sequence.store(header.sequence, Ordering::Relaxed);
        payload_bytes.store(header.payload_bytes, Ordering::Relaxed);
        let at = self.payload_at(unit, bytes);
        if let [part] = parts
            && part.len() == 8
            && bytes == 8
        {
            // The commonest tiny message, without a call to copy it.
            // SAFETY: the span is readable and 8 bytes long.
            let word = unsafe { part.as_ptr().cast::<u64>().read_unaligned() };
            // SAFETY: inside the frame's first line, which is this producer's to write.
            unsafe { at.cast::<u64>().write_unaligned(word) };
            return;
        }
        // SAFETY: the producer has checked that a frame of this size at `unit` ends within the
        // ring, and that these units are its own until it publishes them.
        let mut room = unsafe { SpanMut::new(at, bytes) };
        if bytes >= pace::BYTES_MIN {
            return self.pace.fill(room, parts);
        }
        for &part in parts {
            room.copy_from(part);
            room = room.cut(part.len(), room.len() - part.len());
        }
    }

    #[inline]
    fn header(&self, unit: u32) -> FrameHeader {
        let (fingerprint, sequence, payload_bytes) = self.fields(unit);
        FrameHeader {
            fingerprint: fingerprint.load(Ordering::Relaxed),
            sequence: sequence.load(Ordering::Relaxed),
            payload_bytes: payload_bytes.load(Ordering::Relaxed),
        }
    }

    #[inline]
    fn payload(&self, unit: u32, payload_bytes: u32, offset: u32, bytes: u32) -> Span {
        let at = self.payload_at(unit, payload_bytes as usize).wrapping_add(offset as usize);
        // SAFETY: the consumer has checked that the frame lies in the ring, which stays mapped. A
        // producer that keeps to the protocol writes here again only after the frame is consumed;
        // one that does not can change the bytes, not where they are.
        unsafe { Span::new(at, bytes as usize) }
    }

    #[inline]
    fn head(&self) -> u64 {
        self.head_word().load(Ordering::Acquire)
    }

    #[inline]
    fn set_head(&self, head: u64) {
        self.head_word().store(head, Ordering::Release);
    }

    #[inline]
    fn wants_room(&self) -> bool {
        self.wants_word().load(Ordering::Relaxed) != 0
    }

    #[inline]
    fn set_wants_room(&self, wants: bool) {
        self.wants_word().store(u32::from(wants), Ordering::Relaxed);
    }

    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// One rank's block: its doorbell, and which process it is.
pub(super) struct MappedRank {
    base: *mut u8,
}

// SAFETY: an address range, tied to no thread; see `new` for how long it is valid.
unsafe impl Send for MappedRank {}

impl MappedRank {
    /// The block at `base`.
    ///
    /// # Safety
    /// `RANK_BYTES` bytes from `base` are mapped, aligned to 64, and hold nothing but this block.
    /// They stay mapped for as long as the block is in use.
    pub(super) unsafe fn new(base: *mut u8) -> Self {
        const { assert!(ATTACHED_AT + 4 <= RANK_BYTES) };
        debug_assert!(base.cast::<[u64; 8]>().is_aligned() && !ptr::eq(base, ptr::null()));
        Self { base }
    }

    fn state_word(&self) -> &AtomicU32 {
        // SAFETY: a word of this block, at a multiple of 4.
        unsafe { word32(self.base, STATE_AT) }
    }

    /// What its owner sleeps on.
    pub(super) fn futex_word(&self) -> &AtomicU32 {
        // SAFETY: a word of this block, at a multiple of 4.
        unsafe { word32(self.base, WORD_AT) }
    }

    /// Its process id in its namespace; 0 until it attaches.
    pub(super) fn pid(&self) -> &AtomicU32 {
        // SAFETY: a word of this block, at a multiple of 4.
        unsafe { word32(self.base, PID_AT) }
    }

    /// Not 0 once the rank has written who it is.
    pub(super) fn attached(&self) -> &AtomicU32 {
        // SAFETY: a word of this block, at a multiple of 4.
        unsafe { word32(self.base, ATTACHED_AT) }
    }

    /// Not 0 once the rank has left in good order.
    pub(super) fn closed(&self) -> &AtomicU32 {
        // SAFETY: a word of this block, at a multiple of 4.
        unsafe { word32(self.base, CLOSED_AT) }
    }

    /// When its process started, in the kernel's ticks.
    pub(super) fn started(&self) -> &AtomicU64 {
        // SAFETY: a word of this block, at a multiple of 8.
        unsafe { word64(self.base, STARTED_AT) }
    }

    /// The inode of its process id namespace.
    pub(super) fn namespace(&self) -> &AtomicU64 {
        // SAFETY: a word of this block, at a multiple of 8.
        unsafe { word64(self.base, NAMESPACE_AT) }
    }
}

impl BellMemory for MappedRank {
    #[inline]
    fn state(&self) -> u32 {
        self.state_word().load(Ordering::Relaxed)
    }

    fn swap_state(&self, state: u32) -> u32 {
        self.state_word().swap(state, Ordering::AcqRel)
    }

    fn word(&self) -> u32 {
        self.futex_word().load(Ordering::Relaxed)
    }

    fn bump_word(&self) {
        self.futex_word().fetch_add(1, Ordering::Release);
    }

    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// The words at the start of a segment, in order: magic, version, geometry.
pub(super) fn header_words(mapping: &Mapping) -> [&AtomicU64; 6] {
    assert!(mapping.len() >= 6 * 8, "a segment has a first page");
    // SAFETY: within the mapping, which the references borrow, at multiples of 8.
    std::array::from_fn(|i| unsafe { word64(mapping.as_ptr(), i * 8) })
}
