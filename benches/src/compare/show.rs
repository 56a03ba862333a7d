//! The table, the verdict, and the files.

use super::contest::{Lane, Race};
use super::cores::Pair;
use super::summary::{Entry, Row, SYNCLINE, geometric_mean};
use super::{json, svg};
use crate::cli::TransportArg;
use crate::failure::{Failure, Outcome};
use crate::launch::Placement;
use crate::operation::Operation;
use crate::report::{Files, Progress, say, write};
use crate::size::human;

/// A waiting contestant that uses more of a core than this spoils the times of the others.
const WAITING_CORES_MAX: f64 = 0.05;

/// A finished comparison.
pub(crate) struct Results {
    /// The collective.
    pub(crate) operation: Operation,
    /// Element type, by name.
    pub(crate) dtype: String,
    /// Ranks of every contestant.
    pub(crate) ranks: u32,
    /// Hosts they were on.
    pub(crate) hosts: u32,
    /// The wires asked for.
    pub(crate) transport: TransportArg,
    /// Wanted length of a turn.
    pub(crate) block_ms: f64,
    /// The first two processors, if there are two, and how near they are.
    pub(crate) cores: Option<Cores>,
    /// Syncline first, then the peers in the order asked for.
    pub(crate) contestants: Vec<Competitor>,
    /// One per size.
    pub(crate) rows: Vec<Row>,
}

/// Two processors, and how long a cache line takes there and back between them, in nanoseconds; not
/// known if other programs had them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cores {
    /// Which.
    pub(crate) pair: Pair,
    /// Before the race.
    pub(crate) start_ns: Option<f64>,
    /// After it.
    pub(crate) end_ns: Option<f64>,
}

impl Cores {
    fn new() -> Option<Self> {
        let pair = Pair::of_this_machine()?;
        Some(Self { pair, start_ns: pair.round_trip_ns(), end_ns: None })
    }
}

/// Who took part.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Competitor {
    /// What the user calls it.
    pub(crate) name: String,
    /// Whether it shows a limit and is no library.
    pub(crate) is_yardstick: bool,
    /// The library, in its own words.
    pub(crate) version: Option<String>,
    /// Why it did not take part, or not to the end.
    pub(crate) left_out: Option<String>,
    /// Share of a core it used while it waited.
    pub(crate) waiting_cores: f64,
}

impl Competitor {
    fn of(lane: &Lane) -> Self {
        Self {
            name: lane.name.clone(),
            is_yardstick: lane.is_yardstick,
            version: lane.version.clone(),
            left_out: lane.runner.as_ref().err().cloned(),
            waiting_cores: lane.waiting_cores,
        }
    }
}

impl Results {
    /// The names of the peers that were started, yardsticks too, in the order asked for.
    pub(crate) fn peers(&self) -> Vec<String> {
        self.started(|_| true)
    }

    /// The names of those that are libraries.
    pub(crate) fn rivals(&self) -> Vec<String> {
        self.started(|competitor| !competitor.is_yardstick)
    }

    fn yardsticks(&self) -> Vec<String> {
        self.started(|competitor| competitor.is_yardstick)
    }

    fn started(&self, want: impl Fn(&Competitor) -> bool) -> Vec<String> {
        let started = self.contestants.iter().skip(1).filter(|c| c.version.is_some());
        started.filter(|c| want(c)).map(|c| c.name.clone()).collect()
    }

    /// The geometric mean of the ratios to `peer` over all sizes at which it was timed.
    pub(crate) fn geomean(&self, peer: &str) -> Option<f64> {
        geometric_mean(self.rows.iter().filter_map(|row| row.ratio(peer)))
    }

    /// The geometric mean of the ratios to the best peer of each size.
    pub(crate) fn geomean_best(&self) -> Option<f64> {
        let rivals = self.rivals();
        geometric_mean(self.rows.iter().filter_map(|row| Some(row.best(&rivals)?.1)))
    }

    /// Fails if any of Syncline's results was wrong.
    pub(crate) fn judge(&self) -> Outcome {
        match self.rows.iter().map(|row| row.wrong(SYNCLINE)).sum::<u64>() {
            0 => Ok(()),
            wrong => Err(Failure::run(format!(
                "{wrong} elements of Syncline's results were wrong; please report this with the \
                 command line and the output of `collbench topo`"
            ))),
        }
    }
}

/// Shows what is found as it is found.
pub(crate) struct Report {
    results: Results,
    progress: Progress,
    /// Who was already said to have fallen out.
    told: Vec<String>,
}

impl Report {
    /// For a comparison that begins.
    pub(crate) fn new(race: &Race, transport: TransportArg, placement: &Placement) -> Self {
        let results = Results {
            operation: race.operation,
            dtype: race.dtype.clone(),
            ranks: race.ranks,
            hosts: placement.namespaces.len().max(1) as u32,
            transport,
            block_ms: race.block.as_secs_f64() * 1e3,
            cores: Cores::new(),
            contestants: Vec::new(),
            rows: Vec::new(),
        };
        let progress = Progress::new(results.operation.name());
        Self { results, progress, told: Vec::new() }
    }

