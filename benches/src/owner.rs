//! Who owns a temporary thing: a process, told apart from later ones with the same number.
//!
//! Names of temporary directories and network namespaces carry their owner, so that what a killed
//! collbench left behind can be found and removed, and nothing else.

use std::fmt;
use std::str::FromStr;

/// A process: its PID namespace, number, and start time in clock ticks since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pid_namespace: u64,
    pid: u32,
    start_ticks: u64,
}

impl Owner {
    /// This process.
    pub(crate) fn me() -> Result<Self, String> {
        let pid = std::process::id();
        let start_ticks =
            start_ticks(pid).ok_or("cannot read /proc/self/stat: is /proc mounted?")?;
        Ok(Self { pid_namespace: pid_namespace()?, pid, start_ticks })
    }

    /// Whether it is gone for certain: same PID namespace, and no such process.
    pub(crate) fn is_gone(self) -> bool {
        pid_namespace() == Ok(self.pid_namespace) && start_ticks(self.pid) != Some(self.start_ticks)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}-{}", self.pid_namespace, self.pid, self.start_ticks)
    }
}

impl FromStr for Owner {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let mut next = || parts.next().filter(|p| !p.is_empty()).ok_or(());
        let pid_namespace = u64::from_str_radix(next()?, 16).map_err(|_| ())?;
        let pid = next()?.parse().map_err(|_| ())?;
        let start_ticks = next()?.parse().map_err(|_| ())?;
        let owner = Self { pid_namespace, pid, start_ticks };
        if parts.next().is_none() { Ok(owner) } else { Err(()) }
    }
}

fn pid_namespace() -> Result<u64, String> {
    let link = std::fs::read_link("/proc/self/ns/pid")
        .map_err(|e| format!("cannot read /proc/self/ns/pid: {e}; is /proc mounted?"))?;
    let text = link.to_string_lossy();
    let inode = text.strip_prefix("pid:[").and_then(|t| t.strip_suffix(']'));
    inode.and_then(|i| i.parse().ok()).ok_or_else(|| format!("odd PID namespace {text}"))
}

/// Field 22 of /proc/PID/stat; a zombie has ended and does not count.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may hold anything, parentheses and blanks included.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i_am_not_gone_and_keep_my_name() {
        let me = Owner::me().expect("proc");
        assert!(!me.is_gone());
        assert_eq!(me.to_string().parse(), Ok(me));
    }

    #[test]
    fn another_start_time_is_another_process() {
        let me = Owner::me().expect("proc");
        assert!(Owner { start_ticks: me.start_ticks + 1, ..me }.is_gone());
    }

    #[test]
    fn processes_elsewhere_cannot_be_judged() {
        let me = Owner::me().expect("proc");
        let elsewhere = Owner { pid_namespace: me.pid_namespace + 1, ..me };
        assert!(!Owner { start_ticks: 0, ..elsewhere }.is_gone());
    }

    #[test]
    fn foreign_names_are_not_owners() {
        for name in ["", "1-2", "1-2-3-4", "x-2-3", "1--3", "1-2-3-"] {
            assert_eq!(name.parse::<Owner>(), Err(()), "{name}");
        }
    }
}
