//! Pre-multiplied sums that have no room: every rank's input is multiplied by a factor of its
//! own before it is sent, which takes a copy. Where the output cannot hold it and it does not fit
//! into the scratch budget, the call is made piece by piece, in place, on a buffer of pieces.

use std::ops::Range;
use std::sync::PoisonError;

use super::prepare::agreed_bytes;
use super::{Communicator, setup};
use crate::collective::{Counts, Request};
use crate::error::Result;
use crate::reduce::ReduceOp;
use crate::schedule::Collective;

impl Communicator {
    /// Whether `request` has to be made in pieces; the same on every rank, in place or not.
    pub(super) fn needs_pieces(&self, request: &Request) -> bool {
        let scaled = matches!(request.op, ReduceOp::PreMulSum(_));
        let no_room = matches!(
            request.collective,
            Collective::Reduce | Collective::ReduceScatter | Collective::ExScan
        );
        scaled
            && no_room
            && agreed_bytes(request, self.ranks()).is_some_and(|bytes| bytes > self.piece_bytes())
    }

    /// Bytes of input in one piece.
    fn piece_bytes(&self) -> usize {
        setup::scratch_bytes_max(&self.inner.options) / 4
    }

    /// Makes the call in pieces. The buffers' lengths are right; in place (`input: None`) the
    /// result belongs at byte `output_at` of the one buffer.
    pub(super) fn run_in_pieces(
        &self,
        request: &Request,
        input: Option<&[u8]>,
        (output, output_at): (&mut [u8], usize),
    ) -> Result<()> {
        let blocks = self.blocks(request);
        let total: usize = blocks.iter().sum();
        let pieces = (total * request.dtype.size()).div_ceil(self.piece_bytes()).max(1);
        for piece in 0..pieces {
            self.run_piece(request, &blocks, (piece, pieces), input, (&mut *output, output_at))?;
        }
        Ok(())
    }

    /// Elements of the blocks that the input consists of.
    fn blocks(&self, request: &Request) -> Vec<usize> {
        match &request.counts {
            Counts::Uniform(count) if request.collective == Collective::ReduceScatter => {
                vec![*count; self.ranks() as usize]
            }
            Counts::Uniform(count) => vec![*count],
            Counts::PerRank(counts) => counts.clone(),
            Counts::PerPair { .. } => Vec::new(),
        }
    }

    fn run_piece(
        &self,
        request: &Request,
        blocks: &[usize],
        piece: (usize, usize),
        input: Option<&[u8]>,
        (output, output_at): (&mut [u8], usize),
    ) -> Result<()> {
        let size = request.dtype.size();
        let mut packed = self.inner.packed.lock().unwrap_or_else(PoisonError::into_inner);
        packed.clear();
        let source = input.unwrap_or(output);
        let mut counts = Vec::with_capacity(blocks.len());
        let (mut before, mut mine) = (0, 0..0);
        for (rank, &block) in blocks.iter().enumerate() {
            let part = part(block, piece);
            let from = packed.len();
            packed.extend_from_slice(&source[bytes(&part, before, size)]);
            counts.push(part.len());
            if rank == self.rank() as usize || blocks.len() == 1 {
                mine = from..packed.len();
            }
            before += block;
        }
        let scatters = request.collective == Collective::ReduceScatter;
        let sub = Request {
            counts: if scatters { Counts::PerRank(counts) } else { Counts::Uniform(counts[0]) },
            ..request.clone()
        };
        self.run_whole(&sub, None, &mut packed)?;
        let has_result = match request.collective {
            Collective::Reduce => self.rank() == request.root,
            Collective::ExScan => self.rank() > 0,
            _ => true,
        };
        if has_result {
            let own = if blocks.len() == 1 { 0 } else { self.rank() as usize };
            let at = bytes(&part(blocks[own], piece), 0, size);
            output[output_at..][at].copy_from_slice(&packed[mine]);
        }
        Ok(())
    }
}

/// Piece `index` of `pieces` near-equal ones of a block.
fn part(elements: usize, (index, pieces): (usize, usize)) -> Range<usize> {
    // 128 bits: the product is not bounded by an address space.
    let at = |i: usize| (elements as u128 * i as u128 / pieces as u128) as usize;
    at(index)..at(index + 1)
}

/// The bytes of `part` of a block that has `before` elements before it.
fn bytes(part: &Range<usize>, before: usize, size: usize) -> Range<usize> {
    (before + part.start) * size..(before + part.end) * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_up_the_block() {
        for elements in [0, 1, 7, 1000] {
            let parts: Vec<_> = (0..6).map(|index| part(elements, (index, 6))).collect();
            assert_eq!((parts[0].start, parts[5].end), (0, elements));
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }
}
