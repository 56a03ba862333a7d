//! Tests of the built binary, as a user or a script runs it.

mod bad_input;
mod common;
mod compare;
mod lab;
mod launch;
mod runs;
