//! What a corrupt process of this host writes into shared memory, or passes instead of
//! descriptors, for fuzzers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::exchange::{FdReceiver, FdSender};
use super::geometry::{CONTROL_BYTES, LINE_BYTES};
use super::mapped::{MappedRing, header_words};
use super::ring::{Consumer, Producer, frame_units_max, publish_word};
use super::{Geometry, Segment, ShmTransport};
use crate::fuzzing::Feed;
use crate::memory::Span;
use crate::memory::testing::{bytes, span};
use crate::transport::{FrameHeader, Lane, Transport};

const RING_BYTES: usize = 4096;
/// Before and after the ring: nobody may touch it.
const MARGIN_BYTES: usize = 4096;
const CANARY: u8 = 0xc5;

#[repr(align(4096))]
struct Memory([u8; MARGIN_BYTES + RING_BYTES + MARGIN_BYTES]);

/// Both ends of a ring, and a third hand that writes into it as it likes.
struct Ring {
    base: *mut u8,
    producer: Producer<MappedRing>,
    consumer: Consumer<MappedRing>,
    /// What is left of the head frame.
    left: usize,
}

/// Whatever the ring holds, its ends stay within it.
pub(crate) fn ring(data: &[u8]) {
    let mut memory = Box::new(Memory([CANARY; _]));
    let base = memory.0.as_mut_ptr().wrapping_add(MARGIN_BYTES);
    memory.0[MARGIN_BYTES..][..RING_BYTES].fill(0);
    // SAFETY: aligned, of this size, alive until the end of this function, and touched meanwhile
    // through raw pointers only.
    let end = || unsafe { MappedRing::new(base, RING_BYTES) };
    let (producer, consumer) = (Producer::new(end()), Consumer::new(end()));
    let mut ring = Ring { base, producer, consumer, left: 0 };
    let mut feed = Feed::new(data);
    while !feed.is_empty() {
        if !ring.step(&mut feed) {
            break;
        }
    }
    let (before, rest) = memory.0.split_at(MARGIN_BYTES);
    let after = &rest[RING_BYTES..];
    assert!(before.iter().chain(after).all(|&byte| byte == CANARY), "written beyond the ring");
}

impl Ring {
    /// Whether the transport would go on.
    fn step(&mut self, feed: &mut Feed<'_>) -> bool {
        match feed.u8() % 6 {
            0 => {
                let at = usize::from(feed.u16());
                self.scribble(at, feed.chunk());
                true
            }
            1 => {
                self.forge(feed.u8(), feed.u32());
                true
            }
            2 => self.poll(),
            3 => {
                self.look(self.consumer.view());
                true
            }
            4 => {
                let bytes = usize::from(feed.u16()) % (self.left + 1);
                if self.left > 0 {
                    self.consumer.consume(bytes);
                    self.left -= bytes;
                }
                true
            }
            _ => self.push(usize::from(feed.u16())),
        }
    }

    /// Any bytes anywhere in the ring.
    fn scribble(&self, at: usize, bytes: &[u8]) {
        for (index, &byte) in bytes.iter().enumerate() {
            let to = self.base.wrapping_add((at + index) % RING_BYTES);
            // SAFETY: within the ring, whose memory lives.
            unsafe { to.write(byte) };
        }
    }

    /// A frame or a marker where the consumer looks, with any size.
    fn forge(&self, kind: u8, payload_bytes: u32) {
        let (position, unit) = self.consumer.expects();
        let line = CONTROL_BYTES + unit as usize * LINE_BYTES;
        let size = if kind & 2 == 0 { payload_bytes % RING_BYTES as u32 } else { payload_bytes };
        self.scribble(line + 20, &size.to_le_bytes());
        self.scribble(line, &publish_word(position, kind & 1 != 0).to_le_bytes());
        if kind & 4 != 0 {
            let units = ((RING_BYTES - CONTROL_BYTES) / LINE_BYTES) as u64;
            let start = position + units - u64::from(unit);
            self.scribble(CONTROL_BYTES + 20, &size.to_le_bytes());
            self.scribble(CONTROL_BYTES, &publish_word(start, false).to_le_bytes());
        }
    }

    fn poll(&mut self) -> bool {
        let fresh = self.left == 0;
        match self.consumer.poll() {
            Ok(Some(header)) if fresh => {
                self.left = header.payload_bytes as usize;
                if self.left == 0 {
                    self.consumer.consume(0);
                }
            }
            Ok(_) => {}
            Err(_) => return false,
        }
        true
    }

    /// Reads what is shown, which lies in the ring.
    fn look(&self, shown: Span) {
        assert_eq!(shown.len(), self.left);
        if shown.is_empty() {
            return;
        }
        let first = (shown.as_ptr() as usize).wrapping_sub(self.base as usize);
        assert!(first >= CONTROL_BYTES && first + shown.len() <= RING_BYTES, "beyond the ring");
        assert_eq!(bytes(shown).len(), self.left);
    }

    fn push(&mut self, size: usize) -> bool {
        let units = (RING_BYTES - CONTROL_BYTES) / LINE_BYTES;
        let payload = vec![0x11; size % ((frame_units_max(units) - 1) * LINE_BYTES + 1)];
        let payload_bytes = u32::try_from(payload.len()).expect("small");
        let header = FrameHeader { fingerprint: 1, sequence: 2, payload_bytes };
        self.producer.push(&header, &[span(&payload)]).is_ok()
    }
}

