//! The first bytes on every connection: three messages that prove both ends belong to the job.
//!
//! ```text
//! connector -> acceptor   greeting   magic 8 | version 2 | zero 6 | nonce 16
//! acceptor  -> connector  challenge  magic 8 | version 2 | zero 6 | nonce 16 | proof 32
//! connector -> acceptor   hello      proof 32 | hello 32
//! ```
//!
//! The connector has checked the acceptor before it sends the hello, so it may put data right
//! behind it. All sizes are fixed and neither side reads a byte more than the message it waits
//! for, so whatever follows, descriptors included, reaches whoever the connection is for.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use super::proof::{JobKey, Proof};
use super::unique_id::WIRE_VERSION;
use super::wire::{Decoder, Encoder, Malformed};

/// Random bytes that make every proof a fresh one.
pub(crate) type Nonce = [u8; 16];
/// Size of an encoded [`Hello`].
pub(crate) const HELLO_BYTES: usize = 32;
const GREETING_BYTES: usize = 32;
const CHALLENGE_BYTES: usize = 64;
/// Size of the connector's last message: a proof and a hello.
pub const PROVEN_HELLO_BYTES: usize = 32 + HELLO_BYTES;
const CONNECTOR_MAGIC: &[u8; 8] = b"SynclinC";
const ACCEPTOR_MAGIC: &[u8; 8] = b"SynclinA";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// A rank comes to the rendezvous.
    Join = 0,
    /// A pipe of the TCP transport; [`Hello::lane`] says which.
    Pipe = 1,
    /// A channel between two processes of one host that can pass file descriptors.
    Local = 2,
    /// A long-lived connection for messages between two members, dialled by job rank:
    /// [`Hello::from`] and [`Hello::to`] are ranks in the job, whatever communicators they share.
    Control = 3,
    /// A rank passes on the table of members.
    Table = 8,
}

/// Who opened a connection, to whom, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Identifies the communicator among all of the job's.
    pub communicator: u64,
    /// Which life of the communicator, or of the job for [`Purpose::Control`], the sender is in:
    /// 0 at first, higher after every change of members. See [`Listener::retire_epochs`].
    ///
    /// [`Listener::retire_epochs`]: super::Listener::retire_epochs
    pub epoch: u32,
    /// What the connection is for.
    pub purpose: Purpose,
    /// Lane of a pipe, as `Lane as u8`; 0 otherwise.
    pub lane: u8,
    /// Rank that connected, in that communicator.
    pub from: u32,
    /// Rank that is meant, in that communicator.
    pub to: u32,
    /// Free for the purpose.
    pub tag: u64,
}

impl Hello {
    pub(super) fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut encoder = Encoder::default();
        encoder.u64(self.communicator);
        encoder.u64(self.tag);
        encoder.u32(self.from);
        encoder.u32(self.to);
        encoder.u8(self.purpose as u8);
        encoder.u8(self.lane);
        encoder.raw(&[0; 2]);
        encoder.u32(self.epoch);
        encoder.finish().try_into().expect("the fields above are 32 bytes")
    }

    pub(super) fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, Malformed> {
        let mut decoder = Decoder::new(bytes);
        let (communicator, tag) = (decoder.u64()?, decoder.u64()?);
        let (from, to) = (decoder.u32()?, decoder.u32()?);
        let purpose = match decoder.u8()? {
            0 => Purpose::Join,
            1 => Purpose::Pipe,
            2 => Purpose::Local,
            3 => Purpose::Control,
            8 => Purpose::Table,
            _ => return Err(Malformed),
        };
        let lane = decoder.u8()?;
        if decoder.u16()? != 0 {
            return Err(Malformed);
        }
        let epoch = decoder.u32()?;
        decoder.finish()?;
        Ok(Self { communicator, epoch, purpose, lane, from, to, tag })
    }
}

/// Why a handshake ended without a connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other end speaks another version of the protocol.
    #[error("it speaks version {0} of the wire protocol, this process {WIRE_VERSION}")]
    Version(u16),
    /// The other end is not a Syncline process, or belongs to another job.
    #[error("it does not belong to this job")]
    Stranger,
}

impl From<Errno> for HandshakeError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl From<Malformed> for HandshakeError {
    fn from(_: Malformed) -> Self {
        Self::Stranger
    }
}

fn fresh_nonce() -> io::Result<Nonce> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    Ok(nonce)
}

/// A message of `N` bytes on its way in.
struct Incoming<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> Incoming<N> {
    fn new() -> Self {
        Self { bytes: [0; N], filled: 0 }
    }

    /// Reads what is there, never beyond the message; the message once it is complete.
    fn advance(&mut self, fd: BorrowedFd<'_>) -> io::Result<Option<&[u8; N]>> {
        while self.filled < N {
            match rustix::net::recv(fd, &mut self.bytes[self.filled..], RecvFlags::empty()) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((bytes, _)) => self.filled += bytes,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Some(&self.bytes))
    }
}

