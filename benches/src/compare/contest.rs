//! The race: for every size all contestants take turns, round after round.

use std::time::Duration;

use super::contestant::Contestant;
use super::protocol::{Answer, Command, Timing};
use super::summary::{Entry, Row, SYNCLINE, Spread};
use crate::failure::{Failure, Outcome};
use crate::operation::Operation;

/// Most iterations in a block, so that answers of [`Timing::Each`] stay short.
const BLOCK_ITERATIONS_MAX: u64 = 1_000_000;
const EACH_ITERATIONS_MAX: u64 = 10_000;
/// Time for the rounds of one size when the user does not say how many.
const SIZE_TIME_NS: f64 = 5e9;
/// Rounds then.
const ROUNDS_MIN: u32 = 7;
const ROUNDS_MAX: u32 = 25;

/// What is raced.
pub(crate) struct Race {
    /// The collective.
    pub(crate) operation: Operation,
    /// Element type, by name.
    pub(crate) dtype: String,
    /// Bytes of an element.
    pub(crate) element_bytes: usize,
    /// Ranks of every contestant.
    pub(crate) ranks: u32,
    /// How long a block of iterations shall take.
    pub(crate) block: Duration,
    /// Rounds; otherwise as many as fit.
    pub(crate) rounds: Option<u32>,
    /// Longest wait for an answer.
    pub(crate) patience: Duration,
}

/// A contestant of the race; Syncline is the first.
pub(crate) struct Lane {
    /// `Err` says why it is out.
    pub(crate) runner: Result<Contestant, String>,
    /// What the user calls it.
    pub(crate) name: String,
    /// Whether it shows a limit and is no library.
    pub(crate) is_yardstick: bool,
    /// The library, in its own words, if it ever started.
    pub(crate) version: Option<String>,
    /// Share of a core it used while it waited.
    pub(crate) waiting_cores: f64,
}

/// A contestant at one size.
struct Turn {
    lane: usize,
    wrong: u64,
    refused: Option<String>,
    iterations: u64,
    samples_ns: Vec<f64>,
}

impl Race {
    /// Races one size of `count` elements.
    pub(crate) fn one_size(&self, lanes: &mut [Lane], count: usize) -> Outcome<Row> {
        let mut turns = self.prepare(lanes, count)?;
        let mut round_ns = 0.0;
        for turn in turns.iter_mut().filter(|turn| turn.refused.is_none()) {
            if let Some(each_ns) = self.calibrate(&mut lanes[turn.lane], turn)? {
                let calls = turn.iterations + warmup(turn.iterations);
                round_ns += each_ns * calls as f64;
            }
        }
        let fit = (SIZE_TIME_NS / round_ns.max(1.0)) as u32;
        let rounds = self.rounds.unwrap_or_else(|| fit.clamp(ROUNDS_MIN, ROUNDS_MAX));
        for _ in 0..rounds {
            // Everybody is first in some round and last in another.
            turns.rotate_left(1);
            for turn in &mut turns {
                if turn.refused.is_none() {
                    let sample = self.time(&mut lanes[turn.lane], turn.iterations)?;
                    turn.samples_ns.extend(sample);
                }
            }
        }
        self.finish(lanes, &mut turns)?;
        Ok(self.row(lanes, turns, count, rounds))
    }

    fn prepare(&self, lanes: &mut [Lane], count: usize) -> Outcome<Vec<Turn>> {
        let command =
            Command::Prepare { operation: self.operation, dtype: self.dtype.clone(), count };
        let mut turns = Vec::new();
        for (number, lane) in lanes.iter_mut().enumerate() {
            let answers = lane.ask(&command, self.patience, |answer| match answer {
                Answer::Prepared { wrong } => Ok(Ok(wrong)),
                Answer::Refused(reason) => Ok(Err(reason)),
                other => Err(other),
            })?;
            let Some(answers) = answers else { continue };
            let (wrong, refused) = match answers.into_iter().sum::<Result<u64, String>>() {
                Ok(wrong) => (wrong, None),
                Err(reason) => (0, Some(reason)),
            };
            turns.push(Turn {
                lane: number,
                wrong,
                refused,
                iterations: 1,
                samples_ns: Vec::new(),
            });
        }
        Ok(turns)
    }

    /// Finds out how many iterations fill a block; the answer is the time of one.
    fn calibrate(&self, lane: &mut Lane, turn: &mut Turn) -> Outcome<Option<f64>> {
        let block_ns = self.block.as_nanos() as f64;
        let most = match Timing::of(self.operation) {
            Timing::Block => BLOCK_ITERATIONS_MAX,
            Timing::Each => EACH_ITERATIONS_MAX,
        };
        let mut iterations = 1;
        loop {
            let Some(each_ns) = self.time(lane, iterations)? else { return Ok(None) };
            let fit = ((block_ns / each_ns.max(1.0)) as u64).clamp(1, most);
            // A quarter of a block tells well enough; a first guess from one call does not.
            if fit <= iterations.saturating_mul(4) {
                turn.iterations = fit;
                return Ok(Some(each_ns));
            }
            iterations = fit.min(iterations * 8);
        }
    }

