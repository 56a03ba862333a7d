//! What rank 0 reports while it measures: one JSON object per line when it is another process.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::Latency;

/// A report of rank 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// All ranks have joined.
    Joined {
        /// How many.
        ranks: u32,
        /// On how many hosts.
        hosts: u32,
        /// How many sizes will be measured.
        sizes: usize,
        /// How long the parts of coming together took rank 0, in milliseconds.
        init_ms: BTreeMap<String, f64>,
    },
    /// One size is measured.
    Row(Row),
    /// What would serve a call, in the library's words.
    Explained {
        /// Size in bytes.
        bytes: u64,
        /// Lines.
        text: String,
    },
}

/// One line of the table, one point of the plot, one object in the JSON file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Size as nccl-tests counts it.
    pub(crate) bytes: u64,
    /// Elements as the call counts them.
    pub(crate) count: usize,
    /// What the planner chose.
    pub(crate) algorithm: String,
    /// The wires it used.
    pub(crate) transport: String,
    /// Latencies of the slowest rank.
    #[serde(flatten)]
    pub(crate) latency: Latency,
    /// Timed iterations.
    pub(crate) iters: u32,
    /// Size over median latency, in 1e9 bytes per second.
    pub(crate) algbw_gbps: f64,
    /// The same times the bus factor.
    pub(crate) busbw_gbps: f64,
    /// Wrong elements over all ranks.
    pub(crate) wrong: u64,
    /// Largest distance from the float64 oracle; `None` when an element was not a number.
    pub(crate) max_abs_error: Option<f64>,
}

#[cfg(test)]
pub(crate) fn example_row(bytes: u64, p50_us: f64) -> Row {
    Row {
        bytes,
        count: bytes as usize / 4,
        algorithm: "ring".into(),
        transport: "shm".into(),
        latency: Latency {
            p50_us,
            min_us: p50_us / 2.0,
            p99_us: p50_us * 3.0,
            max_us: p50_us * 4.0,
        },
        iters: 100,
        algbw_gbps: bytes as f64 / p50_us / 1e3,
        busbw_gbps: bytes as f64 / p50_us / 1e3,
        wrong: 0,
        max_abs_error: Some(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_the_pipe() {
        let init_ms = BTreeMap::from([("gather".to_owned(), 1.5)]);
        let joined = Event::Joined { ranks: 4, hosts: 2, sizes: 9, init_ms };
        for event in [joined, Event::Row(example_row(1024, 3.25))] {
            let line = serde_json::to_string(&event).expect("plain");
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Event>(&line).expect("same"), event);
        }
    }
}
