//! One target, or several that the first byte of every input chooses among, under libFuzzer.
//!
//! `cargo xtask fuzz` builds and starts this with the names in `SYNCLINE_FUZZ_TARGETS`, and reads
//! what each of them got from the file `SYNCLINE_FUZZ_TALLY`.
#![no_main]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use syncline::fuzzing::Target;

/// How often the tally is written. libFuzzer ends the process without telling.
const PERIOD: Duration = Duration::from_secs(1);

/// A target, and what it got.
struct Entry {
    target: Target,
    executions: u64,
    time: Duration,
}

struct Tally {
    entries: Vec<Entry>,
    file: Option<PathBuf>,
    written: Instant,
}

impl Tally {
    fn new() -> Self {
        let names = std::env::var("SYNCLINE_FUZZ_TARGETS").expect("SYNCLINE_FUZZ_TARGETS is set");
        let find = |name| syncline_fuzz::find(name).unwrap_or_else(|| panic!("no target {name}"));
        let entry = |name| Entry { target: find(name), executions: 0, time: Duration::ZERO };
        Self {
            entries: names.split(',').map(entry).collect(),
            file: std::env::var_os("SYNCLINE_FUZZ_TALLY").map(PathBuf::from),
            written: Instant::now(),
        }
    }

    fn run(&mut self, data: &[u8]) {
        let (index, rest) = match (self.entries.len(), data.split_first()) {
            (1, _) => (0, data),
            (several, Some((&choice, rest))) => (usize::from(choice) % several, rest),
            (_, None) => return,
        };
        let entry = &mut self.entries[index];
        let start = Instant::now();
        entry.target.1(rest);
        let end = Instant::now();
        entry.executions += 1;
        entry.time += end - start;
        if end - self.written > PERIOD {
            self.written = end;
            self.write();
        }
    }

    fn write(&self) {
        let Some(file) = &self.file else { return };
        let mut text = String::new();
        for Entry { target: (name, _), executions, time } in &self.entries {
            // Writing to a String cannot fail.
            let _ =
                writeln!(text, "{name}: {executions} executions in {:.1} s", time.as_secs_f64());
        }
        // A tally that cannot be written is missed by whoever reads it.
        let _ = std::fs::write(file, text);
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static TALLY: OnceLock<Mutex<Tally>> = OnceLock::new();
    let tally = TALLY.get_or_init(|| Mutex::new(Tally::new()));
    tally.lock().unwrap_or_else(PoisonError::into_inner).run(data);
});
