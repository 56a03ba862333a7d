//! The flight recorder: what the last operations of an engine were, and how they went.
//!
//! A ring of fixed size, written by whoever holds the engine: no lock, no allocation, one cache
//! line per operation. The clock is looked at for what is large or takes long, and for one small
//! operation in [`SMALL_PER_LOOK`]: a look at every one would cost more than all the rest. What
//! costs more is asked for only when somebody wants to know: how far an unfinished operation is,
//! and whom it waits for.

use std::time::{Duration, Instant};

use super::description::{Description, Operation};
use super::executor::OpMeta;
use crate::error::{Error, Rank};
use crate::transport::Lane;

/// Small operations that begin between two looks at the clock.
const SMALL_PER_LOOK: u64 = 8;
/// An operation that took fewer turns of its engine than this is not worth a second look at the
/// clock. A sleep counts as so many.
pub(super) const TURNS_TIMED: u32 = 64;
/// Most records an engine keeps.
const RECORDS_MAX: usize = 1 << 20;

/// Where an operation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpState {
    /// It waits for scratch memory.
    Queued,
    /// It is under way.
    Running,
    /// It has ended well.
    Done,
    /// It has ended with an error.
    Failed,
}

/// Which operation is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKey {
    /// A collective, by its sequence number in the communicator.
    Collective(u64),
    /// The message with this number among those to a peer.
    Send {
        /// Who gets it.
        peer: Rank,
        /// Its number, from 0.
        sequence: u64,
    },
    /// The message with this number among those from a peer.
    Recv {
        /// Who sends it.
        peer: Rank,
        /// Its number, from 0.
        sequence: u64,
    },
}

impl OpKey {
    /// Of the operation that `meta` describes.
    pub fn of(meta: &OpMeta) -> Self {
        Self::new(&meta.description, meta.sequence)
    }

    fn new(description: &Description, sequence: u64) -> Self {
        let peer = description.root_or_peer().unwrap_or(Rank::MAX);
        match description.operation() {
            Operation::Send => Self::Send { peer, sequence },
            Operation::Recv => Self::Recv { peer, sequence },
            Operation::Collective(_) | Operation::Abort => Self::Collective(sequence),
        }
    }

    /// Its sequence number.
    pub const fn sequence(self) -> u64 {
        match self {
            Self::Collective(sequence)
            | Self::Send { sequence, .. }
            | Self::Recv { sequence, .. } => sequence,
        }
    }

    /// Whether both are counted by the same counter.
    pub(super) fn counts_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Collective(_), Self::Collective(_)) => true,
            (Self::Send { peer, .. }, Self::Send { peer: with, .. })
            | (Self::Recv { peer, .. }, Self::Recv { peer: with, .. }) => peer == with,
            _ => false,
        }
    }
}

/// An operation that entered, as far as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// Its sequence number.
    pub sequence: u64,
    /// What was called; none when it is too long ago.
    pub description: Option<Description>,
}

/// Where one rank is in one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpReport {
    /// Its call has not come yet.
    NotEntered {
        /// The latest operation of the same counter that has.
        last: Option<Entered>,
    },
    /// It is under way, or queued.
    Running {
        /// What was called.
        description: Description,
        /// What all ranks must agree on.
        fingerprint: u64,
        /// Peers whose message is due, or that do not take theirs.
        waits_for: Vec<Rank>,
        /// Where it waits for its turn on a pipe: the oldest of the operations before it that
        /// waits for peers, and for whom. None and nobody to wait for: it computes.
        behind: Option<(OpKey, Vec<Rank>)>,
    },
    /// It has ended well.
    Done {
        /// What was called; none when it is too long ago.
        description: Option<Description>,
    },
    /// It has ended with an error.
    Failed {
        /// What was called.
        description: Description,
    },
}

/// How far an operation is: bytes on the wires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes the wires have taken.
    pub sent_bytes: u64,
    /// Bytes there are to send in all.
    pub to_send_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes there are to receive in all.
    pub to_receive_bytes: u64,
}

/// What holds an unfinished operation up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// How far it is.
    pub transfer: Transfer,
    /// Ranks whose message is due.
    pub awaits: Vec<Rank>,
    /// Ranks that do not take what is ready for them.
    pub refused_by: Vec<Rank>,
}

