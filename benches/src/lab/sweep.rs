//! Removing labs: one's own at the end, and those whose owner is gone.

use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process};

use super::tool::tool;
use crate::failure::Outcome;
use crate::owner::Owner;

/// How the names of a lab's namespaces begin; the owner follows.
pub(crate) const PREFIX: &str = "collbench-";
/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";
/// How long the janitor waits for a killed owner to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes every lab whose owner is gone; returns how many namespaces that were.
pub(crate) fn sweep() -> Outcome<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(NAMES).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if let Some(name) = name.to_str().filter(|n| owner_of(n).is_some_and(Owner::is_gone)) {
            remove(name)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The owner of a namespace, if a lab made it.
fn owner_of(namespace: &str) -> Option<Owner> {
    namespace.strip_prefix(PREFIX)?.rsplit_once('-')?.0.parse().ok()
}

/// Removes one namespace with its links, and ends what still runs in it.
pub(crate) fn remove(namespace: &str) -> Outcome {
    let path = Path::new(NAMES).join(namespace);
    if !path.exists() {
        return Ok(());
    }
    // A name that `ip netns add` did not come to mount anything on cannot be asked.
    let pids = tool("ip", &["netns", "pids", namespace]).unwrap_or_default();
    let pids = pids.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    for pid in pids {
        // It may have ended meanwhile.
        let _ = kill_process(pid, Signal::KILL);
    }
    match tool("ip", &["netns", "delete", namespace]) {
        // Somebody else may sweep at the same time.
        Err(_) if !path.exists() => Ok(()),
        other => other.map(drop),
    }
}

/// Waits for the process that started this one to end, and cleans up if it did not do so itself.
pub(crate) fn janitor() -> Outcome {
    let owner = getppid();
    let mut word = Vec::new();
    // The stream ends when the owner does.
    let _ = std::io::stdin().lock().read_to_end(&mut word);
    if !word.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + PATIENCE;
    while getppid() == owner && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    sweep().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_an_owner_are_a_labs() {
        let me = Owner::me().expect("proc");
        assert_eq!(owner_of(&format!("{PREFIX}{me}-h3")), Some(me));
        assert_eq!(owner_of(&format!("{PREFIX}{me}-switch")), Some(me));
        for name in ["collbench-", "collbench-prod", "prod", "collbench-1-2-h0", "cni-1-2-3-h0"] {
            assert_eq!(owner_of(name), None, "{name}");
        }
    }
}
