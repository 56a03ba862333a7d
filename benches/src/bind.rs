//! Binding ranks to cores, as MPI launchers do: two ranks that wait for each other by spinning
//! must not end up on one core while another is free.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Binds this process to the core for the `local_rank`-th of `local_ranks` ranks on the machine,
/// if there are enough cores; otherwise leaves it to the scheduler.
pub(crate) fn bind(local_rank: u32, local_ranks: u32) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    let Some(cpu) = choose(&cpus, first_thread, local_rank, local_ranks) else { return };
    let mut one = CpuSet::new();
    one.set(cpu);
    // Where binding is forbidden the scheduler decides, as it would without it.
    let _ = sched_setaffinity(None, &one);
}

/// The CPU for a rank: one hardware thread of each core first, then the others. None when there
/// are more ranks than CPUs.
fn choose(
    cpus: &[usize],
    first_thread: impl Fn(usize) -> usize,
    local_rank: u32,
    local_ranks: u32,
) -> Option<usize> {
    if local_ranks as usize > cpus.len() {
        return None;
    }
    let mut cores = Vec::new();
    let (mut firsts, mut others) = (Vec::new(), Vec::new());
    for &cpu in cpus {
        let core = first_thread(cpu);
        if cores.contains(&core) {
            others.push(cpu);
        } else {
            cores.push(core);
            firsts.push(cpu);
        }
    }
    firsts.extend(others);
    firsts.get(local_rank as usize).copied()
}

/// The first hardware thread of a CPU's core; the CPU itself where the kernel does not tell.
fn first_thread(cpu: usize) -> usize {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let list = std::fs::read_to_string(path).unwrap_or_default();
    let digits = list.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|first| first.parse().ok()).unwrap_or(cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_gets_a_core_before_any_shares_one() {
        // Four cores; CPU n and n + 4 are threads of one; CPU 0 is not allowed.
        let cpus = [1, 2, 3, 4, 5, 6, 7];
        let core = |cpu| cpu % 4;
        let chosen = |ranks| (0..ranks).map(|r| choose(&cpus, core, r, ranks)).collect::<Vec<_>>();
        assert_eq!(chosen(4), [Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(chosen(5)[4], Some(5));
        assert!(chosen(8).iter().all(Option::is_none), "too many: nobody is bound");
    }

    #[test]
    fn a_machine_without_a_topology_has_one_thread_per_core() {
        assert_eq!(first_thread(1 << 30), 1 << 30);
    }
}
