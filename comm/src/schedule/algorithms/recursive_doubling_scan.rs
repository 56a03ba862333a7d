//! Recursive doubling scan and exscan, in rank order.
//!
//! In round i the aligned groups of 2^i ranks are paired, and every rank knows the partial result
//! of its group. The ranks of the lower group send it to their partners in the upper one, who put
//! it in front of their prefix; those of the upper group send theirs as far as somebody above
//! the pair still needs the pair's. Groups at the end that are not full have nobody above, so any
//! number of ranks takes ⌈log2 p⌉ rounds.
//!
//! ⌈log2 p⌉(α + nβ + 2nγ). (Hillis and Steele, "Data parallel algorithms", 1986, with the partners
//! of recursive doubling instead of shifts.) A prefix is put together from aligned groups, the
//! nearest first, which is its canonical tree (ADR 0004).

use crate::error::Rank;
use crate::reduce::Format;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::canonical::log2_ceil;
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{
    Buf, Collective, Cost, LevelCost, Schedule, Shape, Slice, Slot, Space, Step,
};

/// Recursive doubling scan and exscan.
#[derive(Debug)]
pub(crate) struct RecursiveDoublingScan;

const ALL: Run = Run::one(0);

impl Algorithm for RecursiveDoublingScan {
    fn name(&self) -> &str {
        "recursive_doubling"
    }

    fn serves(&self, shape: &Shape) -> bool {
        matches!(shape.collective, Collective::Scan | Collective::ExScan)
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let all = Layout::all(1);
        let mut c = Composer::new(Space::Vector { blocks: 1 }, 1, all, all);
        let inclusive = shape.collective == Collective::Scan;
        if inclusive || rank > 0 {
            // In place, the prefix would overwrite the contribution while it is being sent.
            c = c.with_work(all, if shape.in_place { None } else { Some(0) });
        }
        let input = c.slices(Buf::Input, ALL);
        let prefix = inclusive.then(|| input.clone());
        let mut walk = Walk { total: input, prefix, totals: None, other: None, stage: None };
        for meeting in meetings(shape.ranks, rank) {
            walk.meet(&mut c, &meeting);
            c.end_round();
        }
        if let Some(prefix) = walk.prefix {
            let work = c.slices(Buf::Work, ALL);
            if prefix != work {
                c.step(Step::Copy { src: prefix, dst: work });
            }
            c.copy(Buf::Work, Buf::Output, ALL);
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let rounds = u64::from(log2_ceil(shape.ranks));
        let inclusive = shape.collective == Collective::Scan;
        let (mut received, mut messages, mut reduced) = (0, 0, 0);
        for rank in 0..shape.ranks {
            let (mut r, mut m, mut k) = (0, 0, 0);
            let mut has_prefix = inclusive;
            for meeting in meetings(shape.ranks, rank) {
                let receives = u64::from(meeting.upper || meeting.total_needed);
                let sends = u64::from(!meeting.upper || meeting.total_needed);
                r += receives;
                m += receives + sends;
                k += u64::from(meeting.total_needed) + u64::from(meeting.upper && has_prefix);
                has_prefix |= meeting.upper;
            }
            (received, messages, reduced) = (r.max(received), m.max(messages), k.max(reduced));
        }
        let level = LevelCost {
            rounds,
            sent_blocks: rounds,
            sent_acc_blocks: rounds.saturating_sub(1),
            received_blocks: received,
            messages,
            reduced_blocks: reduced,
        };
        Cost { blocks: 1, levels: vec![level] }
    }
}

/// A round in which this rank has a partner.
#[derive(Debug)]
struct Meeting {
    peer: Rank,
    /// This rank is in the upper group.
    upper: bool,
    /// Somebody above the pair needs the pair's partial result.
    total_needed: bool,
    /// The partner alone is its group.
    raw: bool,
}

fn meetings(ranks: Rank, rank: Rank) -> impl Iterator<Item = Meeting> {
    (0..log2_ceil(ranks)).filter(move |level| rank ^ 1 << level < ranks).map(move |level| {
        let peer = rank ^ 1 << level;
        let end = ((rank >> (level + 1)) + 1) << (level + 1);
        Meeting { peer, upper: rank > peer, total_needed: end < ranks, raw: level == 0 }
    })
}

/// Where one rank's partial results are.
struct Walk {
    /// Of its group.
    total: Vec<Slice>,
    /// Of the ranks of its group up to it.
    prefix: Option<Vec<Slice>>,
    /// First of the two work slots that group results alternate between.
    totals: Option<u32>,
    /// Work slot for what comes.
    other: Option<u32>,
    /// The same for a raw contribution.
    stage: Option<u32>,
}

impl Walk {
    fn meet(&mut self, c: &mut Composer, meeting: &Meeting) {
        let Meeting { peer, upper, total_needed, raw } = *meeting;
        if !upper || total_needed {
            c.step(Step::Send { peer, src: self.total.clone() });
        }
        let wire = if raw { Format::Data } else { Format::Acc };
        match (upper, total_needed) {
            (false, false) => {}
            (false, true) => {
                let dst = self.next_total(c);
                let local = std::mem::replace(&mut self.total, dst.clone());
                c.step(Step::RecvReduce { peer, wire, local, dst });
            }
            (true, false) => match self.prefix.take() {
                Some(local) => {
                    let dst = c.slices(Buf::Work, ALL);
                    c.step(Step::RecvReduce { peer, wire, local, dst: dst.clone() });
                    self.prefix = Some(dst);
                }
                None => self.prefix = Some(self.receive(c, meeting)),
            },
            (true, true) => {
                let came = self.receive(c, meeting);
                self.prefix = Some(match self.prefix.take() {
                    None => came.clone(),
                    Some(prefix) => {
                        let dst = c.slices(Buf::Work, ALL);
                        c.step(Step::Reduce { a: came.clone(), b: prefix, dst: dst.clone() });
                        dst
                    }
                });
                let dst = self.next_total(c);
                let total = std::mem::replace(&mut self.total, dst.clone());
                c.step(Step::Reduce { a: came, b: total, dst });
            }
        }
    }

    /// Receives into a place of its own, or where the prefix goes if there is none yet.
    fn receive(&mut self, c: &mut Composer, meeting: &Meeting) -> Vec<Slice> {
        let dst = if meeting.raw {
            let slot = *self.stage.get_or_insert_with(|| c.add_stage([Slot::Any]));
            Composer::at(Buf::Stage, slot, 0)
        } else if self.prefix.is_none() {
            c.slices(Buf::Work, ALL)
        } else {
            let slot = *self.other.get_or_insert_with(|| c.add_scratch([Slot::Any]));
            Composer::at(Buf::Work, slot, 0)
        };
        c.step(Step::Recv { peer: meeting.peer, dst: dst.clone() });
        dst
    }

    /// The slot that the group's result is not in, so that it can be sent meanwhile.
    fn next_total(&mut self, c: &mut Composer) -> Vec<Slice> {
        let first = *self.totals.get_or_insert_with(|| c.add_scratch([Slot::Any, Slot::Any]));
        let first = Composer::at(Buf::Work, first, 0);
        let second = Composer::at(Buf::Work, first[0].slot + 1, 0);
        if self.total == first { second } else { first }
    }
}
