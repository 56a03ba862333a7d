//! Everything that strangers, launchers and the kernel say to a rendezvous, for fuzzers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with};

use super::dial::{Address, Dial};
use super::framed::Framed;
use super::handshake::{
    Accepting, GREETING_BYTES, HELLO_BYTES, HandshakeError, Hello, PROVEN_HELLO_BYTES, Purpose,
};
pub(crate) use super::launch::fuzzing::launch;
use super::member::{Join, MESSAGE_BYTES_MAX, Verdict};
use super::netlink::LocalAddress;
use super::noise::{KeyExchange, RECORD_OVERHEAD_BYTES, Session, Side};
use super::proof::Secret;
use super::{JobKey, Ports, UniqueId, file, interface, key_value};
use crate::fuzzing::Feed;

/// The text of an id. Text that is no id is also put behind the right prefix and checksum.
pub(crate) fn unique_id(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return sealed_id(data) };
    match text.parse::<UniqueId>() {
        Ok(id) => assert_eq!(id.to_string(), text.trim()),
        Err(_) => sealed_id(data),
    }
}

fn sealed_id(payload: &[u8]) {
    let text = UniqueId::seal(payload);
    if let Ok(id) = text.parse::<UniqueId>() {
        assert!(!id.addresses().is_empty());
        assert_eq!(id.to_string(), text);
    }
}

/// The content of a rendezvous file.
pub(crate) fn file(data: &[u8]) {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let memory = rustix::fs::memfd_create(c"fuzz", flags).expect("memory");
    assert_eq!(rustix::io::write(&memory, data), Ok(data.len()));
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
    if let Ok(id) = file::read(path.as_ref()) {
        assert!(id.to_string().len() <= UniqueId::TEXT_BYTES_MAX);
    }
}

/// What a store of the host's gives for the id, and what its all-gather brings.
pub(crate) fn store(data: &[u8]) {
    if let Ok(id) = key_value::parse_id(data) {
        let text = id.to_string();
        assert_eq!(key_value::parse_id(text.as_bytes()), Ok(id));
    }
    let mut feed = Feed::new(data);
    let ranks = u32::from(feed.u8() % 4);
    let mut contributions = Vec::new();
    for rank in 0..ranks {
        let mut bytes = key_value::contribution(rank, ranks, &Ok(None));
        let changes = feed.chunk();
        bytes.splice(..changes.len().min(bytes.len()), changes.iter().copied());
        contributions.push(bytes);
    }
    if key_value::settle(&contributions, ranks).is_ok() {
        assert!(contributions.iter().any(|bytes| bytes.windows(9).any(|w| w == b"syncline1")));
    }
}

/// Which interfaces and ports a user wants.
pub(crate) fn selection(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selection) = interface::Selection::parse(text) {
        let addresses = ["10.1.0.7", "fd00::7", "127.0.0.1"].map(|a| a.parse().expect("one"));
        let local = |address| LocalAddress { interface: "eth0".to_owned(), address };
        if let Ok(chosen) = selection.apply(&addresses.map(local), &addresses) {
            assert!(!chosen.is_empty());
        }
    }
    if let Ok(ports) = text.parse::<Ports>() {
        assert_eq!(ports.to_string().parse().ok(), Some(ports));
    }
}

/// The last message of a handshake, once it is proven.
pub(crate) fn hello(data: &[u8]) {
    let Some(bytes) = data.first_chunk::<HELLO_BYTES>() else { return };
    let Ok(hello) = Hello::decode(bytes) else { return };
    assert_eq!(hello.encode(), *bytes);
}

/// What a rank asks of the root, and what the root answers.
pub(crate) fn messages(data: &[u8]) {
    if let Ok(join) = Join::decode(data) {
        assert_eq!(join.encode(), data);
    }
    if let Ok(verdict) = Verdict::decode(data) {
        assert_eq!(verdict.encode(), data);
    }
}

/// The kernel's list of addresses.
pub(crate) fn netlink(data: &[u8]) {
    let mut found = Vec::new();
    let _done = super::netlink::parse(data, &mut found);
    assert!(found.len() <= data.len() / 16);
}

/// Both ends of a fresh connection, neither of which blocks.
fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("sockets")
}

fn send(fd: impl AsFd, bytes: &[u8]) -> bool {
    match rustix::net::send(fd, bytes, SendFlags::NOSIGNAL) {
        Ok(sent) => {
            assert_eq!(sent, bytes.len(), "the buffer is large enough");
            true
        }
        Err(Errno::PIPE | Errno::CONNRESET) => false,
        Err(errno) => panic!("{errno}"),
    }
}

fn receive(fd: impl AsFd, bytes_max: usize) -> Vec<u8> {
    let mut bytes = vec![0; bytes_max];
    let received = match rustix::net::recv(fd, &mut bytes[..], RecvFlags::empty()) {
        Ok((received, _)) => received,
        Err(Errno::AGAIN | Errno::CONNRESET) => 0,
        Err(errno) => panic!("{errno}"),
    };
    bytes.truncate(received);
    bytes
}