    /// Everybody was started: says who takes part and who does not.
    pub(crate) fn begin(&mut self, lanes: &[Lane], sizes: usize) -> Outcome {
        self.results.contestants = lanes.iter().map(Competitor::of).collect();
        self.progress.begin(sizes);
        self.print(&title(&self.results))?;
        for contestant in &self.results.contestants {
            if let Some(version) = &contestant.version {
                self.print(&format!("#   {:<10} {version}", contestant.name))?;
            }
        }
        self.tell_who_is_out(lanes)?;
        self.print(&header(&self.results))
    }

    /// One more size is done.
    pub(crate) fn add(&mut self, row: Row, lanes: &[Lane]) -> Outcome {
        self.tell_who_is_out(lanes)?;
        let line = line(&self.results, &row);
        self.results.rows.push(row);
        self.progress.step();
        self.print(&line)
    }

    /// The verdict, and the files.
    pub(crate) fn finish(mut self, files: &Files, lanes: &[Lane]) -> Outcome<Results> {
        self.results.contestants = lanes.iter().map(Competitor::of).collect();
        if let Some(cores) = &mut self.results.cores {
            cores.end_ns = cores.pair.round_trip_ns();
        }
        self.print(&footer(&self.results))?;
        self.progress.end();
        if let Some(path) = &files.json {
            write(path, &json::document(&self.results)?)?;
        }
        if let Some(path) = &files.plot {
            write(path, &svg::draw(&self.results))?;
        }
        Ok(self.results)
    }

    fn tell_who_is_out(&mut self, lanes: &[Lane]) -> Outcome {
        for lane in lanes {
            if let Err(reason) = &lane.runner
                && !self.told.contains(&lane.name)
            {
                self.told.push(lane.name.clone());
                self.print(&format!("#   {:<10} left out: {reason}", lane.name))?;
            }
        }
        Ok(())
    }

    fn print(&self, text: &str) -> Outcome {
        self.progress.suspend(|| say(text))
    }
}

fn title(results: &Results) -> String {
    let plural = |n: u32, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    format!(
        "# {} {} on {}, {}, transport {}: medians in us, of the slowest rank",
        results.operation.name(),
        results.dtype,
        plural(results.ranks, "rank"),
        plural(results.hosts, "host"),
        results.transport.name()
    )
}

fn header(results: &Results) -> String {
    let mut names = format!("# {:>8} {:>7} {:>10}", "size", "rounds", SYNCLINE);
    for peer in results.peers() {
        names.push_str(&format!(" {peer:>10} {:>6}", "x"));
    }
    names + "   best peer"
}

fn line(results: &Results, row: &Row) -> String {
    let us = |us: f64| match us {
        _ if us < 10.0 => format!("{us:.3}"),
        _ if us < 1000.0 => format!("{us:.1}"),
        _ => format!("{us:.0}"),
    };
    let time = |name: &str| row.spread(name).map_or_else(|| "-".to_owned(), |s| us(s.p50_us));
    let mut line = format!("  {:>8} {:>7} {:>10}", human(row.bytes), row.rounds, time(SYNCLINE));
    for peer in &results.peers() {
        let ratio = row.ratio(peer).map_or_else(|| "-".to_owned(), |x| format!("{x:.2}"));
        line.push_str(&format!(" {:>10} {ratio:>6}", time(peer)));
    }
    if let Some((best, ratio)) = row.best(&results.rivals()) {
        line.push_str(&format!("   {best} {ratio:.2}"));
    }
    for contestant in &results.contestants {
        let name = &contestant.name;
        match row.entries.get(name) {
            Some(Entry::Refused { reason }) => line.push_str(&format!("  ({name}: {reason})")),
            Some(Entry::Timed { wrong, .. }) if *wrong > 0 => {
                line.push_str(&format!("  ({name}: {wrong} elements WRONG)"));
            }
            _ => {}
        }
    }
    line
}

fn footer(results: &Results) -> String {
    let mut lines = Vec::new();
    let mut means: Vec<String> = results
        .rivals()
        .iter()
        .filter_map(|peer| Some(format!("{peer} {:.2}", results.geomean(peer)?)))
        .collect();
    if let Some(best) = results.geomean_best() {
        means.push(format!("the best of them at each size {best:.2}"));
        lines.push(format!("# times faster than (geometric mean): {}", means.join(", ")));
    }
    lines.extend(results.yardsticks().iter().filter_map(|name| near_the_limit(results, name)));
    for contestant in &results.contestants {
        if contestant.waiting_cores > WAITING_CORES_MAX {
            lines.push(format!(
                "# {} used {:.0} % of a core while others were timed: their times are too long",
                contestant.name,
                contestant.waiting_cores * 100.0
            ));
        }
    }
    if lines.is_empty() {
        lines.push("# nobody to compare with".to_owned());
    }
    lines.extend(results.cores.as_ref().map(nearness));
    lines.join("\n")
}

