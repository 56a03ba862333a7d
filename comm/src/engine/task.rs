//! One running operation: its memory, the progress of its steps, and its turns on the pipes.

use std::sync::Arc;

use super::completion::Completion;
use super::executor::OpMeta;
use super::program::{Code, Edge, Kind, Loc, Mem, Piece, Program};
use super::recorder::{RecordId, Transfer};
use super::wires::{Direction, Wires};
use crate::error::{Rank, Result};
use crate::memory::{Lease, Span, SpanMut};

/// Progress of one step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Elements done.
    pub(super) done: usize,
    /// Elements done of the current piece.
    pub(super) in_piece: usize,
    /// Bytes of the next element that are here already.
    pub(super) split_bytes: usize,
    /// The current piece, counted from the program's first.
    pub(super) piece: u32,
    /// The first edge that may be unsatisfied.
    pub(super) edge: u32,
    /// A local step that waits in `ready`.
    pub(super) queued: bool,
}

/// Progress on one pipe.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    pub(super) peer: Rank,
    pub(super) ticket: u32,
    /// The current step's place in the program's queue, and the end of its part.
    pub(super) at: u32,
    pub(super) end: u32,
    /// A frame is under way.
    pub(super) open: bool,
    /// Sending: elements of the frame under way. Receiving: its bytes that are not consumed.
    pub(super) frame: usize,
    /// Sending: bytes of the frame that the pipe has taken.
    pub(super) accepted: usize,
    /// Sending: the piece and the element in it at which the frame starts.
    pub(super) start: (u32, usize),
}

/// The memories of a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) input: Span,
    pub(super) output: SpanMut,
    pub(super) scratch: SpanMut,
}

impl Memory {
    #[inline]
    pub(super) fn read(&self, loc: Loc, bytes: usize) -> Span {
        match loc.mem {
            Mem::Input => self.input.cut(loc.at, bytes),
            Mem::Output => self.output.as_span().cut(loc.at, bytes),
            Mem::Scratch => self.scratch.as_span().cut(loc.at, bytes),
        }
    }

    #[inline]
    pub(super) fn write(&self, loc: Loc, bytes: usize) -> SpanMut {
        match loc.mem {
            Mem::Output => self.output.cut(loc.at, bytes),
            Mem::Scratch => self.scratch.cut(loc.at, bytes),
            Mem::Input => unreachable!("no program writes the input"),
        }
    }
}

/// Where a task is in its life.
#[derive(Debug)]
pub(super) enum Life {
    /// The slot is unused.
    Free,
    /// It waits for scratch memory.
    Queued,
    /// It runs.
    Running,
    /// It has ended and nobody has asked yet.
    Ended(Result<()>),
}

/// A task slot; its vectors are reused by the next task.
pub(super) struct Task {
    pub(super) generation: u32,
    pub(super) life: Life,
    pub(super) program: Arc<Program>,
    pub(super) meta: OpMeta,
    pub(super) record: RecordId,
    pub(super) memory: Memory,
    pub(super) lease: Option<Lease>,
    pub(super) completion: Option<Arc<Completion>>,
    pub(super) steps: Vec<Progress>,
    pub(super) recvs: Vec<Cursor>,
    pub(super) sends: Vec<Cursor>,
    /// Local steps whose predecessors have moved since they were last tried.
    pub(super) ready: Vec<u32>,
    /// Local steps that are not done.
    pub(super) locals_left: usize,
}

impl Task {
    /// An unused slot.
    pub(super) fn unused(program: Arc<Program>, meta: OpMeta) -> Self {
        let memory = Memory { input: Span::EMPTY, output: SpanMut::EMPTY, scratch: SpanMut::EMPTY };
        Self {
            generation: 0,
            life: Life::Free,
            program,
            meta,
            record: RecordId::default(),
            memory,
            lease: None,
            completion: None,
            steps: Vec::new(),
            recvs: Vec::new(),
            sends: Vec::new(),
            ready: Vec::new(),
            locals_left: 0,
        }
    }

