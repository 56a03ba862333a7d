//! The table: nccl-tests' columns, and what the planner chose.

use super::Results;
use crate::event::Row;
use crate::operation::Operation;
use crate::plan::{Input, Plan};

/// What was measured, and the names and units of the columns.
pub(crate) fn header(results: &Results) -> String {
    let Results { plan, ranks, hosts, .. } = results;
    let plural = |n: u32, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut title = format!(
        "# {} on {}, {}, transport {}{}",
        plan.operation.name(),
        plural(*ranks, "rank"),
        plural(*hosts, "host"),
        plan.transport.name(),
        match plan.operation {
            Operation::Barrier => "",
            _ if plan.in_place => ", in place",
            _ => ", out of place",
        },
    );
    match &plan.input {
        Input::Generated(_) => {}
        Input::File(path) => title.push_str(&format!(", rows of {}", path.display())),
        Input::Bundled => title.push_str(", gradients of a CNN at step 100"),
    }
    if plan.reproducible {
        title.push_str(", reproducible");
    }
    if plan.encrypt {
        title.push_str(", encrypted");
    }
    let names = format!(
        "# {:>10} {:>11} {:>6} {:>6} {:>4} {:>10} {:>10} {:>10} {:>7} {:>7} {:>6}  {:<9} {}",
        "size",
        "count",
        "type",
        "redop",
        "root",
        "p50",
        "min",
        "p99",
        "algbw",
        "busbw",
        "#wrong",
        "transport",
        "algorithm"
    );
    let units = format!(
        "# {:>10} {:>11} {:>6} {:>6} {:>4} {:>10} {:>10} {:>10} {:>7} {:>7}",
        "(B)", "(elements)", "", "", "", "(us)", "(us)", "(us)", "(GB/s)", "(GB/s)"
    );
    format!("{title}\n{names}\n{units}")
}

/// One line.
pub(crate) fn row(plan: &Plan, row: &Row) -> String {
    let redop = if plan.operation.reduces() { plan.op.as_str() } else { "none" };
    let root = if plan.operation.rooted() { i64::from(plan.root) } else { -1 };
    let time = |us: f64| if us < 10_000.0 { format!("{us:.2}") } else { format!("{us:.0}") };
    format!(
        "  {:>10} {:>11} {:>6} {:>6} {:>4} {:>10} {:>10} {:>10} {:>7.2} {:>7.2} {:>6}  {:<9} {}",
        row.bytes,
        row.count,
        plan.dtype,
        redop,
        root,
        time(row.latency.p50_us),
        time(row.latency.min_us),
        time(row.latency.p99_us),
        row.algbw_gbps,
        row.busbw_gbps,
        row.wrong,
        row.transport,
        row.algorithm,
    )
}

/// The verdict.
pub(crate) fn footer(results: &Results) -> String {
    let rows = &results.rows;
    let worst = rows.iter().map(|r| r.max_abs_error.unwrap_or(f64::INFINITY)).fold(0.0, f64::max);
    let verdict = match results.wrong() {
        0 => "every element right".to_owned(),
        wrong => format!("{wrong} elements WRONG"),
    };
    let average = rows.iter().map(|r| r.busbw_gbps).sum::<f64>() / rows.len().max(1) as f64;
    format!(
        "# {verdict}; largest error against float64 {worst:.3e}; average bus bandwidth \
         {average:.2} GB/s"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::results;

    #[test]
    fn columns_line_up() {
        let results = results();
        let header = header(&results);
        let lines: Vec<&str> = header.lines().collect();
        assert_eq!(lines[0], "# all_reduce on 4 ranks, 1 host, transport auto, out of place");
        let row = row(&results.plan, &results.rows[0]);
        for column in ["size", "p50", "busbw", "#wrong"] {
            let end = lines[1].find(column).expect("a column") + column.len();
            assert!(row.as_bytes()[end - 1].is_ascii_digit(), "{column} in {row}");
            assert_eq!(row.as_bytes()[end], b' ', "{column} in {row}");
        }
        assert!(row.contains(" sum   -1 "), "{row}");
        assert!(row.ends_with("shm       ring"), "{row}");
    }

    #[test]
    fn the_verdict_counts_what_is_wrong() {
        let mut results = results();
        assert!(footer(&results).contains("every element right"));
        results.rows[1].wrong = 3;
        results.rows[1].max_abs_error = None;
        let footer = footer(&results);
        assert!(footer.contains("3 elements WRONG") && footer.contains("inf"), "{footer}");
        assert!(results.judge().is_err());
    }
}
