//! Results as JSON, for scripts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Results;
use crate::event::Row;
use crate::failure::{Failure, Outcome};

/// The document; scripts rely on its names.
#[derive(Serialize)]
struct Document<'a> {
    collective: &'a str,
    ranks: u32,
    hosts: u32,
    transport: &'a str,
    dtype: &'a str,
    op: Option<&'a str>,
    root: Option<u32>,
    in_place: bool,
    reproducible: bool,
    init_ms: &'a BTreeMap<String, f64>,
    encrypt: bool,
    rows: &'a [Row],
}

/// The results as one indented JSON object.
pub(crate) fn document(results: &Results) -> Outcome<String> {
    let Results { plan, ranks, hosts, init_ms, rows } = results;
    let document = Document {
        collective: plan.operation.name(),
        ranks: *ranks,
        hosts: *hosts,
        transport: plan.transport.name(),
        dtype: &plan.dtype,
        op: plan.operation.reduces().then_some(plan.op.as_str()),
        root: plan.operation.rooted().then_some(plan.root),
        in_place: plan.in_place,
        reproducible: plan.reproducible,
        init_ms,
        encrypt: plan.encrypt,
        rows,
    };
    let text = serde_json::to_string_pretty(&document);
    text.map(|t| t + "\n").map_err(|e| Failure::run(format!("cannot write JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::results;

    #[test]
    fn the_names_that_scripts_rely_on() {
        let text = document(&results()).expect("plain");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["collective"], "all_reduce");
        assert_eq!((&json["ranks"], &json["hosts"]), (&4.into(), &1.into()));
        assert_eq!(json["transport"], "auto");
        assert_eq!(json["init_ms"]["total"], 7.25);
        let row = json["rows"][0].as_object().expect("an object");
        let mut names: Vec<&str> = row.keys().map(String::as_str).collect();
        names.sort_unstable();
        let mut expected = vec![
            "bytes",
            "count",
            "algorithm",
            "transport",
            "p50_us",
            "min_us",
            "p99_us",
            "max_us",
            "iters",
            "algbw_gbps",
            "busbw_gbps",
            "wrong",
            "max_abs_error",
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert!(row["p50_us"].is_f64() && row["bytes"].is_u64());
    }
}
