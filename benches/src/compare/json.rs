//! The comparison as JSON, for scripts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::show::Results;
use super::summary::{Entry, Row};
use crate::failure::{Failure, Outcome};

/// The document; scripts rely on its names.
#[derive(Serialize)]
struct Document<'a> {
    collective: &'a str,
    dtype: &'a str,
    op: Option<&'a str>,
    ranks: u32,
    hosts: u32,
    transport: &'a str,
    block_ms: f64,
    /// The first two processors, and how near they are to each other.
    cores: Option<Cores>,
    contestants: Vec<Contestant<'a>>,
    rows: Vec<Line<'a>>,
    /// Over all sizes, by peer.
    geomean: BTreeMap<String, f64>,
    /// Over all sizes, of the best peer at each.
    geomean_best: Option<f64>,
}

#[derive(Serialize)]
struct Cores {
    pair: [usize; 2],
    /// A cache line there and back; null if it could not be found out.
    round_trip_ns_start: Option<f64>,
    round_trip_ns_end: Option<f64>,
}

#[derive(Serialize)]
struct Contestant<'a> {
    name: &'a str,
    /// It shows a limit and is no library: `best` leaves it out.
    yardstick: bool,
    version: Option<&'a str>,
    /// Why it did not take part, or not to the end.
    left_out: Option<&'a str>,
    /// Share of a core used while others were timed.
    waiting_cores: f64,
}

#[derive(Serialize)]
struct Line<'a> {
    bytes: u64,
    count: usize,
    rounds: u32,
    /// By contestant.
    times: BTreeMap<&'a str, Times>,
    /// Peer's p50 over Syncline's, by peer.
    ratio: BTreeMap<&'a str, f64>,
    best: Option<Best<'a>>,
    /// Why a contestant has no times at this size, by contestant.
    refused: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct Times {
    p50_us: f64,
    p10_us: f64,
    p90_us: f64,
    iterations: u64,
    wrong: u64,
}

#[derive(Serialize)]
struct Best<'a> {
    peer: &'a str,
    ratio: f64,
}

/// The results as one indented JSON object.
pub(super) fn document(results: &Results) -> Outcome<String> {
    let (peers, rivals) = (results.peers(), results.rivals());
    let contestants = results.contestants.iter().map(|contestant| Contestant {
        name: &contestant.name,
        yardstick: contestant.is_yardstick,
        version: contestant.version.as_deref(),
        left_out: contestant.left_out.as_deref(),
        waiting_cores: contestant.waiting_cores,
    });
    let means = peers.iter().filter_map(|peer| Some((peer.clone(), results.geomean(peer)?)));
    let document = Document {
        collective: results.operation.name(),
        dtype: &results.dtype,
        op: results.operation.reduces().then_some("sum"),
        ranks: results.ranks,
        hosts: results.hosts,
        transport: results.transport.name(),
        block_ms: results.block_ms,
        cores: results.cores.map(|cores| Cores {
            pair: [cores.pair.0, cores.pair.1],
            round_trip_ns_start: cores.start_ns,
            round_trip_ns_end: cores.end_ns,
        }),
        contestants: contestants.collect(),
        rows: results.rows.iter().map(|row| line(row, &peers, &rivals)).collect(),
        geomean: means.collect(),
        geomean_best: results.geomean_best(),
    };
    let text = serde_json::to_string_pretty(&document);
    text.map(|t| t + "\n").map_err(|e| Failure::run(format!("cannot write JSON: {e}")))
}

fn line<'a>(row: &'a Row, peers: &'a [String], rivals: &'a [String]) -> Line<'a> {
    let mut times = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for (name, entry) in &row.entries {
        match entry {
            Entry::Timed { spread, iterations, wrong } => {
                let (iterations, wrong) = (*iterations, *wrong);
                let (p50_us, p10_us, p90_us) = (spread.p50_us, spread.p10_us, spread.p90_us);
                times.insert(name.as_str(), Times { p50_us, p10_us, p90_us, iterations, wrong });
            }
            Entry::Refused { reason } => {
                refused.insert(name.as_str(), reason.as_str());
            }
        }
    }
    let ratios = peers.iter().filter_map(|peer| Some((peer.as_str(), row.ratio(peer)?)));
    Line {
        bytes: row.bytes,
        count: row.count,
        rounds: row.rounds,
        times,
        ratio: ratios.collect(),
        best: row.best(rivals).map(|(peer, ratio)| Best { peer, ratio }),
        refused,
    }
}

#[cfg(test)]
mod tests {
    use super::document;
    use crate::compare::cores::Pair;
    use crate::compare::show::{Cores, example_results};

    #[test]
    fn the_names_that_scripts_rely_on() {
        let text = document(&example_results()).expect("plain");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["collective"], "all_reduce");
        assert_eq!((&json["dtype"], &json["op"]), (&"f32".into(), &"sum".into()));
        assert_eq!((&json["ranks"], &json["hosts"]), (&2.into(), &1.into()));
        assert_eq!((&json["transport"], &json["block_ms"]), (&"shm".into(), &4.0.into()));
        assert_eq!(json["geomean"].as_object().expect("an object").len(), 2);
        let close = |value: &serde_json::Value, expected: f64| {
            assert!((value.as_f64().expect("a number") - expected).abs() < 1e-9, "{value}");
        };
        close(&json["geomean"]["a"], 4.0);
        close(&json["geomean"]["b"], 2.0);
        close(&json["geomean_best"], 2.0);
        let row = &json["rows"][1];
        assert_eq!((&row["bytes"], &row["count"]), (&1024.into(), &256.into()));
        assert_eq!(row["rounds"], 7);
        close(&row["ratio"]["a"], 4.0);
        close(&row["times"]["syncline"]["p50_us"], 2.0);
        for name in ["p10_us", "p90_us", "iterations", "wrong"] {
            assert!(row["times"]["b"][name].is_number(), "{name}");
        }
        assert_eq!(row["best"]["peer"], "b");
        close(&row["best"]["ratio"], 0.5);
        assert_eq!(json["rows"][0]["refused"]["b"], "cannot");
        assert!(json["rows"][0]["ratio"].get("b").is_none());
    }

    #[test]
    fn a_yardstick_has_a_ratio_and_is_never_the_best() {
        let mut results = example_results();
        results.contestants[2].is_yardstick = true;
        let text = document(&results).expect("plain");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let row = &json["rows"][1];
        assert_eq!((&row["best"]["peer"], &row["ratio"]["b"]), (&"a".into(), &0.5.into()));
        assert_eq!(json["contestants"][2]["yardstick"], true);
        assert!(json["geomean"]["b"].is_f64());
    }

    #[test]
    fn how_near_the_cores_were() {
        let mut results = example_results();
        results.cores = Some(Cores { pair: Pair(0, 1), start_ns: Some(98.0), end_ns: None });
        let text = document(&results).expect("plain");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["cores"]["pair"], serde_json::json!([0, 1]));
        assert_eq!(json["cores"]["round_trip_ns_start"], 98.0);
        assert!(json["cores"]["round_trip_ns_end"].is_null());
    }

    #[test]
    fn who_was_left_out_and_why() {
        let text = document(&example_results()).expect("plain");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let absent = &json["contestants"][3];
        assert_eq!(
            (&absent["name"], &absent["left_out"]),
            (&"c".into(), &"it is not there".into())
        );
        assert!(absent["version"].is_null());
        assert!(json["contestants"][1]["left_out"].is_null());
        assert_eq!(json["contestants"][1]["yardstick"], false);
    }
}
