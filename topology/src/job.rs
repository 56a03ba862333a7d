//! Which ranks of a job are near each other.

use std::collections::HashMap;
use std::fmt;

use crate::constants::LinkClass;

/// Where one rank runs, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// [`Host::identity`](crate::Host::identity) of its host.
    pub host: String,
    /// The NUMA node it is bound to, if it is to one.
    pub numa_node: Option<u32>,
}

/// One way to divide the ranks into groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// Each rank's group. Groups are numbered from 0 by their first ranks.
    of: Vec<u32>,
    /// Each group's ranks in ascending order.
    groups: Vec<Vec<u32>>,
}

impl Grouping {
    /// Ranks with equal keys are together.
    fn new<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = K>) -> Self {
        let mut known = HashMap::new();
        let (mut of, mut groups) = (Vec::new(), Vec::<Vec<u32>>::new());
        for (rank, key) in (0..).zip(keys) {
            let group = *known.entry(key).or_insert(groups.len());
            if group == groups.len() {
                groups.push(Vec::new());
            }
            groups[group].push(rank);
            of.push(group as u32);
        }
        Self { of, groups }
    }

    /// The group of `rank`.
    pub fn of(&self, rank: u32) -> u32 {
        self.of[rank as usize]
    }

    /// The group of every rank, by rank.
    pub fn ids(&self) -> &[u32] {
        &self.of
    }

    /// How many groups there are.
    pub fn len(&self) -> u32 {
        self.groups.len() as u32
    }

    /// Whether there are no ranks at all.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The ranks of a group, in ascending order.
    pub fn ranks(&self, group: u32) -> &[u32] {
        &self.groups[group as usize]
    }

    /// The size of the largest group.
    pub fn size_max(&self) -> u32 {
        self.groups.iter().map(Vec::len).max().unwrap_or(0) as u32
    }

    /// The size that all groups have, if they have one.
    pub fn size_of_all(&self) -> Option<u32> {
        let size = self.size_max();
        self.groups.iter().all(|group| group.len() == size as usize).then_some(size)
    }

    /// Whether every group is a range of ranks.
    pub fn is_contiguous(&self) -> bool {
        let jumps = self.of.windows(2).filter(|pair| pair[0] != pair[1]).count();
        jumps + 1 == self.groups.len() || self.of.is_empty()
    }

    /// Whether it says nothing: all ranks together, or each by itself.
    pub fn is_trivial(&self) -> bool {
        self.groups.len() <= 1 || self.groups.len() == self.of.len()
    }
}

/// The hosts and NUMA nodes of a job's ranks. Every rank makes the same one from the same list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    hosts: Grouping,
    numa: Grouping,
    /// Whether the rank said which NUMA node it is bound to.
    bound: Vec<bool>,
}

impl Topology {
    /// The ranks' places, in order of ranks.
    pub fn new(members: &[Member]) -> Self {
        Self {
            hosts: Grouping::new(members.iter().map(|member| &member.host)),
            numa: Grouping::new(members.iter().map(|member| (&member.host, member.numa_node))),
            bound: members.iter().map(|member| member.numa_node.is_some()).collect(),
        }
    }

    /// How many ranks.
    pub fn ranks(&self) -> u32 {
        self.bound.len() as u32
    }

    /// Ranks by host.
    pub fn hosts(&self) -> &Grouping {
        &self.hosts
    }

    /// Ranks by NUMA node, of all hosts. Ranks of a host that are bound to none are together.
    pub fn numa_nodes(&self) -> &Grouping {
        &self.numa
    }

    /// The groupings that say something, innermost first.
    pub fn levels(&self) -> Vec<&Grouping> {
        let mut levels: Vec<_> =
            [&self.numa, &self.hosts].into_iter().filter(|level| !level.is_trivial()).collect();
        levels.dedup();
        levels
    }

