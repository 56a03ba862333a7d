//! Entry points for fuzzers: one function per parser of what comes from outside.
//!
//! A function takes any bytes and must return: it panics when the parser does, or when what it
//! promises does not hold (a message that was accepted is the one that was sent, a view lies
//! within its ring, no descriptor is lost, ...). The crate in `fuzz/` runs them under libFuzzer,
//! and replays its corpora as ordinary tests. For nobody else.

use crate::communicator::fuzzing as communicator;
use crate::control::core::Message;
use crate::engine::Description;
use crate::rendezvous::fuzzing as rendezvous;
use crate::transport::shm::fuzzing as shm;
use crate::transport::tcp::fuzzing as tcp;

/// A name, and what to feed.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate's.
pub const TARGETS: &[Target] = &[
    ("unique_id", rendezvous::unique_id),
    ("rendezvous_file", rendezvous::file),
    ("store", rendezvous::store),
    ("selection", rendezvous::selection),
    ("hello", rendezvous::hello),
    ("messages", rendezvous::messages),
    ("framed", rendezvous::framed),
    ("handshake", rendezvous::handshake),
    ("record", rendezvous::record),
    ("launch", rendezvous::launch),
    ("control", control),
    ("netlink", rendezvous::netlink),
    ("tcp", tcp::stream),
    ("shm_ring", shm::ring),
    ("shm_segment", shm::segment),
    ("shm_exchange", shm::exchange),
    ("place", communicator::place),
    ("constants", communicator::constants),
];

/// What control threads say to each other, and in it what an operation is.
fn control(data: &[u8]) {
    if let Some(message) = Message::decode(data) {
        assert_eq!(Message::decode(&message.encode()), Some(message));
    }
    if let Some(bytes) = data.first_chunk()
        && let Some(description) = Description::decode(bytes)
    {
        assert_eq!(description.encode(), *bytes);
        assert!(!description.to_string().is_empty());
    }
}

/// Takes a fuzzer's bytes apart, from the front; zeroes when there are none left.
pub struct Feed<'a>(&'a [u8]);

impl<'a> Feed<'a> {
    pub const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let have = self.bytes(N);
        out[..have.len()].copy_from_slice(have);
        out
    }

    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// Up to `bytes_max` bytes.
    pub fn bytes(&mut self, bytes_max: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(bytes_max.min(self.0.len()));
        self.0 = tail;
        head
    }

    /// A length byte and up to that many bytes.
    pub fn chunk(&mut self) -> &'a [u8] {
        let bytes = usize::from(self.u8());
        self.bytes(bytes)
    }

    pub const fn rest(self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few thousand inputs each, the same on every run, so that no target rots unnoticed. The
    /// corpora in `fuzz/` go much deeper.
    #[test]
    fn every_target_takes_any_bytes() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            // xorshift64* (Vigna 2016).
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        };
        for (_, target) in TARGETS {
            target(&[]);
            for _ in 0..500 {
                let bytes = (next() >> 55) as usize;
                let data: Vec<u8> = (0..bytes).map(|_| (next() >> 40) as u8).collect();
                target(&data);
            }
        }
    }
}
