//! The ring and the doorbell under loom, which runs every interleaving and every value a weakly
//! ordered load may return, up to a bound on preemptions:
//!
//! ```text
//! RUSTFLAGS="--cfg syncline_loom" cargo test -p syncline --lib shm::model
//! ```

use std::cell::Cell;
use std::ops::Range;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::doorbell::{AWAKE, BellMemory, ON_FUTEX, arm, disarm, ring};
use super::ring::{Consumer, Producer, RingMemory, publish_word};
use crate::memory::Span;
use crate::memory::testing::span;
use crate::transport::FrameHeader;

/// A ring of units, each a publish word and content that loom watches for races.
struct Ring {
    words: Vec<AtomicU64>,
    contents: Vec<UnsafeCell<Option<FrameHeader>>>,
    head: AtomicU64,
    wants: AtomicU32,
}

/// One end's handle.
struct End {
    ring: Arc<Ring>,
    /// The producer's count of turns through the ring, and where it wrote last.
    turn: Cell<(u64, u32)>,
}

impl End {
    fn pair(units: usize) -> (Self, Self) {
        let ring = Arc::new(Ring {
            words: (0..units).map(|_| AtomicU64::new(0)).collect(),
            contents: (0..units).map(|_| UnsafeCell::new(None)).collect(),
            head: AtomicU64::new(0),
            wants: AtomicU32::new(0),
        });
        let end = || Self { ring: Arc::clone(&ring), turn: Cell::new((0, 0)) };
        (end(), end())
    }

    /// The units that hold a payload of this size with its header.
    fn units_of(unit: u32, payload_bytes: u32) -> Range<usize> {
        let unit = unit as usize;
        unit..unit + if payload_bytes <= 40 { 1 } else { 1 + payload_bytes.div_ceil(64) as usize }
    }
}

impl RingMemory for End {
    fn units(&self) -> u32 {
        u32::try_from(self.ring.words.len()).expect("a few")
    }

    fn word(&self, unit: u32) -> u64 {
        self.ring.words[unit as usize].load(Ordering::Acquire)
    }

    fn publish(&self, unit: u32, word: u64) {
        self.ring.words[unit as usize].store(word, Ordering::Release);
    }

    fn clear(&self, unit: u32) {
        self.ring.words[unit as usize].store(0, Ordering::Relaxed);
    }

    fn prepare(&self, _unit: u32) {}

    fn write(&mut self, unit: u32, header: &FrameHeader, _parts: &[Span]) {
        let (turn, last) = self.turn.get();
        let turn = turn + u64::from(unit < last);
        self.turn.set((turn, unit));
        for (index, unit) in Self::units_of(unit, header.payload_bytes).enumerate() {
            // SAFETY: loom reports any access that is not ordered before or after this one.
            self.ring.contents[unit].with_mut(|content| unsafe { *content = Some(*header) });
            if index > 0 {
                // The worst payload: what would publish a frame here one turn later.
                let position = (turn + 1) * self.ring.words.len() as u64 + unit as u64;
                self.ring.words[unit].store(publish_word(position, false), Ordering::Relaxed);
            }
        }
    }

    fn header(&self, unit: u32) -> FrameHeader {
        // SAFETY: as above.
        self.ring.contents[unit as usize].with(|content| unsafe { *content }).expect("published")
    }

    fn payload(&self, unit: u32, payload_bytes: u32, _offset: u32, _bytes: u32) -> Span {
        let header = self.header(unit);
        for unit in Self::units_of(unit, payload_bytes) {
            // SAFETY: as above.
            let content = self.ring.contents[unit].with(|content| unsafe { *content });
            assert_eq!(content, Some(header), "payload of another frame");
        }
        Span::EMPTY
    }

    fn head(&self) -> u64 {
        self.ring.head.load(Ordering::Acquire)
    }

    fn set_head(&self, head: u64) {
        self.ring.head.store(head, Ordering::Release);
    }

    fn wants_room(&self) -> bool {
        self.ring.wants.load(Ordering::Relaxed) != 0
    }

