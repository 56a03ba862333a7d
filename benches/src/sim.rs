//! `collbench sim`: the fault campaign on the simulated network.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use syncline::campaign::{Campaign, Counts, Verdict};

use crate::cli::{SeedRange, SimArgs};
use crate::failure::{Failure, Outcome};

/// Seeds a thread takes at a time.
const BATCH: u64 = 32;
/// Failing seeds that are shown.
const SHOWN_MAX: usize = 20;
/// Every so many seeds one is run twice, to see that it gives the same trace.
const REPLAY_EVERY: u64 = 50;

/// Runs the seeds; an error when any gave a violation.
pub(crate) fn sim(args: &SimArgs) -> Outcome {
    match args.seed {
        Some(seed) => one(seed, args.trace),
        None => many(args),
    }
}

fn one(seed: u64, trace: bool) -> Outcome {
    let (verdict, text) = Campaign::default().trace(seed);
    if trace {
        say(&text);
    }
    let again = Campaign::default().run(seed);
    let mut wrong = verdict.wrong.clone();
    if again != verdict {
        wrong.push("it does not replay: another run of the seed went differently".to_owned());
    }
    let Verdict { ranks, trace, .. } = verdict;
    say(&format!("seed {seed}: {ranks} ranks, trace {trace:016x}\n"));
    fail(&[(seed, wrong)])
}

/// What all threads add to.
#[derive(Default)]
struct Sum {
    counts: Counts,
    wrong: Vec<(u64, Vec<String>)>,
}

fn many(args: &SimArgs) -> Outcome {
    let SeedRange { from, to } = args.seeds;
    let (next, sum) = (AtomicU64::new(from), Mutex::new(Sum::default()));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..args.threads {
            scope.spawn(|| work(&next, to, &sum));
        }
    });
    let sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    show(&sum.counts, start.elapsed());
    fail(&sum.wrong)
}

fn work(next: &AtomicU64, to: u64, sum: &Mutex<Sum>) {
    let mut campaign = Campaign::default();
    loop {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        if first >= to {
            return;
        }
        let mut part = Sum::default();
        for seed in first..(first + BATCH).min(to) {
            let mut verdict = campaign.run(seed);
            if seed % REPLAY_EVERY == 0 && campaign.run(seed) != verdict {
                verdict.wrong.push("it does not replay: a second run went differently".to_owned());
            }
            part.counts += verdict.counts;
            if !verdict.wrong.is_empty() {
                part.wrong.push((seed, verdict.wrong));
            }
        }
        let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sum.counts += part.counts;
        sum.wrong.append(&mut part.wrong);
    }
}

fn show(counts: &Counts, elapsed: Duration) {
    let Counts { runs, right, failed, agreed, shrunk, faults, refused } = counts;
    let rate = *runs as f64 / elapsed.as_secs_f64().max(1e-9);
    say(&format!(
        "{runs} runs in {:.1} s ({rate:.0}/s): {faults} faults; calls: {right} right, {failed} \
         failed; {agreed} agreements, {shrunk} communicators of survivors, counted at every rank; \
         {refused} processes refused before\n",
        elapsed.as_secs_f64()
    ));
}

/// An error that names the failing seeds and shows the first.
fn fail(wrong: &[(u64, Vec<String>)]) -> Outcome {
    let mut wrong: Vec<_> = wrong.iter().filter(|(_, why)| !why.is_empty()).collect();
    wrong.sort();
    let Some((first, _)) = wrong.first() else { return Ok(()) };
    let mut text = format!("{} seeds went wrong", wrong.len());
    for (seed, why) in wrong.iter().take(SHOWN_MAX) {
        text += &format!("\n  seed {seed}: {}", why.first().map_or("", String::as_str));
        if why.len() > 1 {
            text += &format!(" (and {} more)", why.len() - 1);
        }
    }
    text += &format!("\nto see all of one: collbench sim --seed {first} --trace");
    Err(Failure::run(text))
}

/// Writes to stdout; when that is closed there is nobody to tell.
fn say(text: &str) {
    let _ = write!(std::io::stdout().lock(), "{text}");
}
