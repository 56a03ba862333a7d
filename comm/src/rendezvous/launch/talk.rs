//! Questions and answers on a socket, waiting only through the function that is given.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socket_with, sockopt,
};

use super::super::dialing::EMPTY_EVENT;
use super::super::wait::Wait;
use crate::error::Error;

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Why a conversation ended.
#[derive(Debug)]
pub(crate) enum Silence {
    /// The wait ended: an abort.
    Ended(Error),
    /// The deadline has passed.
    Late,
    /// In words, what went wrong.
    Broken(String),
}

impl From<Errno> for Silence {
    fn from(errno: Errno) -> Self {
        Self::Broken(io::Error::from(errno).to_string())
    }
}

/// A connection to somebody who is asked.
pub(crate) struct Talk {
    fd: OwnedFd,
    epoll: OwnedFd,
    incoming: Vec<u8>,
}

impl Talk {
    /// Talks over a stream socket that is connected. Leaves its flags alone: others may have
    /// it, too.
    pub(crate) fn over(fd: OwnedFd) -> Result<Self, Silence> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&epoll, &fd, epoll::EventData::new_u64(0), interest)?;
        Ok(Self { fd, epoll, incoming: Vec::new() })
    }

    /// Connects to `address`.
    pub(crate) fn connect(
        address: SocketAddr,
        until: Instant,
        wait: Wait<'_>,
    ) -> Result<Self, Silence> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        match rustix::net::connect(&fd, &address) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let talk = Self::over(fd)?;
        loop {
            sockopt::socket_error(&talk.fd)??;
            match rustix::net::getpeername(&talk.fd) {
                Ok(Some(_)) => return Ok(talk),
                Ok(None) | Err(Errno::NOTCONN) => talk.rest(until, wait)?,
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Sleeps until something may have changed.
    fn rest(&self, until: Instant, wait: Wait<'_>) -> Result<(), Silence> {
        if Instant::now() >= until {
            return Err(Silence::Late);
        }
        wait(&[self.epoll.as_fd()], until).map_err(Silence::Ended)?;
        let mut events = [EMPTY_EVENT; 1];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Only clears the edge; what is there is found by trying.
        epoll::wait(&self.epoll, &mut events, Some(&zero)).ok();
        Ok(())
    }

    /// Says all of `bytes`.
    pub(crate) fn say(
        &mut self,
        mut bytes: &[u8],
        until: Instant,
        wait: Wait<'_>,
    ) -> Result<(), Silence> {
        while !bytes.is_empty() {
            match rustix::net::send(&self.fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::AGAIN) => self.rest(until, wait)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Listens until `parse` finds an answer at the front of what has come.
    pub(crate) fn hear<T>(
        &mut self,
        parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, String>,
        until: Instant,
        wait: Wait<'_>,
    ) -> Result<T, Silence> {
        loop {
            if let Some((answer, bytes)) = parse(&self.incoming).map_err(Silence::Broken)? {
                self.incoming.drain(..bytes);
                return Ok(answer);
            }
            if self.incoming.len() > ANSWER_BYTES_MAX {
                return Err(Silence::Broken("its answer has no end".to_owned()));
            }
            let mut chunk = [0; 2048];
            match rustix::net::recv(&self.fd, &mut chunk[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    return Err(Silence::Broken("it ended the connection".to_owned()));
                }
                Ok((bytes, _)) => self.incoming.extend_from_slice(&chunk[..bytes]),
                Err(Errno::AGAIN) => self.rest(until, wait)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