    /// Times one block: nanoseconds of an iteration, of the slowest rank.
    fn time(&self, lane: &mut Lane, iterations: u64) -> Outcome<Option<f64>> {
        let timing = Timing::of(self.operation);
        let command = Command::Time { timing, warmup: warmup(iterations), iterations };
        let times = lane.ask(&command, self.patience, |answer| match answer {
            Answer::Timed(times) => Ok(times),
            other => Err(other),
        })?;
        let Some(times) = times else { return Ok(None) };
        match slowest_mean_ns(&times, iterations) {
            Some(mean) => Ok(Some(mean)),
            None => lane.fall_out(Failure::run("its ranks report different numbers of times")),
        }
    }

    fn finish(&self, lanes: &mut [Lane], turns: &mut [Turn]) -> Outcome {
        for turn in turns.iter_mut().filter(|turn| turn.refused.is_none()) {
            let wrong =
                lanes[turn.lane].ask(&Command::Finish, self.patience, |answer| match answer {
                    Answer::Finished { wrong } => Ok(wrong),
                    other => Err(other),
                })?;
            turn.wrong += wrong.into_iter().flatten().sum::<u64>();
        }
        Ok(())
    }

    fn row(&self, lanes: &[Lane], turns: Vec<Turn>, count: usize, rounds: u32) -> Row {
        let entries = turns.into_iter().filter_map(|turn| {
            let lane = &lanes[turn.lane];
            let spread = Spread::of(&turn.samples_ns).filter(|_| lane.runner.is_ok());
            let (iterations, wrong) = (turn.iterations, turn.wrong);
            match (spread, turn.refused) {
                (Some(spread), _) => {
                    let entry = Entry::Timed { spread, iterations, wrong };
                    Some((lane.name.clone(), entry))
                }
                (None, Some(reason)) => Some((lane.name.clone(), Entry::Refused { reason })),
                (None, None) => None,
            }
        });
        let bytes = self.operation.bytes(count, self.element_bytes, self.ranks);
        Row { bytes, count, rounds, entries: entries.collect() }
    }
}

/// Untimed calls before `iterations` timed ones: a quarter, at least one.
const fn warmup(iterations: u64) -> u64 {
    iterations.div_ceil(4)
}

/// Every position (the whole block, or one iteration) takes as long as its slowest rank; the mean
/// over the iterations. `None` when ranks report different numbers of times.
fn slowest_mean_ns(ranks: &[Vec<u64>], iterations: u64) -> Option<f64> {
    let positions = ranks.first()?.len();
    if ranks.iter().any(|times| times.len() != positions) {
        return None;
    }
    let slowest = |at: usize| ranks.iter().map(|times| times[at]).max().unwrap_or(0);
    Some((0..positions).map(slowest).sum::<u64>() as f64 / iterations as f64)
}

impl Lane {
    /// Asks the contestant, if it is still there; `want` takes what it may answer and gives back
    /// everything else.
    fn ask<T>(
        &mut self,
        command: &Command,
        patience: Duration,
        want: impl Fn(Answer) -> Result<T, Answer>,
    ) -> Outcome<Option<Vec<T>>> {
        let Ok(contestant) = &mut self.runner else { return Ok(None) };
        let answers = contestant.ask(command, patience);
        self.waiting_cores = contestant.waiting_cores();
        let wanted = answers.and_then(|answers| {
            let each = answers.into_iter().map(|answer| {
                want(answer).map_err(|other| {
                    let said: String = other.to_string().chars().take(80).collect();
                    Failure::run(format!("a rank said '{said}' when it was asked '{command}'"))
                })
            });
            each.collect()
        });
        wanted.map(Some).or_else(|failure| self.fall_out(failure))
    }

    /// A contestant that fails is out, and with Syncline the race is over.
    fn fall_out<T>(&mut self, failure: Failure) -> Outcome<Option<T>> {
        match failure {
            Failure::Interrupted => Err(Failure::Interrupted),
            failure if self.name == SYNCLINE => Err(Failure::run(format!("{SYNCLINE}: {failure}"))),
            failure => {
                // Dropping the contestant ends its processes.
                self.runner = Err(failure.to_string());
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_takes_as_long_as_its_slowest_rank() {
        assert_eq!(slowest_mean_ns(&[vec![1000], vec![3000]], 10), Some(300.0));
    }

    #[test]
    fn every_iteration_takes_as_long_as_its_slowest_rank() {
        assert_eq!(slowest_mean_ns(&[vec![1, 9], vec![5, 2]], 2), Some(7.0));
        assert_eq!(slowest_mean_ns(&[vec![1, 9], vec![5]], 2), None);
        assert_eq!(slowest_mean_ns(&[], 2), None);
    }

    #[test]
    fn something_is_always_warmed_up() {
        assert_eq!((warmup(1), warmup(4), warmup(1000)), (1, 1, 250));
    }
}
