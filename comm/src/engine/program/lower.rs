//! From steps on slices to code on byte ranges.

use std::collections::BTreeMap;

use super::code::{Code, Kind, Link, Loc, Mem, Piece, Stored};
use super::flow::{Flow, Operand, same_pipe};
use super::fuse::fused_steps;
use super::layout::{Layout, Wanted, width};
use super::sizes::{Extents, refuse};
use super::{Compile, Edge, Placement, Program, index};
use crate::error::{Rank, Result};
use crate::reduce::{DType, Format, ReduceOp, Reducer};
use crate::schedule::{Buf, Schedule, Slice, Slot, Step};

pub(super) fn compile(call: &Compile<'_>) -> Result<Program> {
    let schedule = call.schedule;
    let extents = Extents::new(
        schedule.space,
        schedule.segments,
        &call.sizes.lengths,
        (call.rank, call.ranks),
    )?;
    let in_output = work_in_output(schedule, call.dtype);
    let steps = fused_steps(schedule, call.placement != Placement::Separate, &in_output);
    let mut work_used = vec![false; schedule.work.len()];
    for slice in steps.iter().flat_map(slices).filter(|slice| slice.buf == Buf::Work) {
        for slot in slice.slot..slice.slot + slice.len {
            match work_used.get_mut(slot as usize) {
                Some(used) => *used = true,
                None => return Err(refuse(format!("work slot {slot} does not exist"))),
            }
        }
    }
    let scaled = matches!(call.op, Some(ReduceOp::PreMulSum(_)));
    let wanted = Wanted {
        dtype: call.dtype,
        placement: call.placement,
        scaled,
        work_used: &work_used,
        work_in_output: &in_output,
    };
    let layout = Layout::new(schedule, call.sizes, extents, &wanted)?;
    let partial = |slice: &Slice| slice.buf == Buf::Work;
    if call.op.is_none() && steps.iter().flat_map(slices).any(|slice| partial(&slice)) {
        return Err(refuse("a schedule that combines needs an operator".to_owned()));
    }
    let mut lower = Lower::new(call.dtype);
    lower.finishes = matches!(call.op, Some(ReduceOp::Avg));
    for (from, to, elements) in layout.loads(schedule)? {
        let kind = if scaled { Kind::Scale } else { Kind::Copy };
        lower.whole(kind, (to, from, elements))?;
    }
    for step in &steps {
        lower.step(&layout, step)?;
    }
    let reducer = call.op.map(|op| Reducer::new(call.dtype, op, call.ranks)).transpose()?;
    let mut program = lower.finish(reducer)?;
    program.scratch_bytes = layout.scratch_bytes;
    program.input_bytes = layout.caller_bytes(Mem::Input);
    program.output_bytes = layout.caller_bytes(Mem::Output);
    program.express = program.express_order();
    Ok(program)
}

/// The output slot that each work slot may lie in: the one that
/// [`Schedule::work_in_output`] names, if it holds the same block in the same width.
fn work_in_output(schedule: &Schedule, dtype: DType) -> Vec<Option<u32>> {
    let of = |(index, slot): (u32, &Slot)| {
        let there = schedule.work_in_output.filter(|_| !dtype.is_narrow())? + index;
        let block = schedule.output.get(there as usize)?;
        (*slot == Slot::Of(*block)).then_some(there)
    };
    (0..).zip(&schedule.work).map(of).collect()
}

/// A program of one message.
pub(super) fn message(kind: Kind, peer: Rank, bytes: usize) -> Program {
    let stored = Stored { format: Format::Data, width: 1 };
    let loc = |mem| Loc { mem, at: 0 };
    let (sends, recvs) = if kind == Kind::Send { ((0, 1), (1, 1)) } else { ((0, 0), (0, 1)) };
    let code = Code {
        kind,
        peer,
        elements: bytes,
        pieces: 0,
        edges: (0, 0),
        dst: stored,
        a: stored,
        b: stored,
        settles: kind == Kind::Recv,
    };
    let piece = Piece { elements: bytes, dst: loc(Mem::Output), a: loc(Mem::Input), b: Loc::NONE };
    Program {
        steps: vec![code],
        pieces: vec![piece],
        edges: Vec::new(),
        links: vec![Link { peer, sends, recvs }],
        queue: vec![0],
        locals: Vec::new(),
        wake_starts: vec![0, 0],
        wakes: Vec::new(),
        reducer: None,
        streams: false,
        express: Vec::new(),
        scratch_bytes: 0,
        input_bytes: if kind == Kind::Send { bytes } else { 0 },
        output_bytes: if kind == Kind::Recv { bytes } else { 0 },
    }
}

