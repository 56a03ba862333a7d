//! From every rank's per-iteration times to the latencies of the table.

use serde::{Deserialize, Serialize};

/// Latencies of the slowest rank, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Median.
    pub(crate) p50_us: f64,
    /// Best iteration.
    pub(crate) min_us: f64,
    /// 99th percentile: the slowest iteration when there are fewer than 100.
    pub(crate) p99_us: f64,
    /// Slowest iteration.
    pub(crate) max_us: f64,
}

/// For every iteration the time of its slowest rank.
///
/// `times_ns` holds the iterations of rank 0, then those of rank 1, and so on. Panics unless it
/// divides evenly into `iterations`.
pub(crate) fn slowest(times_ns: &[u64], iterations: usize) -> Vec<u64> {
    assert!(iterations > 0 && times_ns.len().is_multiple_of(iterations), "uneven times");
    let mut slowest = vec![0; iterations];
    for rank in times_ns.chunks_exact(iterations) {
        for (max, &time) in slowest.iter_mut().zip(rank) {
            *max = time.max(*max);
        }
    }
    slowest
}

impl Latency {
    /// The latencies of a series of iterations in nanoseconds. Panics when it is empty.
    pub(crate) fn of(mut series_ns: Vec<u64>) -> Self {
        assert!(!series_ns.is_empty(), "no iteration was timed");
        series_ns.sort_unstable();
        let at = |index: usize| series_ns[index] as f64 / 1e3;
        let last = series_ns.len() - 1;
        Self {
            p50_us: (at(last / 2) + at(last.div_ceil(2))) / 2.0,
            min_us: at(0),
            p99_us: at(nearest_rank(series_ns.len(), 99)),
            max_us: at(last),
        }
    }
}

/// Index of the `percent`-th percentile by the nearest-rank definition: the smallest value that
/// at least `percent` of the values do not exceed.
fn nearest_rank(len: usize, percent: usize) -> usize {
    (len * percent).div_ceil(100).clamp(1, len) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_iteration_counts_as_long_as_its_slowest_rank() {
        assert_eq!(slowest(&[1, 9, 3, 5, 2, 8], 3), [5, 9, 8]);
        assert_eq!(slowest(&[7], 1), [7]);
    }

    #[test]
    #[should_panic(expected = "uneven times")]
    fn missing_times_are_not_accepted() {
        slowest(&[1, 2, 3], 2);
    }

    #[test]
    fn percentiles_of_a_hundred() {
        let latency = Latency::of((1..=100).rev().map(|us| us * 1000).collect());
        assert_eq!(latency, Latency { p50_us: 50.5, min_us: 1.0, p99_us: 99.0, max_us: 100.0 });
    }

    #[test]
    fn percentiles_of_few() {
        let latency = Latency::of(vec![3000, 1000, 2000]);
        assert_eq!(latency, Latency { p50_us: 2.0, min_us: 1.0, p99_us: 3.0, max_us: 3.0 });
        let one = Latency::of(vec![500]);
        assert_eq!(one, Latency { p50_us: 0.5, min_us: 0.5, p99_us: 0.5, max_us: 0.5 });
    }

    #[test]
    fn nearest_rank_of_two_hundred_is_the_198th() {
        assert_eq!(nearest_rank(200, 99), 197);
    }
}
