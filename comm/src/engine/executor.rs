//! The engine of one communicator.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::advance::advance;
use super::completion::Completion;
use super::description::{Description, Operation};
use super::express::Express;
use super::failure::{Failure, Judge, Names, Trouble, TroubleKind};
use super::program::Program;
use super::recorder::{OpRecord, OpState, RecordId, Recorder};
use super::selfloop::SelfLoop;
use super::task::{Cursor, Life, Memory, Task};
use super::wires::{Direction, Wires};
use crate::error::{Error, Peer, Rank, Result};
use crate::memory::{Arena, Span, SpanMut};
use crate::transport::{FrameHeader, Lane, Transport};

/// What an engine is made of.
pub struct EngineConfig {
    /// This rank.
    pub rank: Rank,
    /// Every rank of the communicator and its host, by rank.
    pub peers: Arc<[Peer]>,
    /// The wires.
    pub transports: Vec<Box<dyn Transport>>,
    /// For every rank the index in `transports` of the one that reaches it; this rank's own
    /// entry means nothing.
    pub routes: Vec<u8>,
    /// Most bytes of scratch memory that running operations may hold together.
    pub staging_bytes_max: usize,
    /// Finds out why operations cannot go on; without one they end with what this rank saw.
    pub judge: Option<Arc<dyn Judge>>,
    /// How many of the last operations are remembered, see [`Engine::records`].
    pub flight_records: usize,
}

/// What an operation is called, for its frames and its errors.
#[derive(Clone, Copy, Debug)]
pub struct OpMeta {
    /// What was called, in words.
    pub description: Description,
    /// Its number in the communicator. Its low 32 bits travel in every frame.
    pub sequence: u64,
    /// What all ranks must agree on; travels in every frame.
    pub fingerprint: u64,
    /// The pipes it uses.
    pub lane: Lane,
}

impl OpMeta {
    /// Stands for the call that ends everything.
    pub(super) const ABORT: Self = Self {
        description: Description::new(Operation::Abort),
        sequence: 0,
        fingerprint: 0,
        lane: Lane::Small,
    };

    /// What precedes `payload_bytes` of this operation on a wire.
    pub(super) fn header(&self, payload_bytes: usize) -> FrameHeader {
        FrameHeader {
            fingerprint: self.fingerprint,
            sequence: self.sequence as u32,
            payload_bytes: u32::try_from(payload_bytes).unwrap_or(u32::MAX),
        }
    }
}

/// The caller's memory for one operation.
///
/// It must stay valid, and untouched by others, until the operation has ended.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    input: Span,
    output: SpanMut,
}

impl Buffers {
    /// Input and output in memories of their own.
    pub const fn separate(input: Span, output: SpanMut) -> Self {
        Self { input, output }
    }

    /// One buffer for both.
    pub const fn in_place(buffer: SpanMut) -> Self {
        Self { input: buffer.as_span(), output: buffer }
    }

    /// As a task has them, without scratch memory.
    pub(super) const fn memory(self) -> Memory {
        Memory { input: self.input, output: self.output, scratch: SpanMut::EMPTY }
    }
}

/// Names an operation of one engine until its result is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskId {
    pub(super) slot: u32,
    generation: u32,
}

