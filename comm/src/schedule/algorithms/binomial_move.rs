//! Binomial trees that move data: broadcast, scatter and gather, from and to any root.
//!
//! Ranks are counted from the root. Rank v hangs below v without its lowest set bit, so the ranks
//! below it, itself included, are the consecutive v to v + 2^k - 1 with 2^k that lowest bit. The
//! child with the most below it is served first. With n bytes: broadcast ⌈log2 p⌉(α + nβ), scatter
//! and gather ⌈log2 p⌉α + (p-1)/p·nβ. (Thakur, Rabenseifner and Gropp, "Optimization of collective
//! communication operations in MPICH", 2005.)
//!
//! In scatter and gather a rank's own block goes straight from and to the caller's buffers; only
//! the blocks of the ranks below it pass through `Stage`.

use crate::error::Rank;
use crate::schedule::algorithm::Algorithm;
use crate::schedule::canonical::log2_ceil;
use crate::schedule::compose::{Composer, Layout, Run};
use crate::schedule::ir::{Buf, Collective, Cost, LevelCost, Schedule, Shape, Slice, Space, Step};

/// Binomial tree broadcast.
#[derive(Debug)]
pub(crate) struct BinomialBroadcast;

/// Binomial tree scatter.
#[derive(Debug)]
pub(crate) struct BinomialScatter;

/// Binomial tree gather.
#[derive(Debug)]
pub(crate) struct BinomialGather;

const NAME: &str = "binomial_tree";
const ALL: Run = Run::one(0);

/// A rank's place in the tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    ranks: Rank,
    root: Rank,
    /// The rank, counted from the root.
    pub place: Rank,
}

impl Node {
    pub(super) const fn new(shape: &Shape, rank: Rank) -> Self {
        let place = (rank + shape.ranks - shape.root) % shape.ranks;
        Self { ranks: shape.ranks, root: shape.root, place }
    }

    /// The place with this number.
    pub(super) const fn at(self, place: Rank) -> Self {
        Self { place, ..self }
    }

    /// The rank at this place.
    pub(super) const fn rank(self) -> Rank {
        (self.place + self.root) % self.ranks
    }

    /// How many ranks there are here and below.
    pub(super) const fn size(self) -> u32 {
        let rest = self.ranks - self.place;
        let own = self.place & self.place.wrapping_neg();
        if self.place == 0 || own > rest { rest } else { own }
    }

    /// The place above; the root has none.
    pub(super) fn parent(self) -> Option<Self> {
        (self.place > 0).then(|| self.at(self.place & (self.place - 1)))
    }

    /// The places directly below, the one with the most below it first.
    pub(super) fn children(self) -> impl Iterator<Item = Self> {
        let levels =
            if self.place == 0 { log2_ceil(self.ranks) } else { self.place.trailing_zeros() };
        let places = (0..levels).rev().map(move |level| self.place + (1 << level));
        places.filter(move |&place| place < self.ranks).map(move |place| self.at(place))
    }

    /// The blocks of the ranks here and below.
    pub(super) const fn blocks(self) -> Run {
        Run::new(self.rank(), self.size())
    }
}

/// The most messages on a way down: no place below p has more bits set.
pub(super) fn height(ranks: Rank) -> u64 {
    u64::from(ranks.ilog2())
}

