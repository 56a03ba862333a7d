//! Puts the schedules of phases together: their ranks, blocks, buffers and formats become those
//! of the whole.

use std::collections::HashMap;

use super::super::ir::{Block, Buf, Collective, Round, Schedule, Shape, Slice, Slot, Step};
use super::classify::Class;
use super::phases::{Phase, Site};
use super::space;
use crate::error::Rank;
use crate::reduce::Format;

/// One rank's schedule of the whole, as far as its phases were appended.
pub(super) struct Target {
    schedule: Schedule,
    /// `Work` and `Stage` slots that carry a block from phase to phase.
    carried: HashMap<(Buf, u32), u32>,
    /// Scratch that a phase can use again after another: slots of a kind, in order of making.
    pools: HashMap<(Buf, Slot), Vec<u32>>,
}

impl Target {
    /// No phases yet.
    pub(super) fn new(shape: &Shape, rank: Rank, blocks: u32) -> Self {
        use Collective as C;
        let all = || (0..blocks).map(Block).collect::<Vec<_>>();
        let root = rank == shape.root;
        let input = match shape.collective {
            C::Barrier => Vec::new(),
            C::AllGather | C::Gather => vec![Block(rank)],
            C::Broadcast | C::Scatter if !root => Vec::new(),
            _ => all(),
        };
        let output = match shape.collective {
            C::Barrier => Vec::new(),
            C::ReduceScatter | C::Scatter => vec![Block(rank)],
            C::Reduce | C::Gather if !root => Vec::new(),
            _ => all(),
        };
        let schedule = Schedule {
            space: space(shape.collective, blocks),
            segments: 1,
            window: 1,
            input,
            output,
            work: Vec::new(),
            stage: Vec::new(),
            work_in_output: None,
            rounds: Vec::new(),
        };
        Self { schedule, carried: HashMap::new(), pools: HashMap::new() }
    }

    /// Appends a phase from stage `stage` on. Its schedule is `inner`, of whose steps `classes` says
    /// what they read from and write to `Stage`.
    pub(super) fn append(
        &mut self,
        phase: &Phase,
        inner: &Schedule,
        classes: Vec<(Class, Class)>,
        stage: u32,
    ) {
        let lists = phase.lists_of(inner);
        let spread = lists.iter().map(Vec::len).max().unwrap_or(0) as u32;
        let mut relabel = Relabel {
            target: self,
            phase,
            inner,
            lists,
            spread,
            used: HashMap::new(),
            slots: HashMap::new(),
        };
        let (before, after) = relabel.links();
        let last = stage + inner.rounds.last().map_or(0, |round| round.stage);
        let mut classes = classes.into_iter();
        let mut rounds = vec![Round { stage, steps: before }];
        for round in &inner.rounds {
            let steps = round.steps.iter().zip(&mut classes);
            let steps = steps.filter_map(|(step, classes)| relabel.step(step, classes)).collect();
            rounds.push(Round { stage: stage + round.stage, steps });
        }
        rounds.push(Round { stage: last, steps: after });
        self.schedule.rounds.extend(rounds.into_iter().filter(|round| !round.steps.is_empty()));
    }

    /// The schedule, of `stages` stages: the last is listed on every rank, as pipelining wants.
    pub(super) fn finish(mut self, stages: u32) -> Schedule {
        let last = stages.saturating_sub(1);
        if self.schedule.rounds.last().is_none_or(|round| round.stage != last) {
            self.schedule.rounds.push(Round { stage: last, steps: Vec::new() });
        }
        self.schedule
    }

    fn slots(&mut self, buf: Buf) -> &mut Vec<Slot> {
        if buf == Buf::Work { &mut self.schedule.work } else { &mut self.schedule.stage }
    }

    fn add(&mut self, buf: Buf, slot: Slot) -> u32 {
        let slots = self.slots(buf);
        slots.push(slot);
        slots.len() as u32 - 1
    }