/// Runs operations over the transports of one communicator. Never blocks.
pub struct Engine {
    names: Names,
    pub(super) wires: Wires,
    /// Who waits offers its core to others between two polls; see [`Transport::asks_kernel`].
    pub(super) yields: bool,
    /// The one running task, while its steps are walked straight through.
    pub(super) express: Option<Express>,
    arena: Arena,
    pub(super) tasks: Vec<Task>,
    free: Vec<u32>,
    /// Slots of running tasks, oldest first.
    pub(super) running: Vec<u32>,
    /// Slots of tasks that wait for scratch memory, oldest first.
    pub(super) queued: VecDeque<u32>,
    /// Slots of tasks that wait for a verdict: something went wrong.
    pub(super) stopped: Vec<u32>,
    pub(super) recorder: Recorder,
    /// What was under way when this engine broke.
    pub(super) wreck: Vec<OpRecord>,
    /// What this rank saw go wrong, as the error of last resort.
    pub(super) trouble: Option<Error>,
    /// Why this engine takes no more work, while what runs may still end well.
    doom: Option<Error>,
    /// Why everything here has ended.
    broken: Option<Error>,
    judge: Option<Arc<dyn Judge>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("rank", &self.names.me)
            .field("running", &self.running.len())
            .field("queued", &self.queued.len())
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An idle engine.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the routes do not fit the ranks and transports.
    pub fn new(config: EngineConfig) -> Result<Self> {
        let EngineConfig { rank, peers, mut transports, mut routes, judge, .. } = config;
        let own = u8::try_from(transports.len()).ok().filter(|_| routes.len() == peers.len());
        let Some((own, route)) = own.zip(routes.get_mut(rank as usize)) else {
            let reason = "every rank needs one route, and there are at most 255 transports";
            return Err(invalid("engine", reason.to_owned()));
        };
        *route = own;
        let polls_kernel = transports.iter().all(|transport| transport.asks_kernel());
        let yields = polls_kernel && !transports.is_empty();
        transports.push(Box::new(SelfLoop::new(rank)));
        if routes.iter().any(|&route| route > own) {
            return Err(invalid(
                "engine",
                "a route names a transport that is not there".to_owned(),
            ));
        }
        Ok(Self {
            names: Names { me: rank, peers },
            wires: Wires::new(transports, &routes),
            yields,
            express: None,
            arena: Arena::new(config.staging_bytes_max),
            tasks: Vec::new(),
            free: Vec::new(),
            running: Vec::new(),
            queued: VecDeque::new(),
            stopped: Vec::new(),
            recorder: Recorder::new(config.flight_records),
            wreck: Vec::new(),
            trouble: None,
            doom: None,
            broken: None,
            judge,
        })
    }

    /// Starts an operation, behind the earlier ones that use the same pipes.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the buffers are too small for the program, or the program
    /// needs more scratch memory than there may ever be; why the engine takes no more work, when
    /// that is so.
    pub fn submit(
        &mut self,
        program: &Arc<Program>,
        buffers: Buffers,
        meta: &OpMeta,
    ) -> Result<TaskId> {
        self.admissible(program, &buffers, meta)?;
        if !self.may_express(program, meta) {
            return Ok(self.start(program, buffers, meta));
        }
        let id = self.seat(program, meta, buffers.memory());
        let record = self.recorder.begin(meta, OpState::Running);
        self.run_seated(id.slot, record);
        self.express = Some(Express::new(id.slot));
        Ok(id)
    }

    /// Starts an admissible operation on the general way.
    pub(super) fn start(
        &mut self,
        program: &Arc<Program>,
        buffers: Buffers,
        meta: &OpMeta,
    ) -> TaskId {
        self.leave_express();
        let id = self.seat(program, meta, buffers.memory());
        let task = &mut self.tasks[id.slot as usize];
        task.load(&mut self.wires);
        if self.trouble.is_some() {
            task.record = self.recorder.begin(meta, OpState::Running);
            task.life = Life::Running;
            self.stopped.push(id.slot);
        } else if program.scratch_bytes() == 0 {
            let record = self.recorder.begin(meta, OpState::Running);
            self.run_seated(id.slot, record);
        } else {
            task.record = self.recorder.begin(meta, OpState::Queued);
            task.life = Life::Queued;
            self.queued.push_back(id.slot);
            self.admit();
        }
        id
    }

