//! Benchmarks of the library's parts: `cargo bench --package syncline-micro`.
//!
//! * `kernels`: elementwise combining, by type.
//! * `rings`: frames through shared memory, on one core and between two.
//! * `engine`: a whole all_reduce of two ranks that one thread drives, and compiling a schedule.
//!
//! What users see is measured by `collbench`; these tell which part a change made slower or
//! faster. On a shared machine trust `cargo xtask icount` for small differences.

use syncline::memory::testing::span;
use syncline::transport::{Fault, FrameHeader, Lane, Transport};

/// Sends `payload` as one frame; `true` once the pipe has taken it.
///
/// # Errors
/// When the pipe is lost.
pub fn send(end: &mut dyn Transport, peer: u32, lane: Lane, payload: &[u8]) -> Result<bool, Fault> {
    let payload_bytes = u32::try_from(payload.len()).expect("a frame is small");
    let header = FrameHeader { fingerprint: 7, sequence: 0, payload_bytes };
    end.send(lane, peer, &header, &[span(payload)], &mut 0)
}

/// Consumes the next frame, if it is here; its length in bytes.
///
/// # Errors
/// When the pipe is lost.
pub fn take(end: &mut dyn Transport, peer: u32, lane: Lane) -> Result<Option<usize>, Fault> {
    let Some(header) = end.head(lane, peer)? else { return Ok(None) };
    let bytes = header.payload_bytes as usize;
    end.consume(lane, peer, bytes)?;
    Ok(Some(bytes))
}