/// One operation in the flight recorder.
#[derive(Clone, Debug)]
pub struct OpRecord {
    /// What was called.
    pub description: Description,
    /// Its sequence number: collectives count together, messages per peer and direction.
    pub sequence: u64,
    /// The pipes it uses.
    pub lane: Lane,
    /// What all ranks must agree on.
    pub fingerprint: u64,
    /// Where it is in its life.
    pub state: OpState,
    /// When its call came, since the engine was made. Small operations that take no time to
    /// speak of carry the last time looked at, at most seven operations ago.
    pub started: Duration,
    /// When it ended.
    pub ended: Option<Duration>,
    /// What held it up; of a failed operation, when it failed.
    pub unfinished: Option<Unfinished>,
}

impl OpRecord {
    /// Which operation it is.
    pub fn key(&self) -> OpKey {
        OpKey::new(&self.description, self.sequence)
    }
}

/// What an engine knows about its operations at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The last operations, oldest first.
    pub records: Vec<OpRecord>,
    /// Operations submitted so far.
    pub operations: u64,
    /// The sequence number that comes after the highest one of a collective so far.
    pub next_collective: u64,
    /// The time, on the clock of the records.
    pub now: Duration,
    /// Why the engine takes no more work.
    pub broken: Option<Error>,
}

/// One record: a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Entry {
    description: Description,
    sequence: u64,
    fingerprint: u64,
    started_ns: u64,
    /// How long it ran; meaningless until it has ended.
    ran_us: u32,
    lane: Lane,
    state: OpState,
}

/// Names a record until it is overwritten.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecordId {
    serial: u64,
    started_ns: u64,
    /// The engine's turn when the operation began.
    turn: u32,
}

/// The records of one engine.
#[derive(Debug)]
pub(super) struct Recorder {
    /// A power of two of them, or none.
    ring: Box<[Entry]>,
    /// Operations recorded so far.
    next: u64,
    /// Turns of the engine so far; wraps.
    turn: u32,
    /// One more than the highest sequence number of a collective so far.
    collectives: u64,
    born: Instant,
    /// The last time looked at, in nanoseconds since then.
    seen_ns: u64,
}

impl Recorder {
    /// Keeps the last `records` operations, rounded up to a power of two; none for 0.
    pub(super) fn new(records: usize) -> Self {
        let entry = Entry {
            description: Description::new(Operation::Abort),
            sequence: 0,
            fingerprint: 0,
            started_ns: 0,
            ran_us: 0,
            lane: Lane::Small,
            state: OpState::Done,
        };
        let records = match records {
            0 => 0,
            some => some.min(RECORDS_MAX).next_power_of_two(),
        };
        Self {
            ring: vec![entry; records].into(),
            next: 0,
            turn: 0,
            collectives: 0,
            born: Instant::now(),
            seen_ns: 0,
        }
    }

    #[inline]
    fn slot(&mut self, serial: u64) -> Option<&mut Entry> {
        let mask = self.ring.len().wrapping_sub(1);
        self.ring.get_mut(serial as usize & mask)
    }

    /// Looks at the clock: the time since the engine was made.
    #[inline(never)]
    pub(super) fn look(&mut self) -> Duration {
        let now = self.born.elapsed();
        self.seen_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        now
    }

    /// One more turn of the engine.
    #[inline]
    pub(super) fn count_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
    }

    /// The engine goes to sleep: what is under way takes long.
    pub(super) fn count_sleep(&mut self) {
        self.turn = self.turn.wrapping_add(TURNS_TIMED);
    }

    /// Records the beginning of an operation.
    #[inline]
    pub(super) fn begin(&mut self, meta: &OpMeta, state: OpState) -> RecordId {
        let OpMeta { description, sequence, fingerprint, lane } = *meta;
        if lane != Lane::PointToPoint && sequence >= self.collectives {
            self.collectives = sequence + 1;
        }
        let serial = self.next;
        self.next = serial + 1;
        if lane == Lane::Bulk || serial.is_multiple_of(SMALL_PER_LOOK) {
            self.look();
        }
        let (turn, started_ns) = (self.turn, self.seen_ns);
        if let Some(slot) = self.slot(serial) {
            *slot =
                Entry { description, sequence, fingerprint, started_ns, ran_us: 0, lane, state };
        }
        RecordId { serial, started_ns, turn }
    }

    /// Records where an operation is now.
    #[inline]
    pub(super) fn change(&mut self, id: RecordId, state: OpState) {
        if self.next - id.serial > self.ring.len() as u64 {
            return;
        }
        let took_long = self.turn.wrapping_sub(id.turn) >= TURNS_TIMED;
        let Some(slot) = self.slot(id.serial) else { return };
        slot.state = state;
        if took_long || slot.lane == Lane::Bulk {
            self.time(id);
        }
    }

    #[cold]
    fn time(&mut self, id: RecordId) {
        self.look();
        let ran_us = self.seen_ns.saturating_sub(id.started_ns) / 1000;
        if let Some(slot) = self.slot(id.serial) {
            slot.ran_us = u32::try_from(ran_us).unwrap_or(u32::MAX);
        }
    }

    /// Operations recorded so far, also those that are not kept any more.
    pub(super) const fn recorded(&self) -> u64 {
        self.next
    }

    /// One more than the highest sequence number of a collective so far.
    pub(super) const fn collectives(&self) -> u64 {
        self.collectives
    }

    /// What is kept, oldest first, with its serial number.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, OpRecord)> + '_ {
        let kept = self.next.min(self.ring.len() as u64);
        let mask = self.ring.len().wrapping_sub(1);
        (self.next - kept..self.next)
            .filter_map(move |serial| Some((serial, self.ring.get(serial as usize & mask)?.open())))
    }
}

