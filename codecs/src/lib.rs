//! Codecs.
pub mod float;