    /// Takes on a run of `program`; [`Self::load`] is to follow, unless the steps are walked
    /// straight through.
    #[inline]
    pub(super) fn assign(&mut self, program: &Arc<Program>, meta: &OpMeta, memory: Memory) {
        self.meta = *meta;
        self.memory = memory;
        if !Arc::ptr_eq(&self.program, program) {
            self.program = Arc::clone(program);
        }
    }

    /// Prepares the slot for the run that it took on, and queues for its pipes.
    pub(super) fn load(&mut self, wires: &mut Wires) {
        use super::wires::Direction::{Recv, Send};
        let lane = self.meta.lane;
        let program = &*self.program;
        self.steps.clear();
        self.steps.extend(program.steps.iter().map(|code| Progress {
            piece: code.pieces,
            edge: code.edges.0,
            ..Progress::default()
        }));
        self.recvs.clear();
        self.sends.clear();
        for link in &program.links {
            for (direction, (at, end)) in [(Send, link.sends), (Recv, link.recvs)] {
                if at == end {
                    continue;
                }
                let peer = link.peer;
                let ticket = wires.take_ticket(lane, peer, direction);
                let cursor = Cursor { peer, ticket, at, end, ..Cursor::default() };
                match direction {
                    Send => self.sends.push(cursor),
                    Recv => self.recvs.push(cursor),
                }
            }
        }
        self.ready.clear();
        self.ready.extend(program.locals.iter().rev());
        for &local in &program.locals {
            self.steps[local as usize].queued = true;
        }
        self.locals_left = program.locals.len();
    }

    /// Records that a step which was walked is done.
    pub(super) fn skip(&mut self, step: u32, wires: &mut Wires) {
        let Code { kind, peer, elements, .. } = self.program.steps[step as usize];
        self.moving().advance(step, elements);
        let (cursors, direction) = match kind {
            Kind::Send => (&mut self.sends, Direction::Send),
            Kind::Recv | Kind::RecvReduce => (&mut self.recvs, Direction::Recv),
            Kind::Copy | Kind::Reduce | Kind::Scale => {
                self.locals_left -= 1;
                return;
            }
        };
        cursors.retain_mut(|cursor| {
            cursor.at += u32::from(cursor.peer == peer);
            let left = cursor.at < cursor.end;
            if !left {
                wires.pass_turn(self.meta.lane, peer, direction);
            }
            left
        });
    }

    /// Records that `bytes` of the message of `step`, which is the next on its pipe, are sent.
    pub(super) fn skip_part(&mut self, step: u32, bytes: usize) {
        let Code { peer, elements, a, pieces, .. } = self.program.steps[step as usize];
        for cursor in self.sends.iter_mut().filter(|cursor| cursor.peer == peer) {
            cursor.open = true;
            cursor.frame = elements;
            cursor.accepted = bytes;
            cursor.start = (pieces, 0);
        }
        self.moving().advance(step, bytes / a.width);
    }

