//! The comparison as one static SVG: times and ratios over size.

use super::show::Results;
use super::summary::{SYNCLINE, Spread};
use crate::report::canvas::{BLUE, LEFTS, PALE_BLUE, Panel, Point, close, extent, legend, open};

/// The peers' colours, distinct also to the colour-blind (Okabe and Ito, 2008).
const PEERS: [&str; 6] = ["#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f"];

/// Draws the results: left the times, right how many times faster Syncline is.
pub(super) fn draw(results: &Results) -> String {
    let mut svg = String::with_capacity(32 * 1024);
    open(&mut svg, &title(results));
    let peers = results.peers();
    let color = |index: usize| PEERS[index % PEERS.len()];
    times(&mut svg, results, &peers, &color);
    ratios(&mut svg, results, &peers, &color);
    let named = peers.iter().enumerate().map(|(index, peer)| (peer.as_str(), color(index)));
    legend(&mut svg, std::iter::once((SYNCLINE, BLUE)).chain(named));
    close(&mut svg);
    svg
}

fn title(results: &Results) -> String {
    format!(
        "{} {}, {} ranks on {} host{}, transport {}",
        results.operation.name(),
        results.dtype,
        results.ranks,
        results.hosts,
        if results.hosts == 1 { "" } else { "s" },
        results.transport.name()
    )
}

fn times(
    svg: &mut String,
    results: &Results,
    peers: &[String],
    color: &dyn Fn(usize) -> &'static str,
) {
    let heading = "Time (µs): median; Syncline's first to last decile";
    let line = |name: &str, of: fn(Spread) -> f64| -> Vec<Point> {
        let rows = results.rows.iter();
        rows.filter_map(|row| Some((row.bytes as f64, of(row.spread(name)?)))).collect()
    };
    let lines: Vec<Vec<Point>> = peers.iter().map(|peer| line(peer, |s| s.p50_us)).collect();
    let [low, own, high] =
        [line(SYNCLINE, |s| s.p10_us), line(SYNCLINE, |s| s.p50_us), line(SYNCLINE, |s| s.p90_us)];
    let everything = lines.iter().flatten().chain(&low).chain(&high);
    let Some(panel) = panel(svg, LEFTS[0], heading, everything) else { return };
    panel.band(svg, &high, &low, PALE_BLUE);
    for (index, points) in lines.iter().enumerate() {
        panel.line(svg, points, color(index), &peers[index]);
    }
    panel.line(svg, &own, BLUE, SYNCLINE);
}

fn ratios(
    svg: &mut String,
    results: &Results,
    peers: &[String],
    color: &dyn Fn(usize) -> &'static str,
) {
    let heading = "Times faster than: peer's median / Syncline's";
    let line = |peer: &String| -> Vec<Point> {
        let rows = results.rows.iter();
        rows.filter_map(|row| Some((row.bytes as f64, row.ratio(peer)?))).collect()
    };
    let lines: Vec<Vec<Point>> = peers.iter().map(line).collect();
    let Some(panel) = panel(svg, LEFTS[1], heading, lines.iter().flatten()) else { return };
    panel.level(svg, 1.0);
    for (index, points) in lines.iter().enumerate() {
        panel.line(svg, points, color(index), &peers[index]);
    }
}

/// A panel that holds all `points`; `None`, saying so in the drawing, without any.
fn panel<'a>(
    svg: &mut String,
    left: f64,
    heading: &str,
    points: impl Iterator<Item = &'a Point> + Clone,
) -> Option<Panel> {
    if points.clone().next().is_none() {
        Panel::empty(svg, left, heading);
        return None;
    }
    let sizes = extent(points.clone().map(|point| point.0));
    Some(Panel::new(svg, left, heading, sizes, extent(points.map(|point| point.1))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::show::example_results;

    #[test]
    fn everybody_has_a_line_in_a_colour_of_its_own() {
        let results = example_results();
        let svg = draw(&results);
        let (rows, peers) = (results.rows.len(), results.peers().len());
        assert_eq!(svg.matches("<polyline").count(), 1 + 2 * peers);
        // One peer was not timed at one of the sizes.
        assert_eq!(svg.matches("<circle").count(), rows * (1 + 2 * peers) - 2);
        assert_eq!(svg.matches("stroke-dasharray").count(), 1, "where both are as fast");
        for label in ["syncline", "a", "b", "all_reduce f32, 2 ranks on 1 host", "a, 1 KiB: 8.000"]
        {
            assert!(svg.contains(&format!(">{label}")), "{label} in {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn nobody_to_compare_with_can_be_drawn() {
        let mut results = example_results();
        results.contestants.truncate(1);
        assert!(draw(&results).contains("nothing to show"));
    }
}
