//! Where the ranks run: what each tells the others, and what follows from it.

use std::sync::OnceLock;

use rustix::thread::CpuSet;
use syncline_topology::{Host, Member};

use crate::error::Rank;
use crate::rendezvous::MemberInfo;

/// Says that a rank is bound to no NUMA node.
const UNBOUND: u32 = u32::MAX;

/// The last-level cache of a host that does not tell.
const CACHE_BYTES: u64 = 32 << 20;

/// Where the processors begin in what a rank tells.
const PROCESSORS_AT: usize = 8;

/// What this process tells the other ranks: its NUMA node (4 bytes, little-endian), the epoch that
/// it knows of (as many), then the processors it may use, as bits.
pub(super) fn describe(epoch: u32) -> Vec<u8> {
    let mut payload = Host::discover().numa_node().unwrap_or(UNBOUND).to_le_bytes().to_vec();
    payload.extend_from_slice(&epoch.to_le_bytes());
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return payload };
    let mut bits = vec![0u8; CpuSet::MAX_CPU.div_ceil(8)];
    for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)) {
        bits[cpu / 8] |= 1 << (cpu % 8);
    }
    let used = bits.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    payload.extend_from_slice(&bits[..used]);
    payload
}

/// The ranks' places, for the topology.
pub(super) fn members(members: &[MemberInfo]) -> Vec<Member> {
    let place = |member: &MemberInfo| Member {
        host: member.host_identity.clone(),
        numa_node: numa_node(&member.payload),
    };
    members.iter().map(place).collect()
}

/// The epoch of the job: the latest that any rank knows of.
pub(super) fn epoch(members: &[MemberInfo]) -> u32 {
    let of = |member: &MemberInfo| {
        let bytes = member.payload.get(4..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    members.iter().map(of).max().unwrap_or(0)
}

fn numa_node(payload: &[u8]) -> Option<u32> {
    let node = payload.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    node.filter(|&node| node != UNBOUND)
}

/// Processors that the ranks of `host` may use together.
fn processors(members: &[MemberInfo], host: &MemberInfo) -> u32 {
    let mut union = Vec::new();
    for member in members.iter().filter(|member| member.same_host(host)) {
        let bits = member.payload.get(PROCESSORS_AT..).unwrap_or(&[]);
        union.resize(union.len().max(bits.len()), 0u8);
        union.iter_mut().zip(bits).for_each(|(all, byte)| *all |= byte);
    }
    let processors = union.iter().map(|byte| byte.count_ones()).sum();
    // Without the sets, as many as the system says.
    if processors == 0 { host.processors.max(1) } else { processors }
}

/// Whether this rank's host runs more ranks than its ranks have processors.
pub(super) fn oversubscribed(members: &[MemberInfo], me: Rank) -> bool {
    local_ranks(members, me) > processors(members, &members[me as usize]) as usize
}

/// How many ranks run on this rank's host.
fn local_ranks(members: &[MemberInfo], me: Rank) -> usize {
    let mine = &members[me as usize];
    members.iter().filter(|member| member.same_host(mine)).count()
}

/// This rank's share of its host's last-level cache, in bytes.
pub(super) fn cache_bytes(members: &[MemberInfo], me: Rank) -> usize {
    // Every communicator asks, and the answer takes dozens of small files.
    static BYTES: OnceLock<u64> = OnceLock::new();
    let last = || Host::discover().caches.last().map_or(CACHE_BYTES, |last| last.bytes);
    let bytes = *BYTES.get_or_init(last);
    usize::try_from(bytes).unwrap_or(usize::MAX) / local_ranks(members, me).max(1)
}

/// Processors of the host that has the fewest.
pub(super) fn cpus_per_host(members: &[MemberInfo]) -> u32 {
    let mut hosts: Vec<&MemberInfo> = members.iter().collect();
    hosts.sort_by(|a, b| a.host_identity.cmp(&b.host_identity));
    hosts.dedup_by(|a, b| a.same_host(b));
    hosts.into_iter().map(|host| processors(members, host)).min().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(rank: Rank, host: &str, bits: &[u8]) -> MemberInfo {
        let mut payload = UNBOUND.to_le_bytes().to_vec();
        payload.extend_from_slice(&rank.to_le_bytes());
        payload.extend_from_slice(bits);
        MemberInfo {
            rank,
            host: host.to_owned(),
            host_identity: host.to_owned(),
            pid: rank,
            processors: 2,
            addresses: Vec::new(),
            local_name: Vec::new(),
            payload,
        }
    }

    #[test]
    fn ranks_bound_to_a_core_each_do_not_share() {
        let bound = [member(0, "a", &[0b01]), member(1, "a", &[0b10])];
        assert!(!oversubscribed(&bound, 0));
        let shared = [member(0, "a", &[0b01]), member(1, "a", &[0b01])];
        assert!(oversubscribed(&shared, 0));
        let hosts = [member(0, "a", &[0b01]), member(1, "b", &[0b11])];
        assert!(!oversubscribed(&hosts, 0));
        assert_eq!(cpus_per_host(&hosts), 1);
    }

    /// New ranks know of none, and a payload may be too short to tell.
    #[test]
    fn the_latest_epoch_counts() {
        let [new, old] = [member(0, "a", &[]), member(3, "a", &[0b11])];
        let short = MemberInfo { payload: vec![0; 6], ..new.clone() };
        assert_eq!(epoch(&[new, old, short.clone()]), 3);
        assert_eq!(epoch(&[short]), 0);
    }

    #[test]
    fn a_rank_describes_itself() {
        let payload = describe(7);
        assert!(payload.len() > PROCESSORS_AT, "no processors in {payload:?}");
        let host = [MemberInfo { payload, ..member(0, "a", &[]) }];
        let available = std::thread::available_parallelism().unwrap().get();
        assert!(cpus_per_host(&host) as usize >= available.min(1));
        assert_eq!(epoch(&host), 7);
    }
}
