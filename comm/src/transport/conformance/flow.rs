//! Traffic with an oracle: what each pipe is to carry, and a driver that carries and checks it.

use std::time::{Duration, Instant};

use super::Fabric;
use crate::error::Rank;
use crate::memory::testing::{bytes, span, span_mut};
use crate::transport::{Fault, FrameHeader, Lane, Transport};

/// How long a test waits without any movement before it gives up: a guard against hanging.
pub(super) const STALL_MAX: Duration = Duration::from_secs(20);

/// SplitMix64 (Steele, Lea, Flood 2014): a seeded stream, the same on every machine.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `count` bytes.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        usize::try_from(wide >> 64).expect("below a usize")
    }
}

/// How a receiver takes a frame.
#[derive(Clone, Copy, Debug)]
pub(super) enum Take {
    /// Consume everything `view` shows.
    View,
    /// Consume a random part of what `view` shows.
    Bite,
    /// Consume whole elements of this many bytes.
    Elements(usize),
    /// `read` into buffers of random sizes.
    Read,
    /// Any of the above, changing in the middle of frames.
    Mixed,
}

/// One frame to carry.
struct Frame {
    header: FrameHeader,
    payload: Vec<u8>,
    /// Where the sender cuts it into parts.
    cuts: Vec<usize>,
}

/// The traffic of one pipe and how far it is.
pub(super) struct Flow {
    pub(super) lane: Lane,
    pub(super) from: Rank,
    pub(super) to: Rank,
    take: Take,
    frames: Vec<Frame>,
    accepted: usize,
    /// Frames wholly accepted.
    pub(super) sent: usize,
    taken: Vec<u8>,
    /// Frames wholly received and found right.
    pub(super) received: usize,
    random: Random,
}

impl Flow {
    /// A flow of frames of these sizes, with random contents.
    pub(super) fn new(lane: Lane, from: Rank, to: Rank, take: Take, sizes: &[usize]) -> Self {
        let seed = (u64::from(from) << 40) ^ (u64::from(to) << 20) ^ (lane as u64) ^ 0x51c1;
        let mut random = Random(seed);
        let frames = sizes
            .iter()
            .enumerate()
            .map(|(i, &size)| {
                let payload = random.bytes(size);
                let mut cuts: Vec<_> =
                    (0..random.below(4)).map(|_| random.below(size + 1)).collect();
                cuts.extend([0, size]);
                cuts.sort_unstable();
                let header = FrameHeader {
                    fingerprint: random.next(),
                    sequence: u32::try_from(i).expect("few frames"),
                    payload_bytes: u32::try_from(size).expect("small frames"),
                };
                Frame { header, payload, cuts }
            })
            .collect();
        Self {
            lane,
            from,
            to,
            take,
            frames,
            accepted: 0,
            sent: 0,
            taken: vec![],
            received: 0,
            random,
        }
    }

    /// Whether every frame has arrived.
    pub(super) fn done(&self) -> bool {
        self.received == self.frames.len()
    }

    /// Whether every frame has been accepted.
    pub(super) fn all_sent(&self) -> bool {
        self.sent == self.frames.len()
    }

    /// Offers the pipe the next frame; whether that moved anything.
    pub(super) fn push(&mut self, end: &mut dyn Transport) -> Result<bool, Fault> {
        let Some(frame) = self.frames.get(self.sent) else { return Ok(false) };
        let parts: Vec<_> = frame
            .cuts
            .windows(2)
            .map(|cut| span(&frame.payload).cut(cut[0], cut[1] - cut[0]))
            .collect();
        let before = self.accepted;
        let done = end.send(self.lane, self.to, &frame.header, &parts, &mut self.accepted)?;
        assert!(self.accepted >= before && self.accepted <= frame.payload.len());
        if !done {
            return Ok(self.accepted > before);
        }
        assert_eq!(self.accepted, frame.payload.len(), "sent, but not all was accepted");
        self.accepted = 0;
        self.sent += 1;
        Ok(true)
    }

    /// Takes what is here; whether that moved anything.
    pub(super) fn pull(&mut self, end: &mut dyn Transport) -> Result<bool, Fault> {
        let Some(header) = end.head(self.lane, self.from)? else {
            assert!(self.taken.is_empty(), "a frame half taken has lost its header");
            return Ok(false);
        };
        let frame = self.frames.get(self.received).expect("no frame that was never sent");
        assert_eq!(header, frame.header, "frames arrive in order, {}", self.name());
        let left = frame.payload.len() - self.taken.len();
        let moved = if left == 0 { Some(vec![]) } else { self.take_some(end, left)? };
        let Some(moved) = moved else { return Ok(false) };
        if left == 0 {
            end.consume(self.lane, self.from, 0)?;
        }
        self.taken.extend_from_slice(&moved);
        let frame = &self.frames[self.received];
        if self.taken.len() == frame.payload.len() {
            assert!(self.taken == frame.payload, "frame {} of {}", self.received, self.name());
            self.taken.clear();
            self.received += 1;
        }
        Ok(true)
    }

