//! Passing descriptors between the processes of a host, over a Unix stream socket.
//!
//! Each message carries up to 253 descriptors, the kernel's limit, and says which of how many
//! they are. Nothing here blocks: both ends are stepped until done.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Most descriptors in one message.
const FDS_MAX: usize = 253;
/// Bytes of data in every message: total, index of the first, count, as `u32` little-endian.
const MESSAGE_BYTES: usize = 12;

/// Sends a list of descriptors.
#[derive(Debug, Default)]
pub struct FdSender {
    sent: usize,
}

impl FdSender {
    /// Sends what the socket takes of `fds`, the same list at every call; `true` once all are on
    /// their way.
    ///
    /// # Errors
    /// Those of `sendmsg(2)`; a full socket is none.
    pub fn step(&mut self, stream: &UnixStream, fds: &[BorrowedFd<'_>]) -> io::Result<bool> {
        while self.sent < fds.len() {
            let batch = &fds[self.sent..fds.len().min(self.sent + FDS_MAX)];
            let words = [fds.len(), self.sent, batch.len()];
            let mut data = [0; MESSAGE_BYTES];
            for (bytes, word) in data.chunks_exact_mut(4).zip(words) {
                let word = u32::try_from(word).map_err(|_| bad("too many descriptors"))?;
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FDS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(batch)), "the space is enough");
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(stream, &[IoSlice::new(&data)], &mut control, flags)
                .map_err(io::Error::from)
            {
                Ok(MESSAGE_BYTES) => self.sent += batch.len(),
                Ok(_) => return Err(bad("a message was cut in two")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Receives a list of descriptors.
#[derive(Debug, Default)]
pub struct FdReceiver {
    fds: Vec<OwnedFd>,
}

impl FdReceiver {
    /// Receives what has come of a list of `count` descriptors; the list, once it is complete.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer hung up; `InvalidData` when it sends anything but a list of
    /// this length; otherwise those of `recvmsg(2)`. An empty socket is no error.
    pub fn step(&mut self, stream: &UnixStream, count: usize) -> io::Result<Option<Vec<OwnedFd>>> {
        while self.fds.len() < count {
            let mut data = [0; MESSAGE_BYTES];
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FDS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let mut parts = [IoSliceMut::new(&mut data)];
            let message = match recvmsg(stream, &mut parts, &mut control, flags) {
                Ok(message) => message,
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let before = self.fds.len();
            for part in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = part {
                    self.fds.extend(fds);
                }
            }
            if message.bytes == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if message.flags.contains(ReturnFlags::CTRUNC) {
                return Err(bad("descriptors were lost; raise the limit on them (ulimit -n)"));
            }
            let words = [count, before, self.fds.len() - before];
            let stated: [u32; 3] = std::array::from_fn(|i| {
                u32::from_le_bytes(std::array::from_fn(|byte| data[i * 4 + byte]))
            });
            let right = stated.iter().zip(words).all(|(&stated, word)| stated as usize == word)
                && self.fds.len() <= count;
            if message.bytes != MESSAGE_BYTES || !right || words[2] == 0 {
                return Err(bad("the peer sent something else than the descriptors expected"));
            }
        }
        Ok(Some(std::mem::take(&mut self.fds)))
    }
}

fn bad(text: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::fstat;

    #[test]
    fn a_long_list_arrives_in_order() {
        let (here, there) = UnixStream::pair().expect("sockets");
        // Two files to tell apart, in a pattern over three messages.
        let files = [
            rustix::fs::memfd_create(c"a", rustix::fs::MemfdFlags::empty()).expect("fd"),
            rustix::fs::memfd_create(c"b", rustix::fs::MemfdFlags::empty()).expect("fd"),
        ];
        let which: Vec<_> = (0_usize..600).map(|i| i * i / 7 % 2).collect();
        let list: Vec<_> = which.iter().map(|&i| files[i].as_fd()).collect();
        let (mut sender, mut receiver) = (FdSender::default(), FdReceiver::default());
        assert!(receiver.step(&there, 600).expect("nothing came yet").is_none());
        let arrived = loop {
            sender.step(&here, &list).expect("the socket is open");
            if let Some(fds) = receiver.step(&there, 600).expect("the socket is open") {
                break fds;
            }
        };
        let inode = |fd: BorrowedFd<'_>| fstat(fd).expect("a file").st_ino;
        let inodes: Vec<_> = arrived.iter().map(|fd| inode(fd.as_fd())).collect();
        let expected: Vec<_> = which.iter().map(|&i| inode(files[i].as_fd())).collect();
        assert_eq!(inodes, expected);
    }

    #[test]
    fn anything_else_is_refused() {
        let fd = eventfd(0, EventfdFlags::empty()).expect("fd");
        let (mut here, there) = UnixStream::pair().expect("sockets");
        here.write_all(&[1; 12]).expect("the socket is open");
        let error = FdReceiver::default().step(&there, 3).expect_err("no descriptors");
        assert_eq!(error.kind(), ErrorKind::InvalidData);

        let (here, there) = UnixStream::pair().expect("sockets");
        FdSender::default().step(&here, &[fd.as_fd()]).expect("the socket is open");
        let error = FdReceiver::default().step(&there, 3).expect_err("another length");
        assert_eq!(error.kind(), ErrorKind::InvalidData);

        drop(here);
        let (here, there) = UnixStream::pair().expect("sockets");
        let mut words = [0; MESSAGE_BYTES];
        words[0] = 2;
        words[8] = 3;
        let message = IoSlice::new(&words);
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let three = [fd.as_fd(); 3];
        assert!(control.push(SendAncillaryMessage::ScmRights(&three)));
        sendmsg(&here, &[message], &mut control, SendFlags::NOSIGNAL).expect("it is open");
        let error = FdReceiver::default().step(&there, 2).expect_err("one more than the list");
        assert_eq!(error.kind(), ErrorKind::InvalidData);

        drop(here);
        let error = FdReceiver::default().step(&there, 3).expect_err("hung up");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }
}
