//! A queue of frames from one rank to one other, in memory both have mapped.
//!
//! The ring is dealt out in units of one cache line. A frame starts with a unit that holds its
//! publish word, its header, and its payload if that is tiny; a larger payload follows in whole
//! units. A frame is contiguous; where one would run past the end, a marker tells the consumer to
//! go on at the start. So that an empty ring always has room for a frame, whatever its position,
//! a frame takes at most a quarter of it.
//!
//! The consumer polls the publish word of the unit where the next frame will start, not a shared
//! tail, so that a tiny message is one cache line from core to core. The word is the frame's
//! position, counted from the creation of the ring, plus one: no older frame has left the same
//! word in the same place. Payload could have. Therefore the producer remembers which units
//! last held the start of a frame, and clears the word of the *next* start, before it publishes a
//! frame, where payload was. That unit must be free as well.
//!
//! The consumer tells how far it has come in a word of its own, now and then. It may do so late:
//! less than an eighth of the ring is ever consumed but not given back, and a producer needs at
//! most half for a frame, so one whose frames have all been consumed is never refused. Once
//! refused, it raises a flag, and the consumer then gives back at once.

use crate::memory::Span;
use crate::transport::FrameHeader;

/// Payload that fits in a frame's first unit.
pub(super) const INLINE_BYTES: usize = 40;
const LINE_BYTES: usize = super::geometry::LINE_BYTES;

/// Most units that a frame in a ring of `units` may take.
pub(super) const fn frame_units_max(units: usize) -> usize {
    units / 4
}

/// What the other side wrote makes no sense.
#[derive(Debug)]
pub(super) struct Corrupt(pub(super) String);

/// The memory of a ring, as either end sees it.
///
/// Units are numbered from 0 and below `units()`. An implementation may rely on the two ends
/// below, and on nothing about the process at the other end, to keep within them.
pub(super) trait RingMemory {
    /// Number of units.
    fn units(&self) -> u32;
    /// The publish word of `unit`, with acquire ordering.
    fn word(&self, unit: u32) -> u64;
    /// Writes the publish word of `unit` with release ordering.
    fn publish(&self, unit: u32, word: u64);
    /// Zeroes the publish word of `unit`, ordered only by a later `publish`.
    fn clear(&self, unit: u32);
    /// Fetches `unit`'s line, as one that is going to be written; no more than a hint.
    fn prepare(&self, unit: u32);
    /// Writes header and payload of a frame at `unit`; it fits there.
    fn write(&mut self, unit: u32, header: &FrameHeader, parts: &[Span]);
    /// The header of the frame at `unit`.
    fn header(&self, unit: u32) -> FrameHeader;
    /// `bytes` bytes from `offset` of the payload of the frame at `unit`. They lie in the ring.
    fn payload(&self, unit: u32, payload_bytes: u32, offset: u32, bytes: u32) -> Span;
    /// How far the consumer said to have come, with acquire ordering.
    fn head(&self) -> u64;
    /// Says how far the consumer has come, with release ordering.
    fn set_head(&self, head: u64);
    /// Whether the producer has been refused.
    fn wants_room(&self) -> bool;
    /// Raises or lowers that flag.
    fn set_wants_room(&self, wants: bool);
    /// A sequentially consistent fence.
    fn fence(&self);
}

/// The units of a frame with this payload.
fn frame_units(payload_bytes: usize) -> usize {
    if payload_bytes <= INLINE_BYTES { 1 } else { 1 + payload_bytes.div_ceil(LINE_BYTES) }
}

/// The word that publishes a frame, or a marker, at `position`.
pub(super) const fn publish_word(position: u64, marker: bool) -> u64 {
    ((position + 1) << 1) | marker as u64
}

/// Which units last held the start of a frame, or nothing yet.
struct Starts(Box<[u64]>);

impl Starts {
    fn get(&self, unit: u32) -> bool {
        self.0[unit as usize / 64] >> (unit % 64) & 1 != 0
    }

    fn set(&mut self, unit: u32) {
        self.0[unit as usize / 64] |= 1 << (unit % 64);
    }

