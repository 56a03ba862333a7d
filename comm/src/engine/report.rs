//! What an engine tells about its operations, while they run and afterwards.

use super::executor::{Engine, OpMeta};
use super::recorder::{Entered, OpKey, OpRecord, OpReport, OpState, Snapshot, Unfinished};
use super::task::Life;
use super::wires::Direction;
use crate::error::Rank;
use crate::transport::{FrameHeader, Lane};

impl Engine {
    /// Where this rank is in operation `key`.
    pub fn report(&mut self, key: OpKey) -> OpReport {
        self.leave_express();
        if let Some(slot) = self.find(key) {
            let (waits_for, behind) = self.held_up_by(slot);
            let meta = &self.tasks[slot as usize].meta;
            let (description, fingerprint) = (meta.description, meta.fingerprint);
            return OpReport::Running { description, fingerprint, waits_for, behind };
        }
        if let Some(failed) = self.wreck.iter().find(|record| record.key() == key) {
            return OpReport::Failed { description: failed.description };
        }
        let mut last: Option<Entered> = None;
        let mut reaches_back = false;
        for (_, record) in self.recorder.iter().filter(|(_, r)| r.key().counts_with(key)) {
            let OpRecord { description, sequence, state, .. } = record;
            if sequence == key.sequence() {
                return match state {
                    OpState::Failed => OpReport::Failed { description },
                    _ => OpReport::Done { description: Some(description) },
                };
            }
            if last.is_none_or(|last| last.sequence < sequence) {
                last = Some(Entered { sequence, description: Some(description) });
            }
            reaches_back |= sequence < key.sequence();
        }
        let entered = self.entered(key);
        // Threads may enter out of order: what the records reach back to must be among them.
        if key.sequence() < entered && !reaches_back {
            return OpReport::Done { description: None };
        }
        let forgotten = || Some(Entered { sequence: entered.checked_sub(1)?, description: None });
        OpReport::NotEntered { last: last.or_else(forgotten) }
    }

    /// The last operations, oldest first; those under way with what they wait for.
    pub fn records(&mut self) -> Vec<OpRecord> {
        self.leave_express();
        let mut records: Vec<(u64, OpRecord)> = self.recorder.iter().collect();
        let under_way: Vec<u32> = self.under_way().collect();
        for slot in under_way {
            let serial = self.tasks[slot as usize].record.serial();
            let unfinished = Some(self.unfinished(slot));
            match records.iter_mut().find(|(known, _)| *known == serial) {
                Some((_, record)) => record.unfinished = unfinished,
                // Under way for so long that its record was overwritten.
                None => records.insert(0, (serial, self.rescue(slot, unfinished))),
            }
        }
        for wreck in &self.wreck {
            match records.iter_mut().find(|(_, record)| record.key() == wreck.key()) {
                Some((_, record)) => record.clone_from(wreck),
                None => records.insert(0, (0, wreck.clone())),
            }
        }
        records.into_iter().map(|(_, record)| record).collect()
    }

    /// Everything there is to say.
    pub fn snapshot(&mut self) -> Snapshot {
        Snapshot {
            records: self.records(),
            operations: self.recorder.recorded(),
            next_collective: self.recorder.collectives(),
            now: self.recorder.look(),
            broken: self.broken().cloned(),
        }
    }

    /// Operations submitted so far.
    pub const fn operations(&self) -> u64 {
        self.recorder.recorded()
    }

    /// Keeps what every operation under way waits for, before it is ended by an error.
    pub(super) fn keep_wreck(&mut self) {
        let under_way: Vec<u32> = self.under_way().collect();
        let wreck = under_way.into_iter().map(|slot| {
            let unfinished = Some(self.unfinished(slot));
            let serial = self.tasks[slot as usize].record.serial();
            let known = self.recorder.iter().find(|(known, _)| *known == serial);
            let record = match known {
                Some((_, record)) => OpRecord { unfinished, ..record },
                None => self.rescue(slot, unfinished),
            };
            OpRecord { state: OpState::Failed, ended: Some(self.recorder.look()), ..record }
        });
        let wreck = wreck.collect();
        self.wreck = wreck;
    }

    /// The slot of an operation under way.
    fn find(&self, key: OpKey) -> Option<u32> {
        let is = |slot: &u32| OpKey::of(&self.tasks[*slot as usize].meta) == key;
        self.under_way().find(is)
    }

