//! Chores as code: `cargo xtask <chore>`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod fuzz;
mod header;
mod icount;
mod install;
mod sanitize;
mod test;
mod tidy;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Chores of the Syncline repository")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what the tests need, then run every check and every test: what CI runs.
    Test {
        /// Do not install anything; what is absent fails or is skipped with a printed reason.
        #[arg(long)]
        no_install: bool,
    },
    /// Feed the parsers inputs that libFuzzer makes up; what it finds is kept in target/fuzz.
    Fuzz(fuzz::Arguments),
    /// Count the instructions of the hot path and compare with the record; needs valgrind.
    Icount {
        /// Write xtask/instructions.txt anew.
        #[arg(long)]
        record: bool,
        /// Count what the fingerprint costs instead; builds twice.
        #[arg(long, conflicts_with = "record")]
        fingerprint: bool,
    },
    /// Run the library's tests under a sanitizer.
    Sanitize(sanitize::Arguments),
    /// Check the repository's own rules (file sizes, where `unsafe` may be, one wait loop, ...).
    Tidy,
    /// Write `bindings/c/include/syncline.h` anew.
    Header,
    /// Build the C library and install it: library, header, pkg-config file, CMake package.
    Install {
        /// Where to; the folders lib and include are made there.
        #[arg(long)]
        prefix: PathBuf,
        /// The unoptimised build.
        #[arg(long)]
        debug: bool,
    },
}

/// The repository's root folder.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Test { no_install } => test::run(&root(), !no_install),
        Chore::Fuzz(arguments) => fuzz::run(&root(), &arguments),
        Chore::Icount { record: true, .. } => icount::record(&root()),
        Chore::Icount { fingerprint: true, .. } => icount::fingerprint(&root()),
        Chore::Icount { .. } => icount::check(&root()),
        Chore::Sanitize(arguments) => sanitize::run(&root(), &arguments),
        Chore::Tidy => tidy::run(&root()),
        Chore::Header => header::write(&root()),
        Chore::Install { prefix, debug } => install::run(&root(), &prefix, debug),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}