    /// Forgets `count` units from `unit`.
    fn forget(&mut self, unit: u32, count: u32) {
        let (mut unit, end) = (unit, unit + count);
        while unit < end {
            let bits = (64 - unit % 64).min(end - unit);
            self.0[unit as usize / 64] &= !((u64::MAX >> (64 - bits)) << (unit % 64));
            unit += bits;
        }
    }
}

/// The sending end.
pub(super) struct Producer<M> {
    memory: M,
    /// Position of the next frame, in units since creation.
    tail: u64,
    /// The same, as a unit of the ring.
    at: u32,
    /// The consumer's position when last looked at.
    head: u64,
    /// Allocated with the first frame: most pairs of ranks never talk.
    starts: Option<Starts>,
}

impl<M: RingMemory> Producer<M> {
    /// The sending end of a ring that is all zeroes.
    pub(super) fn new(memory: M) -> Self {
        Self { memory, tail: 0, at: 0, head: 0, starts: None }
    }

    /// Puts a frame into the ring if there is room. `header.payload_bytes` is what `parts` hold.
    #[inline]
    pub(super) fn push(&mut self, header: &FrameHeader, parts: &[Span]) -> Result<bool, Corrupt> {
        let all = self.memory.units();
        let units = u32::try_from(frame_units(header.payload_bytes as usize)).expect("small");
        assert!(units as usize <= frame_units_max(all as usize), "frame larger than the limit");
        let skip = if units <= all - self.at { 0 } else { all - self.at };
        // One more than the frame: where the next one starts must be free to be cleared.
        let need = u64::from(skip) + u64::from(units) + 1;
        if !self.has_room(need)? {
            return Ok(false);
        }
        let start = if skip == 0 { self.at } else { 0 };
        let next = if start + units == all { 0 } else { start + units };
        let position = self.tail + u64::from(skip);
        self.memory.write(start, header, parts);
        let starts = self.starts.get_or_insert_with(|| all_start(all));
        if units > 1 {
            starts.forget(start + 1, units - 1);
        }
        if !starts.get(next) {
            self.memory.clear(next);
            starts.set(next);
        }
        self.memory.publish(start, publish_word(position, false));
        if skip != 0 {
            self.memory.publish(self.at, publish_word(self.tail, true));
            // `start` was never cleared as a next start; it is one now.
            starts.set(start);
        }
        // Another core may have that line: it comes while the answer to this frame does.
        self.memory.prepare(next);
        self.tail = position + u64::from(units);
        self.at = next;
        Ok(true)
    }

    /// Whether `need` units are free. If not, the consumer has been asked to say when.
    #[inline]
    fn has_room(&mut self, need: u64) -> Result<bool, Corrupt> {
        if self.free() >= need {
            return Ok(true);
        }
        self.look()?;
        if self.free() >= need {
            return Ok(true);
        }
        if !self.memory.wants_room() {
            self.memory.set_wants_room(true);
            self.memory.fence();
            self.look()?;
        }
        Ok(self.free() >= need)
    }

    fn free(&self) -> u64 {
        u64::from(self.memory.units()) - (self.tail - self.head)
    }

    /// Looks how far the consumer has come.
    #[cold]
    fn look(&mut self) -> Result<(), Corrupt> {
        let head = self.memory.head();
        if head < self.head || head > self.tail {
            let (from, to) = (self.head, self.tail);
            return Err(Corrupt(format!("read position {head} not within {from} to {to}")));
        }
        self.head = head;
        Ok(())
    }
}

/// A ring that is all zeroes holds no payload anywhere.
fn all_start(units: u32) -> Starts {
    Starts(vec![u64::MAX; (units as usize).div_ceil(64)].into())
}

/// The frame at the head of a ring.
#[derive(Clone, Copy)]
struct Current {
    header: FrameHeader,
    taken: u32,
}

/// The receiving end.
pub(super) struct Consumer<M> {
    memory: M,
    /// Position of the head frame, in units since creation.
    head: u64,
    /// The same, as a unit of the ring.
    at: u32,
    /// The position last told to the producer.
    told: u64,
    current: Option<Current>,
}

