//! What the multi-process tests share: the matrix of cases, and a launcher.

pub mod attack;
pub mod besieged;
pub mod faults;
pub mod launch;
pub mod limits;
pub mod matrix;
pub mod netns;
pub use syncline::campaign::oracle;
pub mod scenarios;
pub mod staging;
