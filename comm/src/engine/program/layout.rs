//! Where every slot of every buffer lies in this rank's memories.

use super::Placement;
use super::code::{Loc, Mem};
use super::sizes::{Extents, Sizes, part, refuse};
use crate::error::Result;
use crate::reduce::{DType, Format};
use crate::schedule::{Block, Buf, Schedule, Slice, Slot, Space};

/// Bytes per element in `format`.
pub(super) const fn width(dtype: DType, format: Format) -> usize {
    match format {
        Format::Data => dtype.size(),
        Format::Acc => dtype.accumulator().size(),
    }
}

/// Scratch buffers start at multiples of this: a cache line.
const ALIGN_BYTES: usize = 64;

/// A caller's buffer: block starts in elements, and where the buffer itself lies.
struct Held {
    starts: Vec<usize>,
    elements: usize,
    base: Loc,
}

/// A scratch buffer: slot starts in bytes, `copies` times.
struct Scratch {
    starts: Vec<usize>,
    copies: u32,
    copy_bytes: usize,
    base: usize,
}

impl Scratch {
    fn bytes(&self) -> usize {
        self.copy_bytes * self.copies as usize
    }
}

/// The memory map of one rank's schedule.
pub(super) struct Layout<'a> {
    extents: Extents<'a>,
    dtype: DType,
    input: Held,
    output: Held,
    /// Where the caller's input lies before any loading step.
    source: Loc,
    work: Scratch,
    stage: Scratch,
    /// The output slot each work slot lies in, if it does.
    work_in_output: &'a [Option<u32>],
    /// Whether the input must be loaded before the first step.
    load: bool,
    pub(super) scratch_bytes: usize,
}

/// What the layout must provide besides what the schedule says.
pub(super) struct Wanted<'a> {
    pub(super) dtype: DType,
    pub(super) placement: Placement,
    /// The input is needed multiplied: steps must not see the caller's bytes.
    pub(super) scaled: bool,
    /// Which slots of work any step still uses.
    pub(super) work_used: &'a [bool],
    /// The output slot each work slot lies in, if it does.
    pub(super) work_in_output: &'a [Option<u32>],
}

impl<'a> Layout<'a> {
    pub(super) fn new(
        schedule: &Schedule,
        sizes: &Sizes,
        extents: Extents<'a>,
        wanted: &Wanted<'a>,
    ) -> Result<Self> {
        let dtype = wanted.dtype;
        let mut input = held(&extents, &schedule.input, sizes.input_at.as_deref())?;
        let mut output = held(&extents, &schedule.output, sizes.output_at.as_deref())?;
        output.base = Loc { mem: Mem::Output, at: 0 };
        let mut load = wanted.scaled && !schedule.input.is_empty();
        let mut source = Loc { mem: Mem::Input, at: 0 };
        match wanted.placement {
            Placement::Separate => {}
            Placement::LoadIntoOutput => {
                load = !schedule.input.is_empty();
                input.base = output.base;
            }
            Placement::InPlace => {
                overlay(schedule, dtype, &mut input, &mut output)?;
                source = input.base;
            }
        }
        let mut bytes = 0;
        let shares_output = input.base.mem == Mem::Output && same_places(schedule);
        if load && !shares_output {
            input.base = Loc { mem: Mem::Scratch, at: 0 };
            bytes = (input.elements * dtype.size()).next_multiple_of(ALIGN_BYTES);
        }
        let mut place = |slots: &[Slot], used: &dyn Fn(usize) -> bool, format| {
            let scratch = scratch(&extents, slots, used, width(dtype, format), schedule.window);
            scratch.map(|mut scratch| {
                scratch.base = bytes;
                bytes += scratch.bytes().next_multiple_of(ALIGN_BYTES);
                scratch
            })
        };
        let own = |slot: usize| wanted.work_in_output[slot].is_none() && wanted.work_used[slot];
        let work = place(&schedule.work, &own, Format::Acc)?;
        let stage = place(&schedule.stage, &|_| true, Format::Data)?;
        let scratch_bytes = bytes;
        Ok(Self {
            extents,
            dtype,
            input,
            output,
            source,
            work,
            stage,
            work_in_output: wanted.work_in_output,
            load,
            scratch_bytes,
        })
    }

    /// Bytes the caller's buffer behind `mem` must have.
    pub(super) fn caller_bytes(&self, mem: Mem) -> usize {
        let end = |base: Loc, elements: usize| match base.mem == mem && elements > 0 {
            true => base.at + elements * self.dtype.size(),
            false => 0,
        };
        end(self.source, self.input.elements).max(end(self.output.base, self.output.elements))
    }

    /// The runs by which the caller's input must be loaded: from, to, elements. Empty when the
    /// steps read it where it is.
    pub(super) fn loads(&self, schedule: &Schedule) -> Result<Vec<(Loc, Loc, usize)>> {
        if !self.load {
            return Ok(Vec::new());
        }
        let size = self.dtype.size();
        if matches!(self.extents.space, Space::Vector { .. }) {
            return Ok(vec![(self.source, self.input.base, self.input.elements)]);
        }
        let mut runs = Vec::with_capacity(schedule.input.len());
        for (&block, &start) in schedule.input.iter().zip(&self.input.starts) {
            let elements = (0..self.extents.segments)
                .map(|segment| self.extents.elements(block, segment))
                .sum::<Result<usize>>()?;
            let at = start * size;
            runs.push((self.source.add(at), self.input.base.add(at), elements));
        }
        Ok(runs)
    }