/// Sends a handshake message whole. It is the first on a fresh socket, whose buffer is empty:
/// anything but all of it means that the connection is not usable.
fn send_whole(fd: BorrowedFd<'_>, message: &[u8]) -> Result<(), Errno> {
    loop {
        match rustix::net::send(fd, message, SendFlags::NOSIGNAL) {
            Ok(bytes) if bytes == message.len() => return Ok(()),
            Ok(_) => return Err(Errno::NOBUFS),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn check_head(decoder: &mut Decoder<'_>, magic: &[u8; 8]) -> Result<(), HandshakeError> {
    if &decoder.array::<8>()? != magic {
        return Err(HandshakeError::Stranger);
    }
    let version = decoder.u16()?;
    if version != WIRE_VERSION {
        return Err(HandshakeError::Version(version));
    }
    decoder.raw(6)?;
    Ok(())
}

fn head(magic: &[u8; 8], nonce: &Nonce) -> Encoder {
    let mut encoder = Encoder::default();
    encoder.raw(magic);
    encoder.u16(WIRE_VERSION);
    encoder.raw(&[0; 6]);
    encoder.raw(nonce);
    encoder
}

enum AcceptStep {
    Greeting(Incoming<GREETING_BYTES>),
    Hello { connector: Nonce, acceptor: Nonce, message: Incoming<PROVEN_HELLO_BYTES> },
}

/// An accepted connection that has not proved yet that it belongs here.
pub(crate) struct Accepting {
    fd: OwnedFd,
    pub(crate) since: Instant,
    step: AcceptStep,
}

impl Accepting {
    /// `fd` is a fresh, non-blocking socket.
    pub(crate) fn new(fd: OwnedFd, since: Instant) -> Self {
        Self { fd, since, step: AcceptStep::Greeting(Incoming::new()) }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Whether the other end has sent a well-formed greeting.
    pub(crate) fn is_greeted(&self) -> bool {
        matches!(self.step, AcceptStep::Hello { .. })
    }

    /// Goes as far as the bytes that have arrived allow; the hello once it is proven.
    pub(crate) fn advance(&mut self, key: &JobKey) -> Result<Option<Hello>, HandshakeError> {
        if let AcceptStep::Greeting(message) = &mut self.step {
            let Some(greeting) = message.advance(self.fd.as_fd())? else { return Ok(None) };
            let mut decoder = Decoder::new(greeting);
            match check_head(&mut decoder, CONNECTOR_MAGIC) {
                Err(HandshakeError::Version(version)) => {
                    // Tells the connector our version; it cannot prove anything to us.
                    let mut refusal = head(ACCEPTOR_MAGIC, &[0; 16]);
                    refusal.raw(&[0; 32]);
                    // The connection is dropped either way.
                    send_whole(self.fd.as_fd(), &refusal.finish()).ok();
                    return Err(HandshakeError::Version(version));
                }
                other => other?,
            }
            let (connector, acceptor) = (decoder.array()?, fresh_nonce()?);
            let mut challenge = head(ACCEPTOR_MAGIC, &acceptor);
            challenge.raw(key.acceptor_proof(&connector, &acceptor).as_bytes());
            send_whole(self.fd.as_fd(), &challenge.finish())?;
            self.step = AcceptStep::Hello { connector, acceptor, message: Incoming::new() };
        }
        let AcceptStep::Hello { connector, acceptor, message } = &mut self.step else {
            return Ok(None);
        };
        let Some(bytes) = message.advance(self.fd.as_fd())? else { return Ok(None) };
        let mut decoder = Decoder::new(bytes);
        let (proof, hello) = (Proof::from_bytes(decoder.array()?), decoder.array()?);
        if proof != key.connector_proof(connector, acceptor, &hello) {
            return Err(HandshakeError::Stranger);
        }
        Ok(Some(Hello::decode(&hello)?))
    }
}

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
    Connecting,
    Challenge(Incoming<CHALLENGE_BYTES>),
    Proven,
}

/// An outgoing connection under way. Never blocks: poll [`Dial::fd`] for readability and
/// writability and call [`Dial::advance`] when either comes.
pub struct Dial {
    fd: OwnedFd,
    nonce: Nonce,
    hello: [u8; HELLO_BYTES],
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
                let connected =
                    rustix::net::connect(&fd, &SocketAddrUnix::new_abstract_name(name)?);
                (fd, connected)
            }
        };
        match connected {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let step = DialStep::Connecting;
        Ok(Self { fd, nonce: fresh_nonce()?, hello: hello.encode(), step })
    }

    /// The socket, to poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the connection stands, though nothing may be proven yet.
    pub(crate) fn is_connected(&self) -> bool {
        !matches!(self.step, DialStep::Connecting)
    }

    /// The socket, once `advance` has returned a message.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Goes as far as possible. When the acceptor has proved itself, returns the message that
    /// has to be the first thing sent on the socket, with data right behind it if there is any.
    pub fn advance(
        &mut self,
        key: &JobKey,
    ) -> Result<Option<[u8; PROVEN_HELLO_BYTES]>, HandshakeError> {
        if let DialStep::Connecting = self.step {
            let greeting = head(CONNECTOR_MAGIC, &self.nonce).finish();
            match send_whole(self.fd.as_fd(), &greeting) {
                Ok(()) => {}
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
            self.step = DialStep::Challenge(Incoming::new());
        }
        let DialStep::Challenge(message) = &mut self.step else { return Ok(None) };
        let Some(challenge) = message.advance(self.fd.as_fd())? else { return Ok(None) };
        let mut decoder = Decoder::new(challenge);
        check_head(&mut decoder, ACCEPTOR_MAGIC)?;
        let (acceptor, proof) = (decoder.array()?, Proof::from_bytes(decoder.array()?));
        if proof != key.acceptor_proof(&self.nonce, &acceptor) {
            return Err(HandshakeError::Stranger);
        }
        let mine = key.connector_proof(&self.nonce, &acceptor, &self.hello);
        self.step = DialStep::Proven;
        let mut last = [0; PROVEN_HELLO_BYTES];
        last[..32].copy_from_slice(mine.as_bytes());
        last[32..].copy_from_slice(&self.hello);
        Ok(Some(last))
    }
}
