//! The first bytes on every connection: three messages that prove both ends belong to the job.
//!
//! ```text
//! connector -> acceptor   greeting   magic 8 | version 2 | zero 6 | nonce 16
//! acceptor  -> connector  challenge  magic 8 | version 2 | zero 6 | nonce 16 | proof 32
//! connector -> acceptor   hello      proof 32 | hello 32
//! ```
//!
//! On a connection that is to be encrypted, which the hello says, two more exchange keys (see
//! [`super::noise`]), the first of them right behind the hello:
//!
//! ```text
//! connector -> acceptor   offer      public key 32 | tag 16
//! acceptor  -> connector  offer      public key 32 | tag 16
//! ```
//!
//! The connector has checked the acceptor before it sends the hello, so it may put data right
//! behind its last message. All sizes are fixed and neither side reads a byte more than the
//! message it waits for, so whatever follows, descriptors included, reaches whoever the
//! connection is for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::noise::{EXCHANGE_BYTES, KeyExchange, Session, Side};
use super::proof::{JobKey, Proof};
use super::unique_id::WIRE_VERSION;
use super::wire::{Decoder, Encoder, Malformed};

/// Random bytes that make every proof a fresh one.
pub(crate) type Nonce = [u8; 16];
/// Size of an encoded [`Hello`].
pub(crate) const HELLO_BYTES: usize = 32;
pub(super) const GREETING_BYTES: usize = 32;
pub(super) const CHALLENGE_BYTES: usize = 64;
/// Size of a proof and a hello.
pub(super) const PROVEN_HELLO_BYTES: usize = 32 + HELLO_BYTES;
pub(super) const CONNECTOR_MAGIC: &[u8; 8] = b"SynclinC";
pub(super) const ACCEPTOR_MAGIC: &[u8; 8] = b"SynclinA";

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
    /// Whether what follows is encrypted.
    pub encrypted: bool,
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
        encoder.u8(u8::from(self.encrypted));
        encoder.u8(0);
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
        let encrypted = match (decoder.u8()?, decoder.u8()?) {
            (0, 0) => false,
            (1, 0) => true,
            _ => return Err(Malformed),
        };
        let epoch = decoder.u32()?;
        decoder.finish()?;
        Ok(Self { communicator, epoch, purpose, lane, encrypted, from, to, tag })
    }
}

/// Why a handshake ended without a connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other end speaks another version of the protocol.
    #[error(
        "it speaks version {0} of the wire protocol, this process {WIRE_VERSION}; install the same \
         version everywhere"
    )]
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

pub(super) fn fresh_nonce() -> io::Result<Nonce> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    Ok(nonce)
}

/// A message of `N` bytes on its way in.
pub(super) struct Incoming<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> Incoming<N> {
    pub(super) fn new() -> Self {
        Self { bytes: [0; N], filled: 0 }
    }

