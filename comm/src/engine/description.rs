//! An operation in words, small enough to be kept for every operation and to travel in a control
//! message: what this rank called, so that others can say how their calls differ.

use std::fmt;

use crate::error::Rank;
use crate::reduce::{DType, ReduceOp};
use crate::schedule::hierarchy::Mode;
use crate::schedule::{ALGORITHMS, Collective};

/// Stands for a number that is not there.
const NONE: u8 = u8::MAX;
/// Numbers of the operations that are not collectives.
const SEND: u8 = 16;
const RECV: u8 = 17;
const ABORT: u8 = 18;

/// What kind of operation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// All ranks take part.
    Collective(Collective),
    /// A message to one rank.
    Send,
    /// A message from one rank.
    Recv,
    /// Not a transfer: the call that ended the communicator.
    Abort,
}

impl Operation {
    /// The name used by the CLI and in errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Collective(collective) => collective.name(),
            Self::Send => "send",
            Self::Recv => "recv",
            Self::Abort => "abort",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Collective(collective) => collective as u8,
            Self::Send => SEND,
            Self::Recv => RECV,
            Self::Abort => ABORT,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        match number {
            SEND => Some(Self::Send),
            RECV => Some(Self::Recv),
            ABORT => Some(Self::Abort),
            other => Collective::ALL.get(usize::from(other)).copied().map(Self::Collective),
        }
    }
}

/// What an operation's count counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Counted {
    /// Elements per rank or of the vector, as the caller gave them; the same on every rank.
    Uniform = 0,
    /// The total of one count per rank; the same list on every rank.
    PerRank = 1,
    /// What this rank sends in all; every rank has its own counts.
    PerPair = 2,
}

/// The name of an algorithm as small numbers: that of a flat one, or a mode and one name per
/// phase, such as `split_rail(direct,ring,direct)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlgorithmName {
    /// How the phases are composed; none for a flat algorithm.
    mode: u8,
    /// Places in [`ALGORITHMS`], up to the first `NONE`.
    phases: [u8; 7],
}

impl AlgorithmName {
    /// No algorithm, or one that is not registered.
    pub const UNKNOWN: Self = Self { mode: NONE, phases: [NONE; 7] };

    /// Looks up what `text` names; [`Self::UNKNOWN`] if it is not among the registered ones.
    pub fn from_text(text: &str) -> Self {
        Self::parse(text).unwrap_or(Self::UNKNOWN)
    }

    fn parse(text: &str) -> Option<Self> {
        let (mode, names) = match text.split_once('(') {
            None => (NONE, text),
            Some((mode, names)) => {
                let mode = Mode::ALL.iter().position(|known| known.name() == mode)?;
                (u8::try_from(mode).ok()?, names.strip_suffix(')')?)
            }
        };
        let mut phases = [NONE; 7];
        let mut slots = phases.iter_mut();
        for name in names.split(',') {
            let place = ALGORITHMS.iter().position(|known| known.name() == name)?;
            *slots.next()? = u8::try_from(place).ok().filter(|&place| place != NONE)?;
        }
        Some(Self { mode, phases })
    }

    fn to_bytes(self) -> [u8; 8] {
        let [a, b, c, d, e, f, g] = self.phases;
        [self.mode, a, b, c, d, e, f, g]
    }

    fn from_bytes([mode, phases @ ..]: [u8; 8]) -> Option<Self> {
        let end = phases.iter().position(|&place| place == NONE).unwrap_or(phases.len());
        let (names, rest) = phases.split_at(end);
        let known = names.iter().all(|&place| usize::from(place) < ALGORITHMS.len())
            && rest.iter().all(|&place| place == NONE)
            && if mode == NONE { end <= 1 } else { usize::from(mode) < Mode::ALL.len() && end > 0 };
        known.then_some(Self { mode, phases })
    }
}

impl fmt::Display for AlgorithmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.phases.iter().filter_map(|&place| ALGORITHMS.get(usize::from(place)));
        let mode = Mode::ALL.get(usize::from(self.mode));
        if let Some(mode) = mode {
            write!(f, "{}(", mode.name())?;
        }
        for (index, algorithm) in names.enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", algorithm.name())?;
        }
        f.write_str(if mode.is_some() { ")" } else { "" })
    }
}

/// What was called. Small and `Copy`: it is kept for every operation.
///
/// Ranks that make the same call have equal descriptions, except for the count of
/// [`Counted::PerPair`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    operation: Operation,
    dtype: DType,
    op: u8,
    counted: Counted,
    rank: Rank,
    segments: u32,
    count: u64,
    algorithm: AlgorithmName,
}

impl Description {
    /// Bytes of [`Self::encode`].
    pub const ENCODED_BYTES: usize = 32;

