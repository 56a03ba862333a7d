//! Runs a plan on symbolic values, and judges what the outputs hold in the end.

use super::super::ir::{Block, Collective};
use super::compile::{Kind, Op, Place, Plan};
use super::contract::{Expected, expected};
use super::graph::Graph;
use super::value::{Expr, Exprs, State, Value};
use super::violation::Violation;
use crate::error::Rank;
use crate::reduce::Format;

/// The memories of all ranks.
pub(super) struct Machine<'a> {
    plan: &'a Plan,
    exprs: Exprs,
    values: Vec<Value>,
    /// In a barrier, only who waits for whom matters.
    idle: bool,
}

impl<'a> Machine<'a> {
    /// All contributions in their places.
    pub(super) fn new(plan: &'a Plan) -> Result<Self, Violation> {
        let mut exprs = Exprs::default();
        let mut values = vec![Value::NONE; plan.locations];
        let idle = plan.shape.collective == Collective::Barrier;
        for (rank, input) in plan.inputs.iter().enumerate().filter(|_| !idle) {
            for (slot, block) in input.blocks.iter().enumerate() {
                for segment in 0..plan.segments {
                    let leaf = exprs.leaf(rank as Rank, block.0 * plan.segments + segment)?;
                    values[input.location(slot, segment)] = Value::new(leaf, State::Raw);
                }
            }
        }
        Ok(Self { plan, exprs, values, idle })
    }

    /// Runs one operation, or both ends of one message.
    pub(super) fn run(&mut self, graph: &Graph, unit: u32) -> Result<(), Violation> {
        if self.idle {
            return Ok(());
        }
        let plan = self.plan;
        let op = &plan.ops[unit as usize];
        match op.kind {
            Kind::Copy => self.copy(unit, op),
            Kind::Reduce => (0..op.len).try_for_each(|i| {
                let a = self.read(unit, op, i, plan.place(op, 0, i))?;
                let b = self.read(unit, op, i, plan.place(op, 1, i))?;
                self.combine(unit, op, i, (a, b), plan.place(op, 2, i))
            }),
            Kind::Send => {
                let end = graph.partner[unit as usize];
                let recv = &plan.ops[end as usize];
                (0..op.len).try_for_each(|i| {
                    let sent = self.read(unit, op, i, plan.place(op, 0, i))?;
                    if recv.kind == Kind::Recv {
                        self.values[plan.place(recv, 0, i).location()] = sent;
                        return Ok(());
                    }
                    let local = self.read(end, recv, i, plan.place(recv, 0, i))?;
                    self.combine(end, recv, i, (local, sent), plan.place(recv, 1, i))
                })
            }
            // Runs with its partner.
            Kind::Recv | Kind::RecvReduce => Ok(()),
        }
    }

    fn read(&self, id: u32, op: &Op, i: u32, from: Place) -> Result<Value, Violation> {
        let at = || self.plan.at(id);
        let value = self.values[from.location()];
        let wanted = self.plan.tags(op)[i as usize];
        if value == Value::NONE {
            return Err(Violation::Uninitialised { at: at(), block: self.plan.untag(wanted).0 });
        }
        let found = self.exprs.tag(value.expr());
        if found != wanted {
            let (wanted, found) = (self.plan.untag(wanted), self.plan.untag(found));
            return Err(Violation::WrongBlock { at: at(), wanted, found });
        }
        if (value.state() == State::Acc) != (from.format() == Format::Acc) {
            return Err(Violation::WrongFormat { at: at(), block: self.plan.untag(wanted).0 });
        }
        Ok(value)
    }

    fn combine(
        &mut self,
        id: u32,
        op: &Op,
        i: u32,
        (a, b): (Value, Value),
        to: Place,
    ) -> Result<(), Violation> {
        if a.state() == State::Done || b.state() == State::Done {
            let (block, _) = self.plan.untag(self.plan.tags(op)[i as usize]);
            return Err(Violation::Refinished { at: self.plan.at(id), block });
        }
        let sum = self.exprs.sum(a.expr(), b.expr(), id)?;
        self.values[to.location()] = Value::new(sum, State::Acc);
        Ok(())
    }

    fn copy(&mut self, id: u32, op: &Op) -> Result<(), Violation> {
        for i in 0..op.len {
            let value = self.read(id, op, i, self.plan.place(op, 0, i))?;
            let to = self.plan.place(op, 1, i);
            let state = match (value.state(), to.format()) {
                (State::Raw | State::Acc, Format::Acc) => State::Acc,
                (State::Acc, Format::Data) => State::Done,
                (state @ (State::Raw | State::Done), Format::Data) => state,
                (State::Done, Format::Acc) => {
                    let (block, _) = self.plan.untag(self.plan.tags(op)[i as usize]);
                    return Err(Violation::Refinished { at: self.plan.at(id), block });
                }
            };
            self.values[to.location()] = Value::new(value.expr(), state);
        }
        Ok(())
    }

