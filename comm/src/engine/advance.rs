//! Moves one task as far as its pipes and its data allow.

use super::executor::OpMeta;
use super::failure::Failure;
use super::program::{Code, Kind, Loc, Piece, Program};
use super::task::{Cursor, Memory, Moving, Task};
use super::wires::{Direction, PARTS_MAX, Wires};
use crate::error::Rank;
use crate::memory::{Span, SpanMut, drain_streams};
use crate::transport::{Fault, FrameHeader, Lane, Transport};

/// Bytes of local work before the pipes get their turn.
const LOCAL_BYTES_PER_TURN: usize = 128 * 1024;

/// Moves `task`; answers whether anything moved.
///
/// Receives come first, then local steps, then sends, so that in one call a value can arrive, be
/// combined and leave again. A pipe moves one frame: both directions go on together, and what
/// was sent is still in the cache when it is combined.
pub(super) fn advance(task: &mut Task, wires: &mut Wires) -> Result<bool, Failure> {
    let Task { program, meta, memory, steps, recvs, sends, ready, locals_left, .. } = task;
    let mut moving = Moving { program, meta, memory, steps, ready };
    let mut moved = false;
    each_cursor(recvs, |cursor| moving.receive(cursor, wires, &mut moved))?;
    if !moving.ready.is_empty() {
        moved |= moving.compute(locals_left);
    }
    each_cursor(sends, |cursor| moving.send(cursor, wires, &mut moved))?;
    Ok(moved)
}

/// Calls `each` for every cursor, and drops those for which it answers `true`. The others keep
/// their order, which is that of the listing: what waits for an earlier step comes after it.
#[inline]
fn each_cursor(
    cursors: &mut Vec<Cursor>,
    mut each: impl FnMut(&mut Cursor) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut kept = 0;
    for index in 0..cursors.len() {
        if !each(&mut cursors[index])? {
            if kept < index {
                cursors[kept] = cursors[index];
            }
            kept += 1;
        }
    }
    cursors.truncate(kept);
    Ok(())
}

