//! What the tests need beyond Rust: installed by name and version.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Debian packages, each with a command that shows it is there.
const DEBIAN: &[(&str, &str, &str)] = &[
    ("ip", "-V", "iproute2"),
    ("tc", "-V", "iproute2"),
    ("cc", "--version", "gcc"),
    ("c++", "--version", "g++"),
    ("cmake", "--version", "cmake"),
    ("make", "--version", "make"),
    ("pkg-config", "--version", "pkg-config"),
    ("mpiexec.hydra", "--version", "mpich"),
    ("mpirun.openmpi", "--version", "openmpi-bin"),
    ("python3", "--version", "python3-venv"),
    ("valgrind", "--version", "valgrind"),
];

const CARGO_DENY_VERSION: &str = "0.20.2";

/// Whether `program` runs.
pub(crate) fn runs(program: &Path, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Installs the Debian packages that are missing.
pub(crate) fn install_debian() -> Result<(), String> {
    let mut missing: Vec<&str> = DEBIAN
        .iter()
        .filter(|(p, a, _)| !runs(Path::new(p), a))
        .map(|&(_, _, name)| name)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    println!("xtask: installing {}", missing.join(" "));
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    run(Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-qq", "install", "-y", "--no-install-recommends"])
        .args(missing))
}

/// The MPIs that `collbench compare` is tested against; the script names their versions.
pub(crate) fn install_peers(root: &Path) -> Result<(), String> {
    let peers = target(root).join("peers");
    if ["mpi-openmpi", "mpi-mpich", "sockets", "stream"]
        .iter()
        .all(|program| peers.join(program).is_file())
    {
        return Ok(());
    }
    run(Command::new(root.join("benches/peers/setup"))
        .arg(peers)
        .args(["openmpi", "mpich", "sockets", "stream"]))
}

/// Where cargo puts what it builds.
fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// cargo-deny, built into `target/tools` unless it is installed already.
pub(crate) fn cargo_deny(root: &Path, install: bool) -> Result<Option<PathBuf>, String> {
    let own = root.join("target/tools/bin/cargo-deny");
    let found = [PathBuf::from("cargo-deny"), own.clone()].into_iter().find(|p| runs(p, "-V"));
    if found.is_some() || !install {
        return Ok(found);
    }
    println!("xtask: building cargo-deny {CARGO_DENY_VERSION} (once)");
    // Unoptimised: it runs for a second and would take minutes longer to build.
    run(Command::new("cargo")
        .current_dir(root)
        .args(["install", "--quiet", "cargo-deny", "--version", CARGO_DENY_VERSION])
        .args(["--locked", "--debug", "--no-default-features", "--root", "target/tools"]))?;
    Ok(Some(own))
}

/// Runs `command` with its output shown.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}")) }
}
