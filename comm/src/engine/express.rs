//! The short way for small operations.
//!
//! Where latency counts there is mostly one operation under way, of a few steps that each take
//! one frame. Then there is nothing to choose between, and no need for cursors, turns and edges:
//! the steps are walked in an order that the compiler found, each in one go. As soon as anything
//! is not as simple as that (a second operation, a frame in parts, a full pipe, a longer wait, an
//! error, a question about the operation), the rest of it goes the general way, from the step
//! where it is. So the order in which the steps are walked cannot make ranks wait in a circle.

use std::sync::Arc;

use super::advance::{check, combine};
use super::executor::{Buffers, Engine, OpMeta, TaskId};
use super::failure::Failure;
use super::program::{Code, Kind, Program};
use super::recorder::OpState;
use super::task::{Memory, Task};
use super::wires::Wires;
use crate::error::Result;
use crate::transport::Lane;

/// Polls in vain after which the general way is taken.
pub(super) const IDLE_MAX: u32 = 128;

/// How far an operation is that goes the short way.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    /// Steps done.
    done: u32,
    /// Bytes of the next step's message that its pipe has taken.
    accepted: usize,
    /// Polls in vain since a step was done.
    idle: u32,
}

/// The running task, while it goes the short way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Express {
    slot: u32,
    walk: Walk,
}

impl Express {
    /// At the first step of the task in `slot`.
    pub(super) const fn new(slot: u32) -> Self {
        Self { slot, walk: Walk { done: 0, accepted: 0, idle: 0 } }
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
    /// Whether a run of `program` can go the short way.
    #[inline]
    pub(super) fn may_express(&self, program: &Program, meta: &OpMeta) -> bool {
        let bytes_max = program.output_bytes().max(program.input_bytes());
        !program.express.is_empty()
            && meta.lane == Lane::Small
            && self.trouble.is_none()
            && self.is_idle()
            && program.peers().all(|peer| self.wires.frame_bytes(peer) >= bytes_max)
    }

    /// As [`Self::submit`], and walks as far as that goes within `idle_max` polls in vain. None:
    /// the operation has ended well.
    ///
    /// # Errors
    /// As [`Self::submit`].
    #[inline]
    pub(super) fn submit_and_walk(
        &mut self,
        program: &Arc<Program>,
        buffers: Buffers,
        meta: &OpMeta,
        idle_max: u32,
    ) -> Result<Option<TaskId>> {
        self.admissible(program, &buffers, meta)?;
        if !self.may_express(program, meta) {
            return Ok(Some(self.start(program, buffers, meta)));
        }
        let memory = buffers.memory();
        let record = self.recorder.begin(meta, OpState::Running);
        let mut walk = Walk::default();
        let outcome = loop {
            self.recorder.count_turn();
            self.wires.progress();
            match walk.steps(program, meta, &memory, &mut self.wires) {
                Ok(Went::NotYet) if walk.idle < idle_max => std::hint::spin_loop(),
                outcome => break outcome,
            }
        };
        if let Ok(Went::Done) = outcome {
            self.recorder.change(record, OpState::Done);
            return Ok(None);
        }
        let id = self.seat(program, meta, memory);
        self.run_seated(id.slot, record);
        let express = Express { slot: id.slot, walk };
        self.express = Some(express);
        self.go_on(express, outcome);
        Ok(Some(id))
    }

    /// Walks on; answers whether anything moved.
    pub(super) fn walk(&mut self, mut express: Express) -> bool {
        let before = express.walk.done;
        let Task { program, meta, memory, .. } = &self.tasks[express.slot as usize];
        let outcome = express.walk.steps(program, meta, memory, &mut self.wires);
        self.express = Some(express);
        self.go_on(express, outcome) || express.walk.done != before
    }

    /// Does what follows from how far the running task went; answers whether that was anything.
    fn go_on(&mut self, express: Express, outcome: std::result::Result<Went, Failure>) -> bool {
        match outcome {
            Ok(Went::NotYet) if express.walk.idle < IDLE_MAX => return false,
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

    /// Has the running task go on the general way, if it went the short one.
    #[inline]
    pub(super) fn leave_express(&mut self) {
        if let Some(express) = self.express.take() {
            self.load_rest(express);
        }
    }

    #[cold]
    fn load_rest(&mut self, Express { slot, walk: Walk { done, accepted, .. } }: Express) {
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

impl Walk {
    /// Does the steps that can be done now.
    #[inline]
    fn steps(
        &mut self,
        program: &Program,
        meta: &OpMeta,
        memory: &Memory,
        wires: &mut Wires,
    ) -> std::result::Result<Went, Failure> {
        while let Some(&step) = program.express.get(self.done as usize) {
            let code = &program.steps[step as usize];
            match walk_step((program, code), meta, memory, wires, &mut self.accepted)? {
                Went::Done => *self = Self { done: self.done + 1, ..Self::default() },
                Went::NotYet => {
                    self.idle += 1;
                    return Ok(Went::NotYet);
                }
                Went::Otherwise => return Ok(Went::Otherwise),
            }
        }
        Ok(Went::Done)
    }
}

/// Does one step, all of it or nothing, but for a message of which the pipe takes a part.
#[inline]
fn walk_step(
    (program, code): (&Program, &Code),
    meta: &OpMeta,
    memory: &Memory,
    wires: &mut Wires,
    accepted: &mut usize,
) -> std::result::Result<Went, Failure> {
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
