//! What each collective promises: which blocks a rank's buffers hold before and after.

use super::super::ir::{Block, Collective, Schedule, Shape, Space};
use super::violation::Violation;
use crate::error::Rank;

/// Which contributions an output block must consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The reduction of the contributions of ranks 0 to n-1, n at least 1.
    Reduced(Rank),
    /// This rank's contribution, untouched.
    Moved(Rank),
    /// Nothing is promised, and nothing may be written.
    Untouched,
    /// Nothing is promised.
    Anything,
}

/// Number of logical blocks of `space`, or `None` if it exceeds `u32`.
pub(super) fn blocks_of(space: Space, ranks: Rank) -> Option<u32> {
    match space {
        Space::Vector { blocks } => Some(blocks),
        Space::PerRank => Some(ranks),
        Space::PerPair => ranks.checked_mul(ranks),
    }
}

/// What `block` of `rank`'s output must be in the end.
pub(super) const fn expected(shape: &Shape, rank: Rank, block: Block) -> Expected {
    use Collective as C;
    match shape.collective {
        C::AllReduce | C::ReduceScatter | C::Reduce => Expected::Reduced(shape.ranks),
        C::Scan => Expected::Reduced(rank + 1),
        C::ExScan if rank == 0 => Expected::Untouched,
        C::ExScan => Expected::Reduced(rank),
        C::AllGather | C::Gather => Expected::Moved(block.0),
        C::Broadcast | C::Scatter => Expected::Moved(shape.root),
        C::AllToAll => Expected::Moved(block.0 / shape.ranks),
        C::Barrier => Expected::Anything,
    }
}

/// Checks space, segments, windows and the lists of input and output blocks.
pub(super) fn check_head(shape: &Shape, rank: Rank, s: &Schedule) -> Result<(), Violation> {
    use Collective as C;
    let wrong = |reason: String| Err(Violation::Head { rank, reason });
    let fits = match (shape.collective, s.space) {
        (C::Barrier, Space::Vector { blocks }) => blocks == 1,
        (
            C::AllReduce | C::Broadcast | C::Reduce | C::Scan | C::ExScan,
            Space::Vector { blocks },
        ) => blocks > 0,
        (C::AllGather | C::ReduceScatter | C::Gather | C::Scatter, Space::PerRank)
        | (C::AllToAll, Space::PerPair) => true,
        _ => false,
    };
    if !fits {
        return wrong(format!("{:?} is no space for {:?}", s.space, shape.collective));
    }
    if s.segments == 0 || s.window == 0 {
        return wrong("segments and window must be at least 1".to_owned());
    }
    let Some(blocks) = blocks_of(s.space, shape.ranks) else {
        return Err(Violation::TooLarge { what: "blocks" });
    };
    let (input, output) = promised(shape, rank, blocks);
    let idle = shape.collective == C::Barrier;
    if !(input.matches(&s.input) || idle && s.input.is_empty()) {
        return wrong(format!("input blocks are {:?}, not {input:?}", s.input));
    }
    let untouched = shape.collective == C::ExScan && rank == 0;
    if !(output.matches(&s.output) || (idle || untouched) && s.output.is_empty()) {
        return wrong(format!("output blocks are {:?}, not {output:?}", s.output));
    }
    Ok(())
}

/// An arithmetic sequence of blocks.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    first: u32,
    len: u32,
    stride: u32,
}

impl Blocks {
    const NONE: Self = Self { first: 0, len: 0, stride: 1 };

    const fn run(first: u32, len: u32) -> Self {
        Self { first, len, stride: 1 }
    }

    fn matches(&self, blocks: &[Block]) -> bool {
        blocks.len() == self.len as usize
            && (0..self.len).zip(blocks).all(|(i, b)| b.0 == self.first + i * self.stride)
    }
}

/// The blocks that the collective puts into `rank`'s input and output.
fn promised(shape: &Shape, rank: Rank, blocks: u32) -> (Blocks, Blocks) {
    use Collective as C;
    let all = Blocks::run(0, blocks);
    let mine = Blocks::run(rank, 1);
    let at_root = |what| if rank == shape.root { what } else { Blocks::NONE };
    match shape.collective {
        C::AllReduce | C::Scan | C::ExScan | C::Barrier => (all, all),
        C::ReduceScatter => (all, mine),
        C::AllGather => (mine, all),
        C::Broadcast => (at_root(all), all),
        C::Reduce => (all, at_root(all)),
        C::Gather => (mine, at_root(all)),
        C::Scatter => (at_root(all), mine),
        C::AllToAll => (
            Blocks::run(rank * shape.ranks, shape.ranks),
            Blocks { first: rank, len: shape.ranks, stride: shape.ranks },
        ),
    }
}

/// Where input slot 0 lies in the output and vice versa when the caller gave one buffer:
/// `(input, output)`: input slot `input + i` is output slot `output + i`, for all i that exist.
pub(super) fn shared(shape: &Shape, rank: Rank, s: &Schedule) -> Option<(u32, u32)> {
    use Collective as C;
    if !shape.in_place || s.input.is_empty() || s.output.is_empty() {
        return None;
    }
    match shape.collective {
        C::AllGather | C::Gather => Some((0, rank)),
        C::ReduceScatter | C::Scatter => Some((rank, 0)),
        C::Barrier => None,
        _ => Some((0, 0)),
    }
}
