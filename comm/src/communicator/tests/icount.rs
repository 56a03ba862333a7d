//! What `cargo xtask icount` counts the instructions of: calls of a communicator of one rank, in
//! which nobody is waited for, so that the count is the same in every run.

use super::play;
use crate::communicator::TransportChoice;
use crate::reduce::ReduceOp;

/// How many operations, when `cargo xtask icount` asks.
const ROUNDS: &str = "SYNCLINE_ICOUNT_ROUNDS";

#[test]
fn eight_bytes_alone() {
    let rounds: u64 = std::env::var(ROUNDS).map_or(3, |n| n.parse().expect("a number"));
    play(1, TransportChoice::Shm, |comm| {
        let mut data = [1.0_f32, 2.0];
        for _ in 0..rounds {
            comm.all_reduce(&mut data, ReduceOp::Sum).unwrap();
        }
        assert_eq!(data, [1.0, 2.0]);
    });
}
