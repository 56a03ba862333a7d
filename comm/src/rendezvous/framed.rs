//! Length-prefixed messages on a proven connection, without blocking.
//!
//! A message is `length u32 | bytes`, little-endian; on an encrypted connection this stream is cut
//! into the records of [`super::noise`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::noise::{RECORD_LENGTH_BYTES, RECORD_OVERHEAD_BYTES, RECORD_PLAIN_BYTES_MAX, Session};

const CHUNK_BYTES: usize = 16 * 1024;
const PREFIX_BYTES: usize = 4;

/// One end of a connection that carries messages.
///
/// Poll [`Framed::fd`] for readability, and for writability while [`Framed::unsent_bytes`] is not
/// zero.
#[derive(Debug)]
pub struct Framed {
    fd: OwnedFd,
    session: Option<Session>,
    message_bytes_max: usize,
    /// Records that have not come whole.
    sealed: Vec<u8>,
    /// Plain bytes that have come; those before `taken` have been given away.
    incoming: Vec<u8>,
    taken: usize,
    outgoing: Vec<u8>,
    sent: usize,
}

impl Framed {
    /// Messages of at most `message_bytes_max` bytes on a connection whose handshake is complete:
    /// what [`Dial::into_parts`](super::Dial::into_parts) gives or
    /// [`Accepted`](super::Accepted) holds.
    pub fn new(fd: OwnedFd, session: Option<Session>, message_bytes_max: usize) -> Self {
        Self {
            fd,
            session,
            message_bytes_max,
            sealed: Vec::new(),
            incoming: Vec::new(),
            taken: 0,
            outgoing: Vec::new(),
            sent: 0,
        }
    }

    /// The socket, to poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Bytes that wait for room in the socket.
    pub fn unsent_bytes(&self) -> usize {
        self.outgoing.len() - self.sent
    }

    /// Queues a message; [`flush`](Self::flush) sends it.
    ///
    /// # Panics
    /// When it is longer than the two ends have settled on.
    pub fn push(&mut self, message: &[u8]) {
        assert!(message.len() <= self.message_bytes_max, "message of {} bytes", message.len());
        let length = u32::try_from(message.len()).expect("messages are far below 4 GiB");
        let Some(session) = &mut self.session else {
            self.outgoing.extend_from_slice(&length.to_le_bytes());
            self.outgoing.extend_from_slice(message);
            return;
        };
        let plain = [&length.to_le_bytes(), message].concat();
        for part in plain.chunks(RECORD_PLAIN_BYTES_MAX) {
            let end = self.outgoing.len();
            self.outgoing.resize(end + part.len() + RECORD_OVERHEAD_BYTES, 0);
            session.seal(part, &mut self.outgoing[end..]);
        }
    }

    /// Sends what fits; whether all has been sent.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.outgoing.len() {
            match rustix::net::send(&self.fd, &self.outgoing[self.sent..], SendFlags::NOSIGNAL) {
                Ok(bytes) => self.sent += bytes,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        Ok(true)
    }

    /// Reads what is there; a message once one is complete. Call it until it answers `None`. The
    /// end of the stream is an error, and so is a message that is too long or was altered.
    pub fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(message) = self.complete()? {
                return Ok(Some(message));
            }
            let mut chunk = [0; CHUNK_BYTES];
            match rustix::net::recv(&self.fd, &mut chunk[..], RecvFlags::empty()) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((bytes, _)) => self.take_in(&chunk[..bytes])?,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The message at the front of what has come, if it is whole.
    fn complete(&mut self) -> io::Result<Option<Vec<u8>>> {
        let waiting = &self.incoming[self.taken..];
        let Some((length, rest)) = waiting.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let bytes = u32::from_le_bytes(*length) as usize;
        if bytes > self.message_bytes_max {
            return Err(invalid(format!(
                "a message of {bytes} bytes; at most {} are allowed",
                self.message_bytes_max
            )));
        }
        let Some(message) = rest.get(..bytes) else { return Ok(None) };
        let message = message.to_vec();
        self.taken += PREFIX_BYTES + bytes;
        if self.taken == self.incoming.len() {
            self.incoming.clear();
            self.taken = 0;
        }
        Ok(Some(message))
    }

    /// Adds bytes from the socket to those that have come.
    fn take_in(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Once per read, not once per message.
        self.incoming.drain(..self.taken);
        self.taken = 0;
        let Some(session) = &mut self.session else {
            self.incoming.extend_from_slice(bytes);
            return Ok(());
        };
        self.sealed.extend_from_slice(bytes);
        let mut opened = 0;
        while let Some((length, rest)) =
            self.sealed[opened..].split_first_chunk::<RECORD_LENGTH_BYTES>()
        {
            let body = Session::body_bytes(*length).map_err(invalid)?;
            let Some(body) = rest.get(..body) else { break };
            let end = self.incoming.len();
            self.incoming.resize(end + body.len(), 0);
            let plain = session.open(body, &mut self.incoming[end..]).map_err(invalid)?;
            self.incoming.truncate(end + plain);
            opened += RECORD_LENGTH_BYTES + body.len();
        }
        self.sealed.drain(..opened);
        Ok(())
    }
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
