//! The plot: latency and bus bandwidth over size, both axes logarithmic, as one static SVG.

use super::Results;
use super::canvas::{BLUE, LEFTS, ORANGE, PALE_BLUE, Panel, close, extent, open};
use crate::event::Row;

/// A size, and up to three values for it.
struct Point {
    bytes: f64,
    value: f64,
    band: Option<(f64, f64)>,
}

/// Draws the results. Sizes of 0 bytes (barrier) stand at 1 byte.
pub(crate) fn draw(results: &Results) -> String {
    let mut svg = String::with_capacity(16 * 1024);
    open(&mut svg, &title(results));
    let bytes = |row: &Row| (row.bytes as f64).max(1.0);
    let latency: Vec<Point> = results
        .rows
        .iter()
        .map(|row| Point {
            bytes: bytes(row),
            value: row.latency.p50_us,
            band: Some((row.latency.min_us, row.latency.p99_us)),
        })
        .collect();
    panel(&mut svg, LEFTS[0], "Latency (µs): median, and from minimum to p99", &latency, BLUE);
    let bandwidth: Vec<Point> = results
        .rows
        .iter()
        .filter(|row| row.busbw_gbps > 0.0)
        .map(|row| Point { bytes: bytes(row), value: row.busbw_gbps, band: None })
        .collect();
    panel(&mut svg, LEFTS[1], "Bus bandwidth (GB/s, 1e9 bytes per second)", &bandwidth, ORANGE);
    close(&mut svg);
    svg
}

fn title(results: &Results) -> String {
    let Results { plan, ranks, hosts, .. } = results;
    let op = if plan.operation.reduces() { format!(" {}", plan.op) } else { String::new() };
    format!(
        "{} {}{op}, {ranks} ranks on {hosts} host{}, transport {}",
        plan.operation.name(),
        plan.dtype,
        if *hosts == 1 { "" } else { "s" },
        plan.transport.name(),
    )
}

fn panel(svg: &mut String, left: f64, heading: &str, points: &[Point], color: &str) {
    if points.is_empty() {
        return Panel::empty(svg, left, heading);
    }
    let values = points.iter().flat_map(|p| {
        let (a, b) = p.band.unwrap_or((p.value, p.value));
        [a, b, p.value]
    });
    let sizes = extent(points.iter().map(|p| p.bytes));
    let panel = Panel::new(svg, left, heading, sizes, extent(values));
    let edge = |of: fn((f64, f64)) -> f64| -> Vec<(f64, f64)> {
        points.iter().filter_map(|p| Some((p.bytes, of(p.band?)))).collect()
    };
    let (lower, upper) = (edge(|band| band.0), edge(|band| band.1));
    if !upper.is_empty() {
        panel.band(svg, &upper, &lower, PALE_BLUE);
    }
    let points: Vec<(f64, f64)> = points.iter().map(|p| (p.bytes, p.value)).collect();
    panel.line(svg, &points, color, "");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::results;

    #[test]
    fn every_size_is_a_point_in_both_panels() {
        let results = results();
        let svg = draw(&results);
        assert_eq!(svg.matches("<circle").count(), 2 * results.rows.len());
        assert_eq!(svg.matches("<polyline").count(), 2);
        for label in ["Latency (µs)", "Bus bandwidth (GB/s", "1 KiB", "Size", "all_reduce f32 sum"]
        {
            assert!(svg.contains(label), "{label}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn one_point_and_none_can_be_drawn() {
        let mut results = results();
        results.rows.truncate(1);
        results.rows[0].bytes = 0;
        results.rows[0].busbw_gbps = 0.0;
        let svg = draw(&results);
        assert!(svg.contains("nothing to show") && !svg.contains("NaN"));
    }
}
