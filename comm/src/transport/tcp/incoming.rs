//! The receiving end of a pipe.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::frame::{self, HEADER_BYTES, Start};
use super::sealing::Opener;
use crate::memory::{ReceiveBuffer, Span, SpanMut, receive_span};
use crate::rendezvous::Session;
use crate::transport::{FaultKind, FrameHeader};

/// Why nothing more will come.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// The sender said goodbye. Bit `l` says whether it ever opened lane `l`.
    Goodbye { lanes: u8 },
    /// The connection broke, or the sender broke the protocol.
    Fault(FaultKind),
}

/// Receives frames. What has been received before the end is always delivered first.
pub(super) struct Incoming {
    fd: OwnedFd,
    /// Decrypts what comes, if it is encrypted.
    opener: Option<Box<Opener>>,
    buffer: ReceiveBuffer,
    /// What `head` reads at once while it does not know where the payload is to go.
    peek_bytes: usize,
    frame: Option<FrameHeader>,
    /// Payload bytes of `frame` that are not consumed.
    left: usize,
    /// A read might find something: set by events and by who looks without one, cleared when one
    /// found the socket drained.
    readable: bool,
    /// The other end has hung up; reads go on until they find the end of the stream.
    hung_up: bool,
    /// The sender's last word, or a breach of protocol: nothing behind it counts.
    last_word: Option<End>,
    /// The socket gives nothing more; the buffer may.
    dry: Option<String>,
    /// The poll after which this pipe was last asked for something that was not there.
    pub(super) asked: u64,
}

impl Incoming {
    pub(super) fn new(
        fd: OwnedFd,
        session: Option<Session>,
        buffer_bytes: usize,
        peek_bytes: usize,
    ) -> Self {
        Self {
            fd,
            opener: session.map(|session| Box::new(Opener::new(session, buffer_bytes))),
            buffer: ReceiveBuffer::new(buffer_bytes),
            peek_bytes: peek_bytes.min(buffer_bytes),
            frame: None,
            left: 0,
            readable: true,
            hung_up: false,
            last_word: None,
            dry: None,
            asked: u64::MAX,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes note of an event on the socket.
    pub(super) fn notice(&mut self, hung_up: bool) {
        self.readable = self.dry.is_none();
        self.hung_up |= hung_up;
    }

    /// Whether the other end has hung up and no frame is at the head: time to look at the end.
    pub(super) fn is_ending(&self) -> bool {
        self.hung_up && self.frame.is_none()
    }

    /// Set once all that came has been delivered and nothing more will; a frame cut off in the
    /// middle counts as delivered when no payload of it is left.
    pub(super) fn end(&self) -> Option<End> {
        if self.last_word.is_some() {
            return self.last_word.clone();
        }
        let dry = self.dry()?;
        let over = match self.frame {
            Some(_) => self.left > 0 && self.buffer.is_empty(),
            None => self.buffer.len() < HEADER_BYTES,
        };
        let cut_off = self.frame.is_some() || !self.buffer.is_empty();
        let place = if cut_off { " in the middle of a frame" } else { "" };
        over.then(|| End::Fault(FaultKind::Lost(format!("{dry}{place}"))))
    }

    /// Why nothing more will come behind what the buffer holds, if that is so.
    fn dry(&self) -> Option<&String> {
        self.dry.as_ref().filter(|_| !self.has_record())
    }

    fn has_record(&self) -> bool {
        self.opener.as_ref().is_some_and(|opener| opener.has_record())
    }

    /// Whether `fill` might find something.
    pub(super) fn may_fill(&self) -> bool {
        self.readable || self.has_record()
    }

    /// Like `end`, for a reader that needs `bytes` more bytes of the head frame together.
    pub(super) fn end_short_of(&self, bytes: usize) -> Option<FaultKind> {
        let dry = self.dry()?;
        (self.buffer.len() < bytes.min(self.left))
            .then(|| FaultKind::Lost(format!("{dry} in the middle of a frame")))
    }

    /// The frame at the head, if its header is here.
    pub(super) fn head(&mut self) -> Option<FrameHeader> {
        if self.frame.is_some() || self.last_word.is_some() {
            return self.frame;
        }
        if self.buffer.len() < HEADER_BYTES && self.may_fill() {
            self.fill(HEADER_BYTES, self.peek_bytes);
        }
        let bytes = *self.buffer.data().first_chunk::<HEADER_BYTES>()?;
        self.buffer.consume(HEADER_BYTES);
        match frame::decode(&bytes) {
            Ok(Start::Frame(header)) => {
                self.left = header.payload_bytes as usize;
                self.frame = Some(header);
            }
            Ok(Start::Goodbye { lanes }) => self.last_word = Some(End::Goodbye { lanes }),
            Err(reason) => self.last_word = Some(End::Fault(FaultKind::Protocol(reason))),
        }
        self.frame
    }

    /// Payload of the head frame that is here, at least `min_bytes` if they are.
    pub(super) fn view(&mut self, min_bytes: usize) -> Span {
        let missing = self.left.saturating_sub(self.buffer.len());
        if missing > 0 && self.may_fill() {
            // Who asks for no minimum asks for what there is.
            let together = min_bytes.max(1).min(self.left);
            self.fill(together, missing + self.peek_bytes);
        }
        self.buffer.span(self.buffer.len().min(self.left))
    }

    /// Drops payload that `view` showed.
    pub(super) fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.left, "consumed beyond the end of the frame");
        self.buffer.consume(bytes);
        self.advance(bytes);
    }

