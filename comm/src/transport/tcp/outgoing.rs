//! The sending end of a pipe.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketAddrAny, getpeername, getsockname, sockopt};

use super::frame::{self, HEADER_BYTES, Start};
use super::sealing::Sealer;
use crate::memory::{Span, send_spans};
use crate::rendezvous::keepalive::keep_alive;
use crate::rendezvous::{Address, Dial, HandshakeError, Hello, JobKey, Listener, descriptors};
use crate::transport::{FaultKind, FrameHeader};

/// How often a connection that broke before it was complete is opened anew: the peer drops one
/// whose proof it has waited for too long, which says nothing about the pipe.
const DIALS_MAX: u32 = 8;
/// A host that is gone without a word is noticed after this long without traffic. (What is sent and
/// not taken is another matter: a peer may be busy and leave its window closed; how long to wait for
/// such a peer is for the deadline of the operation to say.)
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long a goodbye that found the pipe full may wait for room.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(60);

enum State {
    Dialing(Dial),
    /// With what encrypts it, if it is encrypted.
    Open(OwnedFd, Option<Box<Sealer>>),
    /// The receiver has left properly. Bit `l` says whether it ever opened lane `l`.
    Left {
        lanes: u8,
    },
    Broken(FaultKind),
}

/// What an event on the socket came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noticed {
    Nothing,
    /// There is a new socket to watch.
    Redialed,
    /// The pipe is broken, or its receiver has left.
    Ended,
}

/// Sends frames; opens the connection first.
pub(super) struct Outgoing {
    hello: Hello,
    addresses: Vec<SocketAddr>,
    dials: u32,
    /// Descriptors that all pipes of the communicator may take together.
    descriptors_max: u64,
    state: State,
    /// Header bytes of the current frame that have been sent.
    header_sent: usize,
    writable: bool,
    /// The poll after which this pipe was last refused.
    pub(super) asked: u64,
}

impl Outgoing {
    /// Starts to connect to the first of the peer's addresses that works.
    pub(super) fn open(hello: Hello, addresses: &[SocketAddr], descriptors_max: u64) -> Self {
        let mut outgoing = Self {
            hello,
            addresses: addresses.to_vec(),
            dials: 0,
            descriptors_max,
            state: State::Broken(FaultKind::Lost("it has no address".to_owned())),
            header_sent: 0,
            writable: false,
            asked: u64::MAX,
        };
        outgoing.dial();
        outgoing
    }

    /// Starts a connection, to the next address if the one before cannot be had.
    fn dial(&mut self) {
        while let Some(&address) = self.addresses.first() {
            self.dials += 1;
            match Dial::start(&Address::Tcp(address), &self.hello) {
                Ok(dial) => {
                    self.state = State::Dialing(dial);
                    return;
                }
                Err(error) => {
                    self.next_address();
                    self.state = unreachable(address, &error);
                    // That says nothing about the peer, and no other address helps.
                    if let Some(lack) = descriptors::lack(&error, self.descriptors_max) {
                        let reason = format!("cannot connect to {address}: {lack}");
                        self.state = State::Broken(FaultKind::System(reason));
                        return;
                    }
                }
            }
        }
    }

    fn next_address(&mut self) {
        self.addresses.remove(0);
        self.dials = 0;
    }

