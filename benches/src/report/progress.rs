//! A progress bar on stderr, on a terminal only.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that advances size by size.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar that spins until the ranks have joined.
    pub(crate) fn new(what: &'static str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::no_length();
        bar.set_style(style("{spinner} {msg}"));
        bar.set_message(format!("{what}: waiting for all ranks"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// All ranks are there; `sizes` will be measured.
    pub(crate) fn begin(&self, sizes: usize) {
        self.bar.set_length(sizes as u64);
        self.bar.set_style(style("{spinner} [{elapsed}] {bar:30} {pos} of {len} sizes"));
    }

    /// One more size is done.
    pub(crate) fn step(&self) {
        self.bar.inc(1);
    }

    /// Takes the bar off the screen while `print` runs.
    pub(crate) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Takes the bar off the screen.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates above are valid")
}