/// All slices of a step.
fn slices(step: &Step) -> Vec<Slice> {
    match step {
        Step::Send { src: slices, .. } | Step::Recv { dst: slices, .. } => slices.clone(),
        Step::RecvReduce { local, dst, .. } => [&local[..], dst].concat(),
        Step::Copy { src, dst } => [&src[..], dst].concat(),
        Step::Reduce { a, b, dst } => [&a[..], b, dst].concat(),
    }
}

/// The three operands of a step, in the order of [`Piece`]; missing ones are empty.
struct Operands<'a> {
    dst: &'a [Slice],
    a: &'a [Slice],
    b: &'a [Slice],
}

/// A program under construction.
struct Lower {
    dtype: DType,
    /// The operator has a last step, so that finished values differ from partial ones.
    finishes: bool,
    steps: Vec<Code>,
    pieces: Vec<Piece>,
    edges: Vec<Edge>,
    flow: Flow,
    /// Per peer: its sends and its receives.
    links: BTreeMap<Rank, [Vec<u32>; 2]>,
}

impl Lower {
    fn new(dtype: DType) -> Self {
        Self {
            dtype,
            finishes: false,
            steps: Vec::new(),
            pieces: Vec::new(),
            edges: Vec::new(),
            flow: Flow::default(),
            links: BTreeMap::new(),
        }
    }

    fn stored(&self, format: Format) -> Stored {
        Stored { format, width: width(self.dtype, format) }
    }

    /// How the slices of one operand are stored; they must agree.
    fn stored_in(&self, slices: &[Slice]) -> Result<Stored> {
        let format = slices.first().map_or(Format::Data, |slice| slice.buf.format());
        if slices.iter().any(|slice| slice.buf.format() != format) {
            return Err(refuse("the buffers of one operand differ in format".to_owned()));
        }
        Ok(self.stored(format))
    }

    /// A local step on one run: to, from, elements.
    fn whole(&mut self, kind: Kind, (dst, a, elements): (Loc, Loc, usize)) -> Result<()> {
        let first = self.pieces.len();
        if elements > 0 && (kind != Kind::Copy || dst != a) {
            self.pieces.push(Piece { elements, dst, a, b: Loc::NONE });
        }
        let stored = self.stored(Format::Data);
        self.close(kind, None, first, [stored; 3])
    }

    fn step(&mut self, layout: &Layout<'_>, step: &Step) -> Result<()> {
        const NO: &[Slice] = &[];
        let (kind, peer, operands) = match step {
            Step::Send { peer, src } => {
                (Kind::Send, Some(*peer), Operands { dst: NO, a: src, b: NO })
            }
            Step::Recv { peer, dst } => (Kind::Recv, Some(*peer), Operands { dst, a: NO, b: NO }),
            Step::RecvReduce { peer, local, dst, .. } => {
                (Kind::RecvReduce, Some(*peer), Operands { dst, a: local, b: NO })
            }
            Step::Copy { src, dst } => (Kind::Copy, None, Operands { dst, a: src, b: NO }),
            Step::Reduce { a, b, dst } => (Kind::Reduce, None, Operands { dst, a, b }),
        };
        let mut stored = [
            self.stored_in(operands.dst)?,
            self.stored_in(operands.a)?,
            self.stored_in(operands.b)?,
        ];
        if let Step::RecvReduce { wire, .. } = step {
            stored[2] = self.stored(*wire);
        }
        let first = self.pieces.len();
        self.zip(layout, &operands, stored)?;
        let converts = stored[0].format != stored[1].format
            && (self.finishes || stored[0].width != stored[1].width);
        if kind == Kind::Copy && !converts {
            let kept = self.pieces.split_off(first).into_iter().filter(|p| p.dst != p.a);
            self.pieces.extend(kept);
        }
        self.close(kind, peer, first, stored)
    }

