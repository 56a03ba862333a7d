//! Whether payload is written into a ring through the caches, or around them.
//!
//! Two cores that share a last-level cache hand lines to each other through it, and ordinary
//! stores are best: the reader finds the payload in that cache. Between cores that share none,
//! an ordinary store waits for the line to come over from the reader's caches, only to overwrite
//! it, and the reader waits for it to come back; streaming stores, which go to memory, are then
//! several times faster for both. Which of the two it is, only time tells: cores are far apart on
//! one machine and near on another, ranks may be left to the scheduler, and a hypervisor moves
//! its virtual cores. So the writer measures: every frame it writes, and now and then a slice
//! the other way.
//!
//! (On two virtual cores of a Zen 3, 32 KiB frames are written at 25 GB/s either way while both
//! are on one core complex; while they are not, at 5 GB/s through the caches and at 27 around.)

use crate::memory::{Span, SpanMut, drain_streams};

/// Smallest payload for which the way matters.
pub(super) const BYTES_MIN: usize = 2048;
/// Frames between two looks at the other way.
const FRAMES_PER_PROBE: u32 = 32;
/// How much of a frame is written the other way for such a look: enough that the store buffer
/// does not hide what it costs.
const PROBE_BYTES: usize = 8192;
/// Whether this CPU has streaming stores, and a clock that costs next to nothing.
const CAN_STREAM: bool = cfg!(target_arch = "x86_64");

/// The two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Through,
    Around,
}

impl Way {
    const fn other(self) -> Self {
        match self {
            Self::Through => Self::Around,
            Self::Around => Self::Through,
        }
    }
}

/// What the writer of one ring has found out.
#[derive(Debug)]
pub(super) struct Pace {
    way: Way,
    /// Typical cost of either way, in ticks per 64 KiB; 0 until measured.
    costs: [u64; 2],
    frames: u32,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { way: Way::Through, costs: [0; 2], frames: 0 }
    }

    /// Copies `parts`, one after the other, to the start of `room`, which they fill.
    pub(super) fn fill(&mut self, mut room: SpanMut, parts: &[Span]) {
        self.frames = self.frames.wrapping_add(1);
        let mut probe_bytes = match self.frames.is_multiple_of(FRAMES_PER_PROBE) {
            true if CAN_STREAM => PROBE_BYTES,
            _ => 0,
        };
        for &part in parts {
            let probed = probe_bytes.min(part.len());
            self.copy(self.way.other(), room, part.cut(0, probed));
            room = room.cut(probed, room.len() - probed);
            probe_bytes -= probed;
            let rest = part.cut(probed, part.len() - probed);
            self.copy(self.way, room, rest);
            room = room.cut(rest.len(), room.len() - rest.len());
        }
    }

    fn copy(&mut self, way: Way, to: SpanMut, from: Span) {
        if !CAN_STREAM || from.len() < BYTES_MIN {
            return to.copy_from(from);
        }
        let before = ticks();
        match way {
            Way::Through => to.copy_from(from),
            Way::Around => {
                to.stream_from(from);
                drain_streams();
            }
        }
        self.learn(way, from.len(), ticks().wrapping_sub(before));
    }

    /// Takes note of one copy.
    fn learn(&mut self, way: Way, bytes: usize, ticks: u64) {
        let cost = (ticks << 16) / bytes as u64;
        let typical = &mut self.costs[way as usize];
        // Nothing makes a copy faster than it is, but much makes one slower: a page touched for the
        // first time, an interruption.
        *typical = match *typical {
            0 => cost,
            old if cost < old => (old + 3 * cost) / 4,
            old => (3 * old + cost.min(old * 2)) / 4,
        };
        self.way = self.better();
    }

    /// The way that costs less. What is written around the caches costs the reader more if it is
    /// near, which cannot be seen from here: going around must pay twice over.
    fn better(&self) -> Way {
        match (self.way, self.costs) {
            (way, [0, _] | [_, 0]) => way,
            (Way::Through, [through, around]) if through > 2 * around => Way::Around,
            (Way::Around, [through, around]) if 2 * through < 3 * around => Way::Through,
            (way, _) => way,
        }
    }
}

/// A clock that is good enough to compare two ways of copying a few thousand bytes.
#[inline]
fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads a counter; every x86-64 CPU has it.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::testing::{span, span_mut};

    fn learn(pace: &mut Pace, through: u64, around: u64) {
        for _ in 0..16 {
            pace.learn(Way::Through, 1 << 16, through);
            pace.learn(Way::Around, 1 << 16, around);
        }
    }

    #[test]
    fn goes_around_while_that_pays_twice_over() {
        let mut pace = Pace::new();
        pace.learn(Way::Through, 1 << 16, 50_000);
        assert_eq!(pace.way, Way::Through, "nothing to compare with");
        learn(&mut pace, 9000, 9000);
        assert_eq!(pace.way, Way::Through);
        learn(&mut pace, 45_000, 9000);
        assert_eq!(pace.way, Way::Around);
        learn(&mut pace, 16_000, 9000);
        assert_eq!(pace.way, Way::Around, "no wavering");
        learn(&mut pace, 9000, 9000);
        assert_eq!(pace.way, Way::Through);
    }

    #[test]
    fn an_interruption_changes_nothing() {
        let mut pace = Pace::new();
        learn(&mut pace, 9000, 9000);
        pace.learn(Way::Through, 1 << 16, 10_000_000);
        assert_eq!(pace.way, Way::Through);
    }

    #[test]
    fn every_byte_arrives_whichever_way() {
        let from: Vec<u8> = (0..40_000_u32).map(|i| (i * 7 + i / 251) as u8).collect();
        for way in [Way::Through, Way::Around] {
            let mut pace = Pace::new();
            for frame in 0..3 * FRAMES_PER_PROBE as usize {
                pace.way = way;
                let (cut, end) = (frame * 331, from.len() - frame);
                let parts = [span(&from).cut(0, cut), span(&from).cut(cut, end - cut)];
                let mut to = vec![0_u8; end + 1];
                pace.fill(span_mut(&mut to).cut(0, end), &parts);
                assert!(to[..end] == from[..end] && to[end] == 0, "{way:?} {frame}");
            }
        }
    }
}
