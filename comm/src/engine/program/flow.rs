//! Dataflow: which step must wait for which, byte by byte.
//!
//! Every memory is an ordered map of disjoint byte ranges; each remembers who wrote it last and
//! who has read it since. A new access looks up what it overlaps, and waits for exactly that.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{Code, Edge, Kind, Loc, Mem};

/// Step `step` touches a range from its element `element` on.
#[derive(Clone, Copy, Debug)]
struct Access {
    step: u32,
    element: usize,
}

/// A byte range, from its key in the map to `end`.
#[derive(Clone, Debug)]
struct Region {
    end: usize,
    /// Bytes per element; one width per region, because a memory range has one format.
    width: usize,
    writer: Option<Access>,
    readers: Vec<Access>,
}

impl Region {
    /// The part of the region from `bytes` behind its start on.
    fn tail(&self, bytes: usize) -> Self {
        let moved = |a: Access| Access { step: a.step, element: a.element + bytes / self.width };
        Self {
            end: self.end,
            width: self.width,
            writer: self.writer.map(moved),
            readers: self.readers.iter().copied().map(moved).collect(),
        }
    }
}

/// The state of all memories between two steps of the listing.
#[derive(Default)]
pub(super) struct Flow {
    output: BTreeMap<usize, Region>,
    scratch: BTreeMap<usize, Region>,
    /// Steps of which another step reads what they wrote.
    read_from: BTreeSet<u32>,
}

/// An operand of a step: `elements` of `width` bytes at `loc`, from its element `element` on.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub(super) loc: Loc,
    pub(super) width: usize,
    pub(super) element: usize,
    pub(super) elements: usize,
}

impl Flow {
    /// Records that `step` reads `operand`, and appends what it waits for.
    pub(super) fn read(&mut self, step: u32, operand: Operand, edges: &mut Vec<Edge>) {
        let mut read_from = std::mem::take(&mut self.read_from);
        self.access(operand, |first, region| {
            wait(edges, step, operand, (first, region), region.writer);
            read_from.extend(region.writer.map(|writer| writer.step).filter(|&w| w != step));
            if region.readers.last().is_none_or(|reader| reader.step != step) {
                region.readers.push(Access { step, element: first });
            }
        });
        self.read_from = read_from;
    }

    /// Records that `step` writes `operand`, and appends what it waits for.
    pub(super) fn write(&mut self, step: u32, operand: Operand, edges: &mut Vec<Edge>) {
        self.access(operand, |first, region| {
            if region.readers.is_empty() {
                wait(edges, step, operand, (first, region), region.writer);
            }
            for reader in std::mem::take(&mut region.readers) {
                wait(edges, step, operand, (first, region), Some(reader));
            }
        });
        let Some((map, start, end)) = self.range(operand) else { return };
        let inside: Vec<usize> = map.range(start..end).map(|(&at, _)| at).collect();
        for at in inside {
            map.remove(&at);
        }
        let writer = Some(Access { step, element: operand.element });
        map.insert(start, Region { end, width: operand.width, writer, readers: Vec::new() });
    }

    /// Whether a step reads what `step` wrote.
    pub(super) fn is_read(&self, step: u32) -> bool {
        self.read_from.contains(&step)
    }

    fn range(&mut self, operand: Operand) -> Option<(&mut BTreeMap<usize, Region>, usize, usize)> {
        let map = match operand.loc.mem {
            Mem::Input => return None,
            Mem::Output => &mut self.output,
            Mem::Scratch => &mut self.scratch,
        };
        let start = operand.loc.at;
        let end = start + operand.elements * operand.width;
        (start < end).then_some((map, start, end))
    }

    /// Calls `each` for every region inside the operand's range, with the operand's first
    /// element in it; splits and creates regions so that they cover the range exactly.
    fn access(&mut self, operand: Operand, mut each: impl FnMut(usize, &mut Region)) {
        let Some((map, start, end)) = self.range(operand) else { return };
        split(map, start);
        split(map, end);
        let mut at = start;
        while at < end {
            let next = map.range(at..end).next().map_or(end, |(&next, _)| next);
            if next > at {
                let width = operand.width;
                let fresh = Region { end: next, width, writer: None, readers: Vec::new() };
                map.insert(at, fresh);
            }
            let Some(region) = map.get_mut(&at) else { return };
            each(operand.element + (at - start) / operand.width, region);
            at = region.end;
        }
    }
}