impl Algorithm for BinomialBroadcast {
    fn name(&self) -> &str {
        NAME
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Broadcast
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let node = Node::new(shape, rank);
        let mut c = broadcast_composer(1, shape, rank);
        if let Some(parent) = node.parent() {
            c.recv(parent.rank(), Buf::Output, ALL);
            c.end_round();
        }
        let from = if node.place == 0 { Buf::Input } else { Buf::Output };
        for child in node.children() {
            c.send(child.rank(), from, ALL);
            c.end_round();
        }
        if node.place == 0 && !shape.in_place {
            c.copy(Buf::Input, Buf::Output, ALL);
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let children = u64::from(log2_ceil(shape.ranks));
        let level = LevelCost {
            rounds: height(shape.ranks),
            sent_blocks: children,
            received_blocks: children.min(1),
            messages: children,
            ..LevelCost::default()
        };
        Cost { blocks: 1, levels: vec![level] }
    }
}

/// For a broadcast of a vector in `blocks` parts.
pub(super) fn broadcast_composer(blocks: u32, shape: &Shape, rank: Rank) -> Composer {
    let all = Layout::all(blocks);
    let input = if rank == shape.root { all } else { Layout::NONE };
    Composer::new(Space::Vector { blocks }, blocks, input, all)
}

/// Where the blocks of a place that is not the root lie: its own one in `own`, those of the
/// places below in `Stage`.
fn staged(c: &Composer, own: Buf, node: Node) -> Vec<Slice> {
    let mut slices = c.slices(own, Run::one(node.rank()));
    slices.extend(
        c.slices(Buf::Stage, Run { first: node.at(node.place + 1).rank(), len: node.size() - 1 }),
    );
    slices
}

/// The slots of `Stage` for what [`staged`] keeps there.
const fn stage(node: Node) -> Layout {
    if node.place == 0 {
        Layout::NONE
    } else {
        Layout::from(node.at(node.place + 1).rank(), node.size() - 1)
    }
}

impl Algorithm for BinomialScatter {
    fn name(&self) -> &str {
        NAME
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Scatter
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let node = Node::new(shape, rank);
        let root = node.place == 0;
        let input = if root { Layout::all(shape.ranks) } else { Layout::NONE };
        let mut c = Composer::new(Space::PerRank, shape.ranks, input, Layout::one(rank))
            .with_stage(stage(node));
        if let Some(parent) = node.parent() {
            let dst = staged(&c, Buf::Output, node);
            c.step(Step::Recv { peer: parent.rank(), dst });
            c.end_round();
        }
        let from = if root { Buf::Input } else { Buf::Stage };
        for child in node.children() {
            c.send(child.rank(), from, child.blocks());
            c.end_round();
        }
        if root && !shape.in_place {
            c.copy(Buf::Input, Buf::Output, Run::one(rank));
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let most = busiest(shape.ranks);
        tree_cost(shape.ranks, u64::from(shape.ranks) - 1, most)
    }
}

impl Algorithm for BinomialGather {
    fn name(&self) -> &str {
        NAME
    }

    fn serves(&self, shape: &Shape) -> bool {
        shape.collective == Collective::Gather
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let node = Node::new(shape, rank);
        let root = node.place == 0;
        let output = if root { Layout::all(shape.ranks) } else { Layout::NONE };
        let mut c = Composer::new(Space::PerRank, shape.ranks, Layout::one(rank), output)
            .with_stage(stage(node));
        let to = if root { Buf::Output } else { Buf::Stage };
        for child in node.children().collect::<Vec<_>>().into_iter().rev() {
            c.recv(child.rank(), to, child.blocks());
            c.end_round();
        }
        if let Some(parent) = node.parent() {
            let src = staged(&c, Buf::Input, node);
            c.step(Step::Send { peer: parent.rank(), src });
        } else if !shape.in_place {
            c.copy(Buf::Input, Buf::Output, Run::one(rank));
        }
        c.build()
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let most = busiest(shape.ranks);
        tree_cost(shape.ranks, most, u64::from(shape.ranks) - 1)
    }
}

/// The most ranks below one child of the root, it included.
fn busiest(ranks: Rank) -> u64 {
    let below = (0..log2_ceil(ranks)).map(|level| (1 << level).min(ranks - (1 << level)));
    u64::from(below.max().unwrap_or(0))
}

fn tree_cost(ranks: Rank, sent_blocks: u64, received_blocks: u64) -> Cost {
    let level = LevelCost {
        rounds: height(ranks),
        sent_blocks,
        received_blocks,
        messages: u64::from(log2_ceil(ranks)),
        ..LevelCost::default()
    };
    Cost { blocks: u64::from(ranks), levels: vec![level] }
}
