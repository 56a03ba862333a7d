//! The plot: latency and bus bandwidth over size, both axes logarithmic, as one static SVG.

use std::fmt::Write as _;

use super::Results;
use crate::event::Row;
use crate::size::human;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 360.0;
const PANEL_WIDTH: f64 = 380.0;
const LEFTS: [f64; 2] = [80.0, 550.0];

const INK: &str = "#1f2933";
const MUTED: &str = "#616e7c";
const GRID: &str = "#e4e7eb";
const BLUE: &str = "#1f6fb2";
const PALE_BLUE: &str = "#cfe3f3";
const ORANGE: &str = "#c4560b";

/// A logarithmic axis on the screen.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }
}

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
    svg.push_str("</svg>\n");
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

fn open(svg: &mut String, title: &str) {
    let title = escape(title);
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"Helvetica, Arial, sans-serif\" \
         font-size=\"12\">\n<title>{title}</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{}\" y=\"22\" font-size=\"15\" font-weight=\"bold\" fill=\"{INK}\">{title}</text>",
        LEFTS[0],
    );
}

fn panel(svg: &mut String, left: f64, heading: &str, points: &[Point], color: &str) {
    let right = left + PANEL_WIDTH;
    text(svg, left, TOP - 10.0, "start", INK, heading);
    if points.is_empty() {
        let middle = (left + right) / 2.0;
        text(svg, middle, (TOP + BOTTOM) / 2.0, "middle", MUTED, "nothing to show");
        return;
    }
    let (low, high) = extent(points.iter().map(|p| p.bytes));
    let x = Axis { low: low / 1.2, high: high * 1.2, from: left, to: right };
    let values = points.iter().flat_map(|p| {
        let (a, b) = p.band.unwrap_or((p.value, p.value));
        [a, b, p.value]
    });
    let (low, high) = extent(values);
    let y = Axis { low: decade_below(low), high: decade_above(high), from: BOTTOM, to: TOP };
    sizes_axis(svg, &x, low_power(&x));
    decades_axis(svg, &y, left, right);
    let _ = writeln!(
        svg,
        "<rect x=\"{left}\" y=\"{TOP}\" width=\"{PANEL_WIDTH}\" height=\"{}\" fill=\"none\" \
         stroke=\"{MUTED}\"/>",
        BOTTOM - TOP
    );
    band(svg, &x, &y, points);
    line(svg, &x, &y, points, color);
    text(svg, (left + right) / 2.0, BOTTOM + 42.0, "middle", INK, "Size");
}

/// The smallest power of two on the axis.
fn low_power(x: &Axis) -> u32 {
    x.low.max(1.0).log2().ceil() as u32
}

fn sizes_axis(svg: &mut String, x: &Axis, first: u32) {
    let last = x.high.log2().floor() as u32;
    let every = (last.saturating_sub(first) / 6).max(1);
    for power in (first..=last).step_by(every as usize) {
        let at = x.at(2f64.powi(power as i32));
        grid(svg, at, TOP, at, BOTTOM, GRID);
        text(svg, at, BOTTOM + 18.0, "middle", MUTED, &human(1 << power));
    }
}

fn decades_axis(svg: &mut String, y: &Axis, left: f64, right: f64) {
    let mut decade = y.low;
    while decade <= y.high * 1.001 {
        let at = y.at(decade);
        grid(svg, left, at, right, at, GRID);
        text(svg, left - 8.0, at + 4.0, "end", MUTED, &plain(decade));
        decade *= 10.0;
    }
}

fn band(svg: &mut String, x: &Axis, y: &Axis, points: &[Point]) {
    let place = |p: &Point, v: f64| format!("{:.1},{:.1}", x.at(p.bytes), y.at(v));
    let upper = points.iter().filter_map(|p| p.band.map(|b| place(p, b.1)));
    let lower = points.iter().rev().filter_map(|p| p.band.map(|b| place(p, b.0)));
    let outline: Vec<String> = upper.chain(lower).collect();
    if !outline.is_empty() {
        let _ = writeln!(svg, "<polygon points=\"{}\" fill=\"{PALE_BLUE}\"/>", outline.join(" "));
    }
}

fn line(svg: &mut String, x: &Axis, y: &Axis, points: &[Point], color: &str) {
    let place = |p: &Point| format!("{:.1},{:.1}", x.at(p.bytes), y.at(p.value));
    let path: Vec<String> = points.iter().map(place).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" \
         stroke-linejoin=\"round\"/>",
        path.join(" ")
    );
    for p in points {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{color}\"><title>{}: {:.3}</title>\
             </circle>",
            x.at(p.bytes),
            y.at(p.value),
            human(p.bytes as u64),
            p.value
        );
    }
}

fn grid(svg: &mut String, x1: f64, y1: f64, x2: f64, y2: f64, color: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, color: &str, text: &str) {
    let text = escape(text);
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{color}\">{text}</text>"
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Smallest and largest value.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, 0.0), |(low, high), v| (low.min(v), f64::max(high, v)))
}

fn decade_below(value: f64) -> f64 {
    10f64.powf(value.max(1e-9).log10().floor())
}

fn decade_above(value: f64) -> f64 {
    let above = 10f64.powf(value.max(1e-9).log10().ceil());
    if above > decade_below(value) { above } else { above * 10.0 }
}

/// A power of ten as a person writes it.
fn plain(decade: f64) -> String {
    if decade >= 0.9 {
        format!("{decade:.0}")
    } else {
        format!("{decade:.9}").trim_end_matches('0').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::results;

    #[test]
    fn axes_are_logarithmic() {
        let axis = Axis { low: 1.0, high: 100.0, from: 0.0, to: 200.0 };
        assert_eq!((axis.at(1.0), axis.at(10.0), axis.at(100.0)), (0.0, 100.0, 200.0));
        assert_eq!((decade_below(30.0), decade_above(30.0)), (10.0, 100.0));
        assert_eq!((decade_below(10.0), decade_above(10.0)), (10.0, 100.0));
        assert_eq!((plain(1000.0), plain(0.01)), ("1000".into(), "0.01".into()));
    }

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

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
