//! Every fuzz target of the repository, and the corpora they start from.
//!
//! `corpus/TARGET.hex` holds small inputs that reach different parts of a parser, one per line,
//! found by libFuzzer and minimized by it; `cargo test` replays them. `cargo xtask fuzz TARGET`
//! goes on from there.
//!
//! Targets stand beside what they try out. Programs and the C interface are built as libraries
//! for this, see `collbench/` and `c/` here.

use syncline::fuzzing::Target;

/// All targets.
pub fn targets() -> impl Iterator<Item = Target> {
    let rooms = [
        syncline::fuzzing::TARGETS,
        syncline_codecs::fuzzing::TARGETS,
        collbench::fuzzing::TARGETS,
        syncline_c::fuzzing::TARGETS,
    ];
    rooms.into_iter().flatten().copied()
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

    /// The same on every run, so that no target rots unnoticed; the library's own do this beside
    /// their code.
    #[test]
    fn every_target_takes_any_bytes() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            // xorshift64* (Vigna 2016).
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        };
        for (_, target) in collbench::fuzzing::TARGETS.iter().chain(syncline_c::fuzzing::TARGETS) {
            target(&[]);
            for _ in 0..200 {
                let bytes = (next() >> 55) as usize;
                let data: Vec<u8> = (0..bytes).map(|_| (next() >> 40) as u8).collect();
                target(&data);
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
