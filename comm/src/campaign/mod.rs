//! The fault campaign: thousands of small jobs in which things go wrong, each decided by a seed.
//!
//! A job comes together by the library's rendezvous over simulated connections (`wireup`). Then
//! every rank is the library's engine and control protocol over the simulated network, and a
//! program such as users write: calls, and when one fails an agreement, a communicator of the
//! survivors, and calls there. A judge then holds what happened against what was broken:
//! nobody hangs, every result is right, every error names a rank that gave cause, the survivors
//! agree, and the same seed gives the same run, event by event.

mod calls;
mod comm;
mod generate;
mod judge;
mod log;
mod mail;
pub mod oracle;
mod random;
mod rank;
mod run;
mod scenario;
#[cfg(test)]
mod tests;
mod wireup;

use std::fmt::Write as _;

use calls::Calls;

/// Runs scenarios. Keeps what they can share, so that many are fast.
#[derive(Debug, Default)]
pub struct Campaign {
    calls: Calls,
}

/// What became of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The seed.
    pub seed: u64,
    /// Ranks of its job.
    pub ranks: u32,
    /// What is wrong, in words; empty when nothing is.
    pub wrong: Vec<String>,
    /// Fingerprint of everything that happened: the same whenever this seed is run.
    pub trace: u64,
    /// What came up.
    pub counts: Counts,
}

/// How often what came up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs.
    pub runs: u64,
    /// Calls that ended with the right result.
    pub right: u64,
    /// Calls that ended in an error.
    pub failed: u64,
    /// Agreements, counted at every rank.
    pub agreed: u64,
    /// Communicators of survivors, counted at every rank.
    pub shrunk: u64,
    /// Things that broke.
    pub faults: u64,
    /// Processes that had no place in the job when it came together.
    pub refused: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.right += other.right;
        self.failed += other.failed;
        self.agreed += other.agreed;
        self.shrunk += other.shrunk;
        self.faults += other.faults;
        self.refused += other.refused;
    }
}

impl Campaign {
    /// Runs the scenario of `seed`, and judges it.
    pub fn run(&mut self, seed: u64) -> Verdict {
        self.run_logged(seed).0
    }

    /// The same, with everything that happened, in words.
    pub fn trace(&mut self, seed: u64) -> (Verdict, String) {
        let (verdict, wired, finished) = self.run_logged(seed);
        let mut text = wired.story.join("\n");
        let scenario = generate::scenario(seed);
        let _ = writeln!(text, "\n{scenario:#?}");
        for entry in &finished.log {
            let _ = writeln!(text, "{entry}");
        }
        let _ = writeln!(text, "ended at {:?}, trace {:016x}", finished.now, verdict.trace);
        (verdict, text)
    }

    fn run_logged(&mut self, seed: u64) -> (Verdict, wireup::Wired, run::Finished) {
        let scenario = generate::scenario(seed);
        let mut wired = wireup::wire(seed, scenario.ranks, scenario.host_ranks);
        let members = wired.members.take().unwrap_or_default();
        let finished = if members.is_empty() {
            run::Finished::default()
        } else {
            run::run(&scenario, members, &mut self.calls)
        };
        let mut wrong = wired.wrong.clone();
        wrong.extend(judge::judge(&scenario, &finished));
        let verdict = Verdict {
            seed,
            ranks: scenario.ranks,
            wrong,
            trace: wired.trace ^ finished.trace,
            counts: Counts { refused: wired.refused, ..count(&finished.log) },
        };
        (verdict, wired, finished)
    }
}

fn count(log: &[log::Entry]) -> Counts {
    use log::What;
    let mut counts = Counts { runs: 1, ..Counts::default() };
    for entry in log {
        match &entry.what {
            What::Ended { .. } => counts.right += 1,
            What::Failed { .. } => counts.failed += 1,
            What::Agreed { .. } => counts.agreed += 1,
            What::Opened { generation, .. } if *generation > 0 => counts.shrunk += 1,
            What::Fault(_) => counts.faults += 1,
            _ => {}
        }
    }
    counts
}