    /// The link between two ranks, when ranks of one host talk through shared memory.
    pub fn link(&self, a: u32, b: u32) -> LinkClass {
        if self.hosts.of(a) != self.hosts.of(b) {
            LinkClass::Tcp
        } else if self.numa.of(a) == self.numa.of(b) && self.bound[a as usize] {
            LinkClass::SharedMemoryLocal
        } else {
            LinkClass::SharedMemory
        }
    }

    /// The slowest link among all ranks: what an algorithm that ignores the topology runs at.
    pub fn slowest_link(&self) -> LinkClass {
        if self.hosts.len() > 1 {
            LinkClass::Tcp
        } else if self.numa.len() > 1 || self.bound.iter().any(|bound| !bound) {
            LinkClass::SharedMemory
        } else {
            LinkClass::SharedMemoryLocal
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ranks on {} hosts", self.ranks(), self.hosts.len())?;
        for (host, ranks) in self.hosts.groups.iter().enumerate() {
            let ranks: crate::CpuSet = ranks.iter().copied().collect();
            writeln!(f, "  host {host}: ranks {ranks}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(places: &[(&str, Option<u32>)]) -> Topology {
        let member =
            |&(host, numa_node): &(&str, _)| Member { host: String::from(host), numa_node };
        Topology::new(&places.iter().map(member).collect::<Vec<_>>())
    }

    #[test]
    fn groups_scattered_ranks() {
        let t = topology(&[("b", None), ("a", None), ("b", None), ("a", None), ("c", None)]);
        let hosts = t.hosts();
        assert_eq!((hosts.ids(), hosts.len()), (&[0, 1, 0, 1, 2][..], 3));
        assert_eq!((hosts.ranks(1), hosts.size_max()), (&[1, 3][..], 2));
        assert_eq!((hosts.size_of_all(), hosts.is_contiguous()), (None, false));
        assert_eq!(t.levels(), [hosts]);
        assert_eq!((t.link(0, 2), t.link(0, 1)), (LinkClass::SharedMemory, LinkClass::Tcp));
        assert_eq!(
            t.to_string(),
            "5 ranks on 3 hosts\n  host 0: ranks 0,2\n  \
            host 1: ranks 1,3\n  host 2: ranks 4\n"
        );
    }

    #[test]
    fn nests_numa_nodes_in_hosts() {
        let t = topology(&[
            ("a", Some(0)),
            ("a", Some(0)),
            ("a", Some(1)),
            ("a", Some(1)),
            ("b", Some(0)),
            ("b", Some(0)),
            ("b", Some(1)),
            ("b", Some(1)),
        ]);
        assert_eq!(t.numa_nodes().ids(), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(t.levels(), [t.numa_nodes(), t.hosts()]);
        assert!(t.hosts().is_contiguous());
        assert_eq!((t.hosts().size_of_all(), t.numa_nodes().size_of_all()), (Some(4), Some(2)));
        let links = [t.link(0, 1), t.link(1, 2), t.link(1, 4)];
        use LinkClass as L;
        assert_eq!(links, [L::SharedMemoryLocal, L::SharedMemory, L::Tcp]);
    }

    #[test]
    fn trivial_levels_say_nothing() {
        let together = topology(&[("a", None), ("a", None)]);
        assert!(together.levels().is_empty());
        assert_eq!(together.slowest_link(), LinkClass::SharedMemory);
        let apart = topology(&[("a", None), ("b", None)]);
        assert!(apart.levels().is_empty());
        assert_eq!(apart.slowest_link(), LinkClass::Tcp);
        let bound = topology(&[("a", Some(1)), ("a", Some(1))]);
        assert_eq!(bound.slowest_link(), LinkClass::SharedMemoryLocal);
        let none = topology(&[]);
        assert!(none.hosts().is_empty() && none.hosts().is_contiguous());
        // Two ways to say the same are one level.
        let same = topology(&[("a", Some(0)), ("a", Some(0)), ("b", None), ("b", None)]);
        assert_eq!(same.levels().len(), 1);
    }
}
