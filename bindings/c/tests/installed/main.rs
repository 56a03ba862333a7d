//! C and C++ programs against an installed tree: what a user of the library has.

mod examples;
mod library;
mod programs;
mod tree;
