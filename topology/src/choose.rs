//! The decision. A pure function of its inputs: ranks that agree on those agree on it.

use crate::constants::Constants;
use crate::cost::{Candidate, Prediction, Work, predict};

/// A candidate and its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which of the candidates, counted from 0.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Its pipeline segments.
    pub segments: u32,
    /// How long it takes.
    pub predicted: Prediction,
}

/// What was decided, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The cheapest.
    pub winner: Choice,
    /// The cheapest of another name, if there is one.
    pub runner_up: Option<Choice>,
    /// Why, in words.
    pub reason: String,
}

/// Chooses the candidate that is predicted to take least. Equal predictions, in whole nanoseconds,
/// are ordered by name, then fewer segments. `None` if there are no candidates.
pub fn choose(candidates: &[Candidate], work: &Work, constants: &Constants) -> Option<Decision> {
    let mut ranking: Vec<Choice> = (0..)
        .zip(candidates)
        .map(|(index, candidate)| Choice {
            index,
            name: candidate.name.clone(),
            segments: candidate.segments,
            predicted: predict(candidate, work, constants),
        })
        .collect();
    ranking.sort_by(|a, b| {
        let key = |c: &Choice| (c.predicted.total_ns, c.segments, c.index);
        let by_time = a.predicted.total_ns.cmp(&b.predicted.total_ns);
        by_time.then_with(|| a.name.cmp(&b.name)).then_with(|| key(a).cmp(&key(b)))
    });
    let mut ranking = ranking.into_iter();
    let winner = ranking.next()?;
    let runner_up = ranking.find(|choice| choice.name != winner.name);
    let reason = reason(&winner, runner_up.as_ref());
    Some(Decision { winner, runner_up, reason })
}

fn reason(winner: &Choice, runner_up: Option<&Choice>) -> String {
    let ours = &winner.predicted;
    let parts = |p: &Prediction| {
        [
            ("latency", p.latency_ns),
            ("messages", p.overhead_ns),
            ("transfer", p.transfer_ns),
            ("reduction", p.reduce_ns),
        ]
    };
    let listed: Vec<_> = parts(ours)
        .into_iter()
        .filter(|&(_, ns)| ns > 0)
        .map(|(name, ns)| format!("{name} {}", duration(ns)))
        .collect();
    let mut text = format!("{} in {}", winner.name, duration(ours.total_ns));
    if !listed.is_empty() {
        text += &format!(" ({})", listed.join(", "));
    }
    let Some(other) = runner_up else {
        return text + ": the only one that serves this call";
    };
    let theirs = &other.predicted;
    text += &format!("; {} would take {}", other.name, duration(theirs.total_ns));
    let more = parts(theirs).into_iter().zip(parts(ours));
    let more = more.map(|((name, theirs), (_, ours))| (theirs.saturating_sub(ours), name));
    if let Some((ns, name)) = more.max_by_key(|&(ns, _)| ns).filter(|&(ns, _)| ns > 0) {
        text += &format!(", with {} more {name}", duration(ns));
    }
    text
}

/// Nanoseconds, to three digits.
fn duration(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::tests::{SHM, candidate, doubling, floats, ring};

    fn pick(candidates: &[Candidate], bytes: u64) -> Decision {
        choose(candidates, &floats(bytes), &Constants::default()).unwrap()
    }

    #[test]
    fn the_size_decides() {
        let candidates = [ring(SHM, 8), doubling(SHM, 3)];
        let small = pick(&candidates, 8);
        assert_eq!((small.winner.index, small.winner.name.as_str()), (1, "recursive_doubling"));
        assert_eq!(small.runner_up.unwrap().name, "ring");
        assert!(small.reason.contains("ring would take"), "{}", small.reason);
        assert!(small.reason.contains("more latency"), "{}", small.reason);
        let large = pick(&candidates, 1 << 26);
        assert_eq!(large.winner.name, "ring");
        assert!(large.reason.contains("more reduction"), "{}", large.reason);
        assert!(large.winner.predicted.total_ns < large.runner_up.unwrap().predicted.total_ns);
    }

    #[test]
    fn ties_go_by_name_whatever_the_order() {
        let [a, b] = ["a", "b"].map(|name| Candidate { name: name.to_owned(), ..ring(SHM, 4) });
        for candidates in [[a.clone(), b.clone()], [b, a]] {
            let decision = pick(&candidates, 1000);
            assert_eq!(decision.winner.name, "a");
            assert_eq!(decision.runner_up.unwrap().name, "b");
        }
    }

    #[test]
    fn the_same_algorithm_is_no_runner_up() {
        let one = ring(SHM, 4);
        let two = Candidate { segments: 2, ..one.clone() };
        let decision = pick(&[two, one], 1000);
        assert_eq!((decision.winner.segments, decision.winner.index), (1, 1));
        assert_eq!(decision.runner_up, None);
        assert!(decision.reason.ends_with("the only one that serves this call"));
    }

    #[test]
    fn nothing_to_choose_from() {
        assert_eq!(choose(&[], &floats(8), &Constants::default()), None);
        let idle = pick(&[candidate("idle", 1, &[])], 0);
        assert_eq!(idle.reason, "idle in 0 ns: the only one that serves this call");
    }

    #[test]
    fn shows_durations() {
        let found = [0, 999, 1_000, 9_994, 9_996, 123_456, 4_560_000, 12_000_000_000].map(duration);
        let shown =
            ["0 ns", "999 ns", "1.00 µs", "9.99 µs", "10.0 µs", "123 µs", "4.56 ms", "12.0 s"];
        assert_eq!(found, shown);
    }
}
