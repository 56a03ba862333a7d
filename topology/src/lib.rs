//! Topology.
#![forbid(unsafe_code)]
