//! One rank's schedule in compact form: flat operations on numbered memory locations, and the
//! waits between them. What can be said about a step alone is checked here.

use super::super::ir::{Block, Buf, Collective, Schedule, Shape, Slice, Slot, Step};
use super::contract::{blocks_of, check_head, shared};
use super::violation::{At, Violation};
use crate::error::Rank;
use crate::reduce::Format;

/// No operation.
pub(super) const NONE: u32 = u32::MAX;

const LIMIT: usize = 1 << 30;

/// What an operation does with its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Operand 0 goes to the peer.
    Send,
    /// Operand 0 comes from the peer.
    Recv,
    /// Operand 1 is operand 0 combined with what comes from the peer.
    RecvReduce,
    /// Operand 1 is operand 0.
    Copy,
    /// Operand 2 is operand 0 combined with operand 1.
    Reduce,
}

impl Kind {
    const fn operands(self) -> usize {
        match self {
            Self::Send | Self::Recv => 1,
            Self::RecvReduce | Self::Copy => 2,
            Self::Reduce => 3,
        }
    }

    /// Whether the other end of a message counts on it.
    pub(super) const fn is_message(self) -> bool {
        matches!(self, Self::Send | Self::Recv | Self::RecvReduce)
    }
}

/// A memory location of some rank, and the format of the buffer it was named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    fn new(location: usize, format: Format) -> Self {
        Self((location as u32) << 1 | u32::from(format == Format::Acc))
    }

    pub(super) const fn location(self) -> usize {
        (self.0 >> 1) as usize
    }

    pub(super) const fn format(self) -> Format {
        if self.0 & 1 == 1 { Format::Acc } else { Format::Data }
    }
}

/// One step in compact form. Its tags are `pool[start..start + len]`; its operands' places
/// follow, `len` each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    pub(super) kind: Kind,
    /// Of the message.
    pub(super) format: Format,
    pub(super) peer: Rank,
    pub(super) stage: u32,
    pub(super) round: u32,
    pub(super) step: u32,
    start: u32,
    pub(super) len: u32,
}

/// All ranks' schedules in compact form.
pub(super) struct Plan {
    pub(super) shape: Shape,
    pub(super) segments: u32,
    pub(super) blocks: u32,
    pub(super) ops: Vec<Op>,
    /// First operation of each rank, and the end.
    pub(super) first_op: Vec<u32>,
    /// Waits between operations of one rank: (earlier, later).
    pub(super) waits: Vec<(u32, u32)>,
    /// Locations of each rank's input: in order of slots, then segments.
    pub(super) inputs: Vec<Buffer>,
    /// The same for its output.
    pub(super) outputs: Vec<Buffer>,
    pub(super) locations: usize,
    pool: Vec<u32>,
    aliased: bool,
    tracker: Tracker,
}

/// A caller's buffer: which blocks, and where.
pub(super) struct Buffer {
    pub(super) blocks: Vec<Block>,
    base: usize,
    stride: usize,
}

impl Buffer {
    /// The location of `slot` in `segment`.
    pub(super) const fn location(&self, slot: usize, segment: u32) -> usize {
        self.base + segment as usize * self.stride + slot
    }
}

/// The waits of one rank's steps, found in listed order.
#[derive(Default)]
struct Tracker {
    base: usize,
    writer: Vec<u32>,
    /// Head of the list of readers since the last write, per location.
    readers: Vec<u32>,
    links: Vec<(u32, u32)>,
    /// Which operation last wrote here, and which of its slots: to find overlaps.
    written: Vec<(u32, u32)>,
}

impl Plan {
    pub(super) fn new(shape: &Shape, aliased: bool) -> Self {
        Self {
            shape: shape.clone(),
            segments: 0,
            blocks: 0,
            ops: Vec::new(),
            first_op: vec![0],
            waits: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            locations: 0,
            pool: Vec::new(),
            aliased,
            tracker: Tracker::default(),
        }
    }

