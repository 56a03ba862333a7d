//! Structs that say their own size, from a fuzzer's bytes.

use std::ffi::{CString, c_char};
use std::mem::offset_of;

use comm::fuzzing::Feed;

use crate::options::{syncline_call_options_t, syncline_options_t};
use crate::sized::{BYTES_MAX, Versioned};

/// A struct of as many bytes as it says it has, and the texts it points to.
pub(super) struct Given {
    bytes: Box<[u8]>,
    size: usize,
    known: usize,
    first: usize,
    texts: Vec<CString>,
}

impl Given {
    /// Any bytes behind a size that is right, a little wrong, or far off.
    fn new<T: Versioned>(feed: &mut Feed<'_>) -> Self {
        let size = match feed.u8() % 8 {
            0..=4 => size_of::<T>(),
            5 | 6 => usize::from(feed.u8()),
            _ => feed.u64() as usize,
        };
        // What claims to be larger than any struct is not read any further.
        let readable = if size <= BYTES_MAX { size.max(size_of::<usize>()) } else { 8 };
        let mut bytes = vec![0; readable].into_boxed_slice();
        bytes[..8].copy_from_slice(&size.to_ne_bytes());
        let body = feed.chunk();
        let body = &body[..body.len().min(readable - 8)];
        bytes[8..8 + body.len()].copy_from_slice(body);
        let known = size_of::<T>();
        Self { bytes, size, known, first: T::FIRST_BYTES, texts: Vec::new() }
    }

    /// Options of a communicator. Files and folders they name are not there.
    pub(super) fn options(feed: &mut Feed<'_>) -> Self {
        let mut given = Self::new::<syncline_options_t>(feed);
        given.text(offset_of!(syncline_options_t, algorithm), "", feed);
        given.text(offset_of!(syncline_options_t, network_interface), "", feed);
        given.text(offset_of!(syncline_options_t, ports), "", feed);
        given.text(offset_of!(syncline_options_t, tuning_file), "/dev/null/", feed);
        given.text(offset_of!(syncline_options_t, dump_dir), "/dev/null/", feed);
        given
    }

    /// Options of a call.
    pub(super) fn call_options(feed: &mut Feed<'_>) -> Self {
        Self::new::<syncline_call_options_t>(feed)
    }

    /// A struct with these 8-byte fields behind its size.
    pub(super) fn with_fields<T: Versioned>(fields: &[usize], feed: &mut Feed<'_>) -> Self {
        let mut given = Self::new::<T>(feed);
        for (index, field) in fields.iter().enumerate() {
            given.put(8 * (index + 1), field.to_ne_bytes());
        }
        given
    }

    /// Makes the pointer at `offset`, if the struct has it, null or a text.
    fn text(&mut self, offset: usize, prefix: &str, feed: &mut Feed<'_>) {
        let mut pointer: *const c_char = std::ptr::null();
        if !feed.u8().is_multiple_of(3) {
            let mut text = [prefix.as_bytes(), feed.chunk()].concat();
            text.retain(|&byte| byte != 0);
            let text = CString::new(text).expect("no NUL is left");
            // Its bytes stay where they are when the text moves.
            pointer = text.as_ptr();
            self.texts.push(text);
        }
        self.put(offset, pointer.expose_provenance().to_ne_bytes());
    }

    /// Has whoever joins with these options wait for a few milliseconds at most.
    pub(super) fn hurry(&mut self) {
        let offset = offset_of!(syncline_options_t, timeout_s);
        if let Some(field) = self.bytes.get(offset..offset + 8) {
            let given = f64::from_ne_bytes(field.try_into().expect("8 bytes"));
            if !(given > 0.0 && given < 0.002) {
                self.put(offset, 0.002_f64.to_ne_bytes());
            }
        }
    }

    fn put(&mut self, offset: usize, field: [u8; 8]) {
        if let Some(room) = self.bytes.get_mut(offset..offset + 8) {
            room.copy_from_slice(&field);
        }
    }

    /// Whether its size alone has it refused.
    pub(super) fn is_malformed(&self) -> bool {
        let tail = self.bytes.get(self.known..);
        !(self.first..=BYTES_MAX).contains(&self.size)
            || tail.is_some_and(|tail| tail.iter().any(|&byte| byte != 0))
    }

    pub(super) fn at<T: Versioned>(&self) -> *const T {
        self.bytes.as_ptr().cast()
    }
}
