//! Collectives as data: what one rank sends, receives and combines, and in which order.
//!
//! Nothing here touches memory or a wire. The engine executes a [`Schedule`]; the checker proves
//! it; the planner prices it.

mod algorithm;
mod algorithms;
mod canonical;
pub mod checker;
mod compose;
pub mod hierarchy;
mod ir;
mod pipeline;
#[cfg(test)]
mod proofs;

pub use algorithm::Algorithm;
pub use algorithms::ALGORITHMS;
pub use ir::{
    Block, Buf, Collective, Cost, LevelCost, Round, Schedule, Shape, Slice, Slot, Space, Step,
};
pub use pipeline::{in_two_stages, pipelined};
