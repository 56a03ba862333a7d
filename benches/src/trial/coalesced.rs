//! Many small tensors: packed together, or one by one.

use syncline::Result;
use syncline::communicator::Communicator;
use syncline::reduce::ReduceOp;

use super::turns::medians_us;

/// How many.
const TENSORS: u32 = 200;

pub(super) fn play(comm: &Communicator, rounds: u32) -> Result<Vec<String>> {
    let mut apart: Vec<Vec<f32>> = (0..TENSORS).map(|n| vec![1.0; elements(n)]).collect();
    let mut together = apart.clone();
    let bytes: usize = apart.iter().map(|tensor| tensor.len() * 4).sum();
    let mut one_by_one =
        || apart.iter_mut().try_for_each(|tensor| comm.all_reduce(tensor, ReduceOp::Max));
    let mut coalesced = || {
        let mut tensors: Vec<&mut [f32]> = together.iter_mut().map(Vec::as_mut_slice).collect();
        comm.all_reduce_coalesced(&mut tensors, ReduceOp::Max)
    };
    let us = medians_us(comm, rounds, &mut [&mut one_by_one, &mut coalesced])?;
    Ok(vec![format!(
        "{TENSORS} tensors of 1 to 64 KiB, {} KiB in all: one by one {:.0} us, coalesced {:.0} us, \
         {:.2} times faster",
        bytes >> 10,
        us[0],
        us[1],
        us[0] / us[1]
    )])
}

/// Elements (of 4 bytes) of tensor `n`: from 1 KiB to 64 KiB, each doubling as often as the others,
/// in an order without a pattern.
fn elements(n: u32) -> usize {
    let step = n * 79 % TENSORS;
    (256.0 * (f64::from(step) * 6.0 / f64::from(TENSORS - 1)).exp2()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_of_1_to_64_kib() {
        let all: Vec<usize> = (0..TENSORS).map(elements).collect();
        assert_eq!((all.iter().min(), all.iter().max()), (Some(&256), Some(&16384)));
    }
}