/// A segment whose creator, or whose other rank, writes anything anywhere: attaching, sending and
/// receiving stay within it.
pub(crate) fn segment(data: &[u8]) {
    let mut feed = Feed::new(data);
    let geometry = Geometry::new(2, 64 << 10).expect("sound");
    let made = Segment::create(geometry).expect("memory");
    let words = header_words(&made.mapping);
    for _ in 0..feed.u8() % 4 {
        let word = usize::from(feed.u8()) % words.len();
        words[word].store(feed.u64(), Ordering::Relaxed);
    }
    let copies = || -> Vec<OwnedFd> {
        made.fds().iter().map(|fd| fd.try_clone_to_owned().expect("a descriptor")).collect()
    };
    let Ok(attached) = Segment::attach(copies(), 2) else { return };
    let (start, bytes) = (attached.mapping.as_ptr() as usize, attached.mapping.len());
    assert_eq!(attached.geometry.total_bytes(), bytes);
    let Ok(mut end) = ShmTransport::new(attached, 0, &[0, 1]) else { return };
    let inside = |shown: Span| {
        let first = (shown.as_ptr() as usize).wrapping_sub(start);
        shown.is_empty() || (first < bytes && shown.len() <= bytes - first)
    };
    while !feed.is_empty() {
        let lane = Lane::ALL[usize::from(feed.u8()) % 3];
        let went_on = match feed.u8() % 6 {
            0 | 1 => {
                scribble(&made, lane, &mut feed);
                true
            }
            2 => end.head(lane, 1).is_ok(),
            3 => end.view(lane, 1, 1).is_ok_and(|shown| {
                assert!(inside(shown), "beyond the segment");
                let shown = self::bytes(shown).len();
                let consumed = shown.min(usize::from(feed.u16()));
                consumed == 0 || end.consume(lane, 1, consumed).is_ok()
            }),
            4 => {
                let payload = vec![0x22; usize::from(feed.u16()) % 2048];
                let payload_bytes = u32::try_from(payload.len()).expect("small");
                let header = FrameHeader { fingerprint: 1, sequence: 2, payload_bytes };
                end.send(lane, 1, &header, &[span(&payload)], &mut 0).is_ok()
            }
            _ => end.progress().is_ok(),
        };
        if !went_on {
            return;
        }
    }
}

/// Writes a word into the ring towards rank 0, or anywhere that is not the kernel's business: a
/// process number that somebody made up would be looked for.
fn scribble(made: &Segment, lane: Lane, feed: &mut Feed<'_>) {
    let geometry = made.geometry;
    let from = match feed.u8() % 3 {
        0 => geometry.ring_at(lane, 1, 0),
        1 => geometry.ring_at(lane, 0, 1),
        _ => geometry.rank_at(1),
    };
    let bytes = if from == geometry.rank_at(1) { 64 } else { 2 * CONTROL_BYTES };
    let at = from + usize::from(feed.u16()) % (bytes / 4) * 4;
    let word = made.mapping.as_ptr().wrapping_add(at).cast::<u32>();
    let value = feed.u32();
    // SAFETY: within the mapping, aligned to 4; this thread alone uses the segment.
    unsafe { word.write(value) };
}

/// Messages with any bytes and any number of descriptors: no list is made up, none is lost.
pub(crate) fn exchange(data: &[u8]) {
    // All that is passed are copies of one end of this; once they are closed, the other hangs up.
    let (passed, other) = UnixStream::pair().expect("sockets");
    exchange_any(data, passed.as_fd());
    drop(passed);
    other.set_nonblocking(true).expect("a socket");
    assert_eq!(rustix::io::read(&other, &mut [0; 1]), Ok(0), "a descriptor was lost");
}

fn exchange_any(data: &[u8], passed: BorrowedFd<'_>) {
    let mut feed = Feed::new(data);
    let (here, there) = UnixStream::pair().expect("sockets");
    let count = usize::from(feed.u8() % 8);
    let mut receiver = FdReceiver::default();
    let mut sent = 0;
    while !feed.is_empty() {
        let honest = feed.u8();
        let fds = usize::from(feed.u8() % 8);
        let passed = vec![passed; fds];
        if honest & 1 == 0 {
            let words = [count, sent, fds].map(|word| u32::try_from(word).expect("small"));
            let mut message = words.map(u32::to_le_bytes).concat();
            for (byte, by) in message.iter_mut().zip(feed.bytes(usize::from(honest >> 5))) {
                *byte ^= by;
            }
            pass(&here, &message, &passed);
        } else if honest & 2 == 0 {
            pass(&here, feed.chunk(), &passed);
        } else if !FdSender::default().step(&here, &passed).expect("it takes them") {
            return;
        }
        sent += fds;
        match receiver.step(&there, count) {
            Ok(Some(list)) => return assert_eq!(list.len(), count),
            Ok(None) => {}
            Err(_) => return,
        }
    }
    drop(here);
    assert!(
        receiver.step(&there, count).is_ok_and(|list| count == 0 && list.is_some()) || count > 0
    );
}

fn pass(stream: &UnixStream, message: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)), "the space is enough");
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let _sent = sendmsg(stream, &[std::io::IoSlice::new(message)], &mut control, flags);
}