impl<M: RingMemory> Consumer<M> {
    /// The receiving end of a ring that is all zeroes.
    pub(super) fn new(memory: M) -> Self {
        Self { memory, head: 0, at: 0, told: 0, current: None }
    }

    /// Where the next frame is expected: its position and its unit.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) const fn expects(&self) -> (u64, u32) {
        (self.head, self.at)
    }

    /// The header of the head frame, if there is one.
    #[inline]
    pub(super) fn poll(&mut self) -> Result<Option<FrameHeader>, Corrupt> {
        if let Some(current) = &self.current {
            return Ok(Some(current.header));
        }
        let word = self.memory.word(self.at);
        if word == publish_word(self.head, false) {
            return self.accept().map(Some);
        }
        if word != publish_word(self.head, true) {
            return Ok(None);
        }
        if self.at == 0 {
            return Err(Corrupt("a marker at the start of the ring".into()));
        }
        self.head += u64::from(self.memory.units() - self.at);
        self.at = 0;
        if self.memory.word(0) == publish_word(self.head, false) {
            return self.accept().map(Some);
        }
        Err(Corrupt("a marker with no frame behind it".into()))
    }

    /// Believes the header at the head, if it can be believed.
    fn accept(&mut self) -> Result<FrameHeader, Corrupt> {
        let header = self.memory.header(self.at);
        let units = frame_units(header.payload_bytes as usize);
        let all = self.memory.units();
        if units > frame_units_max(all as usize) || units > (all - self.at) as usize {
            let bytes = header.payload_bytes;
            return Err(Corrupt(format!("a frame of {bytes} bytes at {} of {all}", self.at)));
        }
        self.current = Some(Current { header, taken: 0 });
        Ok(header)
    }

    /// The payload of the head frame that is not consumed; all of it is here. Empty when there is
    /// no frame.
    #[inline]
    pub(super) fn view(&self) -> Span {
        let Some(current) = &self.current else { return Span::EMPTY };
        let bytes = current.header.payload_bytes;
        self.memory.payload(self.at, bytes, current.taken, bytes - current.taken)
    }

    /// Consumes `bytes` of the head frame. Whether that made room which the producer waits for.
    #[inline]
    pub(super) fn consume(&mut self, bytes: usize) -> bool {
        let current = self.current.as_mut().expect("consume follows head");
        let left = current.header.payload_bytes - current.taken;
        assert!(bytes <= left as usize, "consumed more than the frame holds");
        current.taken += u32::try_from(bytes).expect("checked above");
        if current.taken < current.header.payload_bytes {
            return false;
        }
        let units = u32::try_from(frame_units(current.taken as usize)).expect("small");
        self.current = None;
        self.head += u64::from(units);
        self.at = if self.at + units == self.memory.units() { 0 } else { self.at + units };
        if self.head - self.told >= u64::from(self.memory.units() / 8) || self.memory.wants_room() {
            return self.give_back();
        }
        false
    }

    /// Tells the producer how far this end is. Whether it waits for that.
    fn give_back(&mut self) -> bool {
        self.memory.set_head(self.head);
        self.told = self.head;
        // Either the producer sees this head after it raised its flag, or the flag is seen here.
        self.memory.fence();
        let wants = self.memory.wants_room();
        if wants {
            self.memory.set_wants_room(false);
        }
        wants
    }
}

#[cfg(test)]
mod tests {
    use super::super::mapped::MappedRing;
    use super::*;
    use crate::memory::testing::{bytes, span};

    const RING_BYTES: usize = 16 << 10;

    #[repr(align(4096))]
    struct Memory([u8; RING_BYTES]);

    fn ring(memory: &mut Memory) -> (Producer<MappedRing>, Consumer<MappedRing>) {
        let base = memory.0.as_mut_ptr();
        // SAFETY: the memory is page-aligned, of this size, and outlives both in each test.
        let end = || unsafe { MappedRing::new(base, RING_BYTES) };
        (Producer::new(end()), Consumer::new(end()))
    }

