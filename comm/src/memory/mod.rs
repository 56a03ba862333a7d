//! Memory as the engine and the transports see it: raw views, and the staging arena.

mod span;
#[cfg(test)]
pub(crate) mod testing;

pub use span::{Span, SpanMut};
