//! Rabenseifner's all_reduce and reduce: recursive halving, then recursive doubling or a gather.
//!
//! The ranks are folded into q groups, q the largest power of two up to p, and the vector is cut
//! into q blocks. Ranks that differ in bit i exchange halves of what they still keep, nearest
//! first, and combine; each ends with one block of the result, the one whose number is its own
//! with the bits reversed, so that every half is contiguous. The blocks then go back the same
//! ways: to everybody, or towards the root, which represents its group.
//!
//! With p = q: all_reduce 2·log2 p·α + 2(p-1)/p·nβ + (p-1)/p·nγ; reduce the same. A fold adds two
//! rounds (reduce: one) of the whole vector; the circulant algorithm needs none.
//! (Rabenseifner 2004; Thakur, Rabenseifner and Gropp, "Optimization of Collective Communication
//! Operations in MPICH", 2005.)
//!
//! Nearest first makes it the canonical tree wherever [`Fold::is_canonical`].

use super::fold::Fold;
use crate::error::Rank;
use crate::reduce::Format;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Space};

/// Rabenseifner's all_reduce.
#[derive(Debug)]
pub(crate) struct RabenseifnerAllReduce;

/// Rabenseifner's reduce.
#[derive(Debug)]
pub(crate) struct RabenseifnerReduce;

const NAME: &str = "rabenseifner";

