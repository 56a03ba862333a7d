//! The library's tests under AddressSanitizer or ThreadSanitizer.
//!
//! ASan's runtime ships with the stable toolchain, which has to be told that unstable flags may be
//! used. TSan must see every access, those of the standard library too, or it reports races that
//! are none: that takes a nightly toolchain with the standard library's source.

use std::path::Path;
use std::process::Command;

use clap::ValueEnum;

use crate::tools;

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Proofs over thousands of schedules, and simulated jobs that run in one thread: no memory is
/// shared there and no pointer used, and under a sanitizer they take most of an hour.
const SKIPPED: &[&str] = &["schedule::", "campaign::"];
/// System calls go through the C library there, where sanitizers see what they read and write, and
/// when a range of addresses is given back.
const VISIBLE_CALLS: &str = "--cfg rustix_use_libc";

/// Which sanitizer.
#[derive(Clone, Copy, ValueEnum)]
enum Sanitizer {
    /// Accesses outside of, or after the life of, an object; leaks.
    Address,
    /// Data races.
    Thread,
}

/// What to run under which sanitizer.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(value_enum)]
    sanitizer: Sanitizer,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// Builds and runs the tests.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.current_dir(root);
    let flags = |sanitizer: &str| format!("-Zsanitizer={sanitizer} {VISIBLE_CALLS}");
    match arguments.sanitizer {
        Sanitizer::Address => {
            command
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTFLAGS", flags("address"))
                .env("CARGO_TARGET_DIR", "target/asan")
                .arg("test");
        }
        Sanitizer::Thread => {
            nightly_has_source()?;
            command
                .env_remove("RUSTUP_TOOLCHAIN")
                .env("RUSTFLAGS", flags("thread"))
                .env("CARGO_TARGET_DIR", "target/tsan")
                .env("TSAN_OPTIONS", "halt_on_error=0 second_deadlock_stack=1")
                .args(["+nightly", "test", "-Zbuild-std"]);
        }
    }
    command.args(["--package", "syncline", "--lib", "--target", TRIPLE, "--"]);
    command.args(&arguments.filter);
    command.args(SKIPPED.iter().flat_map(|skipped| ["--skip", skipped]));
    tools::run(&mut command)
}

fn nightly_has_source() -> Result<(), String> {
    let output = Command::new("rustc")
        .env_remove("RUSTUP_TOOLCHAIN")
        .args(["+nightly", "--print", "sysroot"])
        .output()
        .map_err(|error| format!("cannot start rustc: {error}"))?;
    let sysroot = String::from_utf8_lossy(&output.stdout);
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/std");
    if output.status.success() && source.is_dir() {
        return Ok(());
    }
    Err("ThreadSanitizer needs a nightly toolchain with the standard library's source:\n  \
         rustup toolchain install nightly --profile minimal --component rust-src"
        .to_owned())
}