    /// Takes some of the `left` bytes of the head frame, if any can be taken.
    fn take_some(
        &mut self,
        end: &mut dyn Transport,
        left: usize,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let take = match self.take {
            Take::Mixed => {
                let element = 1 << self.random.below(5);
                [Take::View, Take::Bite, Take::Elements(element), Take::Read][self.random.below(4)]
            }
            other => other,
        };
        if let Take::Read = take {
            let mut buffer = vec![0; 1 + self.random.below(left + 100)];
            let count = end.read(self.lane, self.from, span_mut(&mut buffer))?;
            assert!(count <= left, "read past the end of the frame");
            buffer.truncate(count);
            return Ok((count > 0).then_some(buffer));
        }
        let element = if let Take::Elements(bytes) = take { bytes } else { 1 };
        let shown = end.view(self.lane, self.from, element)?;
        assert!(shown.len() <= left, "view past the end of the frame");
        let count = match take {
            Take::Elements(bytes) if left >= bytes => shown.len() / bytes * bytes,
            Take::Elements(_) if shown.len() < left => 0,
            Take::Bite if !shown.is_empty() => 1 + self.random.below(shown.len()),
            _ => shown.len(),
        };
        if count == 0 {
            return Ok(None);
        }
        let moved = bytes(shown.cut(0, count));
        end.consume(self.lane, self.from, count)?;
        Ok(Some(moved))
    }

    fn name(&self) -> String {
        format!("{:?} {} -> {}", self.lane, self.from, self.to)
    }
}

/// A fabric polled from one thread.
pub(super) struct Driver {
    pub(super) ends: Vec<Option<Box<dyn Transport>>>,
    idle: Box<dyn FnMut()>,
}

impl Driver {
    pub(super) fn new(fabric: Fabric) -> Self {
        Self { ends: fabric.ends.into_iter().map(Some).collect(), idle: fabric.idle }
    }

    /// The end of `rank`, which is still there.
    pub(super) fn end(&mut self, rank: Rank) -> &mut dyn Transport {
        self.ends[rank as usize].as_mut().expect("this end is not dropped").as_mut()
    }

    /// Drops the end of `rank`.
    pub(super) fn drop_end(&mut self, rank: Rank) {
        self.ends[rank as usize] = None;
    }

    /// Lets every end do its housekeeping; what faults it reports.
    pub(super) fn progress(&mut self) -> Vec<Fault> {
        self.ends.iter_mut().flatten().filter_map(|end| end.progress().err()).collect()
    }

    /// Housekeeping and idling for a while, for what is under way to get there.
    pub(super) fn settle(&mut self) {
        for _ in 0..100 {
            self.progress();
            (self.idle)();
        }
    }

    /// Offers every pipe frames until nothing moves for a while, or all have been accepted.
    pub(super) fn fill(&mut self, flows: &mut [Flow]) {
        let mut quiet = 0;
        while quiet < 100 && !flows.iter().all(Flow::all_sent) {
            let mut moved = false;
            for flow in &mut *flows {
                moved |= flow.push(self.end(flow.from)).expect("the peer is there");
            }
            assert!(self.progress().is_empty(), "every peer is there");
            quiet = if moved { 0 } else { quiet + 1 };
            if !moved {
                (self.idle)();
            }
        }
    }

    /// Runs the flows until all have arrived.
    pub(super) fn run(&mut self, flows: &mut [Flow]) {
        let mut moved_at = Instant::now();
        while !flows.iter().all(Flow::done) {
            let mut moved = false;
            for flow in &mut *flows {
                moved |= flow.push(self.end(flow.from)).expect("the peer is there");
                moved |= flow.pull(self.end(flow.to)).expect("the peer is there");
            }
            assert!(self.progress().is_empty(), "every peer is there");
            if moved {
                moved_at = Instant::now();
            } else {
                assert!(moved_at.elapsed() < STALL_MAX, "stalled: {}", stalled(flows));
                (self.idle)();
            }
        }
        for flow in flows {
            let head = self.end(flow.to).head(flow.lane, flow.from).expect("the peer is there");
            assert_eq!(head, None, "nothing arrives that was not sent, {}", flow.name());
        }
    }
}

fn stalled(flows: &[Flow]) -> String {
    let stuck = flows.iter().filter(|flow| !flow.done());
    stuck.map(|f| format!("{}: sent {}, received {}; ", f.name(), f.sent, f.received)).collect()
}