    /// An operation without data.
    pub const fn new(operation: Operation) -> Self {
        Self {
            operation,
            dtype: DType::U8,
            op: NONE,
            counted: Counted::Uniform,
            rank: Rank::MAX,
            segments: 1,
            count: 0,
            algorithm: AlgorithmName::UNKNOWN,
        }
    }

    /// The same on `count` elements of `dtype`.
    #[must_use]
    pub const fn data(self, dtype: DType, count: u64, counted: Counted) -> Self {
        Self { dtype, count, counted, ..self }
    }

    /// The same with an operator.
    #[must_use]
    pub const fn op(self, op: ReduceOp) -> Self {
        Self { op: op.number(), ..self }
    }

    /// The same with a root, or a message's peer.
    #[must_use]
    pub const fn rank(self, rank: Rank) -> Self {
        Self { rank, ..self }
    }

    /// The same with the algorithm that serves it, in pipeline segments.
    #[must_use]
    pub const fn algorithm(self, algorithm: AlgorithmName, segments: u32) -> Self {
        Self { algorithm, segments, ..self }
    }

    /// What kind of operation it is.
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// The kind's name, such as `all_reduce`.
    pub const fn name(&self) -> &'static str {
        self.operation.name()
    }

    /// The root of a rooted collective, or a message's peer.
    pub fn root_or_peer(&self) -> Option<Rank> {
        Some(self.rank).filter(|&rank| rank != Rank::MAX)
    }

    /// Bytes of the elements counted.
    pub const fn bytes(&self) -> u64 {
        self.count.saturating_mul(self.dtype.size() as u64)
    }

    /// The algorithm, or nothing where none is chosen.
    pub const fn algorithm_name(&self) -> AlgorithmName {
        self.algorithm
    }

    /// In what the calls of two ranks differ, in words; empty when only the fingerprints can
    /// tell (lists of counts with equal totals, options).
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let messages = [Operation::Send, Operation::Recv];
        let paired = messages.contains(&self.operation) && messages.contains(&other.operation);
        let per_pair = self.counted == Counted::PerPair && other.counted == Counted::PerPair;
        [
            (self.operation != other.operation && !paired, "collective"),
            (self.dtype != other.dtype, "type"),
            ((self.count != other.count && !per_pair) || self.counted != other.counted, "count"),
            (self.op != other.op, "op"),
            (self.rank != other.rank && !paired, "root"),
            (
                self.algorithm != other.algorithm || self.segments != other.segments,
                "algorithm (do the ranks' options differ?)",
            ),
        ]
        .into_iter()
        .filter_map(|(differs, what)| differs.then_some(what))
        .collect()
    }

    /// For a control message. Numbers are little-endian.
    pub fn encode(&self) -> [u8; Self::ENCODED_BYTES] {
        let mut bytes = [0; Self::ENCODED_BYTES];
        bytes[0] = self.operation.number();
        bytes[1] = self.dtype as u8;
        bytes[2] = self.op;
        bytes[3] = self.counted as u8;
        bytes[4..8].copy_from_slice(&self.rank.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.segments.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.count.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.algorithm.to_bytes());
        bytes
    }

    /// What [`encode`](Self::encode) gave on another rank; `None` for anything it cannot give.
    pub fn decode(bytes: &[u8; Self::ENCODED_BYTES]) -> Option<Self> {
        let (four, _) = bytes.as_chunks::<4>();
        let (eight, _) = bytes.as_chunks::<8>();
        let counted = match bytes[3] {
            0 => Counted::Uniform,
            1 => Counted::PerRank,
            2 => Counted::PerPair,
            _ => return None,
        };
        let op = bytes[2];
        let known_op = op == NONE || ReduceOp::name_of(op).is_some();
        // Bytes 12 to 15 are for codecs; there are none.
        if !known_op || four[3] != [0; 4] {
            return None;
        }
        Some(Self {
            operation: Operation::from_number(bytes[0])?,
            dtype: *DType::ALL.get(usize::from(bytes[1]))?,
            op,
            counted,
            rank: Rank::from_le_bytes(four[1]),
            segments: u32::from_le_bytes(four[2]),
            count: u64::from_le_bytes(eight[2]),
            algorithm: AlgorithmName::from_bytes(eight[3])?,
        })
    }
}

