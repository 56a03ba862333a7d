//! What a call will use, and why.

use std::fmt;

use super::Communicator;
use crate::collective::Request;
use crate::error::Result;

/// The decision for one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The collective.
    pub collective: &'static str,
    /// The algorithm.
    pub algorithm: String,
    /// The wires it uses from this rank, joined by `+`.
    pub transport: String,
    /// Pipeline segments.
    pub segments: u32,
    /// Messages this rank sends or receives, and local steps.
    pub steps: usize,
    /// Scratch memory on this rank, in bytes.
    pub scratch_bytes: usize,
    /// Predicted duration in seconds.
    pub predicted_s: f64,
    /// The next best algorithm and its predicted duration in seconds.
    pub runner_up: Option<(String, f64)>,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} over {}", self.collective, self.algorithm, self.transport)?;
        writeln!(f, "  predicted {:.1} us", self.predicted_s * 1e6)?;
        match &self.runner_up {
            Some((name, seconds)) => {
                writeln!(f, "  runner-up {name}, predicted {:.1} us", seconds * 1e6)?;
            }
            None => writeln!(f, "  no other algorithm serves this call")?,
        }
        writeln!(f, "  {}", self.reason)?;
        write!(
            f,
            "  {} steps in {} segments, {} bytes of scratch",
            self.steps, self.segments, self.scratch_bytes
        )
    }
}

impl Communicator {
    /// What a call of `request` will use, and what that is predicted to cost. Sends nothing.
    ///
    /// # Errors
    /// What [`run`](Self::run) refuses.
    pub fn explain(&self, request: &Request) -> Result<Explanation> {
        let plan = self.inner.plan(request, false)?;
        let mut wires: Vec<&str> =
            plan.program.peers().filter_map(|peer| self.inner.wire_to(peer)).collect();
        wires.sort_unstable();
        wires.dedup();
        let seconds = |ns: u64| ns as f64 * 1e-9;
        let choice = &plan.choice;
        let decision = &choice.decision;
        Ok(Explanation {
            collective: request.collective.name(),
            algorithm: decision.winner.name.clone(),
            transport: if wires.is_empty() { "none".to_owned() } else { wires.join("+") },
            segments: choice.segments,
            steps: plan.program.steps(),
            scratch_bytes: plan.program.scratch_bytes(),
            predicted_s: seconds(decision.winner.predicted.total_ns),
            runner_up: decision
                .runner_up
                .as_ref()
                .map(|other| (other.name.clone(), seconds(other.predicted.total_ns))),
            reason: decision.reason.clone(),
        })
    }
}
