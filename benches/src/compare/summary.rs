//! From samples to medians, ratios and their geometric means.

use std::collections::BTreeMap;

/// What Syncline is called among the contestants.
pub(crate) const SYNCLINE: &str = "syncline";

/// The times of one contestant at one size over all rounds, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// Median.
    pub(crate) p50_us: f64,
    /// A tenth of the rounds were not slower.
    pub(crate) p10_us: f64,
    /// Nine tenths of the rounds were not slower.
    pub(crate) p90_us: f64,
}

impl Spread {
    /// Of samples in nanoseconds; `None` without any.
    pub(crate) fn of(samples_ns: &[f64]) -> Option<Self> {
        let mut sorted = samples_ns.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        // Nearest rank.
        let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1] / 1e3;
        let p50_us = (sorted[last / 2] + sorted[last.div_ceil(2)]) / 2e3;
        Some(Self { p50_us, p10_us: at(10), p90_us: at(90) })
    }
}

/// A contestant at one size.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// It took part.
    Timed {
        /// Its times.
        spread: Spread,
        /// Iterations per block.
        iterations: u64,
        /// Wrong elements over all ranks.
        wrong: u64,
    },
    /// The library cannot make this call.
    Refused {
        /// Why.
        reason: String,
    },
}

impl Entry {
    /// Its times, if it took part.
    pub(crate) const fn spread(&self) -> Option<Spread> {
        match self {
            Self::Timed { spread, .. } => Some(*spread),
            Self::Refused { .. } => None,
        }
    }
}

/// One size.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Size as nccl-tests counts it.
    pub(crate) bytes: u64,
    /// Elements as the call counts them.
    pub(crate) count: usize,
    /// How often everybody was timed.
    pub(crate) rounds: u32,
    /// By name; Syncline is one of them.
    pub(crate) entries: BTreeMap<String, Entry>,
}

impl Row {
    /// The times of `name`.
    pub(crate) fn spread(&self, name: &str) -> Option<Spread> {
        self.entries.get(name)?.spread()
    }

    /// How many times faster Syncline is than `peer`.
    pub(crate) fn ratio(&self, peer: &str) -> Option<f64> {
        Some(self.spread(peer)?.p50_us / self.spread(SYNCLINE)?.p50_us)
    }

    /// The fastest peer, and how many times faster Syncline is.
    pub(crate) fn best<'a>(&self, peers: &'a [String]) -> Option<(&'a str, f64)> {
        let ratios = peers.iter().filter_map(|peer| Some((peer.as_str(), self.ratio(peer)?)));
        ratios.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Wrong elements of `name`.
    pub(crate) fn wrong(&self, name: &str) -> u64 {
        match self.entries.get(name) {
            Some(Entry::Timed { wrong, .. }) => *wrong,
            _ => 0,
        }
    }
}

/// The geometric mean; `None` of nothing.
pub(crate) fn geometric_mean(ratios: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = ratios.fold((0.0, 0u32), |(sum, n), ratio| (sum + ratio.ln(), n + 1));
    (count > 0).then(|| (sum / f64::from(count)).exp())
}

#[cfg(test)]
pub(super) fn example_row(bytes: u64, times_us: &[(&str, f64)]) -> Row {
    let entry = |us: f64| Entry::Timed {
        spread: Spread { p50_us: us, p10_us: us * 0.9, p90_us: us * 1.2 },
        iterations: 10,
        wrong: 0,
    };
    let entries = times_us.iter().map(|&(name, us)| (name.to_owned(), entry(us))).collect();
    Row { bytes, count: bytes as usize / 4, rounds: 7, entries }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_deciles() {
        let samples: Vec<f64> = (1..=10).rev().map(|us| f64::from(us) * 1e3).collect();
        let spread = Spread::of(&samples).expect("samples");
        assert_eq!(spread, Spread { p50_us: 5.5, p10_us: 1.0, p90_us: 9.0 });
        let one = Spread::of(&[250.0]).expect("one");
        assert_eq!(one, Spread { p50_us: 0.25, p10_us: 0.25, p90_us: 0.25 });
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn ratios_say_how_many_times_faster_syncline_is() {
        let row = example_row(8, &[(SYNCLINE, 2.0), ("a", 6.0), ("b", 3.0)]);
        let peers = ["a".to_owned(), "b".to_owned(), "absent".to_owned()];
        assert_eq!(row.ratio("a"), Some(3.0));
        assert_eq!(row.ratio("absent"), None);
        assert_eq!(row.best(&peers), Some(("b", 1.5)));
        assert_eq!(row.best(&peers[2..]), None);
    }

    #[test]
    fn a_refusal_has_no_times() {
        let mut row = example_row(8, &[(SYNCLINE, 2.0)]);
        row.entries.insert("a".into(), Entry::Refused { reason: "no".into() });
        assert_eq!((row.ratio("a"), row.wrong("a")), (None, 0));
    }

    #[test]
    fn geometric_means() {
        let mean = geometric_mean([2.0, 8.0].into_iter()).expect("two");
        assert!((mean - 4.0).abs() < 1e-12);
        assert_eq!(geometric_mean(std::iter::empty()), None);
    }
}
