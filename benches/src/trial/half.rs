//! Half as many bytes: bf16 against f32.

use syncline::Result;
use syncline::collective::Request;
use syncline::communicator::Communicator;
use syncline::reduce::{DType, ReduceOp};
use syncline::schedule::Collective;

use super::turns::medians_us;
use crate::buffer::Buffer;
use crate::size::human;

/// Elements: 1, 4, 16 and 64 MiB of f32.
const COUNTS: [usize; 4] = [1 << 18, 1 << 20, 1 << 22, 1 << 24];

pub(super) fn play(comm: &Communicator, rounds: u32) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for count in COUNTS {
        let way = |dtype: DType| {
            let request = Request::new(Collective::AllReduce, dtype, count).op(ReduceOp::Sum);
            // Zeros: sums of zeros stay what they are.
            let (input, mut output) =
                (Buffer::new(count * dtype.size()), Buffer::new(count * dtype.size()));
            move || comm.run(&request, Some(input.bytes()), output.bytes_mut())
        };
        let (mut full, mut half) = (way(DType::F32), way(DType::BF16));
        let us = medians_us(comm, rounds, &mut [&mut full, &mut half])?;
        lines.push(format!(
            "{count} elements, {} of f32: f32 {:.1} us, bf16 {:.1} us, {:.2} times faster",
            human(count as u64 * 4),
            us[0],
            us[1],
            us[0] / us[1]
        ));
    }
    Ok(lines)
}
