//! Hierarchical schedules: a combinator that puts the schedules of flat algorithms together.
//!
//! A [`Hierarchy`] says which ranks are close to each other: groups (the ranks of a host), groups
//! of groups (the hosts of a rack), and so on. [`Hierarchical`] works inside the groups with the
//! algorithms of one [`Level`], across them with those of the next, in one of two ways:
//!
//! * [`Mode::Leader`], for small messages: reduce to one leader per group, a collective across
//!   the leaders, broadcast from them (gather and scatter where the collective moves parts; a
//!   barrier per group first for a barrier).
//! * [`Mode::SplitRail`], for large messages: the groups' members share the work across. With R
//!   the size of the smallest group, the data is cut into R shares, one for each of the first R
//!   members of every group, which form a rail: reduce_scatter inside, all_reduce of each share
//!   along its rail, all_gather inside, and alike for other collectives. Members beyond R
//!   contribute and get the result, but own no share. (Chen and others, "Fast and scalable MPI
//!   collectives", 2016, and NCCL and Horovod use the same decomposition.)
//!
//! The schedules inside are any algorithm's, relabelled: ranks, blocks, buffers, and formats
//! where a phase continues with the partial results of the phase before. Each phase is a stage
//! ([`Round::stage`](super::Round::stage)), so that [`pipelined`](super::pipelined) lets the
//! levels work at the same time.
//!
//! | | leader | split_rail |
//! |---|---|---|
//! | all_reduce, reduce, broadcast, reduce_scatter, all_gather | yes | yes |
//! | gather, scatter, barrier | yes | no: the root or the latency limits them, not the rails |
//! | all_to_all, scan, exscan | no | no: flat algorithms serve |
//!
//! The stated cost is a bound: the sum over the phases of the largest cost in any group. It is
//! met when groups are even and every rank sends as much as every other.

mod classify;
mod phases;
mod relabel;
#[cfg(test)]
mod tests;
mod volume;

pub use phases::Mode;

use super::algorithm::Algorithm;
use super::ir::{Collective, Cost, LevelCost, Schedule, Shape, Space};
use crate::error::{Error, Rank, Result};
use phases::{Blocks, Phase};

/// Blocks that a vector is cut into at most to suit all phases exactly.
const EXACT_BLOCKS_MAX: u32 = 1024;

/// Which ranks are close to each other: a tree of groups, of any depth, even or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Innermost first: groups of ranks, then groups of groups, …; the last ones form the top.
    levels: Vec<Vec<Vec<u32>>>,
    ranks: Rank,
}

impl Hierarchy {
    /// `levels[0]` are groups of ranks, `levels[1]` groups of indices into `levels[0]`, and so
    /// on; what is left at the top is one group. The order of members is their order in inner
    /// schedules; the first member of a group leads it.
    ///
    /// # Errors
    /// If a level does not hold every rank, or every group below it, exactly once.
    pub fn new(ranks: Rank, levels: Vec<Vec<Vec<u32>>>) -> Result<Self> {
        let mut units = ranks;
        for (level, groups) in levels.iter().enumerate() {
            let mut seen = vec![false; units as usize];
            let mut once = groups.iter().all(|group| !group.is_empty());
            for &unit in groups.iter().flatten() {
                let slot = seen.get_mut(unit as usize);
                once &= slot.is_some_and(|seen| !std::mem::replace(seen, true));
            }
            if !once || seen.contains(&false) || units == 0 {
                let reason = format!("level {level} does not hold each of {units} members once");
                return Err(Error::InvalidArgument { operation: "hierarchy", reason });
            }
            units = groups.len() as u32;
        }
        Ok(Self { levels, ranks })
    }

    /// Two levels: ranks with the same key (a host, say) form a group.
    ///
    /// # Errors
    /// If there are no ranks.
    pub fn by_key(keys: &[u32]) -> Result<Self> {
        let mut order = Vec::new();
        let mut groups = Vec::<Vec<u32>>::new();
        for (rank, key) in (0..).zip(keys) {
            match order.iter().position(|&known| known == key) {
                Some(group) => groups[group].push(rank),
                None => {
                    order.push(key);
                    groups.push(vec![rank]);
                }
            }
        }
        Self::new(keys.len() as Rank, vec![groups])
    }

    /// Levels of links, and of algorithms: one more than levels of groups.
    pub fn depth(&self) -> usize {
        self.levels.len() + 1
    }

