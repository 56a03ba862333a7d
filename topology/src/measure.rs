//! A quick look at what a core can do.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Rates measured on this machine, as whole numbers so that ranks can exchange them exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Copying, in bytes per second.
    pub copy_bytes_per_s: u64,
    /// Adding one vector of f32 to another, in bytes of one operand per second.
    pub reduce_bytes_per_s: u64,
}

/// Vectors of 1 MiB: more than stays in a second-level cache, as long messages do not either, and
/// still small enough to be repeated a few times.
const ELEMENTS: usize = 1 << 18;

/// Long enough to see the core at speed, short enough for every start.
const PER_RATE: Duration = Duration::from_micros(500);

/// Ranks that start together share cores: the first runs may all have been interrupted by others,
/// and a rate that is a hundred times too low makes every choice a wrong one.
const RUNS_MIN: u32 = 5;

impl Measured {
    /// Measures in one to three milliseconds of this thread's time. The best of all repetitions
    /// counts: everything that disturbs makes it slower only.
    pub fn now() -> Self {
        let source = vec![1.0_f32; ELEMENTS];
        let mut target = vec![0.5_f32; ELEMENTS];
        let copy = best(|| {
            target.copy_from_slice(black_box(&source));
            black_box(&mut target);
        });
        let add = best(|| {
            for (sum, x) in target.iter_mut().zip(black_box(&source)) {
                *sum += x;
            }
            black_box(&mut target);
        });
        Self { copy_bytes_per_s: rate(copy), reduce_bytes_per_s: rate(add) }
    }

    /// The lower of each rate, for ranks to agree on the slowest machine.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            copy_bytes_per_s: self.copy_bytes_per_s.min(other.copy_bytes_per_s),
            reduce_bytes_per_s: self.reduce_bytes_per_s.min(other.reduce_bytes_per_s),
        }
    }
}

/// The shortest run of `work` within [`PER_RATE`], and of [`RUNS_MIN`] at least.
fn best(mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    let (mut before, mut shortest) = (start, Duration::MAX);
    for run in 1.. {
        work();
        let now = Instant::now();
        shortest = shortest.min(now - before);
        before = now;
        if run >= RUNS_MIN && now - start >= PER_RATE {
            break;
        }
    }
    shortest
}

/// Bytes per second, of one vector in `time`; never 0.
fn rate(time: Duration) -> u64 {
    let bytes = (ELEMENTS * size_of::<f32>()) as f64;
    (bytes / time.as_secs_f64().max(1e-9)).max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_something() {
        let measured = Measured::now();
        assert!(measured.copy_bytes_per_s > 1_000_000 && measured.reduce_bytes_per_s > 1_000_000);
    }

    #[test]
    fn one_interruption_does_not_count() {
        let mut runs = 0;
        let shortest = best(|| {
            runs += 1;
            if runs == 1 {
                std::thread::sleep(PER_RATE * 4);
            }
        });
        assert!(runs >= RUNS_MIN);
        assert!(shortest < PER_RATE * 4, "{shortest:?}");
    }

    #[test]
    fn rates_are_finite_and_the_lower_counts() {
        assert_eq!(rate(Duration::from_secs(1)), 1 << 20);
        assert_eq!(rate(Duration::MAX), 1);
        assert!(rate(Duration::ZERO) > 0);
        let a = Measured { copy_bytes_per_s: 1, reduce_bytes_per_s: 4 };
        let b = Measured { copy_bytes_per_s: 2, reduce_bytes_per_s: 3 };
        assert_eq!(a.min(b), Measured { copy_bytes_per_s: 1, reduce_bytes_per_s: 3 });
    }
}