    /// Walks the operands in parallel, slot by slot, and appends the step's pieces.
    fn zip(&mut self, layout: &Layout<'_>, step: &Operands<'_>, stored: [Stored; 3]) -> Result<()> {
        let first = self.pieces.len();
        let count = |slices: &[Slice]| slices.iter().map(|slice| slice.len as usize).sum();
        let slots: usize = [step.dst, step.a, step.b].into_iter().map(count).max().unwrap_or(0);
        let mut walks = [Walk::new(step.dst), Walk::new(step.a), Walk::new(step.b)];
        for _ in 0..slots {
            let mut locs = [Loc::NONE; 3];
            let mut elements = None;
            for (walk, loc) in walks.iter_mut().zip(&mut locs) {
                let Some((slice, index)) = walk.next()? else { continue };
                let (at, len) = layout.slot(slice, index)?;
                if *elements.get_or_insert(len) != len {
                    return Err(refuse("operands of one step differ in length".to_owned()));
                }
                *loc = at;
            }
            let elements = elements.unwrap_or(0);
            let present = [step.dst, step.a, step.b].map(|slices| !slices.is_empty());
            self.push(first, elements, locs, (present, stored));
        }
        Ok(())
    }

    /// Appends one slot to the pieces of the step that began at `first`, merging where all of
    /// its operands continue.
    fn push(
        &mut self,
        first: usize,
        elements: usize,
        [dst, a, b]: [Loc; 3],
        (present, stored): ([bool; 3], [Stored; 3]),
    ) {
        if elements == 0 {
            return;
        }
        if let Some(last) = self.pieces[first..].last_mut() {
            let follows = [(last.dst, dst), (last.a, a), (last.b, b)];
            let merges = follows.into_iter().zip(present).zip(stored).all(
                |(((before, next), present), stored)| {
                    !present || before.add(last.elements * stored.width) == next
                },
            );
            if merges {
                last.elements += elements;
                return;
            }
        }
        self.pieces.push(Piece { elements, dst, a, b });
    }

    /// Ends the step whose pieces began at `first`: its edges, and its place in a queue.
    fn close(
        &mut self,
        kind: Kind,
        peer: Option<Rank>,
        first: usize,
        [dst, a, b]: [Stored; 3],
    ) -> Result<()> {
        let elements: usize = self.pieces[first..].iter().map(|piece| piece.elements).sum();
        if kind.is_local() && elements == 0 {
            return Ok(());
        }
        let step = index(self.steps.len())?;
        let mut code = Code {
            kind,
            peer: peer.unwrap_or(0),
            elements,
            pieces: index(first)?,
            edges: (0, 0),
            dst,
            a,
            b,
            settles: false,
        };
        code.edges = self.edges_of(step, &code)?;
        self.steps.push(code);
        if let Some(peer) = peer {
            let direction = usize::from(kind.receives());
            self.links.entry(peer).or_default()[direction].push(step);
        }
        Ok(())
    }

    /// Records the step's accesses; returns the range of its edges.
    fn edges_of(&mut self, step: u32, code: &Code) -> Result<(u32, u32)> {
        let writes = code.kind != Kind::Send;
        let reads_a = code.kind != Kind::Recv;
        let reads_b = code.kind == Kind::Reduce;
        let mut waits = Vec::new();
        let pieces = &self.pieces[code.pieces as usize..];
        let operands = |pick: fn(&Piece) -> Loc, width: usize| {
            let mut element = 0;
            pieces.iter().map(move |piece| {
                let first = element;
                element += piece.elements;
                Operand { loc: pick(piece), width, element: first, elements: piece.elements }
            })
        };
        for operand in operands(|p| p.a, code.a.width).filter(|_| reads_a) {
            self.flow.read(step, operand, &mut waits);
        }
        for operand in operands(|p| p.b, code.b.width).filter(|_| reads_b) {
            self.flow.read(step, operand, &mut waits);
        }
        for operand in operands(|p| p.dst, code.dst.width).filter(|_| writes) {
            self.flow.write(step, operand, &mut waits);
        }
        waits.retain(|edge| !same_pipe(&self.steps[edge.pred as usize], code));
        waits.sort_by_key(|edge| edge.from);
        let first = index(self.edges.len())?;
        self.edges.append(&mut waits);
        Ok((first, index(self.edges.len())?))
    }

