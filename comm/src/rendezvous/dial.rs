//! The connecting side of the handshake.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::handshake::{
    ACCEPTOR_MAGIC, CHALLENGE_BYTES, CONNECTOR_MAGIC, GREETING_BYTES, HandshakeError, Hello,
    Incoming, Nonce, PROVEN_HELLO_BYTES, check_head, fresh_nonce, head, said, send_whole,
};
use super::noise::{EXCHANGE_BYTES, KeyExchange, Session, Side};
use super::proof::{JobKey, Proof};
use super::wire::Decoder;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP listener.
    Tcp(SocketAddr),
    /// A Unix listener with this name in the abstract namespace.
    Local(Vec<u8>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Local(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
        }
    }
}

enum DialStep {
    /// The Unix listener's queue was full. Nothing tells when it is not: every call of `advance`
    /// tries again.
    Queuing(SocketAddrUnix),
    Connecting,
    Challenge(Incoming<CHALLENGE_BYTES>),
    Keys {
        exchange: KeyExchange,
        message: Incoming<EXCHANGE_BYTES>,
    },
    Done(Option<Session>),
}

/// An outgoing connection under way. Never blocks: poll [`Dial::fd`] for readability and
/// writability and call [`Dial::advance`] when either comes.
pub struct Dial {
    fd: OwnedFd,
    nonce: Nonce,
    hello: Hello,
    step: DialStep,
}

impl Dial {
    /// Starts to connect.
    pub fn start(address: &Address, hello: &Hello) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = |family| rustix::net::socket_with(family, SocketType::STREAM, flags, None);
        let (fd, connected) = match address {
            Address::Tcp(address) => {
                let fd = socket(if address.is_ipv4() {
                    AddressFamily::INET
                } else {
                    AddressFamily::INET6
                })?;
                sockopt::set_tcp_nodelay(&fd, true)?;
                let connected = rustix::net::connect(&fd, address);
                (fd, connected)
            }
            Address::Local(name) => {
                let fd = socket(AddressFamily::UNIX)?;
                let name = SocketAddrUnix::new_abstract_name(name)?;
                let connected = rustix::net::connect(&fd, &name);
                if connected == Err(Errno::AGAIN) {
                    let step = DialStep::Queuing(name);
                    return Ok(Self { fd, nonce: fresh_nonce()?, hello: *hello, step });
                }
                (fd, connected)
            }
        };
        match connected {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let step = DialStep::Connecting;
        Ok(Self { fd, nonce: fresh_nonce()?, hello: *hello, step })
    }

    /// The socket, to poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the connection stands, though nothing may be proven yet.
    pub(crate) fn is_connected(&self) -> bool {
        !matches!(self.step, DialStep::Connecting | DialStep::Queuing(_))
    }

    /// Whether it waits for room in the queue of a listener of this host.
    pub(crate) fn is_queuing(&self) -> bool {
        matches!(self.step, DialStep::Queuing(_))
    }

    /// The socket, and the keys if it is encrypted, once `advance` has answered `true`.
    pub fn into_parts(self) -> (OwnedFd, Option<Session>) {
        match self.step {
            DialStep::Done(session) => (self.fd, session),
            _ => (self.fd, None),
        }
    }

    /// Goes as far as possible. `true`: both ends have proved themselves, the acceptor knows what
    /// the connection is for, and data may follow.
    pub fn advance(&mut self, key: &JobKey) -> Result<bool, HandshakeError> {
        let fd = self.fd.as_fd();
        loop {
            self.step = match &mut self.step {
                DialStep::Queuing(name) => match rustix::net::connect(fd, name) {
                    Ok(()) => DialStep::Connecting,
                    Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
                    Err(errno) => return Err(errno.into()),
                },
                DialStep::Connecting => match send_whole(fd, &greeting(&self.nonce)) {
                    Ok(()) => DialStep::Challenge(Incoming::new()),
                    Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(false),
                    Err(errno) => return Err(errno.into()),
                },
                DialStep::Challenge(message) => {
                    let Some(challenge) = message.advance(fd)? else { return Ok(false) };
                    answer_challenge(fd, key, &self.nonce, &self.hello, challenge)?
                }
                DialStep::Keys { exchange, message } => {
                    let Some(theirs) = message.advance(fd)? else { return Ok(false) };
                    exchange.take(theirs)?;
                    let done = DialStep::Done(None);
                    if let DialStep::Keys { exchange, .. } = std::mem::replace(&mut self.step, done)
                    {
                        self.step = DialStep::Done(Some(exchange.finish()));
                    }
                    return Ok(true);
                }
                DialStep::Done(_) => return Ok(true),
            };
        }
    }
}

fn greeting(nonce: &Nonce) -> [u8; GREETING_BYTES] {
    head(CONNECTOR_MAGIC, nonce).finish().try_into().expect("a head is a greeting")
}

/// Checks the acceptor's proof, then says who comes, and offers a key if need be.
fn answer_challenge(
    fd: BorrowedFd<'_>,
    key: &JobKey,
    nonce: &Nonce,
    hello: &Hello,
    challenge: &[u8; CHALLENGE_BYTES],
) -> Result<DialStep, HandshakeError> {
    let mut decoder = Decoder::new(challenge);
    check_head(&mut decoder, ACCEPTOR_MAGIC)?;
    let (acceptor, proof) = (decoder.array()?, Proof::from_bytes(decoder.array()?));
    if proof != key.acceptor_proof(nonce, &acceptor) {
        return Err(HandshakeError::Stranger);
    }
    let encoded = hello.encode();
    let mut proven = [0; PROVEN_HELLO_BYTES];
    proven[..32].copy_from_slice(key.connector_proof(nonce, &acceptor, &encoded).as_bytes());
    proven[32..].copy_from_slice(&encoded);
    if !hello.encrypted {
        send_whole(fd, &proven)?;
        return Ok(DialStep::Done(None));
    }
    let said = said(&greeting(nonce), challenge, &proven);
    let mut exchange = KeyExchange::new(key, Side::Connector, &said);
    let mut message = [0; PROVEN_HELLO_BYTES + EXCHANGE_BYTES];
    message[..PROVEN_HELLO_BYTES].copy_from_slice(&proven);
    message[PROVEN_HELLO_BYTES..].copy_from_slice(&exchange.offer()?);
    send_whole(fd, &message)?;
    Ok(DialStep::Keys { exchange, message: Incoming::new() })
}
