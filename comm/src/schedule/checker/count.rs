//! What a plan costs: messages, blocks and the longest chain, per topology level.

use super::super::ir::{Cost, LevelCost, Space};
use super::Links;
use super::compile::{Kind, Plan};
use super::graph::Graph;
use super::violation::Violation;
use crate::reduce::Format;

/// Counts while a plan runs.
pub(super) struct Counter<'a> {
    plan: &'a Plan,
    links: &'a Links<'a>,
    /// Length of the longest chain of messages up to each operation, per level.
    depth: Vec<u32>,
}

impl<'a> Counter<'a> {
    pub(super) fn new(plan: &'a Plan, links: &'a Links<'a>) -> Self {
        Self { plan, links, depth: vec![0; plan.ops.len() * links.levels] }
    }

    /// An event runs: everything it waits for has run.
    pub(super) fn run(&mut self, graph: &Graph, unit: u32) {
        let levels = self.links.levels;
        let op = &self.plan.ops[unit as usize];
        if op.kind == Kind::Send {
            let end = graph.partner[unit as usize];
            self.reach(unit, end);
            let level = self.links.between(self.plan.at(unit).rank, op.peer);
            let sent = self.depth[unit as usize * levels + level];
            let depth = &mut self.depth[end as usize * levels + level];
            *depth = (*depth).max(sent + 1);
        }
        for op in graph.ends(unit) {
            for &later in graph.later(op) {
                self.reach(op, later);
            }
        }
    }

    fn reach(&mut self, earlier: u32, later: u32) {
        let levels = self.links.levels;
        for level in 0..levels {
            let reached = self.depth[earlier as usize * levels + level];
            let depth = &mut self.depth[later as usize * levels + level];
            *depth = reached.max(*depth);
        }
    }

    /// The counts, once everything has run.
    pub(super) fn cost(&self, space: Space) -> Cost {
        let levels = self.links.levels;
        let mut worst = vec![LevelCost::default(); levels];
        for rank in 0..self.plan.ranks() {
            for (worst, mine) in worst.iter_mut().zip(self.of_rank(rank)) {
                *worst = max(*worst, mine);
            }
        }
        for depth in self.depth.chunks_exact(levels) {
            for (worst, &depth) in worst.iter_mut().zip(depth) {
                worst.rounds = worst.rounds.max(u64::from(depth));
            }
        }
        let blocks = match space {
            Space::PerPair => self.plan.ranks(),
            _ => self.plan.blocks,
        };
        Cost { blocks: u64::from(blocks), levels: worst }
    }

    fn of_rank(&self, rank: u32) -> Vec<LevelCost> {
        let mut costs = vec![LevelCost::default(); self.links.levels];
        let first = self.plan.first_op[rank as usize] as usize;
        let end = self.plan.first_op[rank as usize + 1] as usize;
        for op in &self.plan.ops[first..end] {
            let level = match op.kind {
                Kind::Copy => continue,
                Kind::Reduce => self.links.local(op.stage),
                _ => self.links.between(rank, op.peer),
            };
            let cost = &mut costs[level];
            let blocks = u64::from(op.len);
            cost.messages += u64::from(op.kind.is_message());
            match op.kind {
                Kind::Send => {
                    cost.sent_blocks += blocks;
                    cost.sent_acc_blocks += if op.format == Format::Acc { blocks } else { 0 };
                }
                Kind::Recv => cost.received_blocks += blocks,
                Kind::RecvReduce => {
                    cost.received_blocks += blocks;
                    cost.reduced_blocks += blocks;
                }
                Kind::Reduce => cost.reduced_blocks += blocks,
                Kind::Copy => {}
            }
        }
        costs
    }
}

/// The larger of every number.
pub(super) fn max(a: LevelCost, b: LevelCost) -> LevelCost {
    LevelCost {
        rounds: a.rounds.max(b.rounds),
        sent_blocks: a.sent_blocks.max(b.sent_blocks),
        sent_acc_blocks: a.sent_acc_blocks.max(b.sent_acc_blocks),
        received_blocks: a.received_blocks.max(b.received_blocks),
        messages: a.messages.max(b.messages),
        reduced_blocks: a.reduced_blocks.max(b.reduced_blocks),
    }
}

/// Holds `counted` against what the builder states.
pub(super) fn compare(stated: &Cost, counted: &Cost, exact: bool) -> Result<(), Violation> {
    let check = |level, what, stated: u64, counted: u64| {
        if stated == counted || !exact && stated > counted {
            return Ok(());
        }
        Err(Violation::Cost { level, what, stated, counted })
    };
    if stated.blocks != counted.blocks {
        let (stated, counted) = (stated.blocks, counted.blocks);
        return Err(Violation::Cost { level: 0, what: "blocks", stated, counted });
    }
    let (mine, theirs) = (counted.levels.len() as u64, stated.levels.len() as u64);
    if mine != theirs {
        return Err(Violation::Cost { level: 0, what: "levels", stated: theirs, counted: mine });
    }
    for (level, (s, c)) in stated.levels.iter().zip(&counted.levels).enumerate() {
        check(level, "rounds", s.rounds, c.rounds)?;
        check(level, "sent_blocks", s.sent_blocks, c.sent_blocks)?;
        check(level, "sent_acc_blocks", s.sent_acc_blocks, c.sent_acc_blocks)?;
        check(level, "received_blocks", s.received_blocks, c.received_blocks)?;
        check(level, "messages", s.messages, c.messages)?;
        check(level, "reduced_blocks", s.reduced_blocks, c.reduced_blocks)?;
    }
    Ok(())
}