/// Length-prefixed messages, in chunks of any size.
pub(crate) fn framed(data: &[u8]) {
    let mut feed = Feed::new(data);
    let (near, far) = pair();
    let mut framed = Framed::new(near, None, MESSAGE_BYTES_MAX);
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    while !feed.is_empty() {
        let chunk = feed.chunk();
        send(&far, chunk);
        sent.extend_from_slice(chunk);
        loop {
            match framed.receive() {
                Ok(Some(message)) => {
                    let bytes = u32::try_from(message.len()).expect("a short message");
                    received.extend(bytes.to_le_bytes());
                    received.extend(message);
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                    assert!(sent.starts_with(&received));
                    return;
                }
            }
        }
        assert!(sent.starts_with(&received));
    }
    drop(far);
    assert_eq!(framed.receive().map_err(|e| e.kind()), Err(io::ErrorKind::UnexpectedEof));
    // What was not delivered is less than a message.
    let rest = &sent[received.len()..];
    let whole = rest.first_chunk::<4>().map_or(usize::MAX, |b| u32::from_le_bytes(*b) as usize);
    assert!(rest.len() < whole.saturating_add(4));
}

fn key() -> JobKey {
    JobKey::new(&Secret::from_bytes(*b"of the fuzzed job"[..16].first_chunk().expect("16")))
}

/// Either end of a handshake against a peer that sends anything, or almost the right thing.
pub(crate) fn handshake(data: &[u8]) {
    let mut feed = Feed::new(data);
    match feed.u8() % 4 {
        0 => accept_anything(feed),
        1 => dial_anything(feed),
        2 => accept_almost(feed),
        _ => dial_almost(feed),
    }
}

/// Nobody gets in with bytes that were made without the key.
fn accept_anything(mut feed: Feed<'_>) {
    let (near, far) = pair();
    let mut accepting = Accepting::new(near, Instant::now());
    while !feed.is_empty() {
        if !send(&far, feed.chunk()) {
            return;
        }
        match accepting.advance(&key()) {
            Ok(None) => {}
            Ok(Some(hello)) => panic!("a stranger got in: {hello:?}"),
            Err(_) => return,
        }
    }
    drop(far);
    assert!(accepting.advance(&key()).is_err());
}

/// A dial to `listener`, and its other end.
fn dialled(hello: &Hello) -> (Dial, OwnedFd) {
    thread_local! {
        static LISTENER: (OwnedFd, Vec<u8>) = super::listener::bind_local().expect("a listener");
    }
    LISTENER.with(|(listener, name)| {
        let dial = Dial::start(&Address::Local(name.clone()), hello).expect("it listens");
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        (dial, accept_with(listener, flags).expect("it has connected"))
    })
}

fn hello_of(feed: &mut Feed<'_>) -> Hello {
    let purposes = [Purpose::Join, Purpose::Pipe, Purpose::Local, Purpose::Control, Purpose::Table];
    Hello {
        communicator: feed.u64(),
        epoch: feed.u32(),
        purpose: purposes[usize::from(feed.u8()) % purposes.len()],
        lane: feed.u8(),
        encrypted: false,
        from: feed.u32(),
        to: feed.u32(),
        tag: feed.u64(),
    }
}

/// Nobody is taken for an acceptor of the job who does not know the key.
fn dial_anything(mut feed: Feed<'_>) {
    let (mut dial, far) = dialled(&hello_of(&mut feed));
    while !feed.is_empty() {
        if !send(&far, feed.chunk()) {
            return;
        }
        match dial.advance(&key()) {
            Ok(false) => {}
            Ok(true) => panic!("a stranger was believed"),
            Err(_) => return,
        }
    }
    drop(far);
    assert!(dial.advance(&key()).is_err());
}

/// Changes some bytes of a message. Whether any changed that is not ignored (the zeroes in a
/// head, where a later version may put something).
fn spoil(feed: &mut Feed<'_>, message: &mut [u8], has_head: bool) -> bool {
    let changes = feed.u8() % 4;
    let before = message.to_vec();
    for _ in 0..changes {
        let (at, by) = (usize::from(feed.u8()) % message.len(), feed.u8());
        message[at] ^= by;
    }
    let differs = |at: usize| before[at] != message[at] && !(has_head && (10..16).contains(&at));
    (0..message.len()).any(differs)
}

/// Carries bytes from one socket to another, spoilt on the way. Whether they were; `None` when
/// not all came.
fn carry(
    feed: &mut Feed<'_>,
    (from, to): (&OwnedFd, &OwnedFd),
    (bytes, has_head): (usize, bool),
) -> Option<bool> {
    let mut message = receive(from, bytes);
    if message.len() < bytes {
        return None;
    }
    let spoilt = spoil(feed, &mut message, has_head);
    send(to, &message).then_some(spoilt)
}

