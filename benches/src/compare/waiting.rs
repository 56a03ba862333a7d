//! Processor time that a contestant uses while others are timed. It must be none: on a machine with
//! as many ranks as cores whoever spins spoils everybody else's times.

use std::time::{Duration, Instant};

/// Watches the ranks of one contestant.
pub(crate) struct Waiting {
    pids: Vec<u32>,
    since: Option<(Instant, u64)>,
    elapsed: Duration,
    ticks: u64,
}

impl Waiting {
    /// For these processes, which begin to wait.
    pub(crate) fn new(pids: Vec<u32>) -> Self {
        let mut waiting = Self { pids, since: None, elapsed: Duration::ZERO, ticks: 0 };
        waiting.begin();
        waiting
    }

    /// It is no longer their turn.
    pub(crate) fn begin(&mut self) {
        self.since = Some((Instant::now(), self.ticks_now()));
    }

    /// It is their turn.
    pub(crate) fn end(&mut self) {
        if let Some((instant, ticks)) = self.since.take() {
            self.elapsed += instant.elapsed();
            self.ticks += self.ticks_now().saturating_sub(ticks);
        }
    }

    /// Processor time of all ranks over the time they waited.
    pub(crate) fn cores(&self) -> f64 {
        let seconds = self.ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        seconds / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn ticks_now(&self) -> u64 {
        self.pids.iter().filter_map(|&pid| processor_ticks(pid)).sum()
    }
}

/// User and system time of a process with all its threads, in clock ticks.
fn processor_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the state follows as field 3.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_and_processes_that_are_gone_do_not() {
        let me = std::process::id();
        let mut waiting = Waiting::new(vec![me, u32::MAX]);
        let start = processor_ticks(me).expect("proc");
        let mut sum = 0u64;
        while processor_ticks(me) < Some(start + 3) {
            sum = std::hint::black_box(sum.wrapping_mul(31) + 7);
        }
        waiting.end();
        assert!(waiting.ticks >= 3);
        assert!(waiting.cores() > 0.0);
        assert_eq!(processor_ticks(u32::MAX), None);
    }
}
