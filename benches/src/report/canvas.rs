//! What the plots are drawn with: two panels side by side, sizes along, both axes logarithmic.

use std::fmt::Write as _;

use crate::size::human;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 440.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 360.0;
const LEGEND: f64 = 428.0;
const PANEL_WIDTH: f64 = 380.0;
/// The left edges of the panels.
pub(crate) const LEFTS: [f64; 2] = [80.0, 550.0];

const INK: &str = "#1f2933";
const MUTED: &str = "#616e7c";
const GRID: &str = "#e4e7eb";
/// A line's colour.
pub(crate) const BLUE: &str = "#1f6fb2";
/// A band's colour.
pub(crate) const PALE_BLUE: &str = "#cfe3f3";
/// Another line's colour.
pub(crate) const ORANGE: &str = "#c4560b";

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

/// A panel with its axes drawn.
pub(crate) struct Panel {
    left: f64,
    x: Axis,
    y: Axis,
}

/// A size in bytes, and a value for it; both above 0.
pub(crate) type Point = (f64, f64);

impl Panel {
    /// Draws heading, axes and frame for what lies within `sizes` and `values`, each the smallest
    /// and the largest.
    pub(crate) fn new(
        svg: &mut String,
        left: f64,
        heading: &str,
        sizes: (f64, f64),
        values: (f64, f64),
    ) -> Self {
        let (low, high) = (decade_below(values.0), decade_above(values.1));
        let panel = Self {
            left,
            x: Axis { low: sizes.0 / 1.2, high: sizes.1 * 1.2, from: left, to: left + PANEL_WIDTH },
            y: Axis { low, high, from: BOTTOM, to: TOP },
        };
        text(svg, left, TOP - 10.0, "start", INK, heading);
        panel.sizes_axis(svg);
        panel.decades_axis(svg);
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{TOP}\" width=\"{PANEL_WIDTH}\" height=\"{}\" \
             fill=\"none\" stroke=\"{MUTED}\"/>",
            BOTTOM - TOP
        );
        text(svg, left + PANEL_WIDTH / 2.0, BOTTOM + 42.0, "middle", INK, "Size");
        panel
    }

    /// The heading of a panel that has nothing to show, and that.
    pub(crate) fn empty(svg: &mut String, left: f64, heading: &str) {
        text(svg, left, TOP - 10.0, "start", INK, heading);
        let middle = left + PANEL_WIDTH / 2.0;
        text(svg, middle, (TOP + BOTTOM) / 2.0, "middle", MUTED, "nothing to show");
    }

    /// A line with a dot at every point; each dot tells its size and value, and `name` if given.
    pub(crate) fn line(&self, svg: &mut String, points: &[Point], color: &str, name: &str) {
        let path: Vec<String> = points.iter().map(|&p| self.place(p)).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" \
             stroke-linejoin=\"round\"/>",
            path.join(" ")
        );
        let prefix = if name.is_empty() { String::new() } else { format!("{}, ", escape(name)) };
        for &(bytes, value) in points {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{color}\">\
                 <title>{prefix}{}: {value:.3}</title></circle>",
                self.x.at(bytes),
                self.y.at(value),
                human(bytes as u64),
            );
        }
    }

    /// The area between two lines.
    pub(crate) fn band(&self, svg: &mut String, upper: &[Point], lower: &[Point], color: &str) {
        let outline: Vec<String> =
            upper.iter().chain(lower.iter().rev()).map(|&p| self.place(p)).collect();
        let outline = outline.join(" ");
        let _ = writeln!(svg, "<polygon points=\"{outline}\" fill=\"{color}\"/>");
    }

    /// A dashed line across at `value`, if the panel reaches there.
    pub(crate) fn level(&self, svg: &mut String, value: f64) {
        if (self.y.low..=self.y.high).contains(&value) {
            let (from, to, at) = (self.left, self.left + PANEL_WIDTH, self.y.at(value));
            let _ = writeln!(
                svg,
                "<line x1=\"{from:.1}\" y1=\"{at:.1}\" x2=\"{to:.1}\" y2=\"{at:.1}\" \
                 stroke=\"{INK}\" stroke-dasharray=\"4 3\"/>"
            );
        }
    }

    fn place(&self, (bytes, value): Point) -> String {
        format!("{:.1},{:.1}", self.x.at(bytes), self.y.at(value))
    }

    fn sizes_axis(&self, svg: &mut String) {
        let first = self.x.low.max(1.0).log2().ceil() as u32;
        let last = self.x.high.log2().floor() as u32;
        let every = (last.saturating_sub(first) / 6).max(1);
        for power in (first..=last).step_by(every as usize) {
            let at = self.x.at(2f64.powi(power as i32));
            grid(svg, at, TOP, at, BOTTOM);
            text(svg, at, BOTTOM + 18.0, "middle", MUTED, &human(1 << power));
        }
    }

    fn decades_axis(&self, svg: &mut String) {
        let mut decade = self.y.low;
        while decade <= self.y.high * 1.001 {
            let at = self.y.at(decade);
            grid(svg, self.left, at, self.left + PANEL_WIDTH, at);
            text(svg, self.left - 8.0, at + 4.0, "end", MUTED, &plain(decade));
            decade *= 10.0;
        }
    }
}

/// The names of the lines and their colours, from the left, under the panels.
pub(crate) fn legend<'a>(svg: &mut String, entries: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut x = LEFTS[0];
    for (name, color) in entries {
        let _ = writeln!(
            svg,
            "<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{color}\" \
             stroke-width=\"3\"/>",
            x + 18.0,
            y = LEGEND - 4.0
        );
        text(svg, x + 24.0, LEGEND, "start", INK, name);
        x += 48.0 + 7.0 * name.chars().count() as f64;
    }
}

/// Ends the drawing.
pub(crate) fn close(svg: &mut String) {
    svg.push_str("</svg>\n");
}

/// Begins a drawing, with its title.
pub(crate) fn open(svg: &mut String, title: &str) {
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

fn grid(svg: &mut String, x1: f64, y1: f64, x2: f64, y2: f64) {
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{GRID}\"/>"
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
pub(crate) fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
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

    #[test]
    fn axes_are_logarithmic() {
        let axis = Axis { low: 1.0, high: 100.0, from: 0.0, to: 200.0 };
        assert_eq!((axis.at(1.0), axis.at(10.0), axis.at(100.0)), (0.0, 100.0, 200.0));
        assert_eq!((decade_below(30.0), decade_above(30.0)), (10.0, 100.0));
        assert_eq!((decade_below(10.0), decade_above(10.0)), (10.0, 100.0));
        assert_eq!((plain(1000.0), plain(0.01)), ("1000".into(), "0.01".into()));
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
