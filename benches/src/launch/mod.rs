//! Starting ranks as processes, and ending every one of them whatever happens.

pub(crate) mod bind;
mod child;
mod environment;
mod group;
mod program;
mod ranks;
mod signals;

#[cfg(feature = "fuzzing")]
pub(crate) use bind::processors;
pub(crate) use bind::{bind, own_processors};
pub(crate) use child::{die_with_parent, execute};
pub(crate) use environment::{Place, launched};
pub(crate) use group::{Group, Notice, describe};
pub(crate) use program::{launch, place};
pub(crate) use ranks::run_ranks;
pub(crate) use signals::heed_signals;

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// Where the processes of a job run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placement {
    /// Network namespaces by host; empty means right here.
    pub(crate) namespaces: Vec<String>,
    /// Ranks on each host; ranks are placed host by host.
    pub(crate) ranks_per_host: u32,
}

impl Placement {
    /// Runs `collbench ARGUMENTS` where `rank` belongs.
    pub(crate) fn command(&self, rank: u32, arguments: &[&OsStr]) -> Command {
        // Not /proc/self/exe: that would be `ip` once `ip` runs it. Not a path: the file may be
        // replaced by a new build while this process runs.
        let collbench = format!("/proc/{}/exe", std::process::id());
        let mut command = match self.namespace(rank) {
            None => Command::new(collbench),
            Some(namespace) => {
                let mut ip = Command::new("ip");
                ip.args(["netns", "exec", namespace, &collbench]);
                ip
            }
        };
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The number of `rank` on its host, and how many are there, of `ranks`.
    pub(crate) const fn local(&self, rank: u32, ranks: u32) -> (u32, u32) {
        if self.namespaces.is_empty() {
            return (rank, ranks);
        }
        (rank % self.ranks_per_host, self.ranks_per_host)
    }

    fn namespace(&self, rank: u32) -> Option<&str> {
        let host = rank.checked_div(self.ranks_per_host)?;
        self.namespaces.get(host as usize).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_fill_one_host_after_the_other() {
        let placement = Placement { namespaces: vec!["a".into(), "b".into()], ranks_per_host: 2 };
        let hosts: Vec<_> = (0..4).map(|rank| placement.namespace(rank)).collect();
        assert_eq!(hosts, [Some("a"), Some("a"), Some("b"), Some("b")]);
        assert_eq!(placement.local(3, 4), (1, 2));
        assert_eq!(Placement::default().namespace(3), None);
        assert_eq!(Placement::default().local(3, 4), (3, 4));
    }
}