    /// Gives a run of `program` a slot.
    pub(super) fn seat(&mut self, program: &Arc<Program>, meta: &OpMeta, memory: Memory) -> TaskId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(Task::unused(Arc::clone(program), *meta));
            u32::try_from(self.tasks.len() - 1).unwrap_or(u32::MAX)
        });
        let task = &mut self.tasks[slot as usize];
        task.assign(program, meta, memory);
        TaskId { slot, generation: task.generation }
    }

    /// Has the task in `slot` run from now on.
    pub(super) fn run_seated(&mut self, slot: u32, record: RecordId) {
        let task = &mut self.tasks[slot as usize];
        task.record = record;
        task.life = Life::Running;
        self.running.push(slot);
    }

    /// Whether the engine takes work, and this work.
    #[inline]
    pub(super) fn admissible(
        &self,
        program: &Program,
        buffers: &Buffers,
        meta: &OpMeta,
    ) -> Result<()> {
        if let Some(error) = self.broken.as_ref().or(self.doom.as_ref()) {
            return Err(error.at(self.names.call(meta)));
        }
        let (input, output) = (buffers.input.len(), buffers.output.len());
        if input < program.input_bytes() || output < program.output_bytes() {
            let reason = format!(
                "input and output hold {input} and {output} bytes, and must hold {} and {}",
                program.input_bytes(),
                program.output_bytes()
            );
            return Err(invalid(meta.description.name(), reason));
        }
        if program.scratch_bytes() > self.arena.budget_bytes() {
            let reason = format!(
                "needs {} bytes of scratch memory and the limit is {}; raise staging_bytes_max, \
                 work in place, or choose an algorithm that works in pieces",
                program.scratch_bytes(),
                self.arena.budget_bytes()
            );
            return Err(invalid(meta.description.name(), reason));
        }
        Ok(())
    }

    /// Gives scratch memory to waiting tasks, strictly in the order of their submission: the
    /// oldest operation of the communicator can then always run on every rank.
    fn admit(&mut self) {
        while let Some(&slot) = self.queued.front() {
            let task = &mut self.tasks[slot as usize];
            let Some(lease) = self.arena.lease(task.program.scratch_bytes()) else { return };
            task.memory.scratch = lease.span();
            task.lease = Some(lease);
            task.life = Life::Running;
            self.recorder.change(task.record, OpState::Running);
            self.queued.pop_front();
            self.running.push(slot);
        }
    }

    /// Moves every operation as far as it goes now; answers whether anything moved.
    pub fn poll(&mut self) -> bool {
        self.recorder.count_turn();
        self.wires.progress();
        if let Some(express) = self.express {
            return self.walk(express);
        }
        let mut moved = false;
        let mut index = 0;
        while index < self.running.len() {
            let slot = self.running[index];
            let task = &mut self.tasks[slot as usize];
            match advance(task, &mut self.wires) {
                Ok(some) => moved |= some,
                Err(failure) => {
                    self.fail(slot, failure);
                    return true;
                }
            }
            if task.is_done() {
                self.running.remove(index);
                self.end(slot, Ok(()));
                moved = true;
            } else {
                index += 1;
            }
        }
        moved
    }

    /// Whether no operation is under way.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.queued.is_empty() && self.stopped.is_empty()
    }

    /// The result of an operation that has ended; its id is void after that. `None` while it is
    /// under way.
    pub fn take(&mut self, id: TaskId) -> Option<Result<()>> {
        let task = self.task(id)?;
        if !matches!(task.life, Life::Ended(_)) {
            return None;
        }
        let Life::Ended(result) = std::mem::replace(&mut task.life, Life::Free) else {
            return None;
        };
        self.release(id.slot);
        Some(result)
    }

    /// Hands the operation's end to `completion` instead of keeping it for [`Self::take`]. The
    /// id is void from the end on.
    pub(super) fn notify(&mut self, id: TaskId, completion: Arc<Completion>) {
        if let Some(result) = self.take(id) {
            completion.end(result);
        } else if let Some(task) = self.task(id) {
            task.completion = Some(completion);
        }
    }

    fn task(&mut self, id: TaskId) -> Option<&mut Task> {
        self.tasks.get_mut(id.slot as usize).filter(|task| task.generation == id.generation)
    }

    pub(super) fn end(&mut self, slot: u32, result: Result<()>) {
        let task = &mut self.tasks[slot as usize];
        task.life = Life::Free;
        let state = if result.is_ok() { OpState::Done } else { OpState::Failed };
        self.recorder.change(task.record, state);
        let lease = task.lease.take();
        match task.completion.take() {
            Some(completion) => {
                completion.end(result);
                self.release(slot);
            }
            None => task.life = Life::Ended(result),
        }
        if let Some(lease) = lease {
            self.arena.give_back(lease);
            self.admit();
        }
    }

    fn release(&mut self, slot: u32) {
        let task = &mut self.tasks[slot as usize];
        task.generation = task.generation.wrapping_add(1);
        self.free.push(slot);
    }

    /// What keeps operation `id`, and the peers waited for there: the operation itself, or when it
    /// only waits for older ones, the first of those that waits for anybody.
    pub(super) fn kept_by(&mut self, id: TaskId) -> Option<(OpMeta, Vec<Rank>)> {
        self.leave_express();
        let others = self.running.iter().chain(&self.stopped).copied();
        for slot in [id.slot].into_iter().chain(others) {
            let Some(task) = self.tasks.get_mut(slot as usize) else { continue };
            let mut ranks = Vec::new();
            task.held_up(&self.wires, Direction::Recv, &mut ranks);
            task.held_up(&self.wires, Direction::Send, &mut ranks);
            if !ranks.is_empty() {
                ranks.sort_unstable();
                return Some((task.meta, ranks));
            }
        }
        None
    }

    /// A number that changes whenever an operation moves.
    pub(crate) fn mark(&mut self) -> u64 {
        self.leave_express();
        let done = |slot: &u32| {
            let task = &self.tasks[*slot as usize];
            let inside = |cursor: &Cursor| (cursor.accepted + cursor.frame) as u64;
            let steps = task.steps.iter().map(|step| (step.done + step.split_bytes) as u64);
            let cursors = task.recvs.iter().chain(&task.sends).map(inside);
            steps.chain(cursors).fold(u64::from(task.generation) + 1, u64::wrapping_add)
        };
        let mix = |hash: u64, part: u64| hash.rotate_left(7).wrapping_add(part);
        self.running.iter().chain(&self.queued).map(done).fold(0, mix)
    }

    /// Has it found out why operation `id` made no progress for `after`; everything ends with
    /// it, as its messages are half-way.
    pub fn time_out(&mut self, id: TaskId, after: Duration) {
        let kept_by = self.kept_by(id);
        let known = self.trouble.is_some();
        let Some(task) = self.task(id) else { return };
        if known || !matches!(task.life, Life::Queued | Life::Running) {
            return;
        }
        let meta = task.meta;
        // Nothing needs that pipe here any more, but what it took may not have come.
        if let Some(fault) = self.wires.first_lost() {
            return self.fail_call(&meta, fault.into());
        }
        let (keeper, waits_for) = kept_by.unwrap_or((meta, Vec::new()));
        let peers = waits_for.iter().map(|&rank| self.names.of(rank)).collect();
        let error = self.names.time_out(&meta, peers, after);
        self.stop(&keeper, error, TroubleKind::Stall { waits_for, after });
    }

    /// Refuses everything that comes, for the reason that `error` gives. What is under way may
    /// still end well; if it runs into trouble, this was why.
    pub(crate) fn doom(&mut self, error: &Error) {
        self.doom.get_or_insert_with(|| error.clone());
        if self.trouble.is_some() || self.is_idle() {
            self.condemn(error);
        }
    }

    /// Fails everything under way, and refuses everything that comes, for the reason that
    /// `error` gives.
    pub(crate) fn condemn(&mut self, error: &Error) {
        if self.broken.is_none() {
            self.break_with(error);
        }
    }

    /// Fails everything with what this rank saw, when nobody has found out more.
    pub(crate) fn despair(&mut self) {
        if let Some(error) = self.trouble.clone() {
            self.condemn(&error);
        }
    }

    /// Fails everything under way, and refuses everything that comes.
    pub fn abort(&mut self, reason: &str) {
        self.condemn(&self.names.aborted(&OpMeta::ABORT, reason));
    }

    /// Whether, and why, this engine refuses all work.
    pub const fn broken(&self) -> Option<&Error> {
        self.broken.as_ref()
    }

    pub(super) fn fail(&mut self, slot: u32, failure: Failure) {
        self.leave_express();
        if let Failure::Mismatch { peer, .. } = &failure {
            self.show_header(slot, *peer);
        }
        let meta = self.tasks[slot as usize].meta;
        self.fail_call(&meta, failure);
    }

    fn fail_call(&mut self, meta: &OpMeta, failure: Failure) {
        let kind = TroubleKind::of(&failure);
        let error = self.names.error(failure, meta);
        self.stop(meta, error, kind);
    }

    /// Looks for frames that no operation asks for, of peers that are in another call than this
    /// rank: where roots or lanes differ, nobody may ever wait for what the other sends.
    #[cold]
    pub(super) fn find_strays(&mut self) {
        self.leave_express();
        if self.running.is_empty() {
            return;
        }
        let ranks = Rank::try_from(self.names.peers.len()).unwrap_or(Rank::MAX);
        for peer in (0..ranks).filter(|&peer| peer != self.names.me) {
            for lane in [Lane::Small, Lane::Bulk] {
                if let Some(got) = self.wires.stray(lane, peer)
                    && let Some(meta) = self.call_unlike(&got)
                {
                    return self.fail_call(&meta, Failure::Mismatch { peer, got });
                }
            }
        }
    }

    /// Stops all operations until it is known why one cannot go on; `error` is what it looks like
    /// from here.
    fn stop(&mut self, meta: &OpMeta, error: Error, kind: TroubleKind) {
        tracing::debug!(rank = self.names.me, %error, "an operation cannot go on");
        self.stopped = self.running.drain(..).chain(self.queued.drain(..)).collect();
        self.trouble = Some(error);
        if let Some(doom) = self.doom.clone() {
            return self.condemn(&doom);
        }
        let Some(judge) = &self.judge else { return self.despair() };
        judge.investigate(Trouble { meta: *meta, kind });
    }

    /// Lets a peer whose call differs see ours, if its pipe is free for that: an empty frame
    /// tells it the operation, and it finds the difference too.
    fn show_header(&mut self, slot: u32, peer: Rank) {
        let Task { sends, meta, .. } = &self.tasks[slot as usize];
        let Some(cursor) = sends.iter().find(|cursor| cursor.peer == peer) else { return };
        let ours = self.wires.is_turn(meta.lane, peer, Direction::Send, cursor.ticket);
        if ours && !cursor.open {
            let header = meta.header(0);
            // The peer may be gone or its pipe full; it will learn of our end in another way.
            let _ = self.wires.reach(peer).send(meta.lane, peer, &header, &[], &mut 0);
        }
    }

    /// Ends every task with `error`.
    fn break_with(&mut self, error: &Error) {
        self.leave_express();
        tracing::debug!(rank = self.names.me, %error, "communicator failed");
        self.broken = Some(error.clone());
        self.keep_wreck();
        let Self { running, queued, stopped, .. } = self;
        let slots = running.drain(..).chain(queued.drain(..)).chain(stopped.drain(..));
        for slot in slots.collect::<Vec<_>>() {
            let call = self.names.call(&self.tasks[slot as usize].meta);
            self.end(slot, Err(error.at(call)));
        }
    }

    /// Who the ranks are.
    pub(super) const fn names(&self) -> &Names {
        &self.names
    }

    /// The transports, this rank's own loop left out.
    pub(super) fn transports(&self) -> &[Box<dyn Transport>] {
        let all = self.wires.transports();
        &all[..all.len() - 1]
    }

    pub(super) fn transports_mut(&mut self) -> &mut [Box<dyn Transport>] {
        let all = self.wires.transports_mut();
        let last = all.len() - 1;
        &mut all[..last]
    }
}

fn invalid(operation: &'static str, reason: String) -> Error {
    Error::InvalidArgument { operation, reason }
}
