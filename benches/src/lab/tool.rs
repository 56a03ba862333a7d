//! Running `ip` and `tc`, with errors that say what to do.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::failure::{Failure, Outcome};

/// Runs a program to its end and returns what it printed.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> Outcome<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        // Ctrl-C is for collbench, which then cleans up; it must not cut this short.
        .process_group(0)
        .output()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Failure::run(format!(
                "the lab needs `{program}`, which is not in PATH; install iproute2"
            )),
            _ => Failure::run(format!("cannot run {program}: {e}")),
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::run(format!(
        "`{program} {}` failed: {}; the lab needs network namespaces, veth, bridge and the tbf \
         queue in the kernel",
        arguments.join(" "),
        said.trim()
    )))
}

/// Refuses to go on without root and iproute2.
pub(crate) fn check_requirements() -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::run(
            "the lab makes network namespaces and needs root: run it with sudo",
        ));
    }
    tool("ip", &["-V"])?;
    tool("tc", &["-V"])?;
    Ok(())
}
