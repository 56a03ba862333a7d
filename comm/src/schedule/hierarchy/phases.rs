//! Which collectives, among which ranks and on which data, a hierarchical collective consists of.

use super::super::ir::{Collective, Schedule, Shape, Space};
use super::Hierarchical;
use crate::error::Rank;

/// How the levels share the work; see the [module](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// One leader per group works across.
    Leader,
    /// As many members as the smallest group has work across, each on its share.
    SplitRail,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Leader, Self::SplitRail];

    /// Its name in the names of composed algorithms.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::SplitRail => "split_rail",
        }
    }

    pub(super) const fn knows(self, collective: Collective) -> bool {
        use Collective as C;
        match collective {
            C::AllReduce | C::Reduce | C::Broadcast | C::ReduceScatter | C::AllGather => true,
            C::Gather | C::Scatter | C::Barrier => matches!(self, Self::Leader),
            C::AllToAll | C::Scan | C::ExScan => false,
        }
    }
}

/// Where a phase finds its input, or puts its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// The caller's input.
    Input,
    /// `Work`, as partial results.
    Partial,
    /// The caller's output where it holds the block, else `Stage`.
    Result,
}

/// How the blocks of a phase's schedule lie in the blocks of the whole.
#[derive(Clone, Debug)]
pub(super) enum Blocks {
    /// A vector, cut into the schedule's blocks near-equally: first block and number.
    Cut(u32, u32),
    /// Per member, its blocks.
    PerMember(Vec<Vec<u32>>),
}

/// One phase, as one rank takes part in it.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    /// Whether it crosses groups.
    pub(super) across: bool,
    /// Among whom, in their order in the phase's schedule.
    pub(super) members: Vec<Rank>,
    /// What the phase's schedule is built for.
    pub(super) shape: Shape,
    pub(super) blocks: Blocks,
    pub(super) input: Site,
    pub(super) output: Site,
}

impl Phase {
    /// The position of `rank` among the members.
    pub(super) fn position(&self, rank: Rank) -> Option<Rank> {
        self.members.iter().position(|&member| member == rank).map(|me| me as Rank)
    }

    /// The blocks of the whole that make up each block of its schedule.
    pub(super) fn lists_of(&self, schedule: &Schedule) -> Vec<Vec<u32>> {
        match (&self.blocks, schedule.space) {
            (&Blocks::Cut(first, len), Space::Vector { blocks }) => {
                let at = |i: u32| u64::from(i) * u64::from(len) / u64::from(blocks);
                let cut = |i| (first + at(i) as u32..first + at(i + 1) as u32).collect();
                (0..blocks).map(cut).collect()
            }
            (Blocks::PerMember(lists), _) => lists.clone(),
            (Blocks::Cut(..), _) => Vec::new(),
        }
    }

    /// The most blocks of the whole in one of the schedule's `count` blocks.
    pub(super) fn blocks_max(&self, count: u32) -> u64 {
        match &self.blocks {
            &Blocks::Cut(_, len) => u64::from(len.div_ceil(count.max(1))),
            Blocks::PerMember(lists) => lists.iter().map(Vec::len).max().unwrap_or(0) as u64,
        }
    }
}

/// Which ranks a phase is among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Team {
    /// The group.
    Group,
    /// The root's group; nobody else.
    RootGroup,
    /// The leaders of all groups.
    Leaders,
    /// The members of all groups that own the same share.
    Rail,
    /// The owner of a share in a group, and the members beyond that it looks after.
    Fold,
}

/// Which data a phase is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    /// Everything, as a vector.
    All,
    /// The share of the team's rail, as a vector.
    Share,
    /// Per member its share.
    Shares,
    /// Per member the blocks of all ranks on its rail.
    Rails,
    /// Per member the blocks of its group.
    Groups,
    /// Per member the blocks of its group that its rail looks after.
    GroupsOfRail,
    /// Per member its block.
    Own,
}

