//! The environment by which a launcher tells a process its place in the job.

use std::path::PathBuf;
use std::process::Command;

use crate::failure::{Failure, Outcome};

/// Rank of the process.
pub(crate) const RANK: &str = "SYNCLINE_RANK";
/// Number of ranks.
pub(crate) const WORLD_SIZE: &str = "SYNCLINE_WORLD_SIZE";
/// A path that all ranks share.
pub(crate) const RENDEZVOUS: &str = "SYNCLINE_RENDEZVOUS";

/// The place of one process.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Its rank.
    pub(crate) rank: u32,
    /// Number of ranks.
    pub(crate) ranks: u32,
    /// Its number on its host.
    pub(crate) local_rank: u32,
    /// Number of ranks on its host.
    pub(crate) local_ranks: u32,
    /// Where ranks find each other.
    pub(crate) rendezvous: PathBuf,
}

impl Place {
    /// Tells `command` its place, in Syncline's names and in torchrun's.
    pub(crate) fn tell(&self, command: &mut Command) {
        command.env(RANK, self.rank.to_string());
        command.env(WORLD_SIZE, self.ranks.to_string());
        command.env(RENDEZVOUS, &self.rendezvous);
        command.env("RANK", self.rank.to_string());
        command.env("WORLD_SIZE", self.ranks.to_string());
        command.env("LOCAL_RANK", self.local_rank.to_string());
        command.env("LOCAL_WORLD_SIZE", self.local_ranks.to_string());
        command.env(super::child::PARENT, std::process::id().to_string());
    }
}

/// What a started process knows of its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    /// Its rank.
    pub(crate) rank: u32,
    /// Number of ranks.
    pub(crate) ranks: u32,
    /// Where ranks find each other: a path, or the text of a unique id.
    pub(crate) rendezvous: String,
}

impl Joined {
    /// The place this process was started at, if a launcher started it.
    pub(crate) fn from_environment() -> Outcome<Option<Self>> {
        Self::parse(|name| std::env::var(name).ok())
    }

    fn parse(get: impl Fn(&str) -> Option<String>) -> Outcome<Option<Self>> {
        let missing: Vec<&str> =
            [RANK, WORLD_SIZE, RENDEZVOUS].into_iter().filter(|n| get(n).is_none()).collect();
        match missing.len() {
            0 => {}
            3 => return Ok(None),
            _ => {
                return Err(Failure::usage(format!(
                    "{} not set although the launcher set the others; set {RANK}, {WORLD_SIZE} \
                     and {RENDEZVOUS} (a path all ranks share), or none of them",
                    missing.join(" and ")
                )));
            }
        }
        let number = |name: &str| {
            let text = get(name).unwrap_or_default();
            text.parse::<u32>()
                .map_err(|_| Failure::usage(format!("{name}='{text}' is not a number")))
        };
        let (rank, ranks) = (number(RANK)?, number(WORLD_SIZE)?);
        if rank >= ranks {
            return Err(Failure::usage(format!(
                "{RANK}={rank} is not a rank: {WORLD_SIZE} is {ranks}"
            )));
        }
        Ok(Some(Self { rank, ranks, rendezvous: get(RENDEZVOUS).unwrap_or_default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Outcome<Option<Joined>> {
        Joined::parse(|name| {
            pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn all_or_nothing() {
        assert_eq!(parse(&[]).expect("none"), None);
        let joined = parse(&[(RANK, "1"), (WORLD_SIZE, "2"), (RENDEZVOUS, "/tmp/x")]);
        let place = joined.expect("all").expect("some");
        assert_eq!((place.rank, place.ranks), (1, 2));
        let error = parse(&[(RANK, "1")]).expect_err("partial").to_string();
        assert!(error.contains(WORLD_SIZE) && error.contains(RENDEZVOUS), "{error}");
    }

    #[test]
    fn impossible_places() {
        for (rank, ranks, expected) in [("2", "2", "not a rank"), ("x", "2", "not a number")] {
            let error = parse(&[(RANK, rank), (WORLD_SIZE, ranks), (RENDEZVOUS, "/tmp/x")])
                .expect_err("impossible")
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