    /// The socket to watch, unless the pipe has ended.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Dialing(dial) => Some(dial.fd()),
            State::Open(fd, _) => Some(fd.as_fd()),
            State::Left { .. } | State::Broken(_) => None,
        }
    }

    /// Why the pipe will take nothing more, if that is so.
    pub(super) fn end(&self) -> Option<FaultKind> {
        match &self.state {
            State::Left { .. } => Some(FaultKind::Lost("it has left the communicator".to_owned())),
            State::Broken(kind) => Some(kind.clone()),
            State::Dialing(_) | State::Open(..) => None,
        }
    }

    /// Whether the pipe has ended otherwise than by the receiver's goodbye.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken(_))
    }

    /// The lanes that the receiver ever opened, if it has left properly.
    pub(super) fn left(&self) -> Option<u8> {
        match self.state {
            State::Left { lanes } => Some(lanes),
            State::Dialing(_) | State::Open(..) | State::Broken(_) => None,
        }
    }

    /// Takes note of an event on the socket: goes on connecting, looks for the end.
    pub(super) fn notice(&mut self, key: &JobKey) -> Noticed {
        self.writable = true;
        if let State::Dialing(dial) = &mut self.state {
            let noticed = match dial.advance(key) {
                Ok(false) => return Noticed::Nothing,
                Ok(true) => self.begin(),
                Err(error) => self.dial_failed(error),
            };
            if noticed != Noticed::Nothing {
                return noticed;
            }
        }
        // The event that brought the end of the handshake may have brought the end as well.
        self.look_for_the_end()
    }

    fn look_for_the_end(&mut self) -> Noticed {
        match self.last_word() {
            None => Noticed::Nothing,
            Some(state) => {
                self.state = state;
                Noticed::Ended
            }
        }
    }

    /// How the receiver, or the connection, has ended an open pipe, if it has.
    fn last_word(&mut self) -> Option<State> {
        let State::Open(fd, sealer) = &mut self.state else { return None };
        let heard = match sealer {
            Some(sealer) => sealer.hear(fd.as_fd()),
            None => {
                let mut byte = [0; 1];
                let received = rustix::net::recv(&*fd, &mut byte, RecvFlags::empty());
                received.map(|(bytes, _)| (bytes == 1).then_some(byte[0]))
            }
        };
        match heard {
            Err(Errno::AGAIN | Errno::INTR) => None,
            Ok(None) => Some(broken("it closed the connection")),
            Ok(Some(byte)) => Some(match frame::lanes_of_leaver(byte) {
                Some(lanes) => State::Left { lanes },
                None => State::Broken(FaultKind::Protocol(
                    "it sent data on a pipe that leads to it".to_owned(),
                )),
            }),
            Err(errno) => Some(broken(errno)),
        }
    }

    /// The connection is proven: frames may follow.
    fn begin(&mut self) -> Noticed {
        let placeholder = broken("it was never open");
        let State::Dialing(dial) = std::mem::replace(&mut self.state, placeholder) else {
            return Noticed::Nothing;
        };
        let (fd, session) = dial.into_parts();
        if is_within_host(fd.as_fd()) {
            hurry(fd.as_fd());
        }
        match keep_alive(fd.as_fd(), SILENCE_MAX) {
            Ok(()) => {
                self.state = State::Open(fd, session.map(|keys| Box::new(Sealer::new(keys))));
                Noticed::Nothing
            }
            Err(errno) => {
                self.state = State::Broken(FaultKind::System(errno.to_string()));
                Noticed::Ended
            }
        }
    }

    fn dial_failed(&mut self, error: HandshakeError) -> Noticed {
        let address = self.addresses[0];
        match error {
            HandshakeError::Io(error) => {
                // Refusals and missing routes are answers; anything else broke on the way.
                let broke = matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::BrokenPipe
                        | io::ErrorKind::WriteZero
                );
                self.state = unreachable(address, &error);
                if !broke || self.dials >= DIALS_MAX {
                    self.next_address();
                }
                self.dial();
            }
            HandshakeError::Version(_) => {
                self.state = State::Broken(FaultKind::Protocol(error.to_string()));
            }
            HandshakeError::Stranger => {
                self.next_address();
                self.state = broken(format!("somebody else listens at {address} now"));
                self.dial();
            }
        }
        if self.fd().is_some() { Noticed::Redialed } else { Noticed::Ended }
    }

    /// Sends as much of the frame as the socket takes; whether that was all of it.
    pub(super) fn send(
        &mut self,
        header: &FrameHeader,
        parts: &[Span],
        accepted: &mut usize,
    ) -> Result<bool, FaultKind> {
        let State::Open(fd, sealer) = &mut self.state else {
            return match self.end() {
                Some(kind) => Err(kind),
                None => Ok(false),
            };
        };
        let encoded = frame::encode(Start::Frame(*header));
        let total = header.payload_bytes as usize;
        while self.writable {
            let lead = &encoded[self.header_sent..];
            let sent = match sealer {
                Some(sealer) => sealer.flush(fd.as_fd()).map(|flushed| {
                    self.writable = flushed;
                    let all = lead.is_empty() && *accepted == total;
                    if all || !flushed {
                        0
                    } else {
                        lead.len() + sealer.seal(lead, parts, *accepted)
                    }
                }),
                None => send_spans(fd.as_fd(), lead, parts, *accepted),
            };
            match sent {
                Ok(sent) => {
                    let of_header = sent.min(lead.len());
                    self.header_sent += of_header;
                    *accepted += sent - of_header;
                    // What was sealed counts as sent once it is flushed, in the next round.
                    let under_way = sealer.is_some() && sent > 0 || !self.writable;
                    if self.header_sent == HEADER_BYTES && *accepted == total && !under_way {
                        self.header_sent = 0;
                        return Ok(true);
                    }
                }
                Err(Errno::AGAIN) => self.writable = false,
                Err(Errno::INTR) => {}
                Err(errno) => {
                    // A receiver that left properly has said so before it closed.
                    self.state = match self.last_word() {
                        Some(State::Left { lanes }) => State::Left { lanes },
                        _ => broken(errno),
                    };
                    return Err(self.end().expect("it has just ended"));
                }
            }
        }
        Ok(false)
    }

    /// Says goodbye, if the last frame is complete, and closes.
    pub(super) fn leave(self, lanes: u8, listener: &Listener) {
        let State::Open(fd, sealer) = self.state else { return };
        if self.header_sent != 0 {
            // Half a frame: the receiver must not take this for a proper end.
            return;
        }
        let goodbye = frame::encode(Start::Goodbye { lanes });
        let goodbye = match sealer {
            Some(mut sealer) => sealer.last_word(&goodbye),
            None => goodbye.to_vec(),
        };
        let sent = match rustix::net::send(&fd, &goodbye, SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => return,
        };
        if sent < goodbye.len() {
            listener.linger(fd, goodbye[sent..].to_vec(), GOODBYE_TIME_MAX);
        }
    }
}

/// Whether both ends have the same address, and the connection is a loopback.
fn is_within_host(fd: BorrowedFd<'_>) -> bool {
    let ip = |address: SocketAddrAny| SocketAddr::try_from(address).ok().map(|a| a.ip());
    let own = getsockname(fd).ok().and_then(ip);
    own.is_some() && own == getpeername(fd).ok().flatten().and_then(ip)
}

/// Has a loopback carry data as fast as it can. Nothing is lost there and nobody else's traffic is
/// met, so to probe for congestion and to pace what is sent, as BBR does, only takes time. Reno does
/// neither; it is part of every kernel, and everybody may choose it (tcp(7)).
fn hurry(fd: BorrowedFd<'_>) {
    if let Err(errno) = sockopt::set_tcp_congestion(fd, "reno") {
        tracing::debug!(%errno, "a loopback keeps the system's congestion control");
    }
}

fn broken(reason: impl ToString) -> State {
    State::Broken(FaultKind::Lost(reason.to_string()))
}

fn unreachable(address: SocketAddr, error: &io::Error) -> State {
    broken(format!("cannot connect to {address}: {error}"))
}