    fn header(payload: &[u8]) -> FrameHeader {
        let payload_bytes = u32::try_from(payload.len()).expect("small");
        FrameHeader { fingerprint: 0, sequence: 0, payload_bytes }
    }

    fn push<M: RingMemory>(producer: &mut Producer<M>, payload: &[u8]) -> bool {
        producer.push(&header(payload), &[span(payload)]).expect("nobody else writes here")
    }

    /// Payload whose every line starts with the publish word that its place will bear `laps`
    /// laps later.
    fn forged(producer: &Producer<MappedRing>, lines: u32, laps: u64) -> Vec<u8> {
        let all = producer.memory.units();
        let skip = if lines < all - producer.at { 0 } else { all - producer.at };
        let first = producer.tail + u64::from(skip) + 1;
        let word = |line| publish_word(first + line + laps * u64::from(all), false);
        (0..u64::from(lines)).flat_map(|line| [word(line).to_le_bytes(); 8].concat()).collect()
    }

    #[test]
    fn payload_is_never_taken_for_a_frame() {
        for laps in 1..4 {
            for tiny_between in [0, 1, 5] {
                let mut memory = Box::new(Memory([0; RING_BYTES]));
                let (mut producer, mut consumer) = ring(&mut memory);
                for round in 0..2000_u32 {
                    let mut payload = forged(&producer, round % 37, laps);
                    if round % (tiny_between + 1) != 0 {
                        payload.truncate(8);
                    }
                    assert!(push(&mut producer, &payload));
                    assert!(consumer.poll().expect("all is well").is_some());
                    assert_eq!(bytes(consumer.view()), payload);
                    consumer.consume(payload.len());
                    assert_eq!(consumer.poll().expect("no forgery is believed"), None);
                }
            }
        }
    }

    /// Both ends over the same addresses: ThreadSanitizer sees whether they keep apart, which it
    /// cannot where a process has mapped a segment twice.
    #[test]
    fn two_threads_over_one_mapping_keep_apart() {
        const FRAMES: usize = 5000;
        let mut memory = Box::new(Memory([0; RING_BYTES]));
        let (mut producer, mut consumer) = ring(&mut memory);
        let payload = |frame: usize| vec![frame as u8; [8, 0, 40, 41, 64, 700, 3000][frame % 7]];
        std::thread::scope(|threads| {
            threads.spawn(move || {
                for frame in 0..FRAMES {
                    while !push(&mut producer, &payload(frame)) {
                        std::thread::yield_now();
                    }
                }
            });
            for frame in 0..FRAMES {
                while consumer.poll().expect("all is well").is_none() {
                    std::thread::yield_now();
                }
                assert_eq!(bytes(consumer.view()), payload(frame));
                consumer.consume(payload(frame).len());
            }
        });
    }

    #[test]
    fn a_ring_whose_frames_are_all_consumed_takes_the_largest_frame_anywhere() {
        let mut memory = Box::new(Memory([0; RING_BYTES]));
        let (mut producer, mut consumer) = ring(&mut memory);
        let units = producer.memory.units() as usize;
        let largest = vec![9; (frame_units_max(units) - 1) * LINE_BYTES];
        for _ in 0..2 * units {
            assert!(push(&mut producer, &[1]));
            consumer.poll().expect("all is well");
            consumer.consume(1);
            assert!(push(&mut producer, &largest), "refused at {} of {units}", producer.at);
            consumer.poll().expect("all is well");
            consumer.consume(largest.len());
        }
    }

    #[test]
    fn a_refused_producer_hears_of_the_first_frame_consumed() {
        let mut memory = Box::new(Memory([0; RING_BYTES]));
        let (mut producer, mut consumer) = ring(&mut memory);
        while push(&mut producer, &[1]) {}
        assert!(consumer.poll().expect("all is well").is_some());
        assert!(consumer.consume(1), "the producer waits");
        assert!(push(&mut producer, &[1]) && !push(&mut producer, &[1]));
        assert!(consumer.poll().expect("all is well").is_some());
        assert!(consumer.consume(1), "it waits again");
    }
}
