//! What a started process does first: tie its life to its parent's.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::failure::{Failure, Outcome};

/// Names the process that must be the parent.
pub(crate) const PARENT: &str = "COLLBENCH_PARENT";

/// Lets the kernel end this process when the one that started it ends, however it ends.
pub(crate) fn die_with_parent() -> Outcome {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| Failure::run(format!("cannot tie this process to its parent: {e}")))?;
    // The parent may have died before the line above.
    let parent = std::env::var(PARENT).ok().and_then(|p| p.parse().ok()).and_then(Pid::from_raw);
    if parent.is_some() && getppid() != parent {
        return Err(Failure::run("the process that started this rank is gone"));
    }
    Ok(())
}

/// Becomes `program`; the tie to the parent lasts.
pub(crate) fn execute(program: &[OsString]) -> Outcome {
    die_with_parent()?;
    let (name, arguments) = program.split_first().ok_or_else(|| Failure::usage("no program"))?;
    let error = Command::new(name).args(arguments).env_remove(PARENT).exec();
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound => "; give a path such as ./program, or one in PATH",
        std::io::ErrorKind::PermissionDenied => "; is it executable?",
        _ => "",
    };
    let message = format!("cannot start {}: {error}{hint}", name.to_string_lossy());
    Err(Failure::Program { status: 127, message })
}
