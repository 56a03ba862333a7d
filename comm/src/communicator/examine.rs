//! What the planner wants to know of an algorithm's schedules beyond its stated cost: how much scratch
//! memory they take, and what all ranks do together.

use syncline_topology::Together;

use crate::error::Rank;
use crate::reduce::Format;
use crate::schedule::{Algorithm, Schedule, Shape, Slice, Slot, Space, Step};

/// Ranks whose schedules are looked at; beyond it a sample.
const RANKS_EXAMINED_MAX: Rank = 64;

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Examined {
    /// Of the neediest rank.
    pub(super) slots: Slots,
    /// Of all ranks, per level of the topology.
    pub(super) together: Vec<Together>,
}

/// What schedules need at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slots {
    pub(super) work: usize,
    /// Those of them that do not lie in the output where the formats have the same width.
    pub(super) work_apart: usize,
    pub(super) stage: usize,
    /// Blocks that one count is cut into; 0 where each block has a count of its own.
    pub(super) blocks: usize,
    pub(super) stages: u32,
}

/// Looks at the schedules of `algorithm`. Equal on every rank.
pub(super) fn examine(algorithm: &dyn Algorithm, shape: &Shape) -> Examined {
    let levels = algorithm.cost(shape).levels.len();
    let mut found = Examined { together: vec![Together::default(); levels], ..Examined::default() };
    let mut seen = 0_u64;
    for rank in ranks(shape) {
        let schedule = algorithm.build(shape, rank);
        found.slots = found.slots.most(slots_of(&schedule));
        tally(&mut found.together, algorithm, (shape, rank), &schedule);
        seen += 1;
    }
    if seen > 0 && seen != u64::from(shape.ranks) {
        for all in &mut found.together {
            *all = each(all, |count| count * u64::from(shape.ranks) / seen);
        }
    }
    found
}

/// What the ranks of one of `hosts` hosts do, on average.
pub(super) fn a_share(all: &Together, hosts: u64) -> Together {
    each(all, |count| count.div_ceil(hosts.max(1)))
}

fn each(all: &Together, of: impl Fn(u64) -> u64) -> Together {
    Together {
        waits: of(all.waits),
        sent_blocks: of(all.sent_blocks),
        sent_acc_blocks: of(all.sent_acc_blocks),
        received_blocks: of(all.received_blocks),
        messages: of(all.messages),
        reduced_blocks: of(all.reduced_blocks),
    }
}

fn ranks(shape: &Shape) -> impl Iterator<Item = Rank> {
    let (ranks, root) = (shape.ranks, shape.root);
    let all = (0..ranks).take_while(move |_| ranks <= RANKS_EXAMINED_MAX);
    let sample = [0, 1, 2, ranks / 2, ranks - 1, root, (root + 1) % ranks];
    all.chain(sample.into_iter().filter(move |&rank| ranks > RANKS_EXAMINED_MAX && rank < ranks))
}

/// Adds what `rank` does.
fn tally(
    together: &mut [Together],
    algorithm: &dyn Algorithm,
    (shape, rank): (&Shape, Rank),
    schedule: &Schedule,
) {
    let blocks = |slices: &[Slice]| slices.iter().map(|slice| u64::from(slice.len)).sum::<u64>();
    for round in &schedule.rounds {
        let mut waits = vec![false; together.len()];
        for step in &round.steps {
            let level = match step {
                Step::Send { peer, .. }
                | Step::Recv { peer, .. }
                | Step::RecvReduce { peer, .. } => algorithm.level(rank, *peer),
                Step::Reduce { .. } => algorithm.stage_level(shape, round.stage),
                Step::Copy { .. } => continue,
            };
            let Some(all) = together.get_mut(level) else { continue };
            match step {
                Step::Send { src, .. } => {
                    all.messages += 1;
                    all.sent_blocks += blocks(src);
                    let partial =
                        src.first().is_some_and(|slice| slice.buf.format() == Format::Acc);
                    all.sent_acc_blocks += if partial { blocks(src) } else { 0 };
                }
                Step::Recv { dst, .. } => {
                    waits[level] = true;
                    all.messages += 1;
                    all.received_blocks += blocks(dst);
                }
                Step::RecvReduce { dst, .. } => {
                    waits[level] = true;
                    all.messages += 1;
                    all.received_blocks += blocks(dst);
                    all.reduced_blocks += blocks(dst);
                }
                Step::Reduce { dst, .. } => all.reduced_blocks += blocks(dst),
                Step::Copy { .. } => {}
            }
        }
        for (all, waits) in together.iter_mut().zip(waits) {
            all.waits += u64::from(waits);
        }
    }
}