    /// Adds the next rank's schedule.
    pub(super) fn add(&mut self, s: &Schedule) -> Result<(), Violation> {
        let rank = self.inputs.len() as Rank;
        check_head(&self.shape, rank, s)?;
        let blocks = blocks_of(s.space, self.shape.ranks).unwrap_or(0);
        if rank == 0 {
            (self.segments, self.blocks) = (s.segments, blocks);
        } else if (self.segments, self.blocks) != (s.segments, blocks) {
            let reason = "blocks or segments are not those of rank 0".to_owned();
            return Err(Violation::Head { rank, reason });
        }
        if (blocks as usize).saturating_mul(s.segments as usize) > LIMIT {
            return Err(Violation::TooLarge { what: "blocks" });
        }
        let memory = Memory::new(&self.shape, rank, s, self.aliased, self.locations);
        self.tracker.reset(self.locations, memory.end);
        for (round, steps) in s.rounds.iter().enumerate() {
            for (step, what) in steps.steps.iter().enumerate() {
                let at = At { rank, round: round as u32, step: step as u32 };
                self.step(s, &memory, (at, steps.stage), what)?;
            }
        }
        self.locations = memory.end;
        if self.locations > LIMIT || self.ops.len() > LIMIT || self.pool.len() > 2 * LIMIT {
            return Err(Violation::TooLarge { what: "steps and slots" });
        }
        self.first_op.push(self.ops.len() as u32);
        self.inputs.push(memory.buffer(Buf::Input, &s.input));
        self.outputs.push(memory.buffer(Buf::Output, &s.output));
        Ok(())
    }

    fn step(
        &mut self,
        s: &Schedule,
        m: &Memory,
        (at, stage): (At, u32),
        step: &Step,
    ) -> Result<(), Violation> {
        use Kind as K;
        let data = Format::Data;
        let (kind, peer, wire, reads, write): (_, _, _, [&[Slice]; 2], &[Slice]) = match step {
            Step::Send { peer, src } => (K::Send, *peer, data, [src, &[]], &[]),
            Step::Recv { peer, dst } => (K::Recv, *peer, data, [&[], &[]], dst),
            Step::RecvReduce { peer, wire, local, dst } => {
                (K::RecvReduce, *peer, *wire, [local, &[]], dst)
            }
            Step::Copy { src, dst } => (K::Copy, NONE, data, [src, &[]], dst),
            Step::Reduce { a, b, dst } => (K::Reduce, NONE, data, [a, b], dst),
        };
        if kind.is_message() && (peer == at.rank || peer >= self.shape.ranks) {
            return Err(Violation::BadPeer { at, peer });
        }
        let start = self.pool.len();
        let first = match kind {
            K::Recv => write,
            _ => reads[0],
        };
        let len: u32 = first.iter().map(|slice| slice.len).sum();
        if len == 0 && self.shape.collective != Collective::Barrier {
            return Err(Violation::Operands { at });
        }
        let format = match kind {
            K::Send | K::Recv => first.first().map_or(data, |slice| slice.buf.format()),
            _ => wire,
        };
        if matches!(kind, K::Send | K::Recv) && first.iter().any(|s| s.buf.format() != format) {
            return Err(Violation::MixedFormats { at });
        }
        let op = self.ops.len() as u32;
        let (round, step) = (at.round, at.step);
        self.ops.push(Op { kind, format, peer, stage, round, step, start: start as u32, len });
        tags(first, s.segments, &mut self.pool);
        for slices in [reads[0], reads[1], write].into_iter().filter(|s| !s.is_empty()) {
            self.operand(s, m, at, (start, len), slices, std::ptr::eq(slices, write))?;
        }
        if self.pool.len() != start + len as usize * (1 + kind.operands()) {
            return Err(Violation::Operands { at });
        }
        if matches!(kind, K::Reduce | K::RecvReduce)
            && let Some(slice) = write.iter().find(|slice| slice.buf != Buf::Work)
        {
            return Err(Violation::ReduceIntoData { at, buf: slice.buf });
        }
        self.track(at, op, kind)
    }

