//! What each rank sends and must receive, for every operation.

use syncline::reduce::{DType, ReduceOp};

use crate::npy::Matrix;
use crate::operation::Operation;
use crate::pattern::{Series, Tally};

/// What buffers hold before a call, so that stale memory is never mistaken for a result.
pub(crate) const POISON: u8 = 0xA5;

/// Who takes part, in what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// The operation.
    pub(crate) operation: Operation,
    /// The element type.
    pub(crate) dtype: DType,
    /// The operator of an operation that reduces.
    pub(crate) op: ReduceOp,
    /// The root of an operation that has one.
    pub(crate) root: u32,
    /// This rank.
    pub(crate) rank: u32,
    /// All ranks.
    pub(crate) ranks: u32,
    /// Input and output share one buffer.
    pub(crate) in_place: bool,
}

/// Where values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Contribution(u32),
    Reduced,
    Untouched,
}

/// A stretch of the result: `count` elements equal to those of `source` from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    source: Source,
    start: usize,
    count: usize,
}

/// Fills the buffers of one rank and judges its results.
pub(crate) struct Oracle {
    part: Part,
    contributions: Vec<Series>,
    reduced: Option<Series>,
}

impl Oracle {
    /// Generated values.
    pub(crate) fn generated(part: Part) -> Self {
        let Part { operation, dtype, op, rank, ranks, .. } = part;
        let op = operation.reduces().then_some(op);
        let contribution = |rank| Series::contribution(dtype, op, rank, ranks);
        let until = match operation {
            Operation::Scan => rank + 1,
            Operation::ExScan => rank,
            _ => ranks,
        };
        let reduced = op.filter(|_| until > 0).map(|op| Series::reduced(dtype, op, until, ranks));
        Self { part, contributions: (0..ranks).map(contribution).collect(), reduced }
    }

    /// Rank r contributes row r, modulo the number of rows.
    pub(crate) fn rows(part: Part, matrix: &Matrix) -> Self {
        let rows: Vec<&[f32]> = (0..part.ranks as usize).map(|rank| matrix.row(rank)).collect();
        Self {
            part,
            contributions: rows.iter().map(|row| Series::of_floats(row)).collect(),
            reduced: Some(Series::reduced_floats(part.op, &rows)),
        }
    }

    /// Bytes of the input buffer; 0 in place.
    pub(crate) fn input_bytes(&self, count: usize) -> usize {
        let Part { operation, rank, ranks, root, dtype, in_place, .. } = self.part;
        if in_place { 0 } else { operation.input_count(count, rank, ranks, root) * dtype.size() }
    }

    /// Bytes of the output buffer; in place, of the one buffer.
    pub(crate) fn output_bytes(&self, count: usize) -> usize {
        let Part { operation, rank, ranks, root, dtype, in_place, .. } = self.part;
        let output = operation.output_count(count, rank, ranks, root);
        let input = operation.input_count(count, rank, ranks, root);
        dtype.size() * if in_place { output.max(input) } else { output }
    }

    /// Puts this rank's contribution where the call expects it, and poison everywhere else.
    pub(crate) fn prepare(&self, count: usize, input: &mut [u8], output: &mut [u8]) {
        let Part { operation, rank, ranks, root, dtype, in_place, .. } = self.part;
        output.fill(POISON);
        let own = &self.contributions[rank as usize];
        if !in_place {
            return own.fill(input, 0);
        }
        let bytes = operation.input_count(count, rank, ranks, root) * dtype.size();
        // The input of a gathering operation is the block of the output that is its own.
        let gathers = output.len() > bytes;
        let at = if gathers { rank as usize * bytes } else { 0 };
        own.fill(&mut output[at..at + bytes], 0);
    }

    /// Compares the output buffer with what must be in it.
    pub(crate) fn check(&self, count: usize, output: &[u8]) -> Tally {
        let size = self.part.dtype.size();
        let mut tally = Tally::default();
        let mut at = self.result_start(count) * size;
        for region in self.expected(count) {
            let found = &output[at..at + region.count * size];
            match region.source {
                Source::Contribution(rank) => {
                    self.contributions[rank as usize].check(found, region.start, &mut tally);
                }
                Source::Reduced => {
                    let reduced = self.reduced.as_ref().expect("the operation reduces");
                    reduced.check(found, region.start, &mut tally);
                }
                Source::Untouched => {
                    tally.wrong +=
                        found.chunks(size).filter(|e| e.iter().any(|&b| b != POISON)).count()
                            as u64;
                }
            }
            at += found.len();
        }
        tally
    }

    /// Element of the output buffer at which the result begins.
    const fn result_start(&self, count: usize) -> usize {
        let Part { operation, rank, root, in_place, .. } = self.part;
        match operation {
            Operation::ReduceScatter if in_place => rank as usize * count,
            Operation::Scatter if in_place && rank == root => rank as usize * count,
            _ => 0,
        }
    }