fn slots_of(schedule: &Schedule) -> Slots {
    let in_output = |(index, slot): (usize, &Slot)| {
        let at = schedule.work_in_output.map(|first| first as usize + index);
        matches!((slot, at.and_then(|at| schedule.output.get(at))),
            (Slot::Of(block), Some(output)) if block == output)
    };
    let lying_in_output = schedule.work.iter().enumerate().filter(|&slot| in_output(slot)).count();
    Slots {
        work: schedule.work.len(),
        work_apart: schedule.work.len() - lying_in_output,
        stage: schedule.stage.len(),
        blocks: match schedule.space {
            Space::Vector { blocks } => blocks as usize,
            Space::PerRank | Space::PerPair => 0,
        },
        stages: schedule.rounds.iter().map(|round| round.stage + 1).max().unwrap_or(1),
    }
}

impl Slots {
    fn most(self, other: Self) -> Self {
        Self {
            work: self.work.max(other.work),
            work_apart: self.work_apart.max(other.work_apart),
            stage: self.stage.max(other.stage),
            blocks: self.blocks.max(other.blocks),
            stages: self.stages.max(other.stages),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{ALGORITHMS, Collective};

    fn together(name: &str, ranks: Rank) -> Together {
        let collective = Collective::AllReduce;
        let shape = Shape { collective, ranks, root: 0, in_place: false, reproducible: false };
        let is = |a: &&&dyn Algorithm| a.name() == name && a.serves(&shape);
        let algorithm = ALGORITHMS.iter().find(is).expect(name);
        examine(*algorithm, &shape).together[0]
    }

    #[test]
    fn what_all_ranks_do_is_counted() {
        let one_shot = together("one_shot", 8);
        assert_eq!((one_shot.waits, one_shot.messages), (8, 2 * 8 * 7));
        assert_eq!((one_shot.sent_blocks, one_shot.reduced_blocks), (8 * 7, 8 * 7));
        let star = together("star", 8);
        assert_eq!((star.waits, star.messages, star.reduced_blocks), (8, 4 * 7, 7));
        let doubling = together("recursive_doubling", 8);
        assert_eq!((doubling.waits, doubling.sent_acc_blocks), (3 * 8, 2 * 8));
    }

    #[test]
    fn no_rank_does_more_than_the_busiest_says() {
        for collective in Collective::ALL {
            for ranks in [1, 2, 3, 4, 7, 8, 16] {
                let shape =
                    Shape { collective, ranks, root: 0, in_place: false, reproducible: false };
                for algorithm in ALGORITHMS.iter().filter(|a| a.serves(&shape)) {
                    let (all, most) = (examine(*algorithm, &shape), algorithm.cost(&shape));
                    let (all, most) = (all.together[0], most.levels[0]);
                    let name = (algorithm.name(), &shape);
                    let within = |all: u64, most: u64| {
                        assert!(most <= all && all <= most * u64::from(ranks), "{name:?}: {all}");
                    };
                    within(all.messages, most.messages);
                    within(all.sent_blocks, most.sent_blocks);
                    within(all.received_blocks, most.received_blocks);
                    within(all.reduced_blocks, most.reduced_blocks);
                }
            }
        }
    }

    #[test]
    fn many_ranks_are_sampled() {
        // A ring's ranks all do the same, so the sample tells it all.
        let ring = together("ring", 100);
        assert_eq!(ring.messages, 100 * 4 * 99);
    }
}