    /// Number of ranks.
    pub const fn ranks(&self) -> Rank {
        self.ranks
    }
}

/// The flat algorithms used at one level: for each phase the first one that serves it.
#[derive(Clone)]
pub struct Level {
    algorithms: Vec<&'static dyn Algorithm>,
}

impl Level {
    /// These, in order of preference.
    pub const fn new(algorithms: Vec<&'static dyn Algorithm>) -> Self {
        Self { algorithms }
    }

    fn pick(&self, shape: &Shape) -> Option<&dyn Algorithm> {
        self.algorithms.iter().copied().find(|a| a.serves(shape)).map(|a| a as &dyn Algorithm)
    }

    /// The algorithms' names, each once.
    fn name(&self) -> String {
        let mut names = Vec::new();
        for algorithm in &self.algorithms {
            if !names.contains(&algorithm.name()) {
                names.push(algorithm.name());
            }
        }
        names.join("+")
    }
}

/// What works across the groups.
enum Across {
    Flat(Level),
    Nested(Box<Hierarchical>),
}

/// A hierarchical algorithm for one hierarchy.
pub struct Hierarchical {
    name: String,
    mode: Mode,
    groups: Vec<Vec<Rank>>,
    /// Group of each rank, and position in it.
    seats: Vec<(u32, u32)>,
    inside: Level,
    across: Across,
}

impl Hierarchical {
    /// One level of algorithms for each level of links, innermost first.
    ///
    /// # Errors
    /// If their number is not the hierarchy's depth, or the hierarchy has no groups.
    pub fn new(mode: Mode, hierarchy: &Hierarchy, levels: Vec<Level>) -> Result<Self> {
        let refuse = |reason| Err(Error::InvalidArgument { operation: "hierarchy", reason });
        if levels.len() != hierarchy.depth() || hierarchy.depth() < 2 {
            return refuse(format!(
                "{} levels of algorithms for {} of links; both must be the same and at least 2",
                levels.len(),
                hierarchy.depth()
            ));
        }
        let mut levels = levels;
        let top = levels.pop().map(Across::Flat);
        let built =
            hierarchy.levels.iter().zip(levels).rev().fold(top, |across, (groups, inside)| {
                across
                    .map(|across| Across::Nested(Box::new(Self::one(mode, groups, inside, across))))
            });
        match built {
            Some(Across::Nested(this)) => Ok(*this),
            _ => refuse("a hierarchy has at least one level of groups".to_owned()),
        }
    }

    fn one(mode: Mode, groups: &[Vec<Rank>], inside: Level, across: Across) -> Self {
        let outer = match &across {
            Across::Flat(level) => level.name(),
            // One list for all levels: `mode(a,b,c)`.
            Across::Nested(nested) => {
                let inner = nested.name.split_once('(').map_or("", |(_, names)| names);
                inner.trim_end_matches(')').to_owned()
            }
        };
        let name = format!("{}({},{outer})", mode.name(), inside.name());
        let mut seats = vec![(0, 0); groups.iter().map(Vec::len).sum()];
        for (g, group) in (0..).zip(groups) {
            for (i, &rank) in (0..).zip(group) {
                seats[rank as usize] = (g, i);
            }
        }
        Self { name, mode, groups: groups.to_vec(), seats, inside, across }
    }

    /// What each phase of `shape` runs, for people: `split_rail: reduce_scatter direct inside,
    /// all_reduce ring across, all_gather direct inside`. Of groups of several sizes the first
    /// one's algorithm is given.
    pub fn describe(&self, shape: &Shape) -> String {
        let phases = self.heads(shape, 1).into_iter().filter_map(|teams| teams.into_iter().next());
        let of = |phase: Phase| {
            let place = if phase.across { "across" } else { "inside" };
            let collective = phase.shape.collective.name();
            let name = match &self.across {
                Across::Nested(nested) if phase.across => {
                    format!("({})", nested.describe(&phase.shape))
                }
                _ => self.pick(phase.across, &phase.shape)?.name().to_owned(),
            };
            Some(format!("{collective} {name} {place}"))
        };
        let phases = phases.filter_map(of).collect::<Vec<_>>();
        format!("{}: {}", self.mode.name(), phases.join(", "))
    }

