//! The `xtask` chores.
fn main() {}