impl Algorithm for RabenseifnerAllReduce {
    fn name(&self) -> &str {
        NAME
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::AllReduce
            && (!shape.reproducible || Fold::binary(shape.ranks).is_canonical())
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let fold = Fold::binary(shape.ranks);
        let q = fold.groups;
        let all = Layout::all(q);
        let everything = Run::new(0, q);
        let mut c = Composer::new(Space::Vector { blocks: q }, q, all, all);
        let (group, member) = fold.group_of(rank);
        let first = fold.first_of(group);
        if member > 0 {
            c.send(first, Buf::Input, everything);
            c.end_round();
            c.recv(first, Buf::Output, everything);
            return c.build();
        }
        let mut c = c.with_work(all, Some(0));
        let extra = (fold.size(group) > 1).then_some(rank + 1);
        let halvings = halve(&mut c, &fold, group, extra, |g| fold.first_of(g));
        c.finish(Buf::Output, own_block(q, &halvings));
        for h in halvings.iter().rev() {
            c.send(h.peer, Buf::Output, h.kept);
            c.recv(h.peer, Buf::Output, h.given);
            c.end_round();
        }
        if let Some(extra) = extra {
            c.send(extra, Buf::Output, everything);
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let fold = Fold::binary(shape.ranks);
        let (q, digits) = (u64::from(fold.groups), u64::from(fold.digits()));
        let (folds, raw) = if fold.folds() { (1, 0) } else { (0, q / 2) };
        let level = LevelCost {
            rounds: 2 * digits + 2 * folds,
            sent_blocks: 2 * (q - 1) + folds * q,
            sent_acc_blocks: q - 1 - raw,
            received_blocks: 2 * (q - 1) + folds * q,
            messages: 4 * digits + 2 * folds,
            reduced_blocks: q - 1 + folds * q,
        };
        Cost { blocks: q, levels: vec![level] }
    }
}

impl Algorithm for RabenseifnerReduce {
    fn name(&self) -> &str {
        NAME
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Reduce
            && (!shape.reproducible || Fold::binary(shape.ranks).is_canonical())
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let fold = Fold::binary(shape.ranks);
        let q = fold.groups;
        let root_group = fold.group_of(shape.root).0;
        let head = |group| if group == root_group { shape.root } else { fold.first_of(group) };
        let (group, _) = fold.group_of(rank);
        let is_root = rank == shape.root;
        let output = if is_root { Layout::all(q) } else { Layout::NONE };
        let mut c = Composer::new(Space::Vector { blocks: q }, q, Layout::all(q), output);
        if rank != head(group) {
            c.send(head(group), Buf::Input, Run::new(0, q));
            return c.build();
        }
        let first = fold.first_of(group);
        let extra = (fold.size(group) > 1).then(|| if rank == first { first + 1 } else { first });
        let distance = group ^ root_group;
        let (work, results) = if is_root {
            (Layout::all(q), Buf::Output)
        } else {
            let whole = Run::new(0, q);
            let first_kept = halves(whole, group & 1).0;
            let work = if extra.is_some() { whole } else { first_kept };
            let kept = (0..=distance.ilog2()).fold(whole, |w, i| halves(w, group >> i & 1).0);
            c = c.with_stage(Layout::from(kept.first, kept.len));
            (Layout::from(work.first, work.len), Buf::Stage)
        };
        let mut c = c.with_work(work, is_root.then_some(0));
        let halvings = halve(&mut c, &fold, group, extra, head);
        c.finish(results, own_block(q, &halvings));
        for (bit, h) in halvings.iter().enumerate().rev() {
            if distance >> bit & 1 == 1 {
                c.send(h.peer, results, h.kept);
                break;
            }
            c.recv(h.peer, results, h.given);
            c.end_round();
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let fold = Fold::binary(shape.ranks);
        let root_group = fold.group_of(shape.root).0;
        let (q, digits) = (u64::from(fold.groups), u64::from(fold.digits()));
        // The longest chain starts and ends in the root's group.
        let rounds = 2 * digits + u64::from(fold.size(root_group) > 1);
        let sent_blocks = if fold.folds() { q } else { 0 };
        let mut level = LevelCost { rounds, sent_blocks, ..LevelCost::default() };
        for group in 0..fold.groups {
            let extra = u64::from(fold.size(group)) - 1;
            // It collects the blocks of the groups nearer to it than the one it sends to.
            let distance = group ^ root_group;
            let sends = u64::from(distance != 0);
            let collected = if sends == 1 { q >> (distance.ilog2() + 1) } else { q };
            let gathers = if sends == 1 { digits - u64::from(distance.ilog2()) } else { digits };
            let sent = q - 1 + sends * collected;
            let raw = if extra == 0 { q / 2 } else { 0 };
            level.sent_blocks = level.sent_blocks.max(sent);
            level.sent_acc_blocks = level.sent_acc_blocks.max(q - 1 - raw);
            level.received_blocks = level.received_blocks.max(extra * q + q - 1 + collected - 1);
            level.messages = level.messages.max(extra + 2 * digits + gathers);
            level.reduced_blocks = level.reduced_blocks.max(extra * q + q - 1);
        }
        Cost { blocks: q, levels: vec![level] }
    }
}

/// One exchange of the recursive halving.
#[derive(Clone, Copy, Debug)]
struct Halving {
    peer: Rank,
    kept: Run,
    given: Run,
}

/// The halves of `run` that a rank keeps and gives away, by its bit.
fn halves(run: Run, bit: u32) -> (Run, Run) {
    let half = run.len / 2;
    let (lower, upper) = (Run::new(run.first, half), Run::new(run.first + half, half));
    if bit == 0 { (lower, upper) } else { (upper, lower) }
}

/// The one block that is kept in the end.
fn own_block(blocks: u32, halvings: &[Halving]) -> Run {
    halvings.last().map_or_else(|| Run::new(0, blocks), |h| h.kept)
}

/// The fold and the recursive halving of the rank that speaks for `group`, as `head` names it.
fn halve(
    c: &mut Composer,
    fold: &Fold,
    group: Rank,
    extra: Option<Rank>,
    head: impl Fn(Rank) -> Rank,
) -> Vec<Halving> {
    let mut held = Run::new(0, fold.groups);
    if let Some(extra) = extra {
        c.recv_reduce(extra, Format::Data, held);
        c.end_round();
    }
    let mut halvings = Vec::with_capacity(fold.digits() as usize);
    for bit in 0..fold.digits() {
        let (kept, given) = halves(held, group >> bit & 1);
        let peer_group = group ^ 1 << bit;
        let peer = head(peer_group);
        c.send_partial(peer, given);
        let raw = bit == 0 && fold.size(peer_group) == 1;
        c.recv_reduce(peer, if raw { Format::Data } else { Format::Acc }, kept);
        c.end_round();
        halvings.push(Halving { peer, kept, given });
        held = kept;
    }
    halvings
}