    /// Appends one operand's places to the pool.
    fn operand(
        &mut self,
        s: &Schedule,
        m: &Memory,
        at: At,
        (start, len): (usize, u32),
        slices: &[Slice],
        write: bool,
    ) -> Result<(), Violation> {
        let mut index = 0;
        for slice in slices {
            if write {
                self.allowed(at, slice)?;
            }
            for i in 0..slice.len {
                let place = m.place(s, self.blocks, at, slice, i)?;
                let tag = (slice.block.0 + i) * s.segments + slice.segment;
                if index >= len || self.pool[start + index as usize] != tag {
                    return Err(Violation::Operands { at });
                }
                self.pool.push(place.0);
                index += 1;
            }
        }
        if index == len { Ok(()) } else { Err(Violation::Operands { at }) }
    }

    fn allowed(&self, at: At, slice: &Slice) -> Result<(), Violation> {
        let (buf, slot) = (slice.buf, slice.slot);
        let untouched = self.shape.collective == Collective::ExScan && at.rank == 0;
        if buf == Buf::Input || untouched && buf == Buf::Output {
            return Err(Violation::Forbidden { at, buf, slot });
        }
        Ok(())
    }

    /// Records the waits of `op` on earlier operations of its rank.
    fn track(&mut self, at: At, op: u32, kind: Kind) -> Result<(), Violation> {
        let at_op = self.ops[op as usize];
        let operands = kind.operands();
        let writes = usize::from(kind != Kind::Send);
        let (start, len) = (at_op.start as usize, at_op.len as usize);
        let overlap = |i: usize, segments: u32, pool: &[u32]| {
            let block = Block(pool[start + i] / segments);
            Err(Violation::Overlap { at, block })
        };
        let dst = start + len * operands;
        for i in 0..len * writes {
            let local = Place(self.pool[dst + i]).location() - self.tracker.base;
            if self.tracker.written[local].0 == op {
                return overlap(i, self.segments, &self.pool);
            }
            self.tracker.written[local] = (op, i as u32);
        }
        for (n, j) in (start + len..dst + len * (1 - writes)).enumerate() {
            let local = Place(self.pool[j]).location() - self.tracker.base;
            let i = n % len;
            if matches!(self.tracker.written[local], (o, k) if o == op && k != i as u32) {
                return overlap(i, self.segments, &self.pool);
            }
            self.tracker.read(op, local, &mut self.waits);
        }
        for i in 0..len * writes {
            let local = Place(self.pool[dst + i]).location() - self.tracker.base;
            self.tracker.write(op, local, &mut self.waits);
        }
        Ok(())
    }

    pub(super) fn ranks(&self) -> Rank {
        self.inputs.len() as Rank
    }

    pub(super) fn at(&self, op: u32) -> At {
        let rank = self.first_op.partition_point(|&first| first <= op) as Rank - 1;
        let op = &self.ops[op as usize];
        At { rank, round: op.round, step: op.step }
    }

    /// The (block, segment) pairs of `op`, each in one number.
    pub(super) fn tags(&self, op: &Op) -> &[u32] {
        &self.pool[op.start as usize..][..op.len as usize]
    }

    /// Item `i` of operand `operand` of `op`.
    pub(super) fn place(&self, op: &Op, operand: u32, i: u32) -> Place {
        Place(self.pool[(op.start + op.len * (1 + operand) + i) as usize])
    }

    pub(super) const fn untag(&self, tag: u32) -> (Block, u32) {
        (Block(tag / self.segments), tag % self.segments)
    }
}

fn tags(slices: &[Slice], segments: u32, pool: &mut Vec<u32>) {
    for slice in slices {
        // Wrapping: bounds are checked when the places are looked up.
        let tag = |i| slice.block.0.wrapping_add(i).wrapping_mul(segments);
        pool.extend((0..slice.len).map(|i| tag(i).wrapping_add(slice.segment)));
    }
}

impl Tracker {
    fn reset(&mut self, base: usize, end: usize) {
        self.base = base;
        self.links.clear();
        for list in [&mut self.writer, &mut self.readers] {
            list.clear();
            list.resize(end - base, NONE);
        }
        self.written.clear();
        self.written.resize(end - base, (NONE, NONE));
    }

    fn wait(earlier: u32, later: u32, waits: &mut Vec<(u32, u32)>) {
        if earlier != NONE && earlier != later && waits.last() != Some(&(earlier, later)) {
            waits.push((earlier, later));
        }
    }