    fn advance(&mut self, bytes: usize) {
        self.left -= bytes;
        if self.left == 0 {
            self.frame = None;
        }
    }

    /// Moves payload of the head frame to `dst`; returns how much.
    pub(super) fn read(&mut self, dst: SpanMut) -> usize {
        if self.opener.is_some() && self.buffer.is_empty() && self.may_fill() {
            self.fill_opened(1);
        }
        let wanted = dst.len().min(self.left);
        let buffered = self.buffer.len().min(wanted);
        dst.copy_from(self.buffer.span(buffered));
        self.buffer.consume(buffered);
        let mut moved = buffered;
        if moved < wanted && self.readable && self.opener.is_none() {
            // The buffer is empty now. The next header comes along if this ends the frame.
            let rest = dst.cut(moved, wanted - moved);
            let beyond = if wanted == self.left { self.peek_bytes } else { 0 };
            let spill = self.buffer.space(0, beyond);
            let room = rest.len() + spill.len();
            let received = receive_span(self.fd.as_fd(), rest, spill);
            let received = self.account(received, room);
            moved += received.min(rest.len());
            self.buffer.filled(received.saturating_sub(rest.len()));
        }
        if moved > 0 {
            self.advance(moved);
        }
        moved
    }

    /// Reads into the buffer, at most `limit` bytes.
    fn fill(&mut self, together: usize, limit: usize) {
        if self.opener.is_some() {
            return self.fill_opened(together);
        }
        let space = self.buffer.space(together, limit);
        if space.is_empty() {
            return;
        }
        let room = space.len();
        let received =
            rustix::net::recv(&self.fd, space, RecvFlags::empty()).map(|(bytes, _)| bytes);
        let received = self.account(received, room);
        self.buffer.filled(received);
    }

    /// Opens records into the buffer until it holds `bytes`, or until there are no more.
    fn fill_opened(&mut self, bytes: usize) {
        while self.buffer.len() < bytes {
            let Some(opener) = &mut self.opener else { return };
            match opener.open(&mut self.buffer) {
                Ok(true) => continue,
                Ok(false) if self.readable => {}
                Ok(false) => return,
                Err(tampered) => {
                    self.opener = None;
                    self.readable = false;
                    self.dry = Some(tampered.to_string());
                    return;
                }
            }
            let space = opener.space();
            let room = space.len();
            let received =
                rustix::net::recv(&self.fd, space, RecvFlags::empty()).map(|(bytes, _)| bytes);
            let received = self.account(received, room);
            if let Some(opener) = &mut self.opener {
                opener.filled(received);
            }
        }
    }

    /// Draws the conclusions from a read that had `room`; the bytes it brought.
    fn account(&mut self, received: Result<usize, Errno>, room: usize) -> usize {
        match received {
            Ok(0) => {
                self.readable = false;
                self.dry = Some("it closed the connection".to_owned());
                0
            }
            Ok(bytes) => {
                // A stream that gives less than asked is drained, and what comes later makes
                // another event (epoll(7)); an end that was announced has yet to be read.
                self.readable = bytes == room || self.hung_up;
                bytes
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                0
            }
            Err(Errno::INTR) => 0,
            Err(errno) => {
                self.readable = false;
                self.dry = Some(errno.to_string());
                0
            }
        }
    }

    /// Tells the sender that this end leaves properly, and which lanes it ever opened to it; then
    /// closes.
    pub(super) fn leave(self, lanes: u8) {
        let goodbye = frame::backward_goodbye(lanes);
        // If it does not arrive, the sender takes the end of the connection for what it is.
        match self.opener {
            None => rustix::net::send(&self.fd, &[goodbye], SendFlags::NOSIGNAL).ok(),
            Some(mut opener) => {
                let record = opener.last_word(goodbye);
                rustix::net::send(&self.fd, &record, SendFlags::NOSIGNAL).ok()
            }
        };
    }
}
