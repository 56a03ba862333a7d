//! Every fuzz target of the repository, and the corpora they start from.
//!
//! `corpus/TARGET.hex` holds small inputs that reach different parts of a parser, one per line,
//! found by libFuzzer and minimized by it; `cargo test` replays them. `cargo xtask fuzz TARGET`
//! goes on from there.

mod files;
#[path = "../../benches/src/npy.rs"]
#[expect(dead_code, reason = "collbench uses all of it")]
mod npy;
#[path = "../../benches/src/lab/rate.rs"]
#[cfg_attr(not(test), expect(dead_code, reason = "collbench uses all of it"))]
mod rate;
#[path = "../../benches/src/size.rs"]
#[cfg_attr(not(test), expect(dead_code, reason = "collbench uses all of it"))]
mod size;

use syncline::fuzzing::Target;

/// Targets over what files and command lines hold.
const OWN: &[Target] =
    &[("tuning", files::tuning), ("npy", files::npy), ("command_line", files::command_line)];

/// All targets.
pub fn targets() -> impl Iterator<Item = Target> {
    syncline::fuzzing::TARGETS.iter().chain(OWN).copied()
}

/// The target of this name.
pub fn find(name: &str) -> Option<Target> {
    targets().find(|(target, _)| *target == name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn corpus() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
    }

    fn bytes(line: &str) -> Vec<u8> {
        let (pairs, rest) = line.as_bytes().as_chunks::<2>();
        assert!(rest.is_empty(), "{line}");
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        pairs.iter().map(|pair| byte(pair)).collect()
    }

    #[test]
    fn the_corpora_hold() {
        for (name, target) in targets() {
            let path = corpus().join(name).with_extension("hex");
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(!text.is_empty(), "{} is empty", path.display());
            for line in text.lines() {
                let outcome = std::panic::catch_unwind(|| target(&bytes(line)));
                assert!(outcome.is_ok(), "{name} fails on {line}");
            }
        }
    }

    #[test]
    fn every_corpus_has_a_target() {
        for file in std::fs::read_dir(corpus()).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(find(name).is_some(), "no target is called {name}");
        }
    }
}
