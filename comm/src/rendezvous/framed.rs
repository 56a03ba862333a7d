//! Length-prefixed messages on a proven connection, without blocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// Largest message: a table of tens of thousands of ranks.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
const CHUNK_BYTES: usize = 16 * 1024;

/// `message` behind its length, as it goes on the wire.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let bytes = u32::try_from(message.len()).expect("messages are far below 4 GiB");
    [&bytes.to_le_bytes(), message].concat()
}

/// One end of a connection that carries rendezvous messages.
pub(crate) struct Framed {
    fd: OwnedFd,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
}

impl Framed {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, incoming: Vec::new(), outgoing: Vec::new(), sent: 0 }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Puts bytes that are not a message before whatever is sent next.
    pub(crate) fn push_raw(&mut self, bytes: &[u8]) {
        self.outgoing.extend_from_slice(bytes);
    }

    pub(crate) fn push(&mut self, message: &[u8]) {
        self.outgoing.extend_from_slice(&frame(message));
    }

    /// Sends what fits; whether all has been sent.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
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

    /// Reads what is there; a message once one is complete. The end of the stream is an error.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some((length, rest)) = self.incoming.split_first_chunk::<4>() {
                let bytes = u32::from_le_bytes(*length) as usize;
                if bytes > MESSAGE_BYTES_MAX {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
                }
                if rest.len() >= bytes {
                    let message = rest[..bytes].to_vec();
                    self.incoming.drain(..4 + bytes);
                    return Ok(Some(message));
                }
            }
            let mut chunk = [0; CHUNK_BYTES];
            match rustix::net::recv(&self.fd, &mut chunk[..], RecvFlags::empty()) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((bytes, _)) => self.incoming.extend_from_slice(&chunk[..bytes]),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
