//! A thousand seeds, and replay.

use super::{Campaign, Counts};

/// Runs a quarter of the thousand; the harness runs the quarters side by side.
fn run(seeds: std::ops::Range<u64>) {
    let mut campaign = Campaign::default();
    let mut counts = Counts::default();
    for seed in seeds.clone() {
        let verdict = campaign.run(seed);
        assert!(
            verdict.wrong.is_empty(),
            "seed {seed}, see `collbench sim --seed {seed} --trace`: {}",
            verdict.wrong.join("\n")
        );
        counts += verdict.counts;
    }
    // Enough went wrong, and enough went well in spite of it.
    let runs = counts.runs;
    assert_eq!(runs, seeds.end - seeds.start);
    assert!(counts.faults > runs / 2, "{counts:?}");
    assert!(counts.failed > runs && counts.right > 10 * runs, "{counts:?}");
    assert!(counts.agreed > runs && counts.shrunk > runs, "{counts:?}");
}

#[test]
fn seeds_0_to_250() {
    run(0..250);
}

#[test]
fn seeds_250_to_500() {
    run(250..500);
}

#[test]
fn seeds_500_to_750() {
    run(500..750);
}

#[test]
fn seeds_750_to_1000() {
    run(750..1000);
}

#[test]
fn a_seed_replays_exactly() {
    // Programs that an earlier run left must not matter.
    let mut used = Campaign::default();
    (0..5).for_each(|seed| _ = used.run(seed));
    for seed in (0..40).map(|step| step * 25) {
        let (verdict, text) = used.trace(seed);
        let (again, text_again) = Campaign::default().trace(seed);
        assert_eq!(verdict, again);
        assert_eq!(text, text_again);
    }
    assert_ne!(used.run(1).trace, used.run(2).trace);
}
