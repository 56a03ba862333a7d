//! Ways of doing something that take turns.

use std::time::{Duration, Instant};

use syncline::Result;
use syncline::communicator::Communicator;
use syncline::reduce::ReduceOp;

/// About how long a turn takes.
const TURN: Duration = Duration::from_millis(4);

/// One way: what a rank does, once.
pub(super) type Way<'a> = &'a mut dyn FnMut() -> Result<()>;

/// The median over `rounds` of the time of each way, of its slowest rank, in microseconds.
pub(super) fn medians_us(
    comm: &Communicator,
    rounds: u32,
    ways: &mut [Way<'_>],
) -> Result<Vec<f64>> {
    let mut repeats = Vec::new();
    for way in &mut *ways {
        // The first one finds its plan and faults its pages in.
        once_us(comm, 1, way)?;
        let us = once_us(comm, 1, way)?;
        repeats.push((TURN.as_secs_f64() * 1e6 / us.max(0.1)).clamp(1.0, 10_000.0) as u32);
    }
    let mut samples = vec![Vec::new(); ways.len()];
    for round in 0..rounds as usize {
        for turn in 0..ways.len() {
            let way = (round + turn) % ways.len();
            samples[way].push(once_us(comm, repeats[way], &mut ways[way])?);
        }
    }
    Ok(samples.into_iter().map(median).collect())
}

/// Time per repeat, the same on all ranks.
fn once_us(comm: &Communicator, repeats: u32, way: &mut Way<'_>) -> Result<f64> {
    comm.barrier()?;
    let start = Instant::now();
    for _ in 0..repeats {
        way()?;
    }
    let mut us = [start.elapsed().as_secs_f64() * 1e6 / f64::from(repeats)];
    comm.all_reduce(&mut us, ReduceOp::Max)?;
    Ok(us[0])
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
    }
}