    /// Where slot `index` of `slice` lies, and its elements.
    pub(super) fn slot(&self, slice: &Slice, index: u32) -> Result<(Loc, usize)> {
        let block = Block(slice.block.0 + index);
        let slot = slice.slot + index;
        let elements = self.extents.elements(block, slice.segment)?;
        let loc = match slice.buf {
            Buf::Input => self.in_held(&self.input, slot, block, slice.segment)?,
            Buf::Output => self.in_held(&self.output, slot, block, slice.segment)?,
            Buf::Work => match self.work_in_output.get(slot as usize) {
                Some(&Some(there)) => self.in_held(&self.output, there, block, slice.segment)?,
                _ => in_scratch(&self.work, slot, slice.segment)?,
            },
            Buf::Stage => in_scratch(&self.stage, slot, slice.segment)?,
        };
        Ok((loc, elements))
    }

    fn in_held(&self, held: &Held, slot: u32, block: Block, segment: u32) -> Result<Loc> {
        let elements = match self.extents.space {
            Space::Vector { .. } => self.extents.in_vector(block, segment),
            Space::PerRank | Space::PerPair => {
                let start = held
                    .starts
                    .get(slot as usize)
                    .ok_or_else(|| refuse(format!("slot {slot} is outside its buffer")))?;
                let whole = part_of(&self.extents, block, segment)?;
                start + whole
            }
        };
        Ok(held.base.add(elements * self.dtype.size()))
    }
}

/// Where `segment`'s part of `block` starts inside the block, in elements.
fn part_of(extents: &Extents<'_>, block: Block, segment: u32) -> Result<usize> {
    if segment == 0 {
        return Ok(0);
    }
    let whole = extents.whole(block)?;
    Ok(part(whole, extents.segments, segment).0)
}

fn in_scratch(scratch: &Scratch, slot: u32, segment: u32) -> Result<Loc> {
    let start = scratch
        .starts
        .get(slot as usize)
        .ok_or_else(|| refuse(format!("slot {slot} is outside its scratch buffer")))?;
    let copy = (segment % scratch.copies) as usize;
    Ok(Loc { mem: Mem::Scratch, at: scratch.base + copy * scratch.copy_bytes + start })
}

fn held(extents: &Extents<'_>, blocks: &[Block], at: Option<&[usize]>) -> Result<Held> {
    let base = Loc { mem: Mem::Input, at: 0 };
    let Space::Vector { blocks: all } = extents.space else {
        let (starts, elements) = extents.starts(blocks, at)?;
        return Ok(Held { starts, elements, base });
    };
    let whole = blocks.len() == all as usize && blocks.iter().zip(0..).all(|(b, i)| b.0 == i);
    if !(blocks.is_empty() || whole) || at.is_some() {
        return Err(refuse("a vector is held whole and without displacements".to_owned()));
    }
    let elements = if whole { extents.in_vector(Block(all), extents.segments - 1) } else { 0 };
    Ok(Held { starts: Vec::new(), elements, base })
}

/// Whether input and output hold the same blocks in the same places.
fn same_places(schedule: &Schedule) -> bool {
    schedule.space == Space::PerPair && schedule.input.len() == schedule.output.len()
        || schedule.input == schedule.output
}

/// Lays input and output into the caller's one buffer, as [`crate::schedule::Shape::in_place`]
/// says.
fn overlay(schedule: &Schedule, dtype: DType, input: &mut Held, output: &mut Held) -> Result<()> {
    let shared = Loc { mem: Mem::Output, at: 0 };
    let (ins, outs) = (&schedule.input, &schedule.output);
    if ins.is_empty() || outs.is_empty() {
        return Ok(());
    }
    let find = |one: &[Block], all: &[Block], held: &Held| {
        let slot = all.iter().position(|block| one == [*block])?;
        Some(shared.add(held.starts.get(slot)? * dtype.size()))
    };
    if same_places(schedule) {
        input.base = shared;
    } else if let Some(at) = find(ins, outs, output) {
        input.base = at;
    } else if let Some(at) = find(outs, ins, input) {
        input.base = shared;
        output.base = at;
    } else {
        return Err(refuse("input and output of this call cannot share one buffer".to_owned()));
    }
    Ok(())
}

fn scratch(
    extents: &Extents<'_>,
    slots: &[Slot],
    used: &dyn Fn(usize) -> bool,
    width: usize,
    window: u32,
) -> Result<Scratch> {
    let mut starts = Vec::with_capacity(slots.len());
    let mut end = 0_usize;
    for (index, slot) in slots.iter().enumerate() {
        starts.push(end);
        if used(index) {
            let elements = match *slot {
                Slot::Of(block) => extents.longest_part(block)?,
                Slot::Any => extents.longest(),
            };
            end += elements * width;
        }
    }
    let copy_bytes = end.next_multiple_of(ALIGN_BYTES);
    Ok(Scratch { starts, copies: window.max(1), copy_bytes, base: 0 })
}
