//! What builders share: turning runs of blocks into slices, and keeping track of partial results.
//!
//! A [`Composer`] collects the rounds of one rank's schedule. Blocks are addressed by [`Run`], a
//! cyclic range of block numbers; a [`Layout`] per buffer says which slot holds which block, and
//! the composer cuts a run into as few slices as the layout allows. For reductions it remembers,
//! per block, whether this rank's partial result is still its raw contribution in `Input` or
//! already lies in `Work`, and so in which format the block travels.

use super::ir::{Block, Buf, Round, Schedule, Slice, Slot, Space, Step};
use crate::error::Rank;
use crate::reduce::Format;

/// The blocks `first`, `first + 1`, … (`len` of them), counted modulo the number of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first block.
    pub first: u32,
    /// How many; at most the number of blocks.
    pub len: u32,
}

impl Run {
    /// `len` blocks from `first` on.
    pub(super) const fn new(first: u32, len: u32) -> Self {
        Self { first, len }
    }

    /// One block.
    pub(super) const fn one(block: u32) -> Self {
        Self { first: block, len: 1 }
    }
}

/// Wherever a composer takes runs, it takes one or several.
impl AsRef<[Run]> for Run {
    fn as_ref(&self) -> &[Run] {
        std::slice::from_ref(self)
    }
}

/// Which blocks a buffer holds: slot i holds block `first + i`, modulo the number of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// The block in slot 0.
    pub first: u32,
    /// Number of slots.
    pub len: u32,
}

impl Layout {
    /// No slots: the buffer does not exist on this rank.
    pub(super) const NONE: Self = Self { first: 0, len: 0 };

    /// Block i in slot i, for all of `blocks`.
    pub(super) const fn all(blocks: u32) -> Self {
        Self { first: 0, len: blocks }
    }

    /// Only this block.
    pub(super) const fn one(block: u32) -> Self {
        Self { first: block, len: 1 }
    }

    /// `len` slots, of which the first holds `first`.
    pub(super) const fn from(first: u32, len: u32) -> Self {
        Self { first, len }
    }

    fn blocks(self, modulus: u32) -> impl Iterator<Item = Block> {
        (0..self.len).map(move |i| Block((self.first + i) % modulus))
    }

    /// The slot of `block`, which must be one of this layout's.
    fn slot(self, block: u32, modulus: u32) -> u32 {
        let slot = (block + modulus - self.first) % modulus;
        assert!(slot < self.len, "block {block} has no slot in {self:?}");
        slot
    }
}

/// Collects one rank's schedule.
#[derive(Debug)]
pub(super) struct Composer {
    space: Space,
    modulus: u32,
    layouts: [Layout; 4],
    scratch: Vec<Slot>,
    stage_slots: Vec<Slot>,
    work_in_output: Option<u32>,
    partial: Vec<bool>,
    rounds: Vec<Round>,
    steps: Vec<Step>,
}

