//! A buffer between a byte stream and readers that want its bytes in place.

use super::Span;

/// Bytes that have been received and not consumed yet, always contiguous.
///
/// The memory is allocated when it is first needed. Bytes are moved within it only when there
/// is no other way to keep as many together as the reader asks for.
pub(crate) struct ReceiveBuffer {
    bytes: Vec<u8>,
    capacity: usize,
    start: usize,
    end: usize,
}

impl ReceiveBuffer {
    /// An empty buffer that will hold `capacity` bytes.
    pub(crate) const fn new(capacity: usize) -> Self {
        Self { bytes: Vec::new(), capacity, start: 0, end: 0 }
    }

    /// Bytes received and not consumed.
    pub(crate) const fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes received and not consumed.
    pub(crate) fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The first `len` of them, to look at until this buffer is used again.
    pub(crate) fn span(&self, len: usize) -> Span {
        let shown = &self.data()[..len];
        // SAFETY: the bytes live in this buffer's allocation, which stays where it is and is
        // written only by `space`; callers hand the span on under the same condition.
        unsafe { Span::new(shown.as_ptr(), shown.len()) }
    }

    /// Drops the first `len` bytes. Panics when there are fewer.
    pub(crate) fn consume(&mut self, len: usize) {
        assert!(len <= self.len(), "consumed more than was received");
        self.start += len;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room for more: at most `limit` bytes, behind those that are here. There is enough for
    /// `together` bytes in all, counted from the first that is not consumed.
    pub(crate) fn space(&mut self, together: usize, limit: usize) -> &mut [u8] {
        if self.bytes.is_empty() || self.capacity < together {
            self.capacity = self.capacity.max(together);
            self.bytes.resize(self.capacity, 0);
        }
        let too_short = self.capacity - self.start < together;
        // Moving a little to gain much is worth it, moving much to gain a little is not.
        if too_short || (self.end == self.capacity && self.len() < self.capacity / 8) {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
        let end = self.capacity.min(self.end.saturating_add(limit));
        &mut self.bytes[self.end..end]
    }

    /// Says that `len` bytes of what `space` returned have been filled.
    pub(crate) fn filled(&mut self, len: usize) {
        assert!(len <= self.capacity - self.end, "filled more than there was room for");
        self.end += len;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::bytes;
    use super::*;

    fn put(buffer: &mut ReceiveBuffer, together: usize, data: &[u8]) {
        buffer.space(together, data.len())[..data.len()].copy_from_slice(data);
        buffer.filled(data.len());
    }

    #[test]
    fn bytes_stay_in_order_and_together() {
        let mut buffer = ReceiveBuffer::new(16);
        put(&mut buffer, 1, b"0123456789abcde");
        buffer.consume(13);
        assert_eq!(bytes(buffer.span(2)), b"de");
        put(&mut buffer, 8, b"fghijk");
        assert_eq!(bytes(buffer.span(8)), b"defghijk");
        buffer.consume(8);
        assert!(buffer.is_empty());
        assert_eq!(buffer.space(1, usize::MAX).len(), 16, "an empty buffer starts over");
    }

    #[test]
    fn a_full_buffer_has_no_room_until_some_is_consumed() {
        let mut buffer = ReceiveBuffer::new(16);
        put(&mut buffer, 1, &[7; 16]);
        assert!(buffer.space(1, 100).is_empty());
        buffer.consume(15);
        assert_eq!(buffer.space(1, 100).len(), 15);
        assert_eq!(buffer.data(), &[7]);
    }

    #[test]
    fn it_grows_when_more_is_wanted_together() {
        let mut buffer = ReceiveBuffer::new(4);
        put(&mut buffer, 1, b"abcd");
        put(&mut buffer, 8, b"efgh");
        assert_eq!(buffer.data(), b"abcdefgh");
    }

    #[test]
    #[should_panic(expected = "consumed more")]
    fn consuming_what_is_not_there_panics() {
        ReceiveBuffer::new(4).consume(1);
    }
}
