//! A lack of file descriptors: this process's own trouble, never a peer's, and what to raise.

use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// How many descriptors this process has open, as far as that can be known.
pub(crate) fn open() -> Option<u64> {
    // Itself being listed takes one.
    let fds = std::fs::read_dir(Path::new("/proc/self/fd")).ok()?;
    Some((fds.count() as u64).saturating_sub(1))
}

/// How many it may have open; `None`: any number.
pub(crate) fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// A limit that would do for `needed` more.
pub(crate) fn enough(limit: u64, needed: u64) -> u64 {
    limit.saturating_add(needed).checked_next_power_of_two().unwrap_or(u64::MAX).max(1024)
}

/// What a lack of descriptors is to be called, when `needed` more are wanted, and what to do about
/// it; `None` for any other error.
pub(crate) fn lack(error: &io::Error, needed: u64) -> Option<String> {
    match Errno::from_io_error(error)? {
        Errno::MFILE => {
            let limit = limit().unwrap_or(u64::MAX);
            // Counting takes a descriptor too.
            let open = match open() {
                Some(open) => format!("{open} of the {limit} that it may have are open"),
                None => format!("it may have no more than {limit}"),
            };
            Some(format!(
                "no file descriptors are left: this process needs {needed} more, and {open}; raise \
                 the limit (ulimit -n {})",
                enough(limit, needed)
            ))
        }
        Errno::NFILE => Some(format!(
            "no file descriptors are left on this host ({error}): this process needs {needed} \
             more; raise the limit for all processes (sysctl fs.file-max)"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_says_how_many_and_what_to_raise() {
        let text = lack(&Errno::MFILE.into(), 3).unwrap();
        assert!(text.contains("needs 3 more") && text.contains("ulimit -n "), "{text}");
        let text = lack(&Errno::NFILE.into(), 1).unwrap();
        assert!(text.contains("fs.file-max"), "{text}");
        assert_eq!(lack(&Errno::CONNREFUSED.into(), 1), None);
        assert_eq!(lack(&io::Error::other("something"), 1), None);
        assert_eq!(enough(1000, 30), 2048);
        assert_eq!(enough(u64::MAX, 30), u64::MAX);
    }
}
