//! One file per algorithm. To add one: its file and `mod` line here, and its line in
//! [`ALGORITHMS`](super::ALGORITHMS) (ADR 0002).

mod recursive_doubling;
mod ring;

pub(super) use recursive_doubling::RecursiveDoubling;
pub(super) use ring::{RingAllReduce, RingReduceScatter};
