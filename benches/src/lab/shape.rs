//! Links with a speed limit: the kernel's token bucket filter.

use super::rate::Rate;
use super::tool::tool;
use crate::failure::Outcome;

/// How long a packet may wait in the queue: what makes the queue deep enough for TCP.
const QUEUE: &str = "25ms";

/// Limits what leaves through `device` in `namespace`.
pub(crate) fn shape(namespace: &str, device: &str, rate: Rate) -> Outcome {
    let speed = format!("{}bit", rate.bits_per_second());
    let burst = rate.burst_bytes().to_string();
    tool(
        "tc",
        &[
            "-n", namespace, "qdisc", "add", "dev", device, "root", "tbf", "rate", &speed, "burst",
            &burst, "latency", QUEUE,
        ],
    )?;
    Ok(())
}