/// An acceptor behind a connector whose messages are altered on the way, in both directions.
fn accept_almost(mut feed: Feed<'_>) {
    let hello = hello_of(&mut feed);
    let (mut dial, middle_dial) = dialled(&hello);
    let (near, middle_accept) = pair();
    let mut accepting = Accepting::new(near, Instant::now());
    assert!(matches!(dial.advance(&key()), Ok(false)));
    let to_acceptor = (&middle_dial, &middle_accept);
    let Some(spoilt) = carry(&mut feed, to_acceptor, (GREETING_BYTES, true)) else { return };
    let mut spoilt = spoilt;
    match accepting.advance(&key()) {
        Ok(None) => {}
        Ok(Some(_)) => panic!("let in after a greeting"),
        Err(_) => return assert!(spoilt, "an honest greeting was refused"),
    }
    match carry(&mut feed, (&middle_accept, &middle_dial), (64, true)) {
        Some(also) => spoilt |= also,
        None => panic!("no challenge came"),
    }
    match dial.advance(&key()) {
        Ok(true) => assert!(!spoilt, "an altered challenge was believed"),
        Ok(false) => panic!("a whole challenge came"),
        Err(_) => return assert!(spoilt, "an honest challenge was refused"),
    }
    let mut last = receive(&middle_dial, PROVEN_HELLO_BYTES);
    let spoilt = spoil(&mut feed, &mut last, false);
    // What follows belongs to whoever the connection is for.
    let behind = feed.rest();
    assert!(send(&middle_accept, &[&last[..], behind].concat()));
    match accepting.advance(&key()) {
        Ok(Some(arrived)) => {
            assert!(!spoilt, "an altered hello was believed");
            assert_eq!(arrived, hello);
            assert_eq!(receive(accepting.fd(), behind.len().max(1)), behind);
        }
        Ok(None) => panic!("a whole hello came"),
        Err(error) => assert!(spoilt, "an honest hello was refused: {error}"),
    }
}

/// A connector whose acceptor says the right thing, altered, in chunks, with more behind it.
fn dial_almost(mut feed: Feed<'_>) {
    let (mut dial, middle_dial) = dialled(&hello_of(&mut feed));
    let (near, middle_accept) = pair();
    let mut accepting = Accepting::new(near, Instant::now());
    assert!(matches!(dial.advance(&key()), Ok(false)));
    assert!(send(&middle_accept, &receive(&middle_dial, GREETING_BYTES)));
    assert!(matches!(accepting.advance(&key()), Ok(None)));
    let mut challenge = receive(&middle_accept, 64);
    let spoilt = spoil(&mut feed, &mut challenge, true);
    let cut = usize::from(feed.u8()) % challenge.len();
    let (first, second) = challenge.split_at(cut);
    assert!(send(&middle_dial, first));
    assert!(matches!(dial.advance(&key()), Ok(false)));
    let behind = feed.rest();
    assert!(send(&middle_dial, &[second, behind].concat()));
    match dial.advance(&key()) {
        Ok(true) => {
            assert!(!spoilt, "an altered challenge was believed");
            let last = receive(&middle_dial, PROVEN_HELLO_BYTES + 1);
            assert_eq!(last.len(), PROVEN_HELLO_BYTES);
            assert_eq!(receive(dial.fd(), behind.len().max(1)), behind);
        }
        Ok(false) => panic!("a whole challenge came"),
        Err(HandshakeError::Io(error)) => panic!("{error}"),
        Err(_) => assert!(spoilt, "an honest challenge was refused"),
    }
}

/// A record of an encrypted connection, altered on the way: it is opened exactly when it was not.
pub(crate) fn record(data: &[u8]) {
    let mut feed = Feed::new(data);
    let mut connector = KeyExchange::new(&key(), Side::Connector, b"said");
    let mut acceptor = KeyExchange::new(&key(), Side::Acceptor, b"said");
    let mut offer = connector.offer().expect("random numbers");
    if spoil(&mut feed, &mut offer, false) {
        // Some bits of a public key do not count.
        let _refused = acceptor.take(&offer);
        return;
    }
    acceptor.take(&offer).expect("an honest offer");
    connector.take(&acceptor.offer().expect("random numbers")).expect("an honest answer");
    let (mut sealing, mut opening) = (connector.finish(), acceptor.finish());
    let plain = [&[feed.u8()], feed.chunk()].concat();
    let mut sealed = vec![0; plain.len() + RECORD_OVERHEAD_BYTES];
    assert_eq!(sealing.seal(&plain, &mut sealed), sealed.len());
    let spoilt = spoil(&mut feed, &mut sealed, false);
    let Some((length, body)) = sealed.split_first_chunk() else { return };
    let Ok(bytes) = Session::body_bytes(*length) else { return assert!(spoilt) };
    let Some(body) = body.get(..bytes) else { return assert!(spoilt) };
    let mut opened = vec![0; body.len()];
    match opening.open(body, &mut opened) {
        Ok(bytes) => assert!(!spoilt && opened[..bytes] == plain),
        Err(_) => assert!(spoilt, "an honest record was refused"),
    }
}
