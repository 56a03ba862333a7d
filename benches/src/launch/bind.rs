//! Which processors a rank runs on. Launchers bind ranks to cores where there are enough, and so
//! does this one: left alone, the scheduler may keep two ranks that wake each other on one core.
//! The hosts of a lab share out the machine's cores, as far as they go.

use std::process::Command;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::Placement;

/// Tells a rank its processors, as numbers separated by commas.
const CPUS: &str = "COLLBENCH_CPUS";

/// The processors this process may use: one hardware thread of each core, then the others.
pub(crate) fn own_processors() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    let cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu));
    cores_first(cpus, first_thread)
}

/// Moves hardware threads whose core came before to the end.
fn cores_first(
    cpus: impl Iterator<Item = usize>,
    first_thread: impl Fn(usize) -> usize,
) -> Vec<usize> {
    let mut cores = Vec::new();
    let (mut ordered, others): (Vec<usize>, Vec<usize>) = cpus.partition(|&cpu| {
        let core = first_thread(cpu);
        let is_new = !cores.contains(&core);
        cores.push(core);
        is_new
    });
    ordered.extend(others);
    ordered
}

/// The first hardware thread of a processor's core; itself where the kernel does not tell.
fn first_thread(cpu: usize) -> usize {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let list = std::fs::read_to_string(path).unwrap_or_default();
    let digits = list.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|first| first.parse().ok()).unwrap_or(cpu)
}

/// Those of them for `rank`; empty where it is better left to the scheduler.
fn share(rank: u32, ranks: u32, placement: &Placement, allowed: &[usize]) -> Vec<usize> {
    let hosts = placement.namespaces.len();
    if hosts == 0 {
        let enough = ranks as usize <= allowed.len();
        return allowed.get(rank as usize).filter(|_| enough).copied().into_iter().collect();
    }
    let host = (rank / placement.ranks_per_host) as usize;
    let (number, count) = placement.local(rank, ranks);
    let own: Vec<usize> = match allowed.len() / hosts {
        0 => allowed.get(host % allowed.len().max(1)).copied().into_iter().collect(),
        each => allowed[host * each..(host + 1) * each].to_vec(),
    };
    if count as usize <= own.len() { vec![own[number as usize]] } else { own }
}

/// Tells `command`, which becomes `rank`, its processors.
pub(crate) fn tell(command: &mut Command, rank: u32, ranks: u32, placement: &Placement) {
    let cpus = share(rank, ranks, placement, &own_processors());
    if !cpus.is_empty() {
        let list: Vec<String> = cpus.iter().map(ToString::to_string).collect();
        command.env(CPUS, list.join(","));
    }
}

/// The processors of every rank, for programs that some other launcher starts: `0,1/2,3` gives rank
/// 0 the first two and rank 1 the others.
pub(crate) fn of_all_ranks(ranks: u32, placement: &Placement) -> String {
    let allowed = own_processors();
    let list = |rank| {
        let cpus = share(rank, ranks, placement, &allowed);
        cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    (0..ranks).map(list).collect::<Vec<_>>().join("/")
}

/// Keeps this process to the processors it was told, if it was.
pub(crate) fn bind() {
    let Ok(list) = std::env::var(CPUS) else { return };
    // A measurement without it is a noisier one, not a wrong one.
    if let Err(error) = sched_setaffinity(None, &processors(&list)) {
        crate::complain(&format!("cannot bind to processors {list}: {error}"));
    }
}

/// The processors of a list of numbers.
pub(crate) fn processors(list: &str) -> CpuSet {
    let mut set = CpuSet::new();
    for cpu in list.split(',').filter_map(|number| number.parse().ok()) {
        if cpu < CpuSet::MAX_CPU {
            set.set(cpu);
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_core_is_used_before_a_second_thread_of_one() {
        // Four cores; n and n + 4 are threads of one; 0 is not allowed.
        assert_eq!(cores_first(1..8, |cpu| cpu % 4), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(cores_first(0..4, |cpu| cpu / 2), [0, 2, 1, 3]);
        assert_eq!(first_thread(1 << 30), 1 << 30);
    }

    #[test]
    fn a_core_each_where_there_are_enough() {
        let here = Placement::default();
        assert_eq!(share(1, 2, &here, &[4, 6, 7]), [6]);
        assert!(share(1, 4, &here, &[4, 6, 7]).is_empty());
    }

    #[test]
    fn lab_hosts_share_out_the_machine() {
        let hosts = |n: usize| Placement {
            namespaces: (0..n).map(|h| h.to_string()).collect(),
            ranks_per_host: 2,
        };
        assert_eq!(share(5, 8, &hosts(4), &[0, 1]), [0]);
        assert_eq!(share(7, 8, &hosts(4), &[0, 1]), [1]);
        assert_eq!(share(3, 4, &hosts(2), &[0, 1, 2, 3]), [3]);
        assert_eq!(share(3, 4, &hosts(2), &[0, 1]), [1]);
        assert!(share(0, 4, &hosts(2), &[]).is_empty());
    }
}
