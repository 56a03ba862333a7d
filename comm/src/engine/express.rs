//! The short way for small operations.
//!
//! Where latency counts there is mostly one operation under way, of a few steps that each take
//! one frame. Then there is nothing to choose between, and no need for cursors, turns and edges:
//! the steps are walked in an order that the compiler found, each in one go. As soon as anything
//! is not as simple as that (a second operation, a frame in parts, a full pipe, a longer wait, an
//! error, a question about the operation), the rest of it goes the general way, from the step
//! where it is. So the order in which the steps are walked cannot make ranks wait in a circle.

use super::advance::{check, combine};
use super::executor::Engine;
use super::failure::Failure;
use super::program::Kind;
use super::task::Task;
use super::wires::Wires;
use crate::transport::Lane;

/// Polls in vain after which the general way is taken.
const IDLE_MAX: u32 = 128;

/// How far the running task is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Express {
    slot: u32,
    /// Steps done.
    done: u32,
    /// Bytes of the next step's message that its pipe has taken.
    accepted: usize,
    /// Polls in vain since a step was done.
    idle: u32,
}

impl Express {
    /// At the first step of the task in `slot`.
    pub(super) const fn new(slot: u32) -> Self {
        Self { slot, done: 0, accepted: 0, idle: 0 }
    }
}

/// How far a walk went.
enum Went {
    /// The step, or all of them, are done.
    Done,
    /// It waits for its peer's message.
    NotYet,
    /// It is not as simple as it seemed.
    Otherwise,
}

impl Engine {
    /// Whether the task that was assigned to `slot` can go the short way.
    #[inline]
    pub(super) fn may_express(&self, slot: u32) -> bool {
        let Task { program, meta, .. } = &self.tasks[slot as usize];
        let bytes_max = program.output_bytes().max(program.input_bytes());
        !program.express.is_empty()
            && meta.lane == Lane::Small
            && self.trouble.is_none()
            && self.is_idle()
            && program.peers().all(|peer| self.wires.frame_bytes(peer) >= bytes_max)
    }

    /// Walks on; answers whether anything moved.
    pub(super) fn walk(&mut self, mut express: Express) -> bool {
        let before = express.done;
        let outcome = self.walk_steps(&mut express);
        let moved = express.done != before;
        express.idle = if moved { 0 } else { express.idle + 1 };
        self.express = Some(express);
        match outcome {
            Ok(Went::NotYet) if express.idle < IDLE_MAX => return moved,
            Ok(Went::NotYet | Went::Otherwise) => self.leave_express(),
            Ok(Went::Done) => {
                self.express = None;
                self.running.clear();
                self.end(express.slot, Ok(()));
            }
            Err(failure) => self.fail(express.slot, failure),
        }
        true
    }

    #[inline]
    fn walk_steps(&mut self, express: &mut Express) -> Result<Went, Failure> {
        let task = &self.tasks[express.slot as usize];
        while let Some(&step) = task.program.express.get(express.done as usize) {
            match walk_step(task, &mut self.wires, step, &mut express.accepted)? {
                Went::Done => {
                    express.done += 1;
                    express.accepted = 0;
                }
                other => return Ok(other),
            }
        }
        Ok(Went::Done)
    }

    /// Has the running task go on the general way, if it went the short one.
    #[inline]
    pub(super) fn leave_express(&mut self) {
        if let Some(express) = self.express.take() {
            self.load_rest(express);
        }
    }

    #[cold]
    fn load_rest(&mut self, Express { slot, done, accepted, .. }: Express) {
        let task = &mut self.tasks[slot as usize];
        task.load(&mut self.wires);
        let program = task.program.clone();
        let (walked, rest) = program.express.split_at(done as usize);
        for &step in walked {
            task.skip(step, &mut self.wires);
        }
        if let Some(&step) = rest.first().filter(|_| accepted > 0) {
            task.skip_part(step, accepted);
        }
    }
}

/// Does one step, all of it or nothing, but for a message of which the pipe takes a part.
#[inline]
fn walk_step(
    task: &Task,
    wires: &mut Wires,
    step: u32,
    accepted: &mut usize,
) -> Result<Went, Failure> {
    let Task { program, meta, memory, .. } = task;
    let code = &program.steps[step as usize];
    let piece = &program.pieces[code.pieces as usize];
    let part = (piece, 0, code.elements);
    let (lane, peer) = (meta.lane, code.peer);
    let bytes = code.elements * code.wire().width;
    match code.kind {
        Kind::Copy | Kind::Reduce | Kind::Scale => combine(program, memory, code, part, None),
        Kind::Send => {
            let parts = [memory.read(piece.a, bytes)];
            let header = meta.header(bytes);
            if !wires.reach(peer).send(lane, peer, &header, &parts, accepted)? {
                return Ok(Went::Otherwise);
            }
        }
        Kind::Recv | Kind::RecvReduce => {
            let Some(header) = wires.reach(peer).head(lane, peer)? else {
                wires.check_lost(peer)?;
                return Ok(Went::NotYet);
            };
            if check(meta, code, code.elements, (peer, &header))? != Some(bytes) {
                return Ok(Went::Otherwise);
            }
            let transport = wires.reach(peer);
            let arrived = transport.view(lane, peer, bytes)?;
            if arrived.len() < bytes {
                return Ok(Went::Otherwise);
            }
            let arrived = arrived.cut(0, bytes);
            match code.kind {
                Kind::Recv => memory.write(piece.dst, bytes).copy_from(arrived),
                _ => combine(program, memory, code, part, Some(arrived)),
            }
            transport.consume(lane, peer, bytes)?;
        }
    }
    Ok(Went::Done)
}
