//! What the `Stage` slots of a schedule hold: contributions, or finished results.
//!
//! Both are in data format in a schedule of its own. In a phase that begins or ends with partial
//! results they differ, so a relabelled schedule has to tell them apart. Mostly what a rank does
//! with a value says what it is. Where a rank only passes a value on, the schedule of the rank it
//! came from is looked at.

use std::collections::HashMap;

use super::super::algorithm::Algorithm;
use super::super::ir::{Buf, Schedule, Shape, Slice, Step};
use crate::error::Rank;

/// What a value in data format is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// As it was in the input.
    Raw,
    /// A result.
    Done,
}

/// The class of what each step of `schedule`, in listed order, reads from and writes to `Stage`.
/// It is the schedule of `rank`; those of others are built when needed.
pub(super) fn classify(
    algorithm: &dyn Algorithm,
    shape: &Shape,
    rank: Rank,
    schedule: &Schedule,
) -> Vec<(Class, Class)> {
    let mut ranks = Ranks { algorithm, shape, known: HashMap::new() };
    let mine = Values::of(schedule);
    let steps = mine.steps.clone();
    ranks.known.insert(rank, mine);
    let mut class = |value| ranks.resolve(rank, value).unwrap_or(Class::Raw);
    steps.into_iter().map(|(read, written)| (class(read), class(written))).collect()
}

/// The values of every rank that was looked at.
struct Ranks<'a> {
    algorithm: &'a dyn Algorithm,
    shape: &'a Shape,
    known: HashMap<Rank, Values>,
}

impl Ranks<'_> {
    /// What `value` of `rank` is, asking along the way it came.
    fn resolve(&mut self, rank: Rank, value: usize) -> Option<Class> {
        let (algorithm, shape) = (self.algorithm, self.shape);
        let build = || Values::of(&algorithm.build(shape, rank));
        let values = self.known.entry(rank).or_insert_with(build);
        if values.class[value].is_some() {
            return values.class[value];
        }
        let (peer, index) = values.source[value].take()?;
        let values =
            self.known.entry(peer).or_insert_with(|| Values::of(&algorithm.build(shape, peer)));
        let sent = *values.sent.get(&rank)?.get(index)?;
        let class = self.resolve(peer, sent);
        if let Some(values) = self.known.get_mut(&rank) {
            values.class[value] = class;
        }
        class
    }
}

/// The values in data format that one rank sees. Values 0 to 2 stand for nothing, for any
/// contribution, and for any result.
struct Values {
    class: Vec<Option<Class>>,
    /// From whom a value came, and as which of that rank's messages.
    source: Vec<Option<(Rank, usize)>>,
    /// Which value each stage slot holds.
    held: Vec<usize>,
    /// Which value each step reads from, and writes to, `Stage`.
    steps: Vec<(usize, usize)>,
    /// The values of all messages to a rank.
    sent: HashMap<Rank, Vec<usize>>,
}

const NOTHING: usize = 0;
const RAW: usize = 1;
const DONE: usize = 2;

impl Values {
    fn of(schedule: &Schedule) -> Self {
        let mut values = Self {
            class: vec![None, Some(Class::Raw), Some(Class::Done)],
            source: vec![None; 3],
            held: vec![NOTHING; schedule.stage.len()],
            steps: Vec::new(),
            sent: HashMap::new(),
        };
        let mut received = HashMap::<Rank, usize>::new();
        for step in schedule.rounds.iter().flat_map(|round| &round.steps) {
            let classes = match step {
                Step::Send { peer, src } => {
                    let value = values.read(src, None);
                    values.sent.entry(*peer).or_default().push(value);
                    (value, NOTHING)
                }
                Step::Recv { peer, dst } => {
                    let index = received.entry(*peer).or_insert(0);
                    *index += 1;
                    (NOTHING, values.receive(dst, (*peer, *index - 1)))
                }
                Step::RecvReduce { peer, local, .. } => {
                    *received.entry(*peer).or_insert(0) += 1;
                    (values.read(local, Some(Class::Raw)), NOTHING)
                }
                Step::Copy { src, dst } => values.copy(src, dst),
                Step::Reduce { a, b, .. } => {
                    let (a, b) =
                        (values.read(a, Some(Class::Raw)), values.read(b, Some(Class::Raw)));
                    (if a == NOTHING { b } else { a }, NOTHING)
                }
            };
            values.steps.push(classes);
        }
        values
    }

    fn add(&mut self, class: Option<Class>, source: Option<(Rank, usize)>) -> usize {
        self.class.push(class);
        self.source.push(source);
        self.class.len() - 1
    }

    /// The value in data format that `slices` hold, of which the step says that it is `class`.
    fn read(&mut self, slices: &[Slice], class: Option<Class>) -> usize {
        let of_buffer = named(slices);
        let class = class.or(self.class[of_buffer]);
        let mut read = of_buffer;
        for slice in slices.iter().filter(|slice| slice.buf == Buf::Stage) {
            for slot in slice.slot..slice.slot + slice.len {
                let held = self.held[slot as usize];
                if held > DONE {
                    self.class[held] = self.class[held].or(class);
                }
                read = held;
            }
        }
        read
    }

    fn write(&mut self, slices: &[Slice], value: usize) {
        for slice in slices.iter().filter(|slice| slice.buf == Buf::Stage) {
            for slot in slice.slot..slice.slot + slice.len {
                self.held[slot as usize] = value;
            }
        }
    }

    fn receive(&mut self, dst: &[Slice], source: (Rank, usize)) -> usize {
        let of_buffer = named(dst);
        let value = match of_buffer {
            NOTHING => self.add(None, Some(source)),
            _ => of_buffer,
        };
        self.write(dst, value);
        value
    }

    fn copy(&mut self, src: &[Slice], dst: &[Slice]) -> (usize, usize) {
        let from_work = src.iter().any(|slice| slice.buf == Buf::Work);
        let known = match named(dst) {
            DONE => Some(Class::Done),
            _ if dst.iter().any(|slice| slice.buf == Buf::Work) => Some(Class::Raw),
            _ => None,
        };
        let read = self.read(src, known);
        let written = if from_work { DONE } else { read };
        self.write(dst, written);
        (read, written)
    }
}

/// What the buffers other than `Stage` say about a value.
fn named(slices: &[Slice]) -> usize {
    let any = |buf| slices.iter().any(|slice| slice.buf == buf);
    match (any(Buf::Input), any(Buf::Output)) {
        (true, _) => RAW,
        (false, true) => DONE,
        (false, false) => NOTHING,
    }
}
