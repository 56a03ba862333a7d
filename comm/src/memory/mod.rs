//! Memory as the engine and the transports see it: raw views, and the staging arena.

mod span;

pub use span::{Span, SpanMut};