/// A numbered call in words, such as `#41 all_reduce(f32 x 1024, sum, ring)`.
pub(crate) fn words(description: &Description, sequence: u64) -> String {
    format!("#{sequence} {description}")
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let has_data = !matches!(
            self.operation,
            Operation::Abort | Operation::Collective(Collective::Barrier)
        );
        if has_data {
            let counted = match self.counted {
                Counted::Uniform => "",
                Counted::PerRank => " in all",
                Counted::PerPair => " sent",
            };
            let (to, rank) = match self.operation {
                Operation::Send => (" to rank ", self.root_or_peer()),
                Operation::Recv => (" from rank ", self.root_or_peer()),
                _ => ("", None),
            };
            let rank = rank.map(|rank| format!("{to}{rank}")).unwrap_or_default();
            parts.push(format!("{} x {}{counted}{rank}", self.dtype.name(), self.count));
        }
        parts.extend(ReduceOp::name_of(self.op).map(str::to_owned));
        if let (Operation::Collective(_), Some(root)) = (self.operation, self.root_or_peer()) {
            parts.push(format!("root {root}"));
        }
        if self.algorithm != AlgorithmName::UNKNOWN {
            let segments = match self.segments {
                0 | 1 => String::new(),
                more => format!(" in {more} segments"),
            };
            parts.push(format!("{}{segments}", self.algorithm));
        }
        match parts.is_empty() {
            true => f.write_str(self.name()),
            false => write!(f, "{}({})", self.name(), parts.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all_reduce() -> Description {
        Description::new(Operation::Collective(Collective::AllReduce))
            .data(DType::F32, 1024, Counted::Uniform)
            .op(ReduceOp::Sum)
            .algorithm(AlgorithmName::from_text("ring"), 1)
    }

    #[test]
    fn operations_in_words() {
        assert_eq!(all_reduce().to_string(), "all_reduce(f32 x 1024, sum, ring)");
        let broadcast = Description::new(Operation::Collective(Collective::Broadcast))
            .data(DType::I32, 7, Counted::Uniform)
            .rank(3)
            .algorithm(AlgorithmName::from_text("leader(direct,binomial_tree)"), 4);
        let words = "broadcast(i32 x 7, root 3, leader(direct,binomial_tree) in 4 segments)";
        assert_eq!(broadcast.to_string(), words);
        let send = Description::new(Operation::Send).data(DType::U8, 9, Counted::Uniform).rank(5);
        assert_eq!(send.to_string(), "send(u8 x 9 to rank 5)");
        let gather = Description::new(Operation::Collective(Collective::AllGather)).data(
            DType::F64,
            70,
            Counted::PerRank,
        );
        assert_eq!(gather.to_string(), "all_gather(f64 x 70 in all)");
        let barrier = Description::new(Operation::Collective(Collective::Barrier));
        assert_eq!(barrier.to_string(), "barrier");
    }

    #[test]
    fn every_registered_algorithm_and_composition_keeps_its_name() {
        for name in ALGORITHMS.iter().map(|algorithm| algorithm.name().to_owned()) {
            assert_eq!(AlgorithmName::from_text(&name).to_string(), name);
            for mode in Mode::ALL {
                let composed = format!("{}({name},ring,{name})", mode.name());
                assert_eq!(AlgorithmName::from_text(&composed).to_string(), composed);
            }
        }
        for unknown in ["", "no_such", "ring(ring)", "leader(ring", "leader()", "ring,ring,"] {
            assert_eq!(AlgorithmName::from_text(unknown), AlgorithmName::UNKNOWN, "{unknown}");
        }
    }

    #[test]
    fn what_travels_comes_back() {
        for operation in Collective::ALL.map(Operation::Collective).into_iter().chain([
            Operation::Send,
            Operation::Recv,
            Operation::Abort,
        ]) {
            for dtype in DType::ALL {
                let one = Description::new(operation)
                    .data(dtype, 1 << 40, Counted::PerPair)
                    .op(ReduceOp::BitXor)
                    .rank(77)
                    .algorithm(AlgorithmName::from_text("split_rail(direct,ring,direct)"), 9);
                assert_eq!(Description::decode(&one.encode()), Some(one));
            }
        }
    }

    #[test]
    fn differences_are_named() {
        let ours = all_reduce();
        assert!(ours.differences(&ours).is_empty());
        let theirs = ours.data(DType::F64, 1000, Counted::Uniform).op(ReduceOp::Max);
        assert_eq!(ours.differences(&theirs), ["type", "count", "op"]);
        let send = Description::new(Operation::Send).data(DType::U8, 9, Counted::Uniform).rank(1);
        let recv = Description::new(Operation::Recv).data(DType::U8, 9, Counted::Uniform).rank(0);
        assert!(send.differences(&recv).is_empty());
        assert_eq!(send.differences(&ours)[0], "collective");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_description_or_refused(bytes: [u8; Description::ENCODED_BYTES]) {
            if let Some(description) = Description::decode(&bytes) {
                prop_assert_eq!(description.encode(), bytes);
                prop_assert!(!description.to_string().is_empty());
            }
        }

        #[test]
        fn a_changed_byte_is_never_taken_for_something_unprintable(
            at in 0..Description::ENCODED_BYTES,
            byte: u8,
        ) {
            let mut bytes = all_reduce().encode();
            bytes[at] = byte;
            if let Some(description) = Description::decode(&bytes) {
                prop_assert_eq!(description.encode(), bytes);
                prop_assert!(description.to_string().contains('('));
            }
        }
    }
}