impl Composer {
    /// An empty schedule over `blocks` blocks, for a rank that holds `input` and gets `output`.
    /// For [`Space::PerPair`] pass the number of pairs.
    pub(super) fn new(space: Space, blocks: u32, input: Layout, output: Layout) -> Self {
        Self {
            space,
            modulus: blocks.max(1),
            layouts: [input, output, Layout::NONE, Layout::NONE],
            scratch: Vec::new(),
            stage_slots: Vec::new(),
            work_in_output: None,
            partial: Vec::new(),
            rounds: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Declares the slots of `Work`. With `in_output`, slot 0 may lie in that slot of `Output`
    /// (see [`Schedule::work_in_output`]).
    pub(super) fn with_work(mut self, layout: Layout, in_output: Option<u32>) -> Self {
        self.layouts[Buf::Work as usize] = layout;
        self.partial = vec![false; self.modulus as usize];
        self.work_in_output = in_output;
        self
    }

    /// Declares the slots of `Stage`.
    pub(super) fn with_stage(mut self, layout: Layout) -> Self {
        self.layouts[Buf::Stage as usize] = layout;
        self
    }

    /// Adds slots of `Work` behind those of its layout and returns the first one's number. They
    /// are addressed by hand.
    pub(super) fn add_scratch(&mut self, slots: impl IntoIterator<Item = Slot>) -> u32 {
        let first = self.layouts[Buf::Work as usize].len + self.scratch.len() as u32;
        self.scratch.extend(slots);
        first
    }

    /// The same for `Stage`.
    pub(super) fn add_stage(&mut self, slots: impl IntoIterator<Item = Slot>) -> u32 {
        let first = self.layouts[Buf::Stage as usize].len + self.stage_slots.len() as u32;
        self.stage_slots.extend(slots);
        first
    }

    /// Where `runs` lie in `buf`.
    pub(super) fn slices(&self, buf: Buf, runs: impl AsRef<[Run]>) -> Vec<Slice> {
        let layout = self.layouts[buf as usize];
        let mut slices = Vec::with_capacity(runs.as_ref().len());
        for run in runs.as_ref() {
            let mut done = 0;
            while done < run.len {
                let block = (run.first + done) % self.modulus;
                let slot = layout.slot(block, self.modulus);
                let len = (run.len - done).min(self.modulus - block).min(layout.len - slot);
                slices.push(Slice { buf, segment: 0, slot, block: Block(block), len });
                done += len;
            }
        }
        slices
    }

    /// `block` in a slot that the buffer's layout does not give it.
    pub(super) fn at(buf: Buf, slot: u32, block: u32) -> Vec<Slice> {
        vec![Slice { buf, segment: 0, slot, block: Block(block), len: 1 }]
    }

    /// Appends a step to the current round.
    pub(super) fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Ends the current round, if it has any steps.
    pub(super) fn end_round(&mut self) {
        if !self.steps.is_empty() {
            let steps = std::mem::take(&mut self.steps);
            self.rounds.push(Round { stage: 0, steps });
        }
    }

    /// Sends `runs` from `buf`.
    pub(super) fn send(&mut self, peer: Rank, buf: Buf, runs: impl AsRef<[Run]>) {
        let src = self.slices(buf, runs);
        if !src.is_empty() {
            self.step(Step::Send { peer, src });
        }
    }

    /// Receives `runs` into `buf`.
    pub(super) fn recv(&mut self, peer: Rank, buf: Buf, runs: impl AsRef<[Run]>) {
        let dst = self.slices(buf, runs);
        if !dst.is_empty() {
            self.step(Step::Recv { peer, dst });
        }
    }

    /// Copies `runs` from one buffer to another.
    pub(super) fn copy(&mut self, from: Buf, to: Buf, runs: impl AsRef<[Run]>) {
        let (src, dst) = (self.slices(from, runs.as_ref()), self.slices(to, runs));
        if !src.is_empty() {
            self.step(Step::Copy { src, dst });
        }
    }

    /// Brings this rank's partial results of `runs` into one buffer and says which: `Input` if
    /// all are raw contributions, else `Work`, where those that are raw are copied.
    pub(super) fn settle(&mut self, runs: impl AsRef<[Run]>) -> Buf {
        let runs = runs.as_ref();
        // Without `Work` nothing was combined yet.
        if self.partial.is_empty() || !self.blocks(runs).any(|b| self.partial[b as usize]) {
            return Buf::Input;
        }
        let raw = self.blocks(runs).filter(|&b| !self.partial[b as usize]).map(Run::one);
        let raw: Vec<Run> = raw.collect();
        self.widen(raw);
        Buf::Work
    }

    /// Copies the raw contributions to `runs` into `Work`.
    pub(super) fn widen(&mut self, runs: impl AsRef<[Run]>) {
        self.copy(Buf::Input, Buf::Work, runs.as_ref());
        self.mark_partial(runs.as_ref());
    }

    /// Sends this rank's partial results of `runs`: raw contributions as data, else as partials.
    pub(super) fn send_partial(&mut self, peer: Rank, runs: impl AsRef<[Run]>) {
        let buf = self.settle(runs.as_ref());
        self.send(peer, buf, runs);
    }

    /// Combines what `peer` sends of `runs` in format `wire` into the partial results in `Work`.
    pub(super) fn recv_reduce(&mut self, peer: Rank, wire: Format, runs: impl AsRef<[Run]>) {
        let local = self.settle(runs.as_ref());
        let (local, dst) =
            (self.slices(local, runs.as_ref()), self.slices(Buf::Work, runs.as_ref()));
        if !dst.is_empty() {
            self.step(Step::RecvReduce { peer, wire, local, dst });
            self.mark_partial(runs.as_ref());
        }
    }

    /// Writes the finished partial results of `runs` to `to`, in data format.
    pub(super) fn finish(&mut self, to: Buf, runs: impl AsRef<[Run]>) {
        if self.settle(runs.as_ref()) == Buf::Input {
            self.widen(runs.as_ref());
        }
        self.copy(Buf::Work, to, runs);
    }

    /// The schedule.
    pub(super) fn build(mut self) -> Schedule {
        self.end_round();
        let blocks = |layout: Layout| layout.blocks(self.modulus).collect::<Vec<_>>();
        let slots = |layout: Layout| layout.blocks(self.modulus).map(Slot::Of);
        let [input, output, work, stage] = self.layouts;
        Schedule {
            space: self.space,
            segments: 1,
            window: 1,
            input: blocks(input),
            output: blocks(output),
            work: slots(work).chain(self.scratch.iter().copied()).collect(),
            stage: slots(stage).chain(self.stage_slots.iter().copied()).collect(),
            work_in_output: self.work_in_output,
            rounds: self.rounds,
        }
    }

    fn blocks(&self, runs: &[Run]) -> impl Iterator<Item = u32> {
        let modulus = self.modulus;
        runs.iter().flat_map(move |run| (0..run.len).map(move |i| (run.first + i) % modulus))
    }

    fn mark_partial(&mut self, runs: &[Run]) {
        for run in runs {
            for i in 0..run.len {
                self.partial[((run.first + i) % self.modulus) as usize] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composer() -> Composer {
        Composer::new(Space::PerRank, 5, Layout::all(5), Layout::one(3))
            .with_work(Layout::from(3, 3), Some(0))
    }

    #[test]
    fn runs_wrap_around_blocks_and_slots() {
        let slice =
            |buf, slot, block, len| Slice { buf, segment: 0, slot, block: Block(block), len };
        let c = composer();
        assert_eq!(
            c.slices(Buf::Input, Run::new(3, 3)),
            [slice(Buf::Input, 3, 3, 2), slice(Buf::Input, 0, 0, 1)]
        );
        assert_eq!(
            c.slices(Buf::Work, Run::new(3, 3)),
            [slice(Buf::Work, 0, 3, 2), slice(Buf::Work, 2, 0, 1)]
        );
        assert_eq!(c.slices(Buf::Output, Run::one(3)), [slice(Buf::Output, 0, 3, 1)]);
        assert!(c.slices(Buf::Output, Run::new(0, 0)).is_empty());
    }

    #[test]
    fn partials_travel_from_work_and_raw_contributions_from_input() {
        let mut c = composer();
        c.send_partial(1, Run::one(3));
        c.recv_reduce(1, Format::Data, Run::one(3));
        c.send_partial(2, Run::new(3, 2));
        let s = c.build();
        let steps = &s.rounds[0].steps;
        assert!(matches!(&steps[0], Step::Send { src, .. } if src[0].buf == Buf::Input));
        assert!(matches!(&steps[1], Step::RecvReduce { local, .. } if local[0].buf == Buf::Input));
        assert!(matches!(&steps[2], Step::Copy { src, .. } if src[0].block == Block(4)));
        assert!(matches!(&steps[3], Step::Send { src, .. } if src[0].buf == Buf::Work));
        assert_eq!(s.work, [3, 4, 0].map(|b| Slot::Of(Block(b))));
        assert_eq!((s.input.len(), s.output.as_slice()), (5, &[Block(3)][..]));
    }
}
