//! Jobs of real processes whose every port is under attack: results stay right, strangers are
//! counted, nothing leaks.

use std::path::Path;
use std::time::Duration;

use syncline_tests::besieged::Siege;

fn besiege(siege: &Siege) -> syncline_tests::besieged::Report {
    let program = Path::new(env!("CARGO_BIN_EXE_attack"));
    siege.run(program).unwrap_or_else(|reason| panic!("{siege:?}: {reason}"))
}

#[test]
fn a_job_computes_under_attack() {
    let report = besiege(&Siege::default());
    let [strangers, ..] = report.dropped;
    assert!(strangers > 100, "{report}");
    assert!(report.iterations > 100, "{report}");
}

#[test]
fn an_encrypted_job_computes_under_attack() {
    let siege = Siege { encrypt: true, time: Duration::from_secs(5), ..Siege::default() };
    let report = besiege(&siege);
    assert!(report.dropped[0] > 50, "{report}");
}

#[test]
fn a_job_computes_without_a_descriptor_to_accept_with() {
    let siege = Siege { starve: true, time: Duration::from_secs(5), ..Siege::default() };
    let report = besiege(&siege);
    assert!(report.dropped[2] > 0, "{report}");
    assert!(report.iterations > 100, "{report}");
}