    /// The slot that carries `block` from phase to phase.
    fn carry(&mut self, buf: Buf, block: u32) -> u32 {
        if let Some(&slot) = self.carried.get(&(buf, block)) {
            return slot;
        }
        let slot = self.add(buf, Slot::Of(Block(block)));
        self.carried.insert((buf, block), slot);
        slot
    }

    /// Where `site` has `block`.
    fn at(&mut self, site: Site, block: u32) -> (Buf, u32) {
        // The caller's buffers hold all blocks or one.
        let find = |blocks: &[Block]| {
            let slot = block.checked_sub(blocks.first()?.0)?;
            ((slot as usize) < blocks.len()).then_some(slot)
        };
        match site {
            Site::Input => (Buf::Input, find(&self.schedule.input).unwrap_or(u32::MAX)),
            Site::Partial => (Buf::Work, self.carry(Buf::Work, block)),
            Site::Result => match find(&self.schedule.output) {
                Some(slot) => (Buf::Output, slot),
                None => (Buf::Stage, self.carry(Buf::Stage, block)),
            },
        }
    }
}

/// The buffer for what has this site's format.
const fn scratch(site: Site) -> Buf {
    match site {
        Site::Partial => Buf::Work,
        Site::Input | Site::Result => Buf::Stage,
    }
}

/// One phase being appended.
struct Relabel<'a> {
    target: &'a mut Target,
    phase: &'a Phase,
    inner: &'a Schedule,
    /// The blocks of the whole in each block of the phase.
    lists: Vec<Vec<u32>>,
    spread: u32,
    /// How many slots of each pool this phase uses.
    used: HashMap<(Buf, Slot), usize>,
    /// The slots that stand for a scratch slot of the phase, per buffer they are in.
    slots: HashMap<(Buf, u32, Buf), Vec<u32>>,
}