impl Moving<'_> {
    /// Receives one frame, as far as it has come; `true` when the task is done with the pipe.
    #[inline]
    fn receive(
        &mut self,
        cursor: &mut Cursor,
        wires: &mut Wires,
        moved: &mut bool,
    ) -> Result<bool, Failure> {
        let (lane, peer) = (self.meta.lane, cursor.peer);
        if !wires.is_turn(lane, peer, Direction::Recv, cursor.ticket) {
            return Ok(false);
        }
        let step = self.program.queue[cursor.at as usize];
        if !cursor.open {
            let Some(header) = wires.reach(peer).head(lane, peer)? else {
                wires.check_lost(peer)?;
                return Ok(false);
            };
            let Some(bytes) = self.accept(step, peer, &header)? else {
                wires.check_lost(peer)?;
                return Ok(false);
            };
            cursor.frame = bytes;
            cursor.open = true;
            *moved = true;
            if cursor.frame == 0 {
                wires.reach(peer).consume(lane, peer, 0)?;
            }
        }
        *moved |= self.take(step, cursor, wires)?;
        if cursor.frame > 0 {
            return Ok(false);
        }
        cursor.open = false;
        if self.steps[step as usize].done == self.code(step).elements {
            cursor.at += 1;
            if cursor.at == cursor.end {
                wires.pass_turn(lane, peer, Direction::Recv);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Checks that a frame continues the message of `step`, see [`check`].
    fn accept(&self, step: u32, peer: Rank, got: &FrameHeader) -> Result<Option<usize>, Failure> {
        let left = self.code(step).elements - self.steps[step as usize].done;
        check(self.meta, self.code(step), left, (peer, got))
    }

    /// Moves payload of the open frame to where it belongs; `true` when something moved.
    fn take(&mut self, step: u32, cursor: &mut Cursor, wires: &mut Wires) -> Result<bool, Failure> {
        let mut moved = false;
        if cursor.frame == 0 {
            return Ok(moved);
        }
        let limit = self.limit(step);
        while cursor.frame > 0 {
            let room = self.room(step, limit);
            if room == 0 {
                break;
            }
            let bytes = match self.code(step).kind {
                Kind::RecvReduce => self.combine_arrived(step, room, cursor, wires)?,
                _ => self.read_arrived(step, room, cursor, wires)?,
            };
            if bytes == 0 {
                wires.check_lost(cursor.peer)?;
                break;
            }
            cursor.frame -= bytes;
            moved = true;
        }
        Ok(moved)
    }

    /// Elements `step` may move at once: up to `limit`, within its current piece.
    #[inline]
    fn room(&self, step: u32, limit: usize) -> usize {
        let progress = &self.steps[step as usize];
        match limit - progress.done {
            0 => 0,
            free => free.min(self.piece(step).elements - progress.in_piece),
        }
    }

    /// Combines up to `room` arrived elements out of the transport's memory; bytes consumed.
    fn combine_arrived(
        &mut self,
        step: u32,
        room: usize,
        cursor: &Cursor,
        wires: &mut Wires,
    ) -> Result<usize, Failure> {
        let (lane, peer) = (self.meta.lane, cursor.peer);
        let code = self.code(step);
        let width = code.b.width;
        let transport = wires.reach(peer);
        let arrived = transport.view(lane, peer, width)?;
        let elements = room.min(arrived.len().min(cursor.frame) / width);
        if elements == 0 {
            return Ok(0);
        }
        self.combine(step, elements, Some(arrived.cut(0, elements * width)));
        transport.consume(lane, peer, elements * width)?;
        self.advance(step, elements);
        Ok(elements * width)
    }

    /// Reads up to `room` elements straight to their destination; bytes read.
    fn read_arrived(
        &mut self,
        step: u32,
        room: usize,
        cursor: &Cursor,
        wires: &mut Wires,
    ) -> Result<usize, Failure> {
        let (lane, peer) = (self.meta.lane, cursor.peer);
        let width = self.code(step).dst.width;
        let progress = self.steps[step as usize];
        let split = progress.split_bytes;
        let loc = self.piece(step).dst.add(progress.in_piece * width + split);
        let room_bytes = (room * width - split).min(cursor.frame);
        let dst = self.memory.write(loc, room_bytes);
        let bytes = match self.streams(step) {
            false => wires.reach(peer).read(lane, peer, dst)?,
            true => stream_arrived(wires.reach(peer), (lane, peer), dst)?,
        };
        let whole = (split + bytes) / width;
        self.steps[step as usize].split_bytes = (split + bytes) % width;
        if whole > 0 {
            self.advance(step, whole);
        }
        Ok(bytes)
    }

    /// Whether what `step` writes goes around the caches.
    fn streams(&self, step: u32) -> bool {
        self.program.streams && self.code(step).settles
    }

    /// Sends one frame, as far as its pipe takes it; `true` when the task is done with the pipe.
    #[inline]
    fn send(
        &mut self,
        cursor: &mut Cursor,
        wires: &mut Wires,
        moved: &mut bool,
    ) -> Result<bool, Failure> {
        let (lane, peer) = (self.meta.lane, cursor.peer);
        if !wires.is_turn(lane, peer, Direction::Send, cursor.ticket) {
            return Ok(false);
        }
        let step = self.program.queue[cursor.at as usize];
        if !cursor.open && !self.open_frame(step, cursor, wires) {
            return Ok(false);
        }
        let width = self.code(step).a.width;
        gather(self.program, self.memory, (step, width), cursor, &mut wires.parts);
        let header = self.meta.header(cursor.frame * width);
        let before = cursor.accepted;
        let (transport, parts) = wires.reach_with_parts(peer);
        let complete = transport.send(lane, peer, &header, parts, &mut cursor.accepted)?;
        if complete {
            cursor.accepted = cursor.frame * width;
        }
        *moved |= complete || cursor.accepted > before;
        self.release(step, cursor.accepted / width - before / width);
        if !complete {
            wires.check_lost(peer)?;
            return Ok(false);
        }
        cursor.open = false;
        if self.steps[step as usize].done == self.code(step).elements {
            cursor.at += 1;
            if cursor.at == cursor.end {
                wires.pass_turn(lane, peer, Direction::Send);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Decides the next frame of `step`; `false` when there is not enough for one yet.
    ///
    /// A frame is full, or the last of its message, unless its data lies in too many pieces.
    fn open_frame(&mut self, step: u32, cursor: &mut Cursor, wires: &Wires) -> bool {
        let limit = self.limit(step);
        let code = self.code(step);
        let progress = self.steps[step as usize];
        let full = (wires.frame_bytes(cursor.peer) / code.a.width).max(1);
        let wanted = full.min(code.elements - progress.done);
        if limit - progress.done < wanted {
            return false;
        }
        let mut elements = 0;
        let mut inside = progress.in_piece;
        let pieces = &self.program.pieces[progress.piece as usize..];
        for piece in pieces.iter().take(PARTS_MAX) {
            if elements == wanted {
                break;
            }
            elements += (piece.elements - inside).min(wanted - elements);
            inside = 0;
        }
        cursor.start = (progress.piece, progress.in_piece);
        cursor.frame = elements;
        cursor.accepted = 0;
        cursor.open = true;
        true
    }

    /// Records `elements` of a send as taken.
    fn release(&mut self, step: u32, mut elements: usize) {
        while elements > 0 {
            let left = self.piece(step).elements - self.steps[step as usize].in_piece;
            let now = left.min(elements);
            self.advance(step, now);
            elements -= now;
        }
    }

    /// Runs local steps that are ready, within the turn's budget.
    fn compute(&mut self, locals_left: &mut usize) -> bool {
        let mut budget = LOCAL_BYTES_PER_TURN;
        let mut moved = false;
        while let Some(step) = self.ready.pop() {
            self.steps[step as usize].queued = false;
            let limit = self.limit(step);
            let code = self.code(step);
            if self.steps[step as usize].done == code.elements {
                continue;
            }
            while self.steps[step as usize].done < limit {
                let elements = self.room(step, limit).min(budget.div_ceil(code.dst.width));
                if elements == 0 {
                    self.steps[step as usize].queued = true;
                    self.ready.push(step);
                    return moved;
                }
                self.combine(step, elements, None);
                self.advance(step, elements);
                budget = budget.saturating_sub(elements * code.dst.width);
                moved = true;
            }
            if self.steps[step as usize].done == code.elements {
                *locals_left -= 1;
            }
        }
        moved
    }

    /// Computes the next `elements` of `step`, which lie in its current piece. `received` is the
    /// second operand of a receiving reduction.
    fn combine(&mut self, step: u32, elements: usize, received: Option<Span>) {
        let inside = self.steps[step as usize].in_piece;
        let part = (self.piece(step), inside, elements);
        combine(self.program, self.memory, self.code(step), part, received);
    }
}

/// Checks that a frame continues the message of a step that has `left` elements to come; its
/// payload bytes. None: the peer has stopped and only shows its call, because that differs from
/// what came from here later. It is finding out who is to blame, and will tell.
#[inline]
pub(super) fn check(
    meta: &OpMeta,
    code: &Code,
    left: usize,
    (peer, got): (Rank, &FrameHeader),
) -> Result<Option<usize>, Failure> {
    // Left out by `cargo xtask icount` alone, to learn what it costs.
    let differs = cfg!(not(syncline_no_fingerprint)) && got.fingerprint != meta.fingerprint;
    if differs || got.sequence != meta.sequence as u32 {
        return Err(Failure::Mismatch { peer, got: *got });
    }
    let width = code.wire().width;
    let missing = left * width;
    let bytes = got.payload_bytes as usize;
    if bytes == 0 && missing > 0 {
        return Ok(None);
    }
    if bytes > missing || !bytes.is_multiple_of(width) {
        let reason = format!(
            "a frame of {bytes} bytes where a message has {missing} bytes to come; do both \
             ranks pass the same counts?"
        );
        return Err(Failure::Size { peer, reason });
    }
    Ok(Some(bytes))
}

/// Computes `elements` of a step from element `inside` of `piece` on. `received` is the second
/// operand of a receiving reduction.
#[inline]
pub(super) fn combine(
    program: &Program,
    memory: &Memory,
    code: &Code,
    (piece, inside, elements): (&Piece, usize, usize),
    received: Option<Span>,
) {
    let read = |loc: Loc, width: usize| memory.read(loc.add(inside * width), elements * width);
    let dst = memory.write(piece.dst.add(inside * code.dst.width), elements * code.dst.width);
    let a = read(piece.a, code.a.width);
    let Some(reducer) = &program.reducer else {
        dst.copy_from(a);
        return;
    };
    let b = || received.unwrap_or_else(|| read(piece.b, code.b.width));
    if program.streams && code.settles {
        let a = (a, code.a.format);
        match code.kind {
            Kind::Copy => return reducer.copy_streaming(dst, a.0, a.1),
            Kind::Reduce | Kind::RecvReduce => {
                return reducer.combine_streaming(dst, a, (b(), code.b.format));
            }
            _ => {}
        }
    }
    match code.kind {
        Kind::Copy => reducer.copy(dst, code.dst.format, a, code.a.format),
        Kind::Scale => reducer.premul(dst, a),
        _ => reducer.combine(dst, code.dst.format, a, code.a.format, b(), code.b.format),
    }
}

/// As [`Transport::read`], around the caches where the transport shows what came.
fn stream_arrived(
    transport: &mut dyn Transport,
    (lane, peer): (Lane, Rank),
    dst: SpanMut,
) -> Result<usize, Fault> {
    if !transport.limits(peer).in_place {
        return transport.read(lane, peer, dst);
    }
    let shown = transport.view(lane, peer, 0)?;
    let bytes = shown.len().min(dst.len());
    if bytes > 0 {
        dst.stream_from(shown.cut(0, bytes));
        drain_streams();
        transport.consume(lane, peer, bytes)?;
    }
    Ok(bytes)
}

/// Collects the parts of the open frame, always the same ones for the same frame.
fn gather(
    program: &super::program::Program,
    memory: &Memory,
    (step, width): (u32, usize),
    cursor: &Cursor,
    parts: &mut Vec<Span>,
) {
    parts.clear();
    let (mut piece, mut inside) = cursor.start;
    let mut missing = cursor.frame;
    debug_assert!(program.steps[step as usize].kind == Kind::Send);
    while missing > 0 {
        let at = &program.pieces[piece as usize];
        let elements = missing.min(at.elements - inside);
        parts.push(memory.read(at.a.add(inside * width), elements * width));
        missing -= elements;
        inside = 0;
        piece += 1;
    }
}
