//! What strangers do to the ports of a job: noise, half and recorded handshakes, silence, floods.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A listener to attack.
#[derive(Clone, Debug)]
pub enum Target {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A name in the abstract namespace.
    Unix(String),
}

impl Target {
    /// As one line of text.
    pub fn line(&self) -> String {
        match self {
            Self::Tcp(address) => format!("tcp {address}"),
            Self::Unix(name) => format!("unix {name}"),
        }
    }

    /// From such a line.
    pub fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ')? {
            ("tcp", address) => address.parse().ok().map(Self::Tcp),
            ("unix", name) => Some(Self::Unix(name.to_owned())),
            _ => None,
        }
    }

    fn connect(&self) -> Option<Stream> {
        let stream = match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, Duration::from_secs(1)).ok()?;
                Stream::Tcp(stream)
            }
            Self::Unix(name) => {
                let address = UnixAddress::from_abstract_name(name).ok()?;
                Stream::Unix(UnixStream::connect_addr(&address).ok()?)
            }
        };
        stream.limit(Duration::from_millis(20));
        Some(stream)
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn limit(&self, time: Duration) {
        // A stream that cannot be limited is a stream that is gone.
        let _ = match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(time)),
            Self::Unix(stream) => stream.set_read_timeout(Some(time)),
        };
    }

    fn send(&mut self, bytes: &[u8]) {
        // Being hung up on is what a stranger has to expect.
        let _ = match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
        };
    }

    fn receive(&mut self, bytes: &mut [u8]) -> usize {
        let received = match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
        };
        received.unwrap_or(0)
    }
}

/// Numbers that look random (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or(0)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// What to throw, and how fast.
#[derive(Clone, Debug)]
pub struct Load {
    /// At what.
    pub targets: Vec<Target>,
    /// What the connector sent in a true handshake of the job: greeting, then the rest.
    pub record: Vec<u8>,
    /// Attacking threads.
    pub threads: usize,
    /// Rest of a thread between two connections.
    pub rest: Duration,
    /// Seed of the attackers' choices.
    pub seed: u64,
}

/// Connections a thread keeps open at once.
const HELD_MAX: usize = 100;
const GREETING_BYTES: usize = 32;

/// Attacks for `time`; how many connections were made.
pub fn attack(load: &Load, time: Duration) -> u64 {
    let until = Instant::now() + time;
    let made = AtomicU64::new(0);
    thread::scope(|scope| {
        for number in 0..load.threads {
            let made = &made;
            scope.spawn(move || {
                let mut random = Random(load.seed + 1 + 0x9e37_79b9 * number as u64);
                let mut held = VecDeque::new();
                while Instant::now() < until {
                    let target = &load.targets[random.below(load.targets.len())];
                    if let Some(stream) = target.connect() {
                        made.fetch_add(1, Ordering::Relaxed);
                        held.extend(strike(stream, load, &mut random));
                    }
                    if held.len() > HELD_MAX {
                        held.pop_front();
                    }
                    thread::sleep(load.rest);
                }
            });
        }
    });
    made.into_inner()
}

/// One attack on a fresh connection; the connection if it is to be kept open.
fn strike(mut stream: Stream, load: &Load, random: &mut Random) -> Option<Stream> {
    let record = &load.record;
    let greeting = &record[..GREETING_BYTES.min(record.len())];
    let mut challenge = [0; 64];
    match random.below(8) {
        0 => {
            let count = 1 + random.below(300);
            stream.send(&random.bytes(count));
        }
        1 => stream.send(&greeting[..random.below(greeting.len().max(1))]),
        // A greeting, then silence.
        2 => stream.send(greeting),
        // A recorded handshake, at once and in its proper order.
        3 => stream.send(record),
        4 => {
            stream.send(greeting);
            stream.receive(&mut challenge);
            stream.send(&record[greeting.len()..]);
        }
        // A greeting and a made-up proof, or a hello that ends too early.
        5 => {
            stream.send(greeting);
            stream.send(&random.bytes(64));
        }
        6 => {
            stream.send(&record[..greeting.len() + random.below(record.len() - greeting.len())]);
            return None;
        }
        // A flood: silence, or gone at once.
        _ => return (random.below(2) == 0).then_some(stream),
    }
    Some(stream)
}

/// Passes one connection on to `to`, until either end closes it; what the connector sent.
pub fn record(listener: &TcpListener, to: SocketAddr) -> std::io::Result<Vec<u8>> {
    let (mut near, _) = listener.accept()?;
    let mut far = TcpStream::connect(to)?;
    let (mut near_back, mut far_back) = (near.try_clone()?, far.try_clone()?);
    let back = thread::spawn(move || {
        // Ends with the connection.
        let _ = std::io::copy(&mut far_back, &mut near_back);
        let _ = near_back.shutdown(std::net::Shutdown::Write);
    });
    let mut record = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let bytes = near.read(&mut chunk)?;
        if bytes == 0 {
            break;
        }
        record.extend_from_slice(&chunk[..bytes]);
        far.write_all(&chunk[..bytes])?;
    }
    let _ = far.shutdown(std::net::Shutdown::Write);
    let _ = back.join();
    Ok(record)
}

/// Listeners that have nothing to do with the job, and accept and drop whatever comes: the same
/// load on the machine without an attack on the job.
#[derive(Debug)]
pub struct Decoy {
    /// What to attack instead.
    pub targets: Vec<Target>,
}

impl Decoy {
    /// Opens one of each kind.
    pub fn open() -> std::io::Result<Self> {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let name = format!("syncline-decoy-{}", std::process::id());
        let unix = UnixListener::bind_addr(&UnixAddress::from_abstract_name(&name)?)?;
        let targets = vec![Target::Tcp(tcp.local_addr()?), Target::Unix(name)];
        thread::spawn(move || Self::serve(|| tcp.accept().map(|(stream, _)| stream)));
        thread::spawn(move || Self::serve(|| unix.accept().map(|(stream, _)| stream)));
        Ok(Self { targets })
    }

    fn serve<T: Read>(accept: impl Fn() -> std::io::Result<T>) {
        let mut held = VecDeque::new();
        loop {
            held.extend(accept().ok());
            if held.len() > HELD_MAX {
                held.pop_front();
            }
        }
    }
}

/// The targets listed in a file.
pub fn read_targets(path: &Path) -> Vec<Target> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(Target::parse).collect()
}
