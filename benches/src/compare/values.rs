//! What the contestants' buffers hold: the same small numbers in every program, so that sums are
//! exact in every type. `benches/peers/contestant.c` has the same formulas.

use syncline::reduce::DType;

use crate::operation::Operation;

/// The types that every contestant has.
pub(crate) const DTYPES: [DType; 4] = [DType::F32, DType::F64, DType::I32, DType::I64];

/// Element `index` of `rank`'s input.
const fn pattern(rank: usize, index: usize) -> i64 {
    ((index * 7 + rank * 3) % 11 + 1) as i64
}

/// One rank's part in a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// The call.
    pub(crate) operation: Operation,
    /// Element type, one of [`DTYPES`].
    pub(crate) dtype: DType,
    /// Elements, as the call counts them.
    pub(crate) count: usize,
    /// This rank.
    pub(crate) rank: u32,
    /// All ranks.
    pub(crate) ranks: u32,
}

impl Share {
    /// Bytes of the input buffer. Broadcast works in one buffer, as in MPI: the output.
    pub(crate) fn input_bytes(&self) -> usize {
        let one_buffer = self.operation == Operation::Broadcast;
        let count = self.operation.input_count(self.count, self.rank, self.ranks, 0);
        if one_buffer { 0 } else { count * self.dtype.size() }
    }

    /// Bytes of the output buffer.
    pub(crate) fn output_bytes(&self) -> usize {
        let count = self.operation.output_count(self.count, self.rank, self.ranks, 0);
        count * self.dtype.size()
    }

    /// Fills the input, and the output with what no call leaves.
    pub(crate) fn fill(&self, input: &mut [u8], output: &mut [u8]) {
        let rank = self.rank as usize;
        put(self.dtype, input, |index| pattern(rank, index));
        if self.operation == Operation::Broadcast && rank == 0 {
            put(self.dtype, output, |index| pattern(0, index));
        } else {
            output.fill(0xff);
        }
    }

    /// How many elements of the output are not what the call must leave.
    pub(crate) fn wrong(&self, output: &[u8]) -> u64 {
        let (rank, ranks) = (self.rank as usize, self.ranks as usize);
        let count = self.count;
        let sum = |index: usize| (0..ranks).map(|from| pattern(from, index)).sum::<i64>();
        count_wrong(self.dtype, output, |i| match self.operation {
            Operation::AllGather => pattern(i / count, i % count),
            Operation::AllToAll => pattern(i / count, rank * count + i % count),
            Operation::Broadcast => pattern(0, i),
            Operation::ReduceScatter => sum(rank * count + i),
            _ => sum(i),
        })
    }
}

/// Writes `value(index)` into every element.
fn put(dtype: DType, bytes: &mut [u8], value: impl Fn(usize) -> i64) {
    each_mut(bytes, dtype.size(), |index, place| match dtype {
        DType::F32 => place.copy_from_slice(&(value(index) as f32).to_ne_bytes()),
        DType::F64 => place.copy_from_slice(&(value(index) as f64).to_ne_bytes()),
        DType::I32 => place.copy_from_slice(&(value(index) as i32).to_ne_bytes()),
        _ => place.copy_from_slice(&value(index).to_ne_bytes()),
    });
}

fn each_mut(bytes: &mut [u8], element_bytes: usize, set: impl Fn(usize, &mut [u8])) {
    bytes.chunks_exact_mut(element_bytes).enumerate().for_each(|(index, place)| set(index, place));
}

/// How many elements are not `expected(index)`.
fn count_wrong(dtype: DType, bytes: &[u8], expected: impl Fn(usize) -> i64) -> u64 {
    let is_wrong = |index: usize, place: &[u8]| {
        let value = expected(index);
        match dtype {
            DType::F32 => place != (value as f32).to_ne_bytes(),
            DType::F64 => place != (value as f64).to_ne_bytes(),
            DType::I32 => place != (value as i32).to_ne_bytes(),
            _ => place != value.to_ne_bytes(),
        }
    };
    let elements = bytes.chunks_exact(dtype.size()).enumerate();
    elements.filter(|(index, place)| is_wrong(*index, place)).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::protocol::COLLECTIVES;

    /// What every rank must hold after the call, worked out from the ranks' inputs alone.
    fn outputs(shares: &[Share], inputs: &[Vec<i64>]) -> Vec<Vec<i64>> {
        let count = shares[0].count;
        let sum = |i: usize| inputs.iter().map(|input| input[i]).sum::<i64>();
        shares
            .iter()
            .map(|share| {
                let me = share.rank as usize;
                match share.operation {
                    Operation::AllReduce => (0..count).map(sum).collect(),
                    Operation::ReduceScatter => (me * count..(me + 1) * count).map(sum).collect(),
                    Operation::AllGather => inputs.concat(),
                    Operation::Broadcast => inputs[0].clone(),
                    _ => inputs
                        .iter()
                        .flat_map(|i| &i[me * count..(me + 1) * count])
                        .copied()
                        .collect(),
                }
            })
            .collect()
    }

    #[test]
    fn the_right_result_is_right_and_every_other_is_not() {
        for operation in COLLECTIVES {
            let shares: Vec<Share> = (0..3)
                .map(|rank| Share { operation, dtype: DType::I64, count: 5, rank, ranks: 3 })
                .collect();
            let inputs: Vec<Vec<i64>> = shares
                .iter()
                .map(|share| {
                    let (mut input, mut output) =
                        (vec![0; share.input_bytes()], vec![0; share.output_bytes()]);
                    share.fill(&mut input, &mut output);
                    let own = if input.is_empty() { output } else { input };
                    own.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect()
                })
                .collect();
            for (share, mut output) in shares.iter().zip(outputs(&shares, &inputs)) {
                let name = operation.name();
                assert_eq!(bytemuck::cast_slice::<i64, u8>(&output).len(), share.output_bytes());
                assert_eq!(share.wrong(bytemuck::cast_slice(&output)), 0, "{name} {output:?}");
                output[3] += 1;
                assert_eq!(share.wrong(bytemuck::cast_slice(&output)), 1, "{name}");
            }
        }
    }

    #[test]
    fn a_buffer_that_no_call_touched_is_wrong_in_every_type() {
        for dtype in DTYPES {
            let operation = Operation::AllReduce;
            let share = Share { operation, dtype, count: 7, rank: 1, ranks: 2 };
            let mut input = vec![0; share.input_bytes()];
            let mut output = vec![0; share.output_bytes()];
            share.fill(&mut input, &mut output);
            assert_eq!(share.wrong(&output), 7, "{}", dtype.name());
            put(dtype, &mut output, |index| pattern(0, index) + pattern(1, index));
            assert_eq!(share.wrong(&output), 0, "{}", dtype.name());
        }
    }
}