/// Whether input and output of a phase are one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Separate,
    Shared,
    /// As the caller has them.
    Callers,
    /// As the caller has them in the root's group, separate elsewhere.
    CallersOrSeparate,
    /// As the caller has them in the root's group, one buffer elsewhere.
    CallersOrShared,
}

type Kind = (Collective, Team, Data, Site, Site, Place);

impl Hierarchical {
    /// The phases of a collective.
    fn script(&self, collective: Collective) -> &'static [Kind] {
        use Collective as C;
        use Data as D;
        use Place as P;
        use Site::{Input, Partial, Result};
        use Team as T;
        match (self.mode, collective) {
            (Mode::Leader, C::AllReduce) => &[
                (C::Reduce, T::Group, D::All, Input, Partial, P::Separate),
                (C::AllReduce, T::Leaders, D::All, Partial, Result, P::Separate),
                (C::Broadcast, T::Group, D::All, Result, Result, P::Shared),
            ],
            (Mode::Leader, C::Barrier) => &[
                (C::Barrier, T::Group, D::All, Result, Result, P::Separate),
                (C::Barrier, T::Leaders, D::All, Result, Result, P::Separate),
                (C::Broadcast, T::Group, D::All, Result, Result, P::Shared),
            ],
            (Mode::Leader, C::Reduce) => &[
                (C::Reduce, T::Group, D::All, Input, Partial, P::Separate),
                (C::Reduce, T::Leaders, D::All, Partial, Result, P::Separate),
            ],
            (Mode::Leader, C::Broadcast) => &[
                (C::Broadcast, T::Leaders, D::All, Input, Result, P::Callers),
                (C::Broadcast, T::Group, D::All, Result, Result, P::Shared),
            ],
            (Mode::Leader, C::ReduceScatter) => &[
                (C::Reduce, T::Group, D::All, Input, Partial, P::Separate),
                (C::ReduceScatter, T::Leaders, D::Groups, Partial, Result, P::Separate),
                (C::Scatter, T::Group, D::Own, Result, Result, P::Shared),
            ],
            (Mode::Leader, C::AllGather) => &[
                (C::Gather, T::Group, D::Own, Input, Result, P::Callers),
                (C::AllGather, T::Leaders, D::Groups, Result, Result, P::Shared),
                (C::Broadcast, T::Group, D::All, Result, Result, P::Shared),
            ],
            (Mode::Leader, C::Gather) => &[
                (C::Gather, T::Group, D::Own, Input, Result, P::CallersOrSeparate),
                (C::Gather, T::Leaders, D::Groups, Result, Result, P::Shared),
            ],
            (Mode::Leader, C::Scatter) => &[
                (C::Scatter, T::Leaders, D::Groups, Input, Result, P::Shared),
                (C::Scatter, T::Group, D::Own, Result, Result, P::CallersOrShared),
            ],
            (Mode::SplitRail, C::AllReduce) => &[
                (C::ReduceScatter, T::Group, D::Shares, Input, Partial, P::Separate),
                (C::AllReduce, T::Rail, D::Share, Partial, Result, P::Separate),
                (C::AllGather, T::Group, D::Shares, Result, Result, P::Shared),
            ],
            (Mode::SplitRail, C::Reduce) => &[
                (C::ReduceScatter, T::Group, D::Shares, Input, Partial, P::Separate),
                (C::Reduce, T::Rail, D::Share, Partial, Result, P::Separate),
                (C::Gather, T::RootGroup, D::Shares, Result, Result, P::Shared),
            ],
            (Mode::SplitRail, C::Broadcast) => &[
                (C::Scatter, T::RootGroup, D::Shares, Input, Result, P::Callers),
                (C::Broadcast, T::Rail, D::Share, Result, Result, P::Shared),
                (C::AllGather, T::Group, D::Shares, Result, Result, P::Shared),
            ],
            (Mode::SplitRail, C::ReduceScatter) => &[
                (C::ReduceScatter, T::Group, D::Rails, Input, Partial, P::Separate),
                (C::ReduceScatter, T::Rail, D::GroupsOfRail, Partial, Result, P::Separate),
                (C::Scatter, T::Fold, D::Own, Result, Result, P::Shared),
            ],
            (Mode::SplitRail, C::AllGather) => &[
                (C::Gather, T::Fold, D::Own, Input, Result, P::Callers),
                (C::AllGather, T::Rail, D::GroupsOfRail, Result, Result, P::Shared),
                (C::AllGather, T::Group, D::Rails, Result, Result, P::Shared),
            ],
            _ => &[],
        }
    }

    /// The phases without regard to a rank: of these only `across` and the shape's collective
    /// and number of ranks say anything about phases across groups.
    pub(super) fn kinds(&self, shape: &Shape) -> Vec<Phase> {
        let phase = |&(collective, team, ..): &Kind| Phase {
            across: matches!(team, Team::Leaders | Team::Rail),
            members: Vec::new(),
            shape: Shape { collective, ranks: self.groups.len() as Rank, root: 0, ..shape.clone() },
            blocks: Blocks::Cut(0, 0),
            input: Site::Result,
            output: Site::Result,
        };
        self.script(shape.collective).iter().map(phase).collect()
    }

    /// Every phase as its first members see it, over `blocks` blocks of the whole: of teams that
    /// are alike only one, phase by phase.
    pub(super) fn heads(&self, shape: &Shape, blocks: u32) -> Vec<Vec<Phase>> {
        let script = self.script(shape.collective);
        let of = |kind: &Kind| -> Vec<Phase> {
            let ranks = self.first_members(shape, kind.1).into_iter();
            ranks.filter_map(|rank| self.phase(shape, rank, blocks, kind)).collect()
        };
        script.iter().map(of).collect()
    }

    /// The first member of every team, but only one of teams of one size with one root.
    fn first_members(&self, shape: &Shape, team: Team) -> Vec<Rank> {
        let (root_group, _) = self.seats[shape.root as usize];
        let mut sizes = Vec::new();
        let mut distinct = Vec::new();
        for (g, ranks) in (0..).zip(&self.groups) {
            let alike = (ranks.len(), g == root_group);
            if !sizes.contains(&alike) {
                sizes.push(alike);
                distinct.push(ranks);
            }
        }
        let rails = self.rails() as usize;
        match team {
            Team::Group => distinct.into_iter().map(|ranks| ranks[0]).collect(),
            Team::RootGroup => vec![self.groups[root_group as usize][0]],
            Team::Leaders => vec![self.groups[0][self.leader(shape, 0) as usize]],
            Team::Rail => self.groups[0][..rails].to_vec(),
            Team::Fold => distinct.into_iter().flat_map(|r| r[..rails].to_vec()).collect(),
        }
    }

    /// The phases of `rank`, over `blocks` blocks of the whole; `None` where it has no part.
    pub(super) fn phases(&self, shape: &Shape, rank: Rank, blocks: u32) -> Vec<Option<Phase>> {
        let script = self.script(shape.collective);
        script.iter().map(|kind| self.phase(shape, rank, blocks, kind)).collect()
    }

    fn phase(&self, shape: &Shape, rank: Rank, blocks: u32, kind: &Kind) -> Option<Phase> {
        let &(collective, team, data, input, output, place) = kind;
        let (group, seat) = self.seats[rank as usize];
        let (root_group, root_seat) = self.seats[shape.root as usize];
        let rails = self.rails();
        let group_of = &self.groups[group as usize];
        let at_root = group == root_group;
        let members = match team {
            Team::Group => group_of.clone(),
            Team::RootGroup if at_root => group_of.clone(),
            Team::Leaders if seat == self.leader(shape, group) => {
                let leaders = (0..).zip(&self.groups);
                leaders.map(|(g, ranks)| ranks[self.leader(shape, g) as usize]).collect()
            }
            Team::Rail if seat < rails => {
                self.groups.iter().map(|ranks| ranks[seat as usize]).collect()
            }
            Team::Fold => looked_after(group_of, seat % rails, rails),
            _ => return None,
        };
        let root = match team {
            Team::Group | Team::RootGroup => self.leader(shape, group),
            Team::Leaders | Team::Rail => root_group,
            Team::Fold => 0,
        };
        let root = if collective.is_rooted() { root } else { 0 };
        let blocks = self.data(data, blocks, (group, seat));
        let in_place = match place {
            Place::Separate => false,
            Place::Shared => true,
            Place::Callers => shape.in_place,
            Place::CallersOrSeparate => shape.in_place && at_root,
            Place::CallersOrShared => shape.in_place || !at_root,
        };
        // The root of a scatter reads the caller's input in both phases.
        let from_caller = place == Place::CallersOrShared && at_root && seat == root_seat;
        let to_caller = collective == Collective::Scatter && team == Team::Leaders && at_root;
        Some(Phase {
            across: matches!(team, Team::Leaders | Team::Rail),
            shape: Shape {
                collective,
                ranks: members.len() as Rank,
                root,
                in_place,
                reproducible: shape.reproducible && collective.reduces(),
            },
            members,
            blocks,
            input: if from_caller { Site::Input } else { input },
            output: if to_caller { Site::Input } else { output },
        })
    }

    /// The seat of the leader of `group`: the root where there is one, else the first.
    fn leader(&self, shape: &Shape, group: u32) -> u32 {
        let (root_group, root_seat) = self.seats[shape.root as usize];
        if shape.collective.is_rooted() && group == root_group { root_seat } else { 0 }
    }

    fn data(&self, data: Data, blocks: u32, (group, seat): (u32, u32)) -> Blocks {
        let rails = self.rails();
        let group_of = &self.groups[group as usize];
        // Every share is of the same number of blocks.
        let share = |i: u32| (i * (blocks / rails), blocks / rails);
        let per_seat = |list: &dyn Fn(u32) -> Vec<u32>| {
            let seats = 0..group_of.len() as u32;
            Blocks::PerMember(seats.map(|i| if i < rails { list(i) } else { vec![] }).collect())
        };
        match data {
            Data::All => Blocks::Cut(0, blocks),
            Data::Share => {
                let (first, len) = share(seat);
                Blocks::Cut(first, len)
            }
            Data::Shares => per_seat(&|i| {
                let (first, len) = share(i);
                (first..first + len).collect()
            }),
            Data::Rails => per_seat(&|i| {
                let of_group = |ranks: &Vec<Rank>| looked_after(ranks, i, rails);
                sorted(self.groups.iter().flat_map(of_group).collect())
            }),
            Data::Groups => {
                Blocks::PerMember(self.groups.iter().map(|ranks| sorted(ranks.clone())).collect())
            }
            Data::GroupsOfRail => {
                let of_rail = |ranks: &Vec<Rank>| sorted(looked_after(ranks, seat % rails, rails));
                Blocks::PerMember(self.groups.iter().map(of_rail).collect())
            }
            Data::Own if self.mode == Mode::Leader => {
                Blocks::PerMember(group_of.iter().map(|&rank| vec![rank]).collect())
            }
            Data::Own => {
                let fold = looked_after(group_of, seat % rails, rails);
                Blocks::PerMember(fold.into_iter().map(|rank| vec![rank]).collect())
            }
        }
    }
}

/// The members of a group that the owner of a share looks after, itself first.
fn looked_after(group: &[Rank], owner: u32, rails: u32) -> Vec<Rank> {
    group.iter().copied().skip(owner as usize).step_by(rails as usize).collect()
}

fn sorted(mut ranks: Vec<Rank>) -> Vec<Rank> {
    ranks.sort_unstable();
    ranks
}
