//! collbench.
fn main() {}