    /// The peers that an operation under way waits for; and where it waits for its turn on a
    /// pipe, the oldest of the operations before it that waits for peers, and for whom.
    fn held_up_by(&mut self, slot: u32) -> (Vec<Rank>, Option<(OpKey, Vec<Rank>)>) {
        let place = |engine: &Self, slot: u32| {
            let task = &engine.tasks[slot as usize];
            (task.meta.lane, task.record.serial())
        };
        let (lane, serial) = place(self, slot);
        let mut older: Vec<u32> = self.under_way().collect();
        older.retain(|&other| {
            let (theirs, before) = place(self, other);
            theirs == lane && before <= serial
        });
        older.sort_unstable_by_key(|&other| std::cmp::Reverse(place(self, other).1));
        let (mut waits_for, mut behind) = (Vec::new(), None);
        for other in older {
            let Unfinished { awaits, refused_by, .. } = self.unfinished(other);
            let peers = [awaits, refused_by].concat();
            let task = &self.tasks[other as usize];
            if other == slot {
                waits_for = peers;
            } else if !peers.is_empty() {
                behind = Some((OpKey::of(&task.meta), peers));
            }
            let is_queued = matches!(task.life, Life::Queued);
            if !is_queued && !task.is_behind(&self.wires) {
                break;
            }
        }
        waits_for.sort_unstable();
        waits_for.dedup();
        (waits_for, behind)
    }

    /// The oldest operation under way, and whom it waits for.
    pub(crate) fn oldest_unfinished(&mut self) -> Option<(OpKey, Vec<Rank>)> {
        self.leave_express();
        let serial = |slot: &u32| self.tasks[*slot as usize].record.serial();
        let oldest = self.under_way().min_by_key(serial)?;
        let key = OpKey::of(&self.tasks[oldest as usize].meta);
        let Unfinished { awaits, refused_by, .. } = self.unfinished(oldest);
        Some((key, [awaits, refused_by].concat()))
    }

    /// The collective of this rank that has the number of a frame, and is another call.
    pub(super) fn call_unlike(&self, got: &FrameHeader) -> Option<OpMeta> {
        let unlike = |meta: &OpMeta| {
            meta.lane != Lane::PointToPoint
                && meta.sequence as u32 == got.sequence
                && meta.fingerprint != got.fingerprint
        };
        let now = self.under_way().map(|slot| self.tasks[slot as usize].meta);
        let before = self.recorder.iter().map(|(_, record)| {
            let OpRecord { description, sequence, fingerprint, lane, .. } = record;
            OpMeta { description, sequence, fingerprint, lane }
        });
        now.chain(before).find(unlike)
    }

    fn under_way(&self) -> impl Iterator<Item = u32> {
        self.running.iter().chain(&self.queued).chain(&self.stopped).copied()
    }

    /// What holds an operation up now.
    pub(super) fn unfinished(&mut self, slot: u32) -> Unfinished {
        let task = &mut self.tasks[slot as usize];
        let mut unfinished = Unfinished { transfer: task.transfer(), ..Unfinished::default() };
        if matches!(task.life, Life::Running) {
            task.held_up(&self.wires, Direction::Recv, &mut unfinished.awaits);
            task.held_up(&self.wires, Direction::Send, &mut unfinished.refused_by);
        }
        unfinished.awaits.sort_unstable();
        unfinished.refused_by.sort_unstable();
        unfinished
    }

    /// The record of an operation under way that the ring has lost.
    fn rescue(&self, slot: u32, unfinished: Option<Unfinished>) -> OpRecord {
        let task = &self.tasks[slot as usize];
        let state =
            if matches!(task.life, Life::Queued) { OpState::Queued } else { OpState::Running };
        OpRecord {
            description: task.meta.description,
            sequence: task.meta.sequence,
            lane: task.meta.lane,
            fingerprint: task.meta.fingerprint,
            state,
            started: task.record.started(),
            ended: None,
            unfinished,
        }
    }

    /// How many operations of the counter of `key` have entered.
    fn entered(&self, key: OpKey) -> u64 {
        let messages = |peer: Rank, direction| {
            let tickets = self.wires.tickets(Lane::PointToPoint, peer, direction);
            // The tickets wrap; the message asked for is within 2^31 of the latest one.
            let ahead = tickets.wrapping_sub(key.sequence() as u32).cast_signed();
            key.sequence().saturating_add_signed(i64::from(ahead))
        };
        match key {
            OpKey::Collective(_) => self.recorder.collectives(),
            OpKey::Send { peer, .. } => messages(peer, Direction::Send),
            OpKey::Recv { peer, .. } => messages(peer, Direction::Recv),
        }
    }
}