fn split(map: &mut BTreeMap<usize, Region>, at: usize) {
    let Some((&start, region)) = map.range_mut(..at).next_back() else { return };
    if region.end > at {
        let tail = region.tail(at - start);
        region.end = at;
        map.insert(at, tail);
    }
}

/// Appends the wait of `step`, at its element `first` of `region`, for `pred`.
fn wait(
    edges: &mut Vec<Edge>,
    step: u32,
    operand: Operand,
    (first, region): (usize, &Region),
    pred: Option<Access>,
) {
    let Some(pred) = pred.filter(|pred| pred.step != step) else { return };
    let start = operand.loc.at + (first - operand.element) * operand.width;
    let to = first + (region.end - start) / operand.width;
    let edge = Edge { pred: pred.step, from: first, to, pred_from: pred.element };
    if let Some(last) = edges.last_mut() {
        let follows = last.pred == edge.pred
            && last.to == edge.from
            && last.pred_from + (last.to - last.from) == edge.pred_from;
        if follows {
            last.to = edge.to;
            return;
        }
    }
    edges.push(edge);
}

/// Whether the order of messages on one pipe already makes `step` wait for `pred`.
pub(super) fn same_pipe(pred: &Code, step: &Code) -> bool {
    let pair = (pred.kind.receives() && step.kind.receives())
        || (pred.kind == Kind::Send && step.kind == Kind::Send);
    pair && pred.peer == step.peer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(bytes: usize, element: usize, elements: usize) -> Operand {
        Operand { loc: Loc { mem: Mem::Scratch, at: bytes }, width: 4, element, elements }
    }

    #[test]
    fn a_reader_follows_the_writer_element_by_element() {
        let (mut flow, mut edges) = (Flow::default(), Vec::new());
        flow.write(0, at(0, 0, 10), &mut edges);
        assert!(edges.is_empty());
        flow.read(1, at(8, 100, 3), &mut edges);
        assert_eq!(edges, [Edge { pred: 0, from: 100, to: 103, pred_from: 2 }]);
    }

    #[test]
    fn a_writer_waits_for_readers_and_for_the_writer_nobody_read() {
        let (mut flow, mut edges) = (Flow::default(), Vec::new());
        flow.write(0, at(0, 0, 10), &mut edges);
        flow.read(1, at(0, 0, 5), &mut Vec::new());
        flow.read(2, at(0, 0, 5), &mut Vec::new());
        flow.write(3, at(0, 0, 10), &mut edges);
        let edge = |pred, from, to, pred_from| Edge { pred, from, to, pred_from };
        assert_eq!(edges, [edge(1, 0, 5, 0), edge(2, 0, 5, 0), edge(0, 5, 10, 5)]);
        edges.clear();
        flow.read(4, at(0, 0, 10), &mut edges);
        assert_eq!(edges, [edge(3, 0, 10, 0)]);
    }

    #[test]
    fn adjacent_pieces_of_one_predecessor_are_one_wait() {
        let (mut flow, mut edges) = (Flow::default(), Vec::new());
        flow.write(0, at(0, 0, 4), &mut edges);
        flow.write(0, at(16, 4, 4), &mut edges);
        flow.read(1, at(0, 0, 8), &mut edges);
        assert_eq!(edges, [Edge { pred: 0, from: 0, to: 8, pred_from: 0 }]);
    }

    #[test]
    fn a_step_does_not_wait_for_itself() {
        let (mut flow, mut edges) = (Flow::default(), Vec::new());
        flow.read(5, at(0, 0, 4), &mut edges);
        flow.write(5, at(0, 0, 4), &mut edges);
        assert!(edges.is_empty());
    }
}