    /// The mode and the algorithm of each phase of `shape`, in order: `split_rail(direct,ring,
    /// direct)`. Names this schedule among those that other algorithms of the levels would give.
    pub fn label(&self, shape: &Shape) -> String {
        let phases = self.heads(shape, 1).into_iter().filter_map(|teams| teams.into_iter().next());
        let of = |phase: Phase| match &self.across {
            Across::Nested(nested) if phase.across => Some(nested.label(&phase.shape)),
            _ => Some(self.pick(phase.across, &phase.shape)?.name().to_owned()),
        };
        let phases = phases.filter_map(of).collect::<Vec<_>>();
        format!("{}({})", self.mode.name(), phases.join(","))
    }

    /// The algorithm for a phase's schedule among its members.
    fn pick(&self, across: bool, shape: &Shape) -> Option<&dyn Algorithm> {
        match &self.across {
            Across::Flat(level) if across => level.pick(shape),
            Across::Nested(nested) if across => {
                nested.serves(shape).then_some(&**nested as &dyn Algorithm)
            }
            _ => self.inside.pick(shape),
        }
    }

    /// Stages that a phase takes.
    fn stages_of(&self, phase: &Phase) -> u32 {
        match &self.across {
            Across::Nested(nested) if phase.across => nested.stages(phase.shape.collective),
            _ => 1,
        }
    }

    fn stages(&self, collective: Collective) -> u32 {
        let shape = Shape {
            collective,
            ranks: self.seats.len() as Rank,
            root: 0,
            in_place: false,
            reproducible: false,
        };
        self.kinds(&shape).iter().map(|phase| self.stages_of(phase)).sum()
    }

    /// The numbers of blocks that the phases on vectors want; `None` when a phase has no
    /// algorithm.
    fn cuts(&self, shape: &Shape) -> Option<Vec<u32>> {
        let mut cuts = vec![1];
        for phase in self.heads(shape, 1).into_iter().flatten() {
            let algorithm = self.pick(phase.across, &phase.shape)?;
            if matches!(phase.blocks, Blocks::Cut(..)) {
                cuts.push(u32::try_from(algorithm.cost(&phase.shape).blocks).ok()?);
            }
        }
        cuts.sort_unstable();
        cuts.dedup();
        Some(cuts)
    }

    /// Number of blocks the data is cut into: so that every phase finds the number it wants, if
    /// that is not too many; else as many as the phase that wants most.
    fn blocks(&self, shape: &Shape) -> u32 {
        match space(shape.collective, 1) {
            Space::Vector { .. } if shape.collective == Collective::Barrier => 1,
            Space::Vector { .. } => {
                let cuts = self.cuts(shape).unwrap_or_default();
                let common = cuts
                    .iter()
                    .try_fold(1, |all, &cut| lcm(all, cut).filter(|&all| all <= EXACT_BLOCKS_MAX));
                let largest = cuts.last().copied().unwrap_or(1);
                common.unwrap_or(largest).saturating_mul(self.shares())
            }
            Space::PerRank | Space::PerPair => shape.ranks,
        }
    }

    /// Whether groups are whole subtrees of the canonical tree: ranks in order, groups of one
    /// power of two, except that the last may be smaller.
    fn is_canonical(&self) -> bool {
        let size = self.groups[0].len();
        let ordered = (0..).zip(self.groups.iter().flatten()).all(|(i, &rank)| i == rank);
        let (last, others) = self.groups.split_last().map_or((0, &[][..]), |(l, o)| (l.len(), o));
        let even = others.iter().all(|group| group.len() == size);
        ordered && even && size.is_power_of_two() && last <= size
    }
}

impl Algorithm for Hierarchical {
    fn name(&self) -> &str {
        &self.name
    }

    fn serves(&self, shape: &Shape) -> bool {
        let canonical = !shape.reproducible || !shape.collective.reduces() || self.is_canonical();
        let known = shape.ranks as usize == self.seats.len() && self.mode.knows(shape.collective);
        known && canonical && self.cuts(shape).is_some()
    }

    fn build(&self, shape: &Shape, rank: Rank) -> Schedule {
        let blocks = self.blocks(shape);
        let mut target = relabel::Target::new(shape, rank, blocks);
        let phases = self.phases(shape, rank, blocks);
        let mut stage = 0;
        for (kind, phase) in self.kinds(shape).iter().zip(phases) {
            if let Some(phase) = phase
                && let Some(me) = phase.position(rank)
                && let Some(algorithm) = self.pick(phase.across, &phase.shape)
            {
                let inner = algorithm.build(&phase.shape, me);
                let classes = classify::classify(algorithm, &phase.shape, me, &inner);
                target.append(&phase, &inner, classes, stage);
            }
            stage += self.stages_of(kind);
        }
        target.finish(stage)
    }

