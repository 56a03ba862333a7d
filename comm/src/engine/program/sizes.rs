//! How large the blocks of one call are.

use crate::error::{Error, Rank, Result};
use crate::schedule::{Block, Space};

/// Element counts of the blocks of one call, and where the caller keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sizes {
    /// Elements per block.
    pub lengths: Lengths,
    /// Where each block of the input starts, in elements, in the order of the schedule's
    /// `input`; `None` when they follow each other without gaps.
    pub input_at: Option<Vec<usize>>,
    /// The same for the output.
    pub output_at: Option<Vec<usize>>,
}

/// Elements per block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lengths {
    /// [`Space::Vector`]: the whole vector has this many elements.
    Vector(usize),
    /// [`Space::PerRank`] and [`Space::PerPair`]: every block has this many elements.
    Each(usize),
    /// [`Space::PerRank`]: elements of every rank's block.
    PerRank(Vec<usize>),
    /// [`Space::PerPair`]: what this rank sends to, and receives from, every rank.
    PerPair {
        /// Elements for each destination.
        send: Vec<usize>,
        /// Elements from each source.
        recv: Vec<usize>,
    },
}

impl Sizes {
    /// One vector of `elements`.
    pub const fn vector(elements: usize) -> Self {
        Self::packed(Lengths::Vector(elements))
    }

    /// Blocks of `elements` each.
    pub const fn each(elements: usize) -> Self {
        Self::packed(Lengths::Each(elements))
    }

    /// Blocks without gaps between them.
    pub const fn packed(lengths: Lengths) -> Self {
        Self { lengths, input_at: None, output_at: None }
    }
}

/// Part `index` of `elements` cut into `parts` near-equal parts, the longer ones first:
/// where it starts, and how long it is.
pub(super) const fn part(elements: usize, parts: u32, index: u32) -> (usize, usize) {
    let (parts, index) = (parts as usize, index as usize);
    let (base, longer) = (elements / parts, elements % parts);
    let before = if index < longer { index } else { longer };
    (index * base + before, base + (index < longer) as usize)
}

/// Block lengths of one rank's schedule: [`Lengths`] checked against its [`Space`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents<'a> {
    pub(super) space: Space,
    pub(super) segments: u32,
    lengths: &'a Lengths,
    rank: Rank,
    ranks: Rank,
}

impl<'a> Extents<'a> {
    /// Refuses lengths that do not describe the space.
    pub(super) fn new(
        space: Space,
        segments: u32,
        lengths: &'a Lengths,
        (rank, ranks): (Rank, Rank),
    ) -> Result<Self> {
        let fits = match (space, lengths) {
            (Space::Vector { blocks }, Lengths::Vector(_)) => blocks > 0,
            (Space::PerRank | Space::PerPair, Lengths::Each(_)) => true,
            (Space::PerRank, Lengths::PerRank(counts)) => counts.len() == ranks as usize,
            (Space::PerPair, Lengths::PerPair { send, recv }) => {
                send.len() == ranks as usize && recv.len() == ranks as usize
            }
            _ => false,
        };
        if fits && segments > 0 {
            return Ok(Self { space, segments, lengths, rank, ranks });
        }
        Err(refuse(format!("{lengths:?} does not give one length to every block of {space:?}")))
    }

    /// Elements of `block`, all segments together. A vector has no such thing: there segments
    /// are the outer cut.
    pub(super) fn whole(&self, block: Block) -> Result<usize> {
        match (self.lengths, self.space) {
            (&Lengths::Each(elements), _) => Ok(elements),
            (Lengths::PerRank(counts), _) => counts
                .get(block.0 as usize)
                .copied()
                .ok_or_else(|| refuse(format!("block {} of {} ranks", block.0, self.ranks))),
            (Lengths::PerPair { send, recv }, _) => {
                let (source, destination) = (block.0 / self.ranks, block.0 % self.ranks);
                if source == self.rank {
                    Ok(send[destination as usize])
                } else if destination == self.rank && source < self.ranks {
                    Ok(recv[source as usize])
                } else {
                    Err(refuse(format!(
                        "rank {} carries data from rank {source} to rank {destination} whose \
                         length it does not know; choose a direct algorithm",
                        self.rank
                    )))
                }
            }
            _ => Err(refuse("a vector's segments hold every block".to_owned())),
        }
    }

