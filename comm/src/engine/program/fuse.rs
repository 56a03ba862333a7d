//! Fuses a reduction with the copy that finishes it.
//!
//! A copy from `Work` to `Output` whose source was written by exactly one reduction, and which
//! nobody else reads, is not a step of its own: the reduction writes the finished values itself.
//! That saves a pass over the data, and for narrow types the accumulator.
//!
//! A fused reduction waits for whatever must be read out of the output first, which the copy
//! alone used to wait for. It must not come to depend on a send in a new way: a send may need
//! the peer to receive, and the peer may be waiting for us. Sends of exactly the same blocks in
//! the same order are harmless, because both streams move in step, element by element.

use crate::schedule::{Block, Buf, Schedule, Slice, Space, Step};

/// Index of a step that touched a slot; `NEVER` before the first.
type StepIndex = usize;
const NEVER: StepIndex = usize::MAX;

/// Flattens the schedule's rounds, with every fusable copy fused. `shared` says that the steps'
/// input and output are the same memory, `in_output` which work slots lie in an output slot.
pub(super) fn fused_steps(
    schedule: &Schedule,
    shared: bool,
    in_output: &[Option<u32>],
) -> Vec<Step> {
    let mut steps: Vec<Option<Step>> =
        schedule.rounds.iter().flat_map(|round| &round.steps).cloned().map(Some).collect();
    if schedule.space != Space::PerPair {
        let slots = Slots::new(schedule, shared, in_output);
        let last_reads = copies_that_read_last(&steps, &slots);
        let mut past = vec![Past { last: NEVER, sent_as: None, jumbled: false }; slots.count];
        for index in 0..steps.len() {
            let writer = match &steps[index] {
                Some(Step::Copy { src, dst }) if last_reads[index] => {
                    fusable(&steps, &slots, &past, (src, dst))
                }
                _ => None,
            };
            match writer {
                Some(writer) => fuse(&mut steps, &slots, &mut past, (writer, index)),
                None => touch(&steps, &slots, &mut past, index),
            }
        }
    }
    steps.into_iter().flatten().collect()
}

/// What happened to a slot so far.
#[derive(Clone, Copy)]
struct Past {
    /// The last step that touched it.
    last: StepIndex,
    /// A send that read it.
    sent_as: Option<StepIndex>,
    /// Sends read it as part of different block lists.
    jumbled: bool,
}

/// Numbers every slot of work and output that exists on its own.
struct Slots<'a> {
    schedule: &'a Schedule,
    shared: bool,
    in_output: &'a [Option<u32>],
    output_first: usize,
    count: usize,
    /// Output slot of each block; only where input shares the output's memory.
    output_of: Vec<usize>,
}

impl<'a> Slots<'a> {
    fn new(schedule: &'a Schedule, shared: bool, in_output: &'a [Option<u32>]) -> Self {
        let output_first = schedule.work.len() * schedule.segments as usize;
        let count = output_first + schedule.output.len() * schedule.segments as usize;
        let blocks = schedule.output.iter().map(|b| b.0 as usize + 1).max().unwrap_or(0);
        let mut output_of = vec![NEVER; if shared { blocks } else { 0 }];
        if shared {
            for (slot, block) in schedule.output.iter().enumerate() {
                output_of[block.0 as usize] = slot;
            }
        }
        Self { schedule, shared, in_output, output_first, count, output_of }
    }

    /// Calls `each` with the number of every slot in `slice`. Stage, and input that lies by
    /// itself, have none.
    fn each(&self, slice: &Slice, mut each: impl FnMut(usize)) {
        let outputs = self.schedule.output.len();
        for i in 0..slice.len {
            let slot = (slice.slot + i) as usize;
            match slice.buf {
                Buf::Work => {
                    let copy = match self.in_output.get(slot) {
                        Some(Some(_)) => slice.segment,
                        _ => slice.segment % self.schedule.window.max(1),
                    };
                    each(copy as usize * self.schedule.work.len() + slot);
                }
                Buf::Output => each(self.output_first + slice.segment as usize * outputs + slot),
                Buf::Input if self.shared => {
                    let Block(block) = slice.block;
                    let slot = self.output_of.get((block + i) as usize).copied();
                    if let Some(slot) = slot.filter(|&slot| slot != NEVER) {
                        each(self.output_first + slice.segment as usize * outputs + slot);
                    }
                }
                Buf::Input | Buf::Stage => {}
            }
        }
    }
}