    /// The result, region by region.
    fn expected(&self, count: usize) -> Vec<Region> {
        let Part { operation, rank, ranks, root, in_place, .. } = self.part;
        let one = |source, start| vec![Region { source, start, count }];
        let from_all = |start| {
            let region = |rank| Region { source: Source::Contribution(rank), start, count };
            (0..ranks).map(region).collect()
        };
        let mine = rank as usize * count;
        match operation {
            Operation::AllReduce | Operation::Scan => one(Source::Reduced, 0),
            Operation::ExScan if rank > 0 => one(Source::Reduced, 0),
            Operation::ExScan if in_place => one(Source::Contribution(rank), 0),
            Operation::ExScan => one(Source::Untouched, 0),
            Operation::Reduce if rank == root => one(Source::Reduced, 0),
            Operation::ReduceScatter => one(Source::Reduced, mine),
            Operation::Broadcast => one(Source::Contribution(root), 0),
            Operation::Scatter => one(Source::Contribution(root), mine),
            Operation::SendRecv => one(Source::Contribution((rank + ranks - 1) % ranks), 0),
            Operation::AllGather => from_all(0),
            Operation::Gather if rank == root => from_all(0),
            Operation::AllToAll => from_all(mine),
            Operation::Reduce | Operation::Gather | Operation::Barrier => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(operation: Operation, rank: u32, in_place: bool) -> Part {
        Part { operation, dtype: DType::I32, op: ReduceOp::Sum, root: 1, rank, ranks: 3, in_place }
    }

    /// An obvious implementation: all ranks' buffers in one process.
    fn obvious(operation: Operation, count: usize, inputs: &[Vec<i32>]) -> Vec<Vec<i32>> {
        let ranks = inputs.len();
        let sum = |until: usize, i: usize| inputs[..until].iter().map(|v| v[i]).sum::<i32>();
        let poison = i32::from_le_bytes([POISON; 4]);
        (0..ranks)
            .map(|rank| match operation {
                Operation::AllReduce => (0..count).map(|i| sum(ranks, i)).collect(),
                Operation::Scan => (0..count).map(|i| sum(rank + 1, i)).collect(),
                Operation::ExScan if rank == 0 => vec![poison; count],
                Operation::ExScan => (0..count).map(|i| sum(rank, i)).collect(),
                Operation::ReduceScatter => {
                    (0..count).map(|i| sum(ranks, rank * count + i)).collect()
                }
                Operation::Reduce if rank == 1 => (0..count).map(|i| sum(ranks, i)).collect(),
                Operation::Broadcast => inputs[1].clone(),
                Operation::Scatter => inputs[1][rank * count..(rank + 1) * count].to_vec(),
                Operation::AllGather => inputs.concat(),
                Operation::Gather if rank == 1 => inputs.concat(),
                Operation::AllToAll => inputs
                    .iter()
                    .flat_map(|v| v[rank * count..(rank + 1) * count].to_vec())
                    .collect(),
                Operation::SendRecv => inputs[(rank + ranks - 1) % ranks].clone(),
                Operation::Reduce | Operation::Gather | Operation::Barrier => Vec::new(),
            })
            .collect()
    }

    fn ints(bytes: &[u8]) -> Vec<i32> {
        bytes.chunks(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    #[test]
    fn agrees_with_the_obvious_implementation() {
        for operation in Operation::ALL {
            for count in [1, 5, 5000] {
                let count = if operation == Operation::Barrier { 0 } else { count };
                let oracles: Vec<Oracle> =
                    (0..3).map(|rank| Oracle::generated(part(operation, rank, false))).collect();
                let inputs: Vec<Vec<i32>> = oracles
                    .iter()
                    .map(|oracle| {
                        let mut input = vec![0; oracle.input_bytes(count)];
                        oracle.prepare(count, &mut input, &mut []);
                        ints(&input)
                    })
                    .collect();
                let results = obvious(operation, count, &inputs);
                for (oracle, result) in oracles.iter().zip(results) {
                    let mut bytes: Vec<u8> = result.iter().flat_map(|v| v.to_le_bytes()).collect();
                    assert_eq!(bytes.len(), oracle.output_bytes(count), "{operation:?}");
                    assert_eq!(oracle.check(count, &bytes).wrong, 0, "{operation:?}");
                    if let Some(last) = bytes.last_mut() {
                        *last ^= 4;
                        assert_eq!(oracle.check(count, &bytes).wrong, 1, "{operation:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn in_place_buffers_hold_the_input_where_the_call_looks_for_it() {
        let count = 6;
        for operation in Operation::ALL.into_iter().filter(|o| o.can_be_in_place()) {
            for rank in 0..3 {
                let apart = Oracle::generated(part(operation, rank, false));
                let mut input = vec![0; apart.input_bytes(count)];
                apart.prepare(count, &mut input, &mut []);
                let shared = Oracle::generated(part(operation, rank, true));
                assert_eq!(shared.input_bytes(count), 0);
                let mut buffer = vec![0; shared.output_bytes(count)];
                shared.prepare(count, &mut [], &mut buffer);
                let gathers = matches!(operation, Operation::AllGather | Operation::Gather);
                let at = if gathers && buffer.len() > input.len() {
                    rank as usize * input.len()
                } else {
                    0
                };
                assert_eq!(buffer[at..at + input.len()], input[..], "{operation:?} {rank}");
            }
        }
    }

    #[test]
    fn untouched_input_is_not_a_result() {
        for operation in [Operation::AllReduce, Operation::ReduceScatter, Operation::AllToAll] {
            let oracle = Oracle::generated(part(operation, 0, true));
            let mut buffer = vec![0; oracle.output_bytes(100)];
            oracle.prepare(100, &mut [], &mut buffer);
            assert!(oracle.check(100, &buffer).wrong > 50, "{operation:?}");
        }
    }

    #[test]
    fn rows_of_a_file_repeat_over_the_ranks() {
        let matrix = Matrix { rows: 2, columns: 2, values: vec![1.0, 2.0, 10.0, 20.0] };
        let part = Part { dtype: DType::F32, ..part(Operation::AllReduce, 2, false) };
        let oracle = Oracle::rows(part, &matrix);
        let mut input = vec![0; 8];
        oracle.prepare(2, &mut input, &mut []);
        assert_eq!(input, [1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat());
        let result = [12.0f32.to_le_bytes(), 24.0f32.to_le_bytes()].concat();
        assert_eq!(oracle.check(2, &result), Tally::default());
    }
}