    /// Reads what is there, never beyond the message; the message once it is complete.
    pub(super) fn advance(&mut self, fd: BorrowedFd<'_>) -> io::Result<Option<&[u8; N]>> {
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

/// Sends a handshake message whole. The buffer of a fresh socket holds them all: anything but
/// all of it means that the connection is not usable.
pub(super) fn send_whole(fd: BorrowedFd<'_>, message: &[u8]) -> Result<(), Errno> {
    loop {
        match rustix::net::send(fd, message, SendFlags::NOSIGNAL) {
            Ok(bytes) if bytes == message.len() => return Ok(()),
            Ok(_) => return Err(Errno::NOBUFS),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

pub(super) fn check_head(decoder: &mut Decoder<'_>, magic: &[u8; 8]) -> Result<(), HandshakeError> {
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

pub(super) fn head(magic: &[u8; 8], nonce: &Nonce) -> Encoder {
    let mut encoder = Encoder::default();
    encoder.raw(magic);
    encoder.u16(WIRE_VERSION);
    encoder.raw(&[0; 6]);
    encoder.raw(nonce);
    encoder
}

/// What both ends have said, in order: the prologue of the key exchange.
pub(super) const SAID_BYTES: usize = GREETING_BYTES + CHALLENGE_BYTES + PROVEN_HELLO_BYTES;

pub(super) fn said(
    greeting: &[u8; GREETING_BYTES],
    challenge: &[u8; CHALLENGE_BYTES],
    hello: &[u8; PROVEN_HELLO_BYTES],
) -> [u8; SAID_BYTES] {
    let mut said = [0; SAID_BYTES];
    said[..GREETING_BYTES].copy_from_slice(greeting);
    said[GREETING_BYTES..][..CHALLENGE_BYTES].copy_from_slice(challenge);
    said[GREETING_BYTES + CHALLENGE_BYTES..].copy_from_slice(hello);
    said
}

enum AcceptStep {
    Greeting(Incoming<GREETING_BYTES>),
    Hello(Box<AwaitHello>),
    Keys { hello: Hello, exchange: KeyExchange, message: Incoming<EXCHANGE_BYTES> },
    Done(Option<Session>),
}

struct AwaitHello {
    greeting: [u8; GREETING_BYTES],
    challenge: [u8; CHALLENGE_BYTES],
    message: Incoming<PROVEN_HELLO_BYTES>,
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

    /// The socket, and the keys if it is encrypted, once `advance` has returned a hello.
    pub(crate) fn into_parts(self) -> (OwnedFd, Option<Session>) {
        match self.step {
            AcceptStep::Done(session) => (self.fd, session),
            _ => (self.fd, None),
        }
    }

    /// Whether the other end has sent a well-formed greeting.
    pub(crate) fn is_greeted(&self) -> bool {
        !matches!(self.step, AcceptStep::Greeting(_))
    }

    /// Goes as far as the bytes that have arrived allow; the hello once it is proven.
    pub(crate) fn advance(&mut self, key: &JobKey) -> Result<Option<Hello>, HandshakeError> {
        let fd = self.fd.as_fd();
        loop {
            self.step = match &mut self.step {
                AcceptStep::Greeting(message) => {
                    let Some(greeting) = message.advance(fd)? else { return Ok(None) };
                    AcceptStep::Hello(Box::new(answer_greeting(fd, key, *greeting)?))
                }
                AcceptStep::Hello(awaited) => {
                    let Some((hello, proven)) = awaited.advance(fd, key)? else { return Ok(None) };
                    if !hello.encrypted {
                        self.step = AcceptStep::Done(None);
                        return Ok(Some(hello));
                    }
                    let said = said(&awaited.greeting, &awaited.challenge, &proven);
                    let exchange = KeyExchange::new(key, Side::Acceptor, &said);
                    AcceptStep::Keys { hello, exchange, message: Incoming::new() }
                }
                AcceptStep::Keys { hello, exchange, message } => {
                    let Some(theirs) = message.advance(fd)? else { return Ok(None) };
                    exchange.take(theirs)?;
                    send_whole(fd, &exchange.offer()?)?;
                    let hello = *hello;
                    let done = AcceptStep::Done(None);
                    if let AcceptStep::Keys { exchange, .. } =
                        std::mem::replace(&mut self.step, done)
                    {
                        self.step = AcceptStep::Done(Some(exchange.finish()));
                    }
                    return Ok(Some(hello));
                }
                AcceptStep::Done(_) => return Ok(None),
            };
        }
    }
}

/// Checks a greeting and sends the challenge.
fn answer_greeting(
    fd: BorrowedFd<'_>,
    key: &JobKey,
    greeting: [u8; GREETING_BYTES],
) -> Result<AwaitHello, HandshakeError> {
    let mut decoder = Decoder::new(&greeting);
    match check_head(&mut decoder, CONNECTOR_MAGIC) {
        Err(HandshakeError::Version(version)) => {
            // Tells the connector our version; it cannot prove anything to us.
            let mut refusal = head(ACCEPTOR_MAGIC, &[0; 16]);
            refusal.raw(&[0; 32]);
            // The connection is dropped either way.
            send_whole(fd, &refusal.finish()).ok();
            return Err(HandshakeError::Version(version));
        }
        other => other?,
    }
    let (connector, acceptor) = (decoder.array()?, fresh_nonce()?);
    let mut challenge = head(ACCEPTOR_MAGIC, &acceptor);
    challenge.raw(key.acceptor_proof(&connector, &acceptor).as_bytes());
    let challenge = challenge.finish();
    send_whole(fd, &challenge)?;
    let challenge = challenge.try_into().expect("head and proof are 64 bytes");
    Ok(AwaitHello { greeting, challenge, message: Incoming::new() })
}

impl AwaitHello {
    fn advance(
        &mut self,
        fd: BorrowedFd<'_>,
        key: &JobKey,
    ) -> Result<Option<(Hello, [u8; PROVEN_HELLO_BYTES])>, HandshakeError> {
        let Some(bytes) = self.message.advance(fd)? else { return Ok(None) };
        let mut decoder = Decoder::new(bytes);
        let (proof, hello) = (Proof::from_bytes(decoder.array()?), decoder.array()?);
        let nonces = [&self.greeting[16..], &self.challenge[16..]]
            .map(|bytes| *bytes.first_chunk().expect("a nonce is 16 bytes"));
        if proof != key.connector_proof(&nonces[0], &nonces[1], &hello) {
            return Err(HandshakeError::Stranger);
        }
        Ok(Some((Hello::decode(&hello)?, *bytes)))
    }
}