impl Relabel<'_> {
    /// The step in terms of the whole; `None` if nothing is left of it.
    fn step(&mut self, step: &Step, (read, written): (Class, Class)) -> Option<Step> {
        let peer_of = |peer: &Rank| self.phase.members[*peer as usize];
        Some(match step {
            Step::Send { peer, src } => {
                let peer = peer_of(peer);
                Step::Send { peer, src: self.operand(src, read)? }
            }
            Step::Recv { peer, dst } => {
                let peer = peer_of(peer);
                Step::Recv { peer, dst: self.operand(dst, written)? }
            }
            Step::RecvReduce { peer, wire, local, dst } => {
                let peer = peer_of(peer);
                // What arrives in data format to be combined is a contribution.
                let wire = match wire {
                    Format::Data => scratch(self.phase.input).format(),
                    Format::Acc => Format::Acc,
                };
                let (local, dst) = (self.operand(local, read)?, self.operand(dst, written)?);
                Step::RecvReduce { peer, wire, local, dst }
            }
            Step::Copy { src, dst } => {
                let (src, dst) = (self.operand(src, read)?, self.operand(dst, written)?);
                if src == dst {
                    return None;
                }
                Step::Copy { src, dst }
            }
            Step::Reduce { a, b, dst } => {
                let (a, b) = (self.operand(a, read)?, self.operand(b, read)?);
                Step::Reduce { a, b, dst: self.operand(dst, written)? }
            }
        })
    }

    /// What ties a barrier's memory to that of the phases before and after it: a barrier reads no
    /// input, and nothing but memory makes steps wait.
    fn links(&mut self) -> (Vec<Step>, Vec<Step>) {
        if self.phase.shape.collective != Collective::Barrier {
            return (Vec::new(), Vec::new());
        }
        let slice = |(buf, slot)| vec![Slice { buf, segment: 0, slot, block: Block(0), len: 1 }];
        let token = self.target.at(Site::Result, 0);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for slot in 0..self.inner.stage.len() as u32 {
            let place = self.place(Buf::Stage, slot, 0, Class::Done, (0, 0));
            before.push(Step::Copy { src: slice(token), dst: slice(place) });
            after.push(Step::Copy { src: slice(place), dst: slice(token) });
        }
        (before, after)
    }

    fn operand(&mut self, slices: &[Slice], class: Class) -> Option<Vec<Slice>> {
        let mut out = Vec::<Slice>::with_capacity(slices.len());
        for slice in slices {
            for i in 0..slice.len {
                self.item(slice.buf, slice.slot + i, slice.block.0 + i, class, &mut out);
            }
        }
        (!out.is_empty()).then_some(out)
    }

    /// Appends the places of one slot of the phase, joining neighbours.
    fn item(&mut self, buf: Buf, slot: u32, block: u32, class: Class, out: &mut Vec<Slice>) {
        for index in 0..self.lists[block as usize].len() {
            let whole = self.lists[block as usize][index];
            let (buf, slot) = self.place(buf, slot, block, class, (index, whole));
            match out.last_mut() {
                Some(last)
                    if last.buf == buf
                        && last.slot + last.len == slot
                        && last.block.0 + last.len == whole =>
                {
                    last.len += 1;
                }
                _ => out.push(Slice { buf, segment: 0, slot, block: Block(whole), len: 1 }),
            }
        }
    }

    /// Where item `index` of a slot lies, which is block `whole` of the whole.
    fn place(
        &mut self,
        buf: Buf,
        slot: u32,
        block: u32,
        class: Class,
        (index, whole): (usize, u32),
    ) -> (Buf, u32) {
        let to = match (buf, class) {
            (Buf::Input, _) => return self.target.at(self.phase.input, whole),
            (Buf::Output, _) => return self.target.at(self.phase.output, whole),
            (Buf::Work, _) if self.lies_in_result(slot, block) => {
                return self.target.at(self.phase.output, whole);
            }
            (Buf::Work, _) => Buf::Work,
            (Buf::Stage, Class::Raw) => scratch(self.phase.input),
            (Buf::Stage, Class::Done) => scratch(self.phase.output),
        };
        let kind = if buf == Buf::Work {
            self.inner.work[slot as usize]
        } else {
            self.inner.stage[slot as usize]
        };
        (to, self.scratch_slots(buf, slot, to, kind)[index])
    }

    /// Whether a work slot may lie in the output, which here holds partial results too.
    fn lies_in_result(&self, slot: u32, block: u32) -> bool {
        let there = self.inner.work_in_output.map(|first| (first + slot) as usize);
        self.phase.output == Site::Partial
            && self.inner.work[slot as usize] == Slot::Of(Block(block))
            && there.is_some_and(|there| self.inner.output.get(there) == Some(&Block(block)))
    }

    /// The slots in `to` that stand for scratch slot `slot` of the phase.
    fn scratch_slots(&mut self, buf: Buf, slot: u32, to: Buf, kind: Slot) -> &[u32] {
        let key = (buf, slot, to);
        if !self.slots.contains_key(&key) {
            let kinds = match kind {
                Slot::Any => vec![Slot::Any; self.spread as usize],
                Slot::Of(block) => {
                    let list = self.lists[block.0 as usize].iter();
                    list.map(|&whole| Slot::Of(Block(whole))).collect()
                }
            };
            let slots = kinds.into_iter().map(|kind| self.take(to, kind)).collect();
            self.slots.insert(key, slots);
        }
        &self.slots[&key]
    }

    /// A slot of this kind that this phase does not use yet.
    fn take(&mut self, buf: Buf, kind: Slot) -> u32 {
        let used = self.used.entry((buf, kind)).or_insert(0);
        let nth = *used;
        *used += 1;
        if let Some(&slot) = self.target.pools.get(&(buf, kind)).and_then(|pool| pool.get(nth)) {
            return slot;
        }
        let slot = self.target.add(buf, kind);
        self.target.pools.entry((buf, kind)).or_default().push(slot);
        slot
    }
}