    /// Elements of the part of `block` that belongs to `segment`.
    pub(super) fn elements(&self, block: Block, segment: u32) -> Result<usize> {
        match (self.lengths, self.space) {
            (&Lengths::Vector(elements), Space::Vector { blocks }) => {
                Ok(part(part(elements, self.segments, segment).1, blocks, block.0).1)
            }
            _ => Ok(part(self.whole(block)?, self.segments, segment).1),
        }
    }

    /// Where `block`'s part of `segment` starts in the whole vector, in elements.
    pub(super) fn in_vector(&self, block: Block, segment: u32) -> usize {
        match (self.lengths, self.space) {
            (&Lengths::Vector(elements), Space::Vector { blocks }) => {
                let (at, elements) = part(elements, self.segments, segment);
                at + part(elements, blocks, block.0).0
            }
            _ => 0,
        }
    }

    /// Elements of the longest part of `block` over all segments: the first.
    pub(super) fn longest_part(&self, block: Block) -> Result<usize> {
        self.elements(block, 0)
    }

    /// Elements of the longest part of any block this rank knows.
    pub(super) fn longest(&self) -> usize {
        let elements = match (self.lengths, self.space) {
            (&Lengths::Vector(elements), Space::Vector { blocks }) => {
                part(part(elements, self.segments, 0).1, blocks, 0).1
            }
            (&Lengths::Each(elements), _) => elements,
            (Lengths::PerRank(counts), _) => counts.iter().copied().max().unwrap_or(0),
            (Lengths::PerPair { send, recv }, _) => {
                send.iter().chain(recv).copied().max().unwrap_or(0)
            }
            (Lengths::Vector(_), _) => 0,
        };
        match self.space {
            Space::Vector { .. } => elements,
            Space::PerRank | Space::PerPair => part(elements, self.segments, 0).1,
        }
    }

    /// The start of each of `blocks` in the caller's memory, and the end of the last, in
    /// elements; `at` overrides the packed placement.
    pub(super) fn starts(
        &self,
        blocks: &[Block],
        at: Option<&[usize]>,
    ) -> Result<(Vec<usize>, usize)> {
        if at.is_some_and(|at| at.len() != blocks.len()) {
            return Err(refuse(format!("{} blocks need as many displacements", blocks.len())));
        }
        let mut starts = Vec::with_capacity(blocks.len());
        let mut end = 0_usize;
        let mut last = 0;
        for (slot, &block) in blocks.iter().enumerate() {
            let start = at.map_or(last, |at| at[slot]);
            last = start
                .checked_add(self.whole(block)?)
                .ok_or_else(|| refuse("counts and displacements overflow".to_owned()))?;
            starts.push(start);
            end = end.max(last);
        }
        Ok((starts, end))
    }
}

/// The error of a program that cannot be compiled.
pub(super) fn refuse(reason: String) -> Error {
    Error::InvalidArgument { operation: "compile", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_whole_in_order() {
        for elements in 0..40 {
            for parts in 1..9 {
                let mut at = 0;
                for index in 0..parts {
                    let (start, len) = part(elements, parts, index);
                    assert_eq!(start, at);
                    at += len;
                }
                assert_eq!(at, elements);
            }
        }
    }

    #[test]
    fn lengths_of_another_space_are_refused() {
        let vector = Lengths::Vector(5);
        assert!(Extents::new(Space::PerRank, 1, &vector, (0, 2)).is_err());
        let counts = Lengths::PerRank(vec![1, 2, 3]);
        assert!(Extents::new(Space::PerRank, 1, &counts, (0, 2)).is_err());
        assert!(Extents::new(Space::PerRank, 1, &counts, (0, 3)).is_ok());
    }

    #[test]
    fn a_rank_knows_only_its_own_row_and_column() {
        let lengths = Lengths::PerPair { send: vec![1, 2, 3], recv: vec![4, 2, 5] };
        let extents = Extents::new(Space::PerPair, 1, &lengths, (1, 3)).unwrap();
        assert_eq!(extents.elements(Block(3), 0).unwrap(), 1);
        assert_eq!(extents.elements(Block(1), 0).unwrap(), 4);
        assert!(extents.elements(Block(2), 0).is_err());
    }
}