fn nearness(cores: &Cores) -> String {
    let Cores { pair: Pair(first, second), start_ns, end_ns } = cores;
    let ns = |time: &Option<f64>| time.map_or_else(|| "?".to_owned(), |ns| format!("{ns:.0}"));
    let (start, end) = (ns(start_ns), ns(end_ns));
    format!(
        "# a cache line from core {first} to {second} and back: {start} ns at the start, {end} at the end"
    )
}

/// How near Syncline comes to a yardstick where it says most: at the largest size.
fn near_the_limit(results: &Results, yardstick: &str) -> Option<String> {
    let (row, ratio) =
        results.rows.iter().rev().find_map(|row| Some((row, row.ratio(yardstick)?)))?;
    Some(format!(
        "# at {}: {:.0} % of the speed of {yardstick}, {:.2} times its time",
        human(row.bytes),
        ratio * 100.0,
        1.0 / ratio
    ))
}

/// Two peers at three sizes, one of which refuses the first; a third was absent.
#[cfg(test)]
pub(super) fn example_results() -> Results {
    use super::summary::example_row;
    let competitor = |name: &str, left_out: Option<&str>| Competitor {
        name: name.to_owned(),
        is_yardstick: false,
        version: left_out.is_none().then(|| format!("The {name} library 1.0")),
        left_out: left_out.map(ToOwned::to_owned),
        waiting_cores: 0.001,
    };
    let mut rows = vec![
        example_row(8, &[(SYNCLINE, 1.0), ("a", 4.0)]),
        example_row(1024, &[(SYNCLINE, 2.0), ("a", 8.0), ("b", 1.0)]),
        example_row(1 << 20, &[(SYNCLINE, 100.0), ("a", 400.0), ("b", 800.0)]),
    ];
    let refused = Entry::Refused { reason: "cannot".into() };
    rows[0].entries.insert("b".into(), refused);
    Results {
        operation: Operation::AllReduce,
        dtype: "f32".into(),
        ranks: 2,
        hosts: 1,
        transport: TransportArg::Shm,
        block_ms: 4.0,
        cores: None,
        contestants: vec![
            competitor(SYNCLINE, None),
            competitor("a", None),
            competitor("b", None),
            competitor("c", Some("it is not there")),
        ],
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let results = example_results();
        let (header, line) = (header(&results), line(&results, &results.rows[1]));
        for column in ["size", "rounds", SYNCLINE, " a", " b"] {
            let end = header.find(column).expect("a column") + column.len();
            assert_ne!(line.as_bytes()[end - 1], b' ', "{column} in {line}");
            assert_eq!(line.as_bytes()[end], b' ', "{column} in {line}");
        }
        assert!(line.ends_with("b 0.50"), "{line}");
        assert!(!header.contains(" c "), "{header}");
    }

    #[test]
    fn a_line_says_who_refused_and_who_was_wrong() {
        let mut results = example_results();
        assert!(line(&results, &results.rows[0]).ends_with("a 4.00  (b: cannot)"));
        let Some(Entry::Timed { wrong, .. }) = results.rows[1].entries.get_mut("a") else {
            panic!("timed")
        };
        *wrong = 3;
        assert!(line(&results, &results.rows[1]).contains("(a: 3 elements WRONG)"));
        assert!(results.judge().is_ok(), "the peer's are not Syncline's");
        let Some(Entry::Timed { wrong, .. }) = results.rows[1].entries.get_mut(SYNCLINE) else {
            panic!("timed")
        };
        *wrong = 1;
        assert_eq!(results.judge().expect_err("wrong").status(), 1);
    }

    #[test]
    fn the_verdict_is_in_geometric_means() {
        let mut results = example_results();
        let means = "a 4.00, b 2.00, the best of them at each size 2.00";
        let footer = footer(&results);
        assert_eq!(footer, format!("# times faster than (geometric mean): {means}"));
        results.contestants[1].waiting_cores = 0.9;
        assert!(super::footer(&results).contains("a used 90 % of a core"));
        results.contestants[1].waiting_cores = 0.0;
        results.contestants[1].is_yardstick = true;
        assert_eq!(
            super::footer(&results),
            "# times faster than (geometric mean): b 2.00, the best of them at each size 2.00\n\
             # at 1 MiB: 400 % of the speed of a, 0.25 times its time",
            "a yardstick is no rival"
        );
        assert!(super::line(&results, &results.rows[2]).ends_with("  b 8.00"));
        results.contestants.truncate(1);
        assert_eq!(super::footer(&results), "# nobody to compare with");
        results.cores = Some(Cores { pair: Pair(0, 3), start_ns: Some(98.4), end_ns: None });
        let near = "# a cache line from core 0 to 3 and back: 98 ns at the start, ? at the end";
        assert!(super::footer(&results).ends_with(near));
    }
}
