//! What the tests of the built binary share.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The collectives that any number of ranks can run.
pub(crate) const COLLECTIVES: [&str; 11] = [
    "all_reduce",
    "reduce_scatter",
    "all_gather",
    "broadcast",
    "reduce",
    "gather",
    "scatter",
    "all_to_all",
    "scan",
    "exscan",
    "barrier",
];

/// The built binary, without what a launcher of the tests may have set.
pub(crate) fn collbench(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_collbench"));
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    for name in ["SYNCLINE_RANK", "SYNCLINE_WORLD_SIZE", "SYNCLINE_RENDEZVOUS"] {
        command.env_remove(name);
    }
    command
}

/// What a finished process printed.
pub(crate) fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Waits for something that must come true soon.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process runs; one that has ended but was not waited for does not.
pub(crate) fn runs(pid: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
}