    fn moving(&mut self) -> Moving<'_> {
        let Self { program, meta, memory, steps, ready, .. } = self;
        Moving { program, meta, memory, steps, ready }
    }

    /// Whether every step is done.
    pub(super) fn is_done(&self) -> bool {
        self.recvs.is_empty() && self.sends.is_empty() && self.locals_left == 0
    }

    /// Peers that hold this task up: those whose message is due (`Recv`), or those that do not
    /// take what is ready for them (`Send`).
    pub(super) fn held_up(&mut self, wires: &Wires, by: Direction, peers: &mut Vec<Rank>) {
        let lane = self.meta.lane;
        let cursors = match by {
            Direction::Recv => &self.recvs,
            Direction::Send => &self.sends,
        };
        for cursor in cursors {
            let step = self.program.queue[cursor.at as usize];
            let ours = wires.is_turn(lane, cursor.peer, by, cursor.ticket);
            let limit = limit(&self.program, &mut self.steps, step);
            let code = &self.program.steps[step as usize];
            let free = limit > self.steps[step as usize].done || code.elements == 0;
            if ours && free && !peers.contains(&cursor.peer) {
                peers.push(cursor.peer);
            }
        }
    }

    /// Whether an earlier operation has the turn on a pipe that this one needs.
    pub(super) fn is_behind(&self, wires: &Wires) -> bool {
        let waits = |cursors: &[Cursor], direction| {
            let lane = self.meta.lane;
            cursors.iter().any(|c| !wires.is_turn(lane, c.peer, direction, c.ticket))
        };
        waits(&self.recvs, Direction::Recv) || waits(&self.sends, Direction::Send)
    }

    /// How far it is.
    pub(super) fn transfer(&self) -> Transfer {
        let mut transfer = Transfer::default();
        for (code, progress) in self.program.steps.iter().zip(&self.steps) {
            let width = code.wire().width;
            let bytes = |elements: usize| (elements * width) as u64;
            let (done, all) = match code.kind {
                Kind::Send => (&mut transfer.sent_bytes, &mut transfer.to_send_bytes),
                Kind::Recv | Kind::RecvReduce => {
                    (&mut transfer.received_bytes, &mut transfer.to_receive_bytes)
                }
                Kind::Copy | Kind::Reduce | Kind::Scale => continue,
            };
            *done += bytes(progress.done);
            *all += bytes(code.elements);
        }
        transfer
    }
}

/// Lane and identity of a task for the functions that move it.
pub(super) struct Moving<'a> {
    pub(super) program: &'a Program,
    pub(super) meta: &'a OpMeta,
    pub(super) memory: &'a Memory,
    pub(super) steps: &'a mut [Progress],
    pub(super) ready: &'a mut Vec<u32>,
}

impl<'a> Moving<'a> {
    #[inline]
    pub(super) fn code(&self, step: u32) -> &'a Code {
        &self.program.steps[step as usize]
    }

    /// The current piece of `step`.
    #[inline]
    pub(super) fn piece(&self, step: u32) -> &'a Piece {
        &self.program.pieces[self.steps[step as usize].piece as usize]
    }

    /// How far `step` may go now, in elements from its start.
    #[inline]
    pub(super) fn limit(&mut self, step: u32) -> usize {
        limit(self.program, self.steps, step)
    }

    /// Records that `step` has moved by `elements`, not beyond its current piece, and makes the
    /// local steps that wait for it ready.
    #[inline]
    pub(super) fn advance(&mut self, step: u32, elements: usize) {
        let whole = self.piece(step).elements;
        let progress = &mut self.steps[step as usize];
        progress.done += elements;
        progress.in_piece += elements;
        if progress.in_piece == whole {
            progress.in_piece = 0;
            progress.piece += 1;
        }
        for &local in self.program.woken_by(step) {
            let waiting = &mut self.steps[local as usize];
            if !waiting.queued {
                waiting.queued = true;
                self.ready.push(local);
            }
        }
    }
}

/// How far `step` may go, in elements from its start, given how far its predecessors are.
#[inline]
fn limit(program: &Program, steps: &mut [Progress], step: u32) -> usize {
    let code = &program.steps[step as usize];
    let start = steps[step as usize].edge;
    let edges = &program.edges[start as usize..code.edges.1 as usize];
    let mut satisfied = 0;
    let mut limit = code.elements;
    for (index, &Edge { pred, from, to, pred_from }) in (0..).zip(edges) {
        if from >= limit {
            break;
        }
        let past = steps[pred as usize].done.saturating_sub(pred_from);
        if past < to - from {
            limit = limit.min(from + past);
        } else if index == satisfied {
            satisfied += 1;
        }
    }
    steps[step as usize].edge = start + satisfied;
    limit
}