    /// Finds the steps that write results which no step reads, nor had read before: those are in
    /// a cache.
    fn settle(&mut self) {
        for (step, code) in (0..).zip(&mut self.steps) {
            let pieces = self.pieces[code.pieces as usize..].iter();
            let mut left = code.elements;
            let mut own = pieces.take_while(|piece| {
                let more = left > 0;
                left = left.saturating_sub(piece.elements);
                more
            });
            let fresh = |piece: &Piece| {
                piece.dst.mem == Mem::Output && piece.dst != piece.a && piece.dst != piece.b
            };
            code.settles = code.kind != Kind::Send
                && code.dst.format == Format::Data
                && own.all(fresh)
                && !self.flow.is_read(step);
        }
    }

    fn finish(mut self, reducer: Option<Reducer>) -> Result<Program> {
        self.settle();
        let mut queue = Vec::new();
        let mut links = Vec::with_capacity(self.links.len());
        let mut by_first_step: Vec<_> = self.links.into_iter().collect();
        by_first_step.sort_by_key(|(_, queues)| queues.iter().flatten().min().copied());
        for (peer, [sends, recvs]) in by_first_step {
            let start = index(queue.len())?;
            queue.extend(sends);
            let middle = index(queue.len())?;
            queue.extend(recvs);
            let end = index(queue.len())?;
            links.push(Link { peer, sends: (start, middle), recvs: (middle, end) });
        }
        let is_local = |step: &u32| self.steps[*step as usize].kind.is_local();
        let locals: Vec<u32> = (0..index(self.steps.len())?).filter(is_local).collect();
        let mut wake_pairs: Vec<(u32, u32)> = Vec::new();
        for &local in &locals {
            let (start, end) = self.steps[local as usize].edges;
            let edges = &self.edges[start as usize..end as usize];
            wake_pairs.extend(edges.iter().map(|edge| (edge.pred, local)));
        }
        wake_pairs.sort_unstable();
        wake_pairs.dedup();
        let mut wake_starts = vec![0; self.steps.len() + 1];
        for &(pred, _) in &wake_pairs {
            wake_starts[pred as usize + 1] += 1;
        }
        for step in 0..self.steps.len() {
            wake_starts[step + 1] += wake_starts[step];
        }
        Ok(Program {
            steps: self.steps,
            pieces: self.pieces,
            edges: self.edges,
            links,
            queue,
            locals,
            wake_starts,
            wakes: wake_pairs.into_iter().map(|(_, local)| local).collect(),
            reducer,
            streams: false,
            express: Vec::new(),
            scratch_bytes: 0,
            input_bytes: 0,
            output_bytes: 0,
        })
    }
}

/// Steps through the slots of an operand.
struct Walk<'a> {
    slices: &'a [Slice],
    index: u32,
    absent: bool,
}

impl<'a> Walk<'a> {
    fn new(slices: &'a [Slice]) -> Self {
        Self { slices, index: 0, absent: slices.is_empty() }
    }

    /// The next slot; `None` when the step has no such operand.
    fn next(&mut self) -> Result<Option<(&'a Slice, u32)>> {
        if self.absent {
            return Ok(None);
        }
        while let Some(slice) = self.slices.first() {
            if self.index < slice.len {
                self.index += 1;
                return Ok(Some((slice, self.index - 1)));
            }
            self.slices = &self.slices[1..];
            self.index = 0;
        }
        Err(refuse("operands of one step differ in their blocks".to_owned()))
    }
}
