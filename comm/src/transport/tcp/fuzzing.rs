//! What a peer sends on a pipe, for fuzzers.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use super::frame::{self, FRAME_BYTES_MAX, HEADER_BYTES, Start};
use super::incoming::{End, Incoming};
use crate::fuzzing::Feed;
use crate::memory::testing::{bytes, span_mut};
use crate::transport::FaultKind;

/// Largest payload asked for at once; more only takes longer.
const WANTED_BYTES_MAX: usize = 4096;

/// A pipe, its far end, and all that went either way.
struct Pipe {
    incoming: Incoming,
    far: Option<OwnedFd>,
    sent: Vec<u8>,
    /// How much of it was delivered: headers and payload.
    taken: usize,
    /// Payload of the head frame that was not taken yet.
    left: usize,
}

/// Any bytes in any chunks, read in any way: what arrives is what was sent, cut into frames.
pub(crate) fn stream(data: &[u8]) {
    let mut feed = Feed::new(data);
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (near, far) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("fds");
    let (buffer, peek) = (usize::from(feed.u8()) * 4 + HEADER_BYTES, usize::from(feed.u8()));
    let incoming = Incoming::new(near, None, buffer, peek.max(HEADER_BYTES));
    let mut pipe = Pipe { incoming, far: Some(far), sent: Vec::new(), taken: 0, left: 0 };
    while !feed.is_empty() {
        pipe.step(&mut feed);
    }
    pipe.hang_up();
    pipe.drain();
}

impl Pipe {
    fn step(&mut self, feed: &mut Feed<'_>) {
        match feed.u8() % 6 {
            0 => {
                let chunk = feed.chunk();
                self.send(chunk);
            }
            1 => {
                // A header that may be believed, so that frames are not rare.
                let payload = u32::from(feed.u8()) | u32::from(feed.u8() & 1) << 22;
                let header = [&feed.array::<12>()[..], &payload.to_le_bytes()].concat();
                self.send(&header);
            }
            2 => self.head(),
            3 => self.view(usize::from(feed.u16()) % WANTED_BYTES_MAX, usize::from(feed.u8())),
            4 => self.read(usize::from(feed.u16()) % WANTED_BYTES_MAX),
            _ => self.hang_up(),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let Some(far) = &self.far else { return };
        let sent = rustix::net::send(far, bytes, SendFlags::NOSIGNAL).unwrap_or(0);
        self.sent.extend_from_slice(&bytes[..sent]);
        self.incoming.notice(false);
    }

    fn hang_up(&mut self) {
        if self.far.take().is_some() {
            self.incoming.notice(true);
        }
    }

    fn head(&mut self) {
        let fresh = self.left == 0;
        let Some(header) = self.incoming.head() else { return };
        if !fresh {
            return;
        }
        let expected = self.sent[self.taken..].first_chunk::<HEADER_BYTES>().expect("it came");
        assert_eq!(frame::decode(expected), Ok(Start::Frame(header)));
        self.left = header.payload_bytes as usize;
        self.taken += HEADER_BYTES;
        if self.left == 0 {
            self.incoming.consume(0);
        }
    }

    fn take(&mut self, got: &[u8]) {
        assert_eq!(got, &self.sent[self.taken..self.taken + got.len()]);
        assert!(got.len() <= self.left);
    }

    fn view(&mut self, together: usize, consume: usize) {
        if self.left == 0 {
            return;
        }
        let shown = bytes(self.incoming.view(together));
        self.take(&shown);
        let consumed = consume.min(shown.len());
        if consumed > 0 {
            self.incoming.consume(consumed);
            self.taken += consumed;
            self.left -= consumed;
        }
    }

    fn read(&mut self, wanted: usize) {
        if self.left == 0 {
            return;
        }
        let mut buffer = vec![0; wanted];
        let got = self.incoming.read(span_mut(&mut buffer));
        assert!(got <= wanted.min(self.left));
        self.take(&buffer[..got]);
        self.taken += got;
        self.left -= got;
    }

    /// After the last byte: everything is delivered, then the end, and it says why.
    fn drain(&mut self) {
        for _ in 0..4 * self.sent.len() + 16 {
            if let Some(end) = self.incoming.end() {
                return self.check_end(&end);
            }
            self.head();
            self.read(WANTED_BYTES_MAX);
        }
        panic!("the end of the pipe was not noticed");
    }

    fn check_end(&self, end: &End) {
        let rest = &self.sent[self.taken..];
        match end {
            End::Goodbye { lanes } => {
                let bytes = rest.first_chunk::<HEADER_BYTES>().expect("a goodbye came");
                assert_eq!(frame::decode(bytes), Ok(Start::Goodbye { lanes: *lanes }));
            }
            End::Fault(FaultKind::Protocol(_)) => {
                assert!(frame::decode(rest.first_chunk().expect("a header came")).is_err());
            }
            End::Fault(_) => assert!(rest.len() < HEADER_BYTES || self.left > rest.len()),
        }
        assert!(self.left <= FRAME_BYTES_MAX);
    }
}