    /// Compares all outputs with what the collective promises.
    pub(super) fn judge(&self) -> Result<(), Violation> {
        let plan = self.plan;
        let tags = plan.blocks as usize * plan.segments as usize;
        // Who first held the result of a tag, for results that several ranks hold.
        let mut holders = vec![None; tags];
        let mut seen = vec![Rank::MAX; plan.ranks() as usize];
        for (rank, output) in (0..).zip(&plan.outputs) {
            for (slot, &block) in output.blocks.iter().enumerate() {
                for segment in 0..plan.segments {
                    let value = self.values[output.location(slot, segment)];
                    let expected = expected(&plan.shape, rank, block);
                    if matches!(expected, Expected::Anything | Expected::Untouched) {
                        continue;
                    }
                    let tag = block.0 * plan.segments + segment;
                    if value == Value::NONE || self.exprs.tag(value.expr()) != tag {
                        return Err(Violation::NotWritten { rank, block, segment });
                    }
                    self.check_state(rank, block, value.state())?;
                    match expected {
                        Expected::Moved(wanted) => {
                            self.check_moved(rank, block, value.expr(), wanted)?;
                        }
                        Expected::Reduced(len) => {
                            let shared = len == plan.ranks();
                            let holder = &mut holders[tag as usize];
                            self.check_reduced(
                                rank,
                                block,
                                (value.expr(), len),
                                holder,
                                &mut seen,
                            )?;
                            if !shared {
                                *holder = None;
                            }
                        }
                        Expected::Anything | Expected::Untouched => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn check_state(&self, rank: Rank, block: Block, state: State) -> Result<(), Violation> {
        let holds = match (state, self.plan.shape.collective.reduces()) {
            (State::Done, true) | (State::Raw, false) => return Ok(()),
            (State::Raw, true) => "a contribution that did not go through Work",
            (State::Acc, _) => "a value in accumulator format",
            (State::Done, false) => "a moved value that went through Work",
        };
        Err(Violation::Unfinished { rank, block, holds })
    }

    fn check_moved(
        &self,
        rank: Rank,
        block: Block,
        value: Expr,
        wanted: Rank,
    ) -> Result<(), Violation> {
        match self.exprs.source(value) {
            Some(found) if found == wanted => Ok(()),
            Some(found) => Err(Violation::WrongSource { rank, block, wanted, found }),
            None => Err(Violation::Unfinished { rank, block, holds: "a reduction" }),
        }
    }

    /// `value` must hold the contributions of ranks 0 to `len - 1` exactly once each, in the
    /// tree that the holder of the same result used, if there is one.
    fn check_reduced(
        &self,
        rank: Rank,
        block: Block,
        (value, len): (Expr, Rank),
        holder: &mut Option<(Rank, Expr)>,
        seen: &mut [Rank],
    ) -> Result<(), Violation> {
        if holder.is_some_and(|(_, tree)| tree == value) {
            return Ok(());
        }
        self.check_contributions(rank, block, (value, len), seen)?;
        if let &mut Some((other, _)) = holder {
            return Err(Violation::Disagreement { ranks: (other, rank), block });
        }
        *holder = Some((rank, value));
        if self.plan.shape.reproducible {
            let tag = self.exprs.tag(value);
            // Every rank contributes to every block in order of tags.
            let tags = self.plan.blocks * self.plan.segments;
            let leaf = |rank: Rank| Exprs::nth_leaf(rank * tags + tag);
            if self.exprs.canonical(&leaf, 0, len) != Some(value) {
                return Err(Violation::NotCanonical { rank, block });
            }
        }
        Ok(())
    }

    fn check_contributions(
        &self,
        rank: Rank,
        block: Block,
        (value, len): (Expr, Rank),
        seen: &mut [Rank],
    ) -> Result<(), Violation> {
        seen.fill(0);
        let mut twice = None;
        self.exprs.contributions(value, |source| {
            seen[source as usize] += 1;
            if seen[source as usize] == 2 {
                twice = Some(source);
            }
            twice.is_none()
        });
        if let Some(contribution) = twice {
            let origin = self.exprs.doubled_at(value, contribution);
            let at = origin.map(|op| self.plan.at(op));
            let at = at.unwrap_or(super::At { rank, round: 0, step: 0 });
            return Err(Violation::Double { at, block, contribution });
        }
        let missing = (0..len).filter(|&r| seen[r as usize] == 0).collect::<Vec<_>>();
        if !missing.is_empty() {
            return Err(Violation::Dropped { rank, block, missing });
        }
        match (len..self.plan.ranks()).find(|&r| seen[r as usize] > 0) {
            Some(contribution) => Err(Violation::Foreign { rank, block, contribution }),
            None => Ok(()),
        }
    }
}
