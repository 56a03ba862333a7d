//! What the user gets to see: the table as it grows, a progress bar, JSON, a plot.

pub(crate) mod canvas;
mod json;
mod plot;
mod progress;
mod table;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::event::{Event, Row};
use crate::failure::{Failure, Outcome};
use crate::plan::Plan;
pub(crate) use progress::Progress;

/// Where results go besides the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// Results as JSON.
    pub(crate) json: Option<PathBuf>,
    /// The plot.
    pub(crate) plot: Option<PathBuf>,
}

impl Files {
    /// Refuses files that cannot be written, before anything is measured.
    pub(crate) fn check(&self) -> Outcome {
        for path in [&self.json, &self.plot].into_iter().flatten() {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
            if path.is_dir() || !parent.unwrap_or_else(|| Path::new(".")).is_dir() {
                return Err(Failure::usage(format!(
                    "cannot write {}: give a file in a directory that exists",
                    path.display()
                )));
            }
        }
        Ok(())
    }
}

/// A finished measurement.
pub(crate) struct Results {
    /// What was measured.
    pub(crate) plan: Plan,
    /// Ranks that took part.
    pub(crate) ranks: u32,
    /// Hosts they were on.
    pub(crate) hosts: u32,
    /// How long the parts of coming together took rank 0, in milliseconds.
    pub(crate) init_ms: BTreeMap<String, f64>,
    /// One per size.
    pub(crate) rows: Vec<Row>,
}

impl Results {
    /// Wrong elements over all sizes and ranks.
    pub(crate) fn wrong(&self) -> u64 {
        self.rows.iter().map(|row| row.wrong).sum()
    }

    /// Fails if an element was wrong.
    pub(crate) fn judge(&self) -> Outcome {
        match self.wrong() {
            0 => Ok(()),
            wrong => Err(Failure::run(format!(
                "{wrong} elements were wrong; please report this with the command line and the \
                 output of `collbench topo`"
            ))),
        }
    }
}

/// Receives reports and shows them.
pub(crate) struct Reporter {
    results: Results,
    progress: Progress,
}

impl Reporter {
    /// For a measurement that begins.
    pub(crate) fn new(plan: &Plan) -> Self {
        let (plan, init_ms) = (plan.clone(), BTreeMap::new());
        let results = Results { plan, ranks: 0, hosts: 0, init_ms, rows: Vec::new() };
        let progress = Progress::new(results.plan.operation.name());
        Self { results, progress }
    }

    /// Shows one report.
    pub(crate) fn receive(&mut self, event: Event) -> Outcome {
        match event {
            Event::Joined { ranks, hosts, sizes, init_ms } => {
                self.results.init_ms = init_ms;
                self.results.ranks = ranks;
                self.results.hosts = hosts;
                self.progress.begin(sizes);
                self.print(&table::header(&self.results))
            }
            Event::Explained { .. } => Err(Failure::run("a measurement explained itself")),
            Event::Row(row) => {
                let line = table::row(&self.results.plan, &row);
                self.results.rows.push(row);
                self.progress.step();
                self.print(&line)
            }
        }
    }

    /// Ends the table and writes the files.
    pub(crate) fn finish(self, files: &Files) -> Outcome<Results> {
        self.print(&table::footer(&self.results))?;
        self.progress.end();
        if let Some(path) = &files.json {
            write(path, &json::document(&self.results)?)?;
        }
        if let Some(path) = &files.plot {
            write(path, &plot::draw(&self.results))?;
        }
        Ok(self.results)
    }

    fn print(&self, text: &str) -> Outcome {
        self.progress.suspend(|| say(text))
    }
}

/// Prints to stdout. A reader that went away ends the run: nobody would see the results.
pub(crate) fn say(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|e| Failure::run(format!("cannot write to stdout: {e}")))
}

/// Writes a file of results.
pub(crate) fn write(path: &Path, text: &str) -> Outcome {
    std::fs::write(path, text)
        .map_err(|e| Failure::run(format!("cannot write {}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::TransportArg;
    use crate::event::example_row;
    use crate::operation::Operation;
    use crate::plan::Input;

    /// Something to show.
    pub(crate) fn results() -> Results {
        let plan = Plan {
            explain: false,
            bind: true,
            operation: Operation::AllReduce,
            dtype: "f32".into(),
            op: "sum".into(),
            root: 0,
            input: Input::Generated(Vec::new()),
            transport: TransportArg::Auto,
            algorithm: None,
            tuning: None,
            reproducible: false,
            encrypt: false,
            in_place: false,
            iters: None,
            warmup: None,
            timeout_s: 60.0,
            dump: None,
        };
        let rows = (3..26).map(|p| example_row(1 << p, 2.0 + f64::from(1 << p) / 4000.0)).collect();
        let init_ms = BTreeMap::from([("total".to_owned(), 7.25)]);
        Results { plan, ranks: 4, hosts: 1, init_ms, rows }
    }

    #[test]
    fn files_that_cannot_be_written_are_refused_early() {
        for path in ["/nonexistent/x.json", "/"] {
            let files = Files { json: Some(path.into()), plot: None };
            assert_eq!(files.check().expect_err(path).status(), 2);
        }
        assert!(Files { json: None, plot: Some("here.svg".into()) }.check().is_ok());
    }
}
