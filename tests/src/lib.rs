//! What the multi-process tests share: an oracle, the matrix of cases, and a launcher.

pub mod faults;
pub mod launch;
pub mod matrix;
pub mod oracle;
pub mod scenarios;