    fn read(&mut self, op: u32, local: usize, waits: &mut Vec<(u32, u32)>) {
        Self::wait(self.writer[local], op, waits);
        self.links.push((op, self.readers[local]));
        self.readers[local] = self.links.len() as u32 - 1;
    }

    fn write(&mut self, op: u32, local: usize, waits: &mut Vec<(u32, u32)>) {
        Self::wait(self.writer[local], op, waits);
        let mut next = self.readers[local];
        while next != NONE {
            let (reader, link) = self.links[next as usize];
            Self::wait(reader, op, waits);
            next = link;
        }
        self.readers[local] = NONE;
        self.writer[local] = op;
    }
}

/// Where one rank's buffers lie.
struct Memory {
    window: u32,
    input: (usize, usize),
    output: (usize, usize),
    work: (usize, usize),
    stage: (usize, usize),
    /// Work slot i may lie in output slot `first + i`, if it is for the same block.
    first: Option<u32>,
    end: usize,
}

impl Memory {
    fn new(shape: &Shape, rank: Rank, s: &Schedule, aliased: bool, base: usize) -> Self {
        let (segments, window) = (s.segments as usize, s.window as usize);
        let mut end = base;
        let mut take = |slots: usize, copies: usize| {
            let at = end;
            end += slots * copies;
            (at, slots)
        };
        let (input, output) = match shared(shape, rank, s) {
            None => (take(s.input.len(), segments), take(s.output.len(), segments)),
            // The longer of the two contains the other.
            Some((to, from)) if s.output.len() >= s.input.len() => {
                let output = take(s.output.len(), segments);
                ((output.0 + from as usize - to as usize, output.1), output)
            }
            Some((to, from)) => {
                let input = take(s.input.len(), segments);
                (input, (input.0 + to as usize - from as usize, input.1))
            }
        };
        let first = if aliased { s.work_in_output } else { None };
        let (work, stage) = (take(s.work.len(), window), take(s.stage.len(), window));
        Self { window: s.window, input, output, work, stage, first, end }
    }

    fn buffer(&self, buf: Buf, blocks: &[Block]) -> Buffer {
        let (base, stride) = if buf == Buf::Input { self.input } else { self.output };
        Buffer { blocks: blocks.to_vec(), base, stride }
    }

    fn place(
        &self,
        s: &Schedule,
        blocks: u32,
        at: At,
        slice: &Slice,
        i: u32,
    ) -> Result<Place, Violation> {
        let (buf, segment) = (slice.buf, slice.segment);
        let (slot, block) = (slice.slot.wrapping_add(i), Block(slice.block.0.wrapping_add(i)));
        let held = match buf {
            Buf::Input => s.input.get(slot as usize).map(|&b| Slot::Of(b)),
            Buf::Output => s.output.get(slot as usize).map(|&b| Slot::Of(b)),
            Buf::Work => s.work.get(slot as usize).copied(),
            Buf::Stage => s.stage.get(slot as usize).copied(),
        };
        let holds = held
            .filter(|_| block.0 < blocks && segment < s.segments)
            .ok_or(Violation::OutOfBounds { at, buf, slot, block, segment })?;
        if holds != Slot::Any && holds != Slot::Of(block) {
            return Err(Violation::WrongSlot { at, buf, slot, block, holds });
        }
        let within = self.first.filter(|_| buf == Buf::Work && holds == Slot::Of(block));
        let within = within.and_then(|first| first.checked_add(slot));
        let within = within.filter(|&there| s.output.get(there as usize) == Some(&block));
        let ((base, stride), copy, slot) = match (buf, within) {
            (Buf::Work, Some(there)) => (self.output, segment, there),
            (Buf::Input, _) => (self.input, segment, slot),
            (Buf::Output, _) => (self.output, segment, slot),
            (Buf::Work, None) => (self.work, segment % self.window, slot),
            (Buf::Stage, _) => (self.stage, segment % self.window, slot),
        };
        Ok(Place::new(base + copy as usize * stride + slot as usize, buf.format()))
    }
}