impl RecordId {
    pub(super) const fn serial(self) -> u64 {
        self.serial
    }

    pub(super) const fn started(self) -> Duration {
        Duration::from_nanos(self.started_ns)
    }
}

impl Entry {
    fn open(&self) -> OpRecord {
        let started = Duration::from_nanos(self.started_ns);
        let ended = match self.state {
            OpState::Queued | OpState::Running => None,
            OpState::Done | OpState::Failed => {
                Some(started + Duration::from_micros(u64::from(self.ran_us)))
            }
        };
        OpRecord {
            description: self.description,
            sequence: self.sequence,
            lane: self.lane,
            fingerprint: self.fingerprint,
            state: self.state,
            started,
            ended,
            unfinished: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Collective;

    fn meta(sequence: u64) -> OpMeta {
        let description = Description::new(Operation::Collective(Collective::Barrier));
        OpMeta { description, sequence, fingerprint: 1, lane: Lane::Small }
    }

    #[test]
    fn a_record_is_one_cache_line() {
        assert_eq!((size_of::<Entry>(), align_of::<Entry>()), (64, 64));
    }

    #[test]
    fn the_last_operations_are_kept_in_order() {
        let mut recorder = Recorder::new(5);
        let ids: Vec<RecordId> =
            (0..20).map(|n| recorder.begin(&meta(n), OpState::Running)).collect();
        recorder.change(ids[3], OpState::Failed);
        recorder.change(ids[19], OpState::Done);
        let kept: Vec<u64> = recorder.iter().map(|(_, record)| record.sequence).collect();
        assert_eq!(kept, (12..20).collect::<Vec<_>>(), "five, rounded up to eight");
        let states: Vec<OpState> = recorder.iter().map(|(_, record)| record.state).collect();
        assert!(!states.contains(&OpState::Failed), "an overwritten record is left alone");
        assert_eq!(states[7], OpState::Done);
        assert_eq!((recorder.recorded(), recorder.collectives()), (20, 20));
    }

    #[test]
    fn a_recorder_without_room_counts_all_the_same() {
        let mut recorder = Recorder::new(0);
        let id = recorder.begin(&meta(7), OpState::Running);
        recorder.change(id, OpState::Done);
        assert_eq!(recorder.iter().count(), 0);
        assert_eq!((recorder.recorded(), recorder.collectives()), (1, 8));
    }

    #[test]
    fn long_operations_are_timed() {
        let mut recorder = Recorder::new(4);
        let quick = recorder.begin(&meta(0), OpState::Running);
        recorder.count_turn();
        recorder.change(quick, OpState::Done);
        let slow = recorder.begin(&meta(1), OpState::Running);
        std::thread::sleep(Duration::from_millis(30));
        recorder.count_sleep();
        recorder.change(slow, OpState::Done);
        let took: Vec<Duration> =
            recorder.iter().map(|(_, r)| r.ended.unwrap() - r.started).collect();
        assert_eq!(took[0], Duration::ZERO);
        assert!(took[1] >= Duration::from_millis(15), "{took:?}");
    }

    #[test]
    fn keys_tell_counters_apart() {
        let (send, recv) = (Description::new(Operation::Send), Description::new(Operation::Recv));
        let key = |d: Description, sequence| OpKey::new(&d, sequence);
        assert!(key(send.rank(1), 0).counts_with(key(send.rank(1), 9)));
        assert!(!key(send.rank(1), 0).counts_with(key(send.rank(2), 0)));
        assert!(!key(send.rank(1), 0).counts_with(key(recv.rank(1), 0)));
        assert!(OpKey::of(&meta(3)).counts_with(OpKey::Collective(9)));
        assert_eq!(key(recv.rank(1), 4), OpKey::Recv { peer: 1, sequence: 4 });
    }
}
