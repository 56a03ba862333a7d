//! What the `Stage` slots of a schedule hold: contributions, or finished results.
//!
//! Both are in data format in a schedule of its own. In a phase that begins or ends with partial
//! results they differ, so a relabelled schedule has to tell them apart.

use super::super::ir::{Buf, Collective, Schedule, Slice, Step};

/// What a value in data format is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// As it was in the input.
    Raw,
    /// A result.
    Done,
}

/// The class of what each step, in listed order, reads from and writes to `Stage`.
pub(super) fn classify(schedule: &Schedule, collective: Collective) -> Vec<(Class, Class)> {
    let mut values = Values { class: Vec::new(), held: vec![0; schedule.stage.len()] };
    let unread = values.add(None);
    let mut of_step = Vec::new();
    for step in schedule.rounds.iter().flat_map(|round| &round.steps) {
        of_step.push(match step {
            Step::Send { src, .. } => (values.read(src, None), unread),
            Step::Recv { dst, .. } => {
                let value = values.add(None);
                (unread, values.write(dst, value))
            }
            Step::RecvReduce { local, .. } => (values.read(local, Some(Class::Raw)), unread),
            Step::Copy { src, dst } => copy(&mut values, src, dst),
            Step::Reduce { a, b, .. } => {
                let read = values.read(a, Some(Class::Raw));
                let other = values.read(b, Some(Class::Raw));
                (read.max(other), unread)
            }
        });
    }
    // Only passed on: an all_reduce distributes results, all others collect contributions.
    let passed = match collective {
        Collective::AllReduce => Class::Done,
        _ => Class::Raw,
    };
    let class = |value: usize| values.class[value].unwrap_or(passed);
    of_step.into_iter().map(|(read, written)| (class(read), class(written))).collect()
}

fn copy(values: &mut Values, src: &[Slice], dst: &[Slice]) -> (usize, usize) {
    let from = src.first().map_or(Buf::Input, |slice| slice.buf);
    let to = dst.first().map_or(Buf::Output, |slice| slice.buf);
    let known = match to {
        Buf::Work => Some(Class::Raw),
        Buf::Output => Some(Class::Done),
        Buf::Input | Buf::Stage => None,
    };
    let read = values.read(src, known);
    let written = match from {
        Buf::Stage => read,
        Buf::Input => values.add(Some(Class::Raw)),
        Buf::Work | Buf::Output => values.add(Some(Class::Done)),
    };
    (read, values.write(dst, written))
}

/// Values that were written to `Stage` together, and which slot holds which. Value 0 stands for
/// none.
struct Values {
    class: Vec<Option<Class>>,
    held: Vec<usize>,
}

impl Values {
    fn add(&mut self, class: Option<Class>) -> usize {
        self.class.push(class);
        self.class.len() - 1
    }

    fn read(&mut self, slices: &[Slice], class: Option<Class>) -> usize {
        let mut read = 0;
        for slice in slices.iter().filter(|slice| slice.buf == Buf::Stage) {
            for slot in slice.slot..slice.slot + slice.len {
                read = self.held[slot as usize];
                self.class[read] = self.class[read].or(class);
            }
        }
        read
    }

    fn write(&mut self, slices: &[Slice], value: usize) -> usize {
        for slice in slices.iter().filter(|slice| slice.buf == Buf::Stage) {
            for slot in slice.slot..slice.slot + slice.len {
                self.held[slot as usize] = value;
            }
        }
        value
    }
}