    fn cost(&self, shape: &Shape) -> Cost {
        let blocks = self.blocks(shape);
        let depth = self.depth();
        let mut levels = vec![LevelCost::default(); depth];
        for teams in self.heads(shape, blocks) {
            let mut largest = vec![LevelCost::default(); depth];
            for phase in teams {
                let Some(algorithm) = self.pick(phase.across, &phase.shape) else { continue };
                let cost = algorithm.cost(&phase.shape);
                let scale = phase.blocks_max(cost.blocks as u32);
                let flat = cost.levels.len() == 1;
                let own = &mut largest[usize::from(phase.across)..];
                for (largest, level) in own.iter_mut().zip(cost.levels) {
                    let mut level = scaled(level, scale);
                    let sent = (level.sent_blocks, level.sent_acc_blocks);
                    level.sent_acc_blocks = volume::partials_sent(algorithm, &phase, flat, sent);
                    *largest = larger(*largest, level);
                }
            }
            for (total, level) in levels.iter_mut().zip(largest) {
                *total = sum(*total, level);
            }
        }
        Cost { blocks: u64::from(blocks), levels }
    }

    fn cost_is_exact(&self, _shape: &Shape) -> bool {
        false
    }

    fn level(&self, a: Rank, b: Rank) -> usize {
        let (a, b) = (self.seats[a as usize].0, self.seats[b as usize].0);
        match &self.across {
            _ if a == b => 0,
            Across::Flat(_) => 1,
            Across::Nested(nested) => 1 + nested.level(a, b),
        }
    }

    fn stage_level(&self, shape: &Shape, stage: u32) -> usize {
        let mut first = 0;
        for phase in self.kinds(shape) {
            let stages = self.stages_of(&phase);
            if stage < first + stages {
                return match &self.across {
                    _ if !phase.across => 0,
                    Across::Flat(_) => 1,
                    Across::Nested(nested) => 1 + nested.stage_level(&phase.shape, stage - first),
                };
            }
            first += stages;
        }
        0
    }
}

impl Hierarchical {
    fn depth(&self) -> usize {
        match &self.across {
            Across::Flat(_) => 2,
            Across::Nested(nested) => 1 + nested.depth(),
        }
    }

    /// Shares of the data that different members own.
    fn shares(&self) -> u32 {
        match self.mode {
            Mode::Leader => 1,
            Mode::SplitRail => self.rails(),
        }
    }

    /// The size of the smallest group.
    fn rails(&self) -> u32 {
        self.groups.iter().map(Vec::len).min().unwrap_or(1) as u32
    }
}

fn lcm(a: u32, b: u32) -> Option<u32> {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).checked_mul(b)
}

/// A level's cost in blocks of the whole, `scale` of which make up a block of the phase.
fn scaled(level: LevelCost, scale: u64) -> LevelCost {
    LevelCost {
        rounds: level.rounds,
        sent_blocks: level.sent_blocks * scale,
        sent_acc_blocks: level.sent_acc_blocks * scale,
        received_blocks: level.received_blocks * scale,
        messages: level.messages,
        reduced_blocks: level.reduced_blocks * scale,
    }
}

fn each(a: LevelCost, b: LevelCost, f: impl Fn(u64, u64) -> u64) -> LevelCost {
    LevelCost {
        rounds: f(a.rounds, b.rounds),
        sent_blocks: f(a.sent_blocks, b.sent_blocks),
        sent_acc_blocks: f(a.sent_acc_blocks, b.sent_acc_blocks),
        received_blocks: f(a.received_blocks, b.received_blocks),
        messages: f(a.messages, b.messages),
        reduced_blocks: f(a.reduced_blocks, b.reduced_blocks),
    }
}

fn larger(a: LevelCost, b: LevelCost) -> LevelCost {
    each(a, b, u64::max)
}

fn sum(a: LevelCost, b: LevelCost) -> LevelCost {
    each(a, b, |a, b| a + b)
}

/// The space of a collective in `blocks` blocks.
const fn space(collective: Collective, blocks: u32) -> Space {
    match collective {
        Collective::AllToAll => Space::PerPair,
        Collective::ReduceScatter
        | Collective::AllGather
        | Collective::Gather
        | Collective::Scatter => Space::PerRank,
        _ => Space::Vector { blocks },
    }
}
