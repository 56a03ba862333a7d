//! One target, or several that the first byte of every input chooses among, under libFuzzer.
//!
//! `cargo xtask fuzz` builds and starts this with the names in `SYNCLINE_FUZZ_TARGETS`.
#![no_main]

use std::sync::OnceLock;

use syncline::fuzzing::Target;

fn targets() -> &'static [Target] {
    static CHOSEN: OnceLock<Vec<Target>> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let names = std::env::var("SYNCLINE_FUZZ_TARGETS").expect("SYNCLINE_FUZZ_TARGETS is set");
        let find = |name| syncline_fuzz::find(name).unwrap_or_else(|| panic!("no target {name}"));
        names.split(',').map(find).collect()
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    match targets() {
        [(_, only)] => only(data),
        several => {
            let Some((&choice, rest)) = data.split_first() else { return };
            several[usize::from(choice) % several.len()].1(rest);
        }
    }
});