/// The operands of a step: what it reads, and what it writes.
fn operands(step: &Step) -> ([&[Slice]; 2], &[Slice]) {
    match step {
        Step::Send { src, .. } => ([src, &[]], &[]),
        Step::Recv { dst, .. } => ([&[], &[]], dst),
        Step::RecvReduce { local, dst, .. } => ([local, &[]], dst),
        Step::Copy { src, dst } => ([src, &[]], dst),
        Step::Reduce { a, b, dst } => ([a, b], dst),
    }
}

fn touch(steps: &[Option<Step>], slots: &Slots<'_>, past: &mut [Past], index: StepIndex) {
    let Some(step) = &steps[index] else { return };
    let (reads, writes) = operands(step);
    for slice in reads.into_iter().flatten().chain(writes) {
        slots.each(slice, |slot| past[slot].last = index);
    }
    let Step::Send { src, .. } = step else { return };
    for slice in src {
        slots.each(slice, |slot| {
            let seen = &mut past[slot];
            match seen.sent_as.and_then(|send| steps[send].as_ref()) {
                Some(Step::Send { src: before, .. }) => seen.jumbled |= !same_blocks(before, src),
                _ => seen.sent_as = Some(index),
            }
        });
    }
}

/// Whether two operands name the same blocks in the same order.
fn same_blocks(a: &[Slice], b: &[Slice]) -> bool {
    let named = |s: &Slice| (s.segment, s.block, s.len);
    a.iter().map(named).eq(b.iter().map(named))
}

/// For every step: whether it is a copy from work to output after which nobody reads what it
/// read, before something else is written there.
fn copies_that_read_last(steps: &[Option<Step>], slots: &Slots<'_>) -> Vec<bool> {
    let mut read_later = vec![false; slots.count];
    let mut result = vec![false; steps.len()];
    for (index, step) in steps.iter().enumerate().rev() {
        let Some(step) = step else { continue };
        let (reads, writes) = operands(step);
        if let Step::Copy { src, dst } = step {
            let buffers =
                src.iter().all(|s| s.buf == Buf::Work) && dst.iter().all(|s| s.buf == Buf::Output);
            let mut last = true;
            for slice in src {
                slots.each(slice, |slot| last &= !read_later[slot]);
            }
            result[index] = buffers && last && !src.is_empty();
        }
        for slice in writes {
            slots.each(slice, |slot| read_later[slot] = false);
        }
        for slice in reads.into_iter().flatten() {
            slots.each(slice, |slot| read_later[slot] = true);
        }
    }
    result
}

/// The reduction that can write `dst` itself: the last to touch `src`, writing exactly that,
/// with nobody touching `dst` since, and no send out of `dst` that moves in another order.
fn fusable(
    steps: &[Option<Step>],
    slots: &Slots<'_>,
    past: &[Past],
    (src, dst): (&[Slice], &[Slice]),
) -> Option<StepIndex> {
    let mut writer = None;
    let mut single = true;
    for slice in src {
        slots.each(slice, |slot| {
            single &= *writer.get_or_insert(past[slot].last) == past[slot].last;
        });
    }
    let writer = writer.filter(|&writer| single && writer != NEVER)?;
    for slice in dst {
        slots.each(slice, |slot| {
            let seen = past[slot];
            single &= seen.last == NEVER || seen.last <= writer;
            single &= !seen.jumbled;
            if let Some(Step::Send { src, .. }) = seen.sent_as.and_then(|s| steps[s].as_ref()) {
                single &= same_blocks(src, dst);
            }
        });
    }
    let reduces = match steps[writer].as_ref()? {
        Step::RecvReduce { dst, .. } | Step::Reduce { dst, .. } => dst == src,
        _ => false,
    };
    (single && reduces).then_some(writer)
}

/// Lets the writer write what the copy would have written.
fn fuse(
    steps: &mut [Option<Step>],
    slots: &Slots<'_>,
    past: &mut [Past],
    (writer, copy): (StepIndex, StepIndex),
) {
    let Some(Step::Copy { dst: to, .. }) = steps[copy].take() else { return };
    for slice in &to {
        slots.each(slice, |slot| past[slot].last = writer);
    }
    if let Some(Step::RecvReduce { dst, .. } | Step::Reduce { dst, .. }) = &mut steps[writer] {
        *dst = to;
    }
}
