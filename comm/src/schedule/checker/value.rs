//! Symbolic values: hash-consed expression trees over contributions, up to commutation.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::violation::Violation;
use crate::error::Rank;

/// What a memory location holds: an expression and its state, packed; or nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value(u32);

/// How far a value has come on its way from contribution to result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A contribution in data format, as it was given.
    Raw = 0,
    /// In accumulator format.
    Acc = 1,
    /// In data format, after the operator's last step.
    Done = 2,
}

impl Value {
    /// Nothing was written yet.
    pub(super) const NONE: Self = Self(u32::MAX);

    pub(super) const fn new(expr: Expr, state: State) -> Self {
        Self(expr.0 << 2 | state as u32)
    }

    pub(super) const fn expr(self) -> Expr {
        Expr(self.0 >> 2)
    }

    pub(super) const fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Raw,
            1 => State::Acc,
            _ => State::Done,
        }
    }
}

/// An expression, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Expr(u32);

#[derive(Clone, Copy, Debug)]
enum Node {
    Leaf(Rank),
    Sum(Expr, Expr),
}

/// Mixes the two halves of the only kind of key there is.
#[derive(Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_u64(&mut self, key: u64) {
        let mixed = (self.0 ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

/// All expressions of one check. A tag is a (block, segment) in one number.
#[derive(Default)]
pub(super) struct Exprs {
    nodes: Vec<Node>,
    tags: Vec<u32>,
    origins: Vec<u32>,
    sums: HashMap<u64, Expr, BuildHasherDefault<Mix>>,
}

impl Exprs {
    /// The contribution of `rank` to `tag`; a new expression at every call.
    pub(super) fn leaf(&mut self, rank: Rank, tag: u32) -> Result<Expr, Violation> {
        self.push(Node::Leaf(rank), tag, u32::MAX)
    }

    /// `a ⊕ b`, first combined by the operation `origin` if it is new. Both have the same tag.
    pub(super) fn sum(&mut self, a: Expr, b: Expr, origin: u32) -> Result<Expr, Violation> {
        let (low, high) = (a.min(b), a.max(b));
        let key = Self::key(low, high);
        if let Some(&known) = self.sums.get(&key) {
            return Ok(known);
        }
        let new = self.push(Node::Sum(low, high), self.tag(low), origin)?;
        self.sums.insert(key, new);
        Ok(new)
    }

    fn key(low: Expr, high: Expr) -> u64 {
        u64::from(low.0) << 32 | u64::from(high.0)
    }

    /// The `n`-th expression made, which must be a contribution.
    pub(super) const fn nth_leaf(n: u32) -> Expr {
        Expr(n)
    }

    fn push(&mut self, node: Node, tag: u32, origin: u32) -> Result<Expr, Violation> {
        let id = u32::try_from(self.nodes.len()).ok().filter(|&id| id < (1 << 30) - 1);
        let id = id.ok_or(Violation::TooLarge { what: "expressions" })?;
        self.nodes.push(node);
        self.tags.push(tag);
        self.origins.push(origin);
        Ok(Expr(id))
    }

    pub(super) fn tag(&self, expr: Expr) -> u32 {
        self.tags[expr.0 as usize]
    }

    /// The rank of a single contribution.
    pub(super) fn source(&self, expr: Expr) -> Option<Rank> {
        match self.nodes[expr.0 as usize] {
            Node::Leaf(rank) => Some(rank),
            Node::Sum(..) => None,
        }
    }

    /// Calls `visit` with the rank of every contribution, until it returns false.
    pub(super) fn contributions(&self, expr: Expr, mut visit: impl FnMut(Rank) -> bool) {
        let mut pending = vec![expr];
        while let Some(next) = pending.pop() {
            match self.nodes[next.0 as usize] {
                Node::Leaf(rank) => {
                    if !visit(rank) {
                        return;
                    }
                }
                Node::Sum(a, b) => pending.extend([a, b]),
            }
        }
    }

    /// The operation that combined two values which both contain `rank`'s contribution.
    pub(super) fn doubled_at(&self, expr: Expr, rank: Rank) -> Option<u32> {
        let mut at = expr;
        loop {
            let Node::Sum(a, b) = self.nodes[at.0 as usize] else { return None };
            match (self.contains(a, rank), self.contains(b, rank)) {
                (true, true) => return Some(self.origins[at.0 as usize]),
                (true, false) => at = a,
                (false, true) => at = b,
                (false, false) => return None,
            }
        }
    }

    fn contains(&self, expr: Expr, rank: Rank) -> bool {
        let mut found = false;
        self.contributions(expr, |source| {
            found = source == rank;
            !found
        });
        found
    }

    /// The canonical tree over the `len` contributions from rank `first` on, if it was built:
    /// a range is split at the largest power of two below its size.
    pub(super) fn canonical(
        &self,
        leaf: &impl Fn(Rank) -> Expr,
        first: Rank,
        len: Rank,
    ) -> Option<Expr> {
        if len == 1 {
            return Some(leaf(first));
        }
        let half = len.next_power_of_two() / 2;
        let a = self.canonical(leaf, first, half)?;
        let b = self.canonical(leaf, first + half, len - half)?;
        self.sums.get(&Self::key(a.min(b), a.max(b))).copied()
    }
}
