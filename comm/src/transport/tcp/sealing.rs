//! Encrypted pipes: frames cut into records on one end, put together again on the other.
//!
//! The stream inside the records is the one of a pipe in the clear. Buffers grow to what the frames
//! of a pipe need and stay: a frame costs no allocation.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::memory::{ReceiveBuffer, Span, gather_spans};
use crate::rendezvous::{
    RECORD_LENGTH_BYTES, RECORD_OVERHEAD_BYTES, RECORD_PLAIN_BYTES_MAX, Session, Tampered,
};

/// Records handed to the kernel at once.
const BATCH_RECORDS: usize = 4;
/// A record of one byte, the receiver's goodbye.
const BACKWARD_BYTES: usize = 1 + RECORD_OVERHEAD_BYTES;

/// The sending end.
pub(super) struct Sealer {
    session: Session,
    plain: Vec<u8>,
    /// Records on their way; from `sent` to `filled` the kernel does not have them yet.
    sealed: Vec<u8>,
    sent: usize,
    filled: usize,
    /// What the receiver says when it leaves.
    backward: [u8; BACKWARD_BYTES],
    heard: usize,
}

/// Makes `buffer` at least `bytes` long; it never becomes shorter.
fn grow(buffer: &mut Vec<u8>, bytes: usize) {
    if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
}

impl Sealer {
    pub(super) fn new(session: Session) -> Self {
        Self {
            session,
            plain: Vec::new(),
            sealed: Vec::new(),
            sent: 0,
            filled: 0,
            backward: [0; BACKWARD_BYTES],
            heard: 0,
        }
    }

    /// Sends sealed records; whether the kernel has them all.
    pub(super) fn flush(&mut self, fd: BorrowedFd<'_>) -> Result<bool, Errno> {
        while self.sent < self.filled {
            let rest = &self.sealed[self.sent..self.filled];
            match rustix::net::send(fd, rest, SendFlags::NOSIGNAL) {
                Ok(bytes) => self.sent += bytes,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }

    /// Seals `lead` and, behind it, the concatenation of `parts` without its first `skip` bytes,
    /// as far as a batch holds it; returns how many bytes of the parts. To be called when all
    /// before is flushed.
    pub(super) fn seal(&mut self, mut lead: &[u8], parts: &[Span], skip: usize) -> usize {
        assert_eq!(self.sent, self.filled, "the batch before is on its way");
        (self.sent, self.filled) = (0, 0);
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut taken = 0;
        for _ in 0..BATCH_RECORDS {
            let bytes = (lead.len() + total - skip - taken).min(RECORD_PLAIN_BYTES_MAX);
            if bytes == 0 {
                break;
            }
            grow(&mut self.plain, bytes);
            let plain = &mut self.plain[..bytes];
            plain[..lead.len()].copy_from_slice(lead);
            taken += gather_spans(parts, skip + taken, &mut plain[lead.len()..]);
            lead = &[];
            grow(&mut self.sealed, self.filled + bytes + RECORD_OVERHEAD_BYTES);
            self.filled += self.session.seal(plain, &mut self.sealed[self.filled..]);
        }
        taken
    }

    /// `last` as a record.
    pub(super) fn last_word(&mut self, last: &[u8]) -> Vec<u8> {
        let mut record = vec![0; last.len() + RECORD_OVERHEAD_BYTES];
        self.session.seal(last, &mut record);
        record
    }

    /// Listens for the receiver's goodbye: like recv(2) of one byte in the clear. An altered one
    /// is a byte that means nothing.
    pub(super) fn hear(&mut self, fd: BorrowedFd<'_>) -> Result<Option<u8>, Errno> {
        let room = &mut self.backward[self.heard..];
        let (bytes, _) = rustix::net::recv(fd, room, RecvFlags::empty())?;
        self.heard += bytes;
        if bytes == 0 {
            return Ok(None);
        }
        if self.heard < BACKWARD_BYTES {
            return Err(Errno::AGAIN);
        }
        self.heard = 0;
        let (length, body) = self.backward.split_first_chunk().expect("longer than a length");
        let mut plain = [0; BACKWARD_BYTES - RECORD_LENGTH_BYTES];
        let opened = match Session::body_bytes(*length) {
            Ok(bytes) if bytes == body.len() => self.session.open(body, &mut plain),
            _ => Err(Tampered),
        };
        Ok(Some(if opened == Ok(1) { plain[0] } else { 0 }))
    }
}

/// The receiving end.
pub(super) struct Opener {
    session: Session,
    /// Records that have come, the last perhaps not whole.
    sealed: ReceiveBuffer,
}

impl Opener {
    pub(super) fn new(session: Session, buffer_bytes: usize) -> Self {
        let batch = BATCH_RECORDS * (RECORD_PLAIN_BYTES_MAX + RECORD_OVERHEAD_BYTES);
        Self { session, sealed: ReceiveBuffer::new(buffer_bytes.min(batch)) }
    }

    /// Size of the record at the front, if its length is here.
    fn record_bytes(&self) -> Result<Option<usize>, Tampered> {
        let Some(length) = self.sealed.data().first_chunk::<RECORD_LENGTH_BYTES>() else {
            return Ok(None);
        };
        Session::body_bytes(*length).map(|body| Some(RECORD_LENGTH_BYTES + body))
    }

    /// Whether `open` has something to say.
    pub(super) fn has_record(&self) -> bool {
        match self.record_bytes() {
            Ok(Some(bytes)) => self.sealed.len() >= bytes,
            Ok(None) => false,
            Err(Tampered) => true,
        }
    }

    /// Room for what the socket gives.
    pub(super) fn space(&mut self) -> &mut [u8] {
        let record = self.record_bytes().ok().flatten().unwrap_or(RECORD_LENGTH_BYTES);
        self.sealed.space(record, usize::MAX)
    }

    /// Says that `bytes` of `space` have been filled.
    pub(super) fn filled(&mut self, bytes: usize) {
        self.sealed.filled(bytes);
    }

    /// Opens the record at the front into `buffer`; whether there was a whole one.
    pub(super) fn open(&mut self, buffer: &mut ReceiveBuffer) -> Result<bool, Tampered> {
        let Some(bytes) = self.record_bytes()?.filter(|&bytes| self.sealed.len() >= bytes) else {
            return Ok(false);
        };
        let body = &self.sealed.data()[RECORD_LENGTH_BYTES..bytes];
        let room = buffer.space(buffer.len() + body.len(), body.len());
        let plain = self.session.open(body, room)?;
        buffer.filled(plain);
        self.sealed.consume(bytes);
        Ok(true)
    }

    /// `last` as a record.
    pub(super) fn last_word(&mut self, last: u8) -> [u8; BACKWARD_BYTES] {
        let mut record = [0; BACKWARD_BYTES];
        self.session.seal(&[last], &mut record);
        record
    }
}