    fn set_wants_room(&self, wants: bool) {
        self.ring.wants.store(u32::from(wants), Ordering::Relaxed);
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// A doorbell, and a futex made of what loom has.
#[derive(Default)]
struct Bell {
    state: AtomicU32,
    word: AtomicU32,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Bell {
    fn sleep(&self, value: u32) {
        let mut guard = self.lock.lock().expect("no panic");
        while self.word.load(Ordering::Relaxed) == value {
            guard = self.wake.wait(guard).expect("no panic");
        }
    }

    fn ring(&self) {
        if let Some(how) = ring(self) {
            assert_eq!(how, ON_FUTEX);
            let _guard = self.lock.lock().expect("no panic");
            self.wake.notify_all();
        }
    }
}

impl BellMemory for Bell {
    fn state(&self) -> u32 {
        self.state.load(Ordering::Relaxed)
    }

    fn swap_state(&self, state: u32) -> u32 {
        self.state.swap(state, Ordering::AcqRel)
    }

    fn word(&self) -> u32 {
        self.word.load(Ordering::Relaxed)
    }

    fn bump_word(&self) {
        self.word.fetch_add(1, Ordering::Release);
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

fn explore(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}

/// A frame of one unit, or of two.
fn header(sequence: u32, large: bool) -> FrameHeader {
    FrameHeader { fingerprint: 0, sequence, payload_bytes: if large { 64 } else { 8 } }
}

const PAYLOAD: [u8; 64] = [0; 64];

fn push(producer: &mut Producer<End>, header: &FrameHeader) -> bool {
    let parts = [span(&PAYLOAD).cut(0, header.payload_bytes as usize)];
    producer.push(header, &parts).expect("the consumer is sound")
}

fn take(consumer: &mut Consumer<End>) -> Option<(u32, bool)> {
    let header = consumer.poll().expect("the producer is sound")?;
    let _checked = consumer.view();
    Some((header.sequence, consumer.consume(header.payload_bytes as usize)))
}

/// Frames of one and two units, one of them behind a marker, through a ring that holds few.
#[test]
fn frames_arrive_whole_and_in_order() {
    // At units 0, 1, 3 and 5; the next is at 7 and too large for what is left there.
    explore(2, || pass([false, true, true, true, true, false]));
}

/// A frame behind another one, where payload was one turn before, and no marker between them.
#[test]
fn payload_is_not_taken_for_a_frame() {
    // At units 0, 1, 3, 5 and 7, and again at 0, 1 and 2.
    explore(2, || pass([false, true, true, true, false, false, false, false]));
}

/// Sends frames that are large or not, and looks at what arrives.
fn pass<const FRAMES: usize>(sizes: [bool; FRAMES]) {
    let (sending, receiving) = End::pair(8);
    let (mut producer, mut consumer) = (Producer::new(sending), Consumer::new(receiving));
    let sender = thread::spawn(move || {
        for (sequence, large) in (0..).zip(sizes) {
            while !push(&mut producer, &header(sequence, large)) {
                thread::yield_now();
            }
        }
    });
    for (expected, _) in (0..).zip(sizes) {
        let sequence = loop {
            match take(&mut consumer) {
                Some((sequence, _)) => break sequence,
                None => thread::yield_now(),
            }
        };
        assert_eq!(sequence, expected);
    }
    sender.join().expect("no panic");
}

/// Two ringers, and an owner that sleeps whenever it has not heard of both.
#[test]
fn nobody_oversleeps() {
    explore(3, || {
        let bell = Arc::new(Bell::default());
        let flags = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let ringers: Vec<_> = (0..2)
            .map(|i| {
                let (bell, flags) = (Arc::clone(&bell), Arc::clone(&flags));
                thread::spawn(move || {
                    flags[i].store(1, Ordering::Release);
                    bell.ring();
                })
            })
            .collect();
        let heard = || flags.iter().filter(|flag| flag.load(Ordering::Acquire) != 0).count();
        let mut known = 0;
        while known < 2 {
            let value = arm(&*bell, ON_FUTEX);
            let now = heard();
            if now == known {
                bell.sleep(value);
            }
            disarm(&*bell);
            known = known.max(now);
        }
        assert_eq!(bell.state(), AWAKE);
        ringers.into_iter().for_each(|ringer| ringer.join().expect("no panic"));
    });
}

/// A refused producer that sleeps is woken by the consumer, which gives back late. It is refused
/// before it announces its sleep and after, or only after.
#[test]
fn room_wakes_the_producer() {
    explore(2, || sleep_until_there_is_room(true));
}

/// As above, after the announcement only.
#[test]
fn room_wakes_a_producer_that_is_refused_late() {
    explore(2, || sleep_until_there_is_room(false));
}

fn sleep_until_there_is_room(tries_first: bool) {
    let bell = Arc::new(Bell::default());
    let (sending, receiving) = End::pair(16);
    // The consumer has yet to hear that the producer, filling the ring here, was refused.
    let flag = End { ring: Arc::clone(&sending.ring), turn: Cell::default() };
    let (mut producer, mut consumer) = (Producer::new(sending), Consumer::new(receiving));
    let full = (0..).take_while(|&i| push(&mut producer, &header(i, false))).count();
    assert_eq!(full, 15);
    flag.set_wants_room(false);
    let sleeper = {
        let bell = Arc::clone(&bell);
        thread::spawn(move || {
            let last = header(15, false);
            if tries_first && push(&mut producer, &last) {
                return;
            }
            loop {
                let value = arm(&*bell, ON_FUTEX);
                let pushed = push(&mut producer, &last);
                if !pushed {
                    bell.sleep(value);
                }
                disarm(&*bell);
                if pushed {
                    break;
                }
            }
        })
    };
    let mut next = 0;
    let mut take_one = || {
        let (sequence, wanted) = take(&mut consumer)?;
        assert_eq!(sequence, next);
        next += 1;
        if wanted {
            bell.ring();
        }
        Some(())
    };
    // An eighth of the ring: now the producer must hear of it, or never.
    (0..2).for_each(|_| take_one().expect("the ring is full"));
    sleeper.join().expect("no panic");
    while take_one().is_some() {}
    assert_eq!(next, 16);
}
