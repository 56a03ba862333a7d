//! This machine, as the process may use it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use crate::cgroup::Limits;
use crate::cpus::CpuSet;
use crate::files::Files;
use crate::nic::Nic;

const CPU: &str = "sys/devices/system/cpu";
const NODE: &str = "sys/devices/system/node";

/// A NUMA node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumaNode {
    /// Its number.
    pub id: u32,
    /// All its CPUs.
    pub cpus: CpuSet,
    /// Its memory.
    pub memory_bytes: Option<u64>,
}

/// A data or unified cache, as the first CPU the process may use sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// 1 is nearest to the core.
    pub level: u32,
    /// Its size.
    pub bytes: u64,
    /// How many logical CPUs share it.
    pub shared_by: u32,
}

/// The machine this process runs on, and what of it the process may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Equal exactly for processes that can share memory and a loopback interface: the kernel's
    /// boot id and the network namespace. The host's name where the kernel tells neither.
    pub identity: String,
    /// The host's name.
    pub name: String,
    /// NUMA nodes that have CPUs, by number; at least one.
    pub nodes: Vec<NumaNode>,
    /// The logical CPUs this process may run on, by its affinity mask.
    pub cpus_allowed: CpuSet,
    /// The physical cores these belong to.
    pub cores_allowed: u32,
    /// Control group limits.
    pub limits: Limits,
    /// Data and unified caches, nearest first.
    pub caches: Vec<Cache>,
    /// Network interfaces, by name.
    pub nics: Vec<Nic>,
}

impl Host {
    /// Looks at this machine. What cannot be found out is left out; this never fails.
    pub fn discover() -> Self {
        Self::discover_in(Path::new("/"))
    }

    /// The same, with `/proc` and `/sys` below `root`.
    pub fn discover_in(root: &Path) -> Self {
        let files = Files::new(root);
        let name = name(&files);
        let nodes = nodes(&files);
        let cpus_allowed = allowed(&files, &nodes);
        let first = cpus_allowed.iter().next().unwrap_or(0);
        Self {
            identity: identity(&files, &name),
            name,
            cores_allowed: cores(&files, &cpus_allowed),
            limits: Limits::read(&files),
            caches: caches(&files, first),
            nics: Nic::all(&files),
            nodes,
            cpus_allowed,
        }
    }

    /// How many ranks can run at the same time here: logical CPUs allowed, or fewer where the
    /// control groups grant less; at least 1.
    pub fn cpus_usable(&self) -> u32 {
        let granted = self.limits.cpus.map_or(f64::INFINITY, f64::ceil);
        f64::from(self.cpus_allowed.len()).min(granted).max(1.0) as u32
    }

    /// The NUMA node this process is bound to, if all its CPUs are in one.
    pub fn numa_node(&self) -> Option<u32> {
        let within = |node: &&NumaNode| self.cpus_allowed.is_within(&node.cpus);
        self.nodes.iter().find(within).map(|node| node.id)
    }

    /// The size of the cache of this level.
    pub fn cache_bytes(&self, level: u32) -> Option<u64> {
        self.caches.iter().find(|cache| cache.level == level).map(|cache| cache.bytes)
    }
}

fn name(files: &Files) -> String {
    let name = files.text("proc/sys/kernel/hostname");
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

fn identity(files: &Files, name: &str) -> String {
    let boot = files.text("proc/sys/kernel/random/boot_id").filter(|id| !id.is_empty());
    let net = files.link("proc/self/ns/net").unwrap_or_else(|| "net:?".to_owned());
    format!("{}/{net}", boot.as_deref().unwrap_or(name))
}

fn nodes(files: &Files) -> Vec<NumaNode> {
    let node = |id| NumaNode {
        id,
        cpus: CpuSet::parse(&files.text(&format!("{NODE}/node{id}/cpulist")).unwrap_or_default()),
        memory_bytes: files.text(&format!("{NODE}/node{id}/meminfo")).and_then(|t| mem_total(&t)),
    };
    let nodes = files.numbered(NODE, "node").into_iter().map(node);
    let nodes: Vec<_> = nodes.filter(|node| !node.cpus.is_empty()).collect();
    if !nodes.is_empty() {
        return nodes;
    }
    // A kernel without NUMA.
    let online = files.text(&format!("{CPU}/online")).unwrap_or_default();
    let memory_bytes = files.text("proc/meminfo").and_then(|text| mem_total(&text));
    vec![NumaNode { id: 0, cpus: CpuSet::parse(&online), memory_bytes }]
}

/// From `MemTotal: 1024 kB`, with `Node 0` before it or not.
fn mem_total(text: &str) -> Option<u64> {
    let rest = text.split_once("MemTotal:")?.1;
    rest.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// By the affinity mask; all CPUs if it cannot be read.
fn allowed(files: &Files, nodes: &[NumaNode]) -> CpuSet {
    let status = files.text("proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let all: CpuSet = nodes.iter().flat_map(|node| node.cpus.iter()).collect();
    match list.map(CpuSet::parse).filter(|allowed| !allowed.is_empty()) {
        // The mask may name CPUs that do not exist.
        Some(allowed) if !all.is_empty() && !allowed.and(&all).is_empty() => allowed.and(&all),
        Some(allowed) => allowed,
        None => all,
    }
}

/// Physical cores: CPUs with the same package and core number are one.
fn cores(files: &Files, cpus: &CpuSet) -> u32 {
    let core = |cpu: u32| {
        let at = |file| files.number::<i64>(&format!("{CPU}/cpu{cpu}/topology/{file}"));
        match (at("physical_package_id"), at("core_id")) {
            (Some(package), Some(core)) => (package, core, None),
            _ => (0, 0, Some(cpu)),
        }
    };
    let cores: BTreeSet<_> = cpus.iter().map(core).collect();
    u32::try_from(cores.len()).unwrap_or(u32::MAX).max(1)
}

fn caches(files: &Files, cpu: u32) -> Vec<Cache> {
    let dir = format!("{CPU}/cpu{cpu}/cache");
    let cache = |index: u32| {
        let at = |file| files.text(&format!("{dir}/index{index}/{file}"));
        if at("type")? == "Instruction" {
            return None;
        }
        let shared = at("shared_cpu_list").map(|list| CpuSet::parse(&list).len());
        let (level, bytes) = (at("level")?.parse().ok()?, size(&at("size")?)?);
        Some(Cache { level, bytes, shared_by: shared.unwrap_or(1).max(1) })
    };
    let mut caches: Vec<_> = files.numbered(&dir, "index").into_iter().filter_map(cache).collect();
    caches.sort_by_key(|cache| cache.level);
    caches
}

/// `48K`, `2M`, or bytes.
fn size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// A size with its largest whole binary unit, such as `1.5 GiB`.
fn bytes(n: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (n.checked_ilog2().unwrap_or(0) / 10).min(4);
    let value = n as f64 / (1_u64 << (10 * unit)) as f64;
    let decimals = usize::from(unit > 0 && value.fract() != 0.0);
    format!("{value:.decimals$} {}", units[unit as usize])
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "host {} ({})", self.name, self.identity)?;
        let (cpus, cores) = (&self.cpus_allowed, self.cores_allowed);
        writeln!(f, "  allowed: {} CPUs ({cpus}) on {cores} cores", cpus.len())?;
        match self.limits.cpus {
            Some(cpus) => writeln!(f, "  control group: {cpus:.2} CPUs")?,
            None => writeln!(f, "  control group: no CPU limit")?,
        }
        match self.limits.memory_bytes {
            Some(memory) => writeln!(f, "  control group: {} memory", bytes(memory))?,
            None => writeln!(f, "  control group: no memory limit")?,
        }
        for node in &self.nodes {
            write!(f, "  NUMA node {}: CPUs {}", node.id, node.cpus)?;
            match node.memory_bytes {
                Some(memory) => writeln!(f, ", {}", bytes(memory))?,
                None => writeln!(f)?,
            }
        }
        for cache in &self.caches {
            let (level, size) = (cache.level, bytes(cache.bytes));
            writeln!(f, "  cache L{level}: {size}, shared by {} CPUs", cache.shared_by)?;
        }
        for nic in &self.nics {
            writeln!(f, "  {nic}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::tree;

    const TWO_SOCKETS: &[(&str, &str)] = &[
        ("proc/sys/kernel/hostname", "node17\n"),
        ("proc/sys/kernel/random/boot_id", "b0074e57-0000-4000-8000-000000000000\n"),
        ("proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-2,4-63\n"),
        ("proc/self/cgroup", "0::/\n"),
        ("sys/fs/cgroup/cpu.max", "250000 100000"),
        ("sys/fs/cgroup/memory.max", "1610612736"),
        ("sys/devices/system/node/node0/cpulist", "0-3"),
        (
            "sys/devices/system/node/node0/meminfo",
            "Node 0 MemTotal:  1048576 kB\nNode 0 MemFree: 1 kB",
        ),
        ("sys/devices/system/node/node1/cpulist", "4-7"),
        ("sys/devices/system/node/node2/cpulist", "\n"),
        ("sys/devices/system/node/possible", "0-7"),
        ("sys/devices/system/cpu/cpu0/topology/physical_package_id", "0"),
        ("sys/devices/system/cpu/cpu0/topology/core_id", "0"),
        ("sys/devices/system/cpu/cpu1/topology/physical_package_id", "0"),
        ("sys/devices/system/cpu/cpu1/topology/core_id", "0"),
        ("sys/devices/system/cpu/cpu0/cache/index0/type", "Data"),
        ("sys/devices/system/cpu/cpu0/cache/index0/level", "1"),
        ("sys/devices/system/cpu/cpu0/cache/index0/size", "48K"),
        ("sys/devices/system/cpu/cpu0/cache/index1/type", "Instruction"),
        ("sys/devices/system/cpu/cpu0/cache/index1/level", "1"),
        ("sys/devices/system/cpu/cpu0/cache/index1/size", "32K"),
        ("sys/devices/system/cpu/cpu0/cache/index3/type", "Unified"),
        ("sys/devices/system/cpu/cpu0/cache/index3/level", "3"),
        ("sys/devices/system/cpu/cpu0/cache/index3/size", "32M"),
        ("sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_list", "0-7"),
        ("sys/class/net/eth0/operstate", "up"),
    ];

    fn link_net(root: &Path, to: &str) {
        std::fs::create_dir_all(root.join("proc/self/ns")).unwrap();
        std::os::unix::fs::symlink(to, root.join("proc/self/ns/net")).unwrap();
    }

    #[test]
    fn reads_a_machine() {
        let root = tree(TWO_SOCKETS);
        link_net(root.path(), "net:[4026531840]");
        let host = Host::discover_in(root.path());
        let boot = "b0074e57-0000-4000-8000-000000000000";
        assert_eq!(host.identity, format!("{boot}/net:[4026531840]"));
        assert_eq!(host.nodes.len(), 2);
        assert_eq!(host.nodes[0].memory_bytes, Some(1 << 30));
        assert_eq!(host.cpus_allowed.to_string(), "0-2,4-7");
        // CPUs 0 and 1 are one core, of the others nothing is known.
        assert_eq!((host.cores_allowed, host.cpus_usable()), (6, 3));
        assert_eq!((host.cache_bytes(1), host.cache_bytes(3)), (Some(48 << 10), Some(32 << 20)));
        assert_eq!((host.cache_bytes(2), host.numa_node()), (None, None));
        let shown = host.to_string();
        for part in [
            "host node17 (b0074e57",
            "7 CPUs (0-2,4-7) on 6 cores",
            "2.50 CPUs",
            "1.5 GiB memory",
            "NUMA node 1: CPUs 4-7\n",
            "cache L3: 32 MiB, shared by 8 CPUs",
            "eth0: up",
        ] {
            assert!(shown.contains(part), "{part:?} is not in {shown}");
        }
    }

    #[test]
    fn tells_hosts_and_namespaces_apart() {
        let (a, b, c) = (tree(TWO_SOCKETS), tree(TWO_SOCKETS), tree(TWO_SOCKETS));
        link_net(a.path(), "net:[1]");
        link_net(b.path(), "net:[1]");
        link_net(c.path(), "net:[2]");
        let [a, b, c] = [a, b, c].map(|root| Host::discover_in(root.path()).identity);
        assert!(a == b && a != c);
    }

    #[test]
    fn a_process_bound_to_one_node_is_there() {
        let root = tree(&[
            ("proc/self/status", "Cpus_allowed_list:\t4-5\n"),
            ("sys/devices/system/node/node0/cpulist", "0-3"),
            ("sys/devices/system/node/node1/cpulist", "4-7"),
        ]);
        assert_eq!(Host::discover_in(root.path()).numa_node(), Some(1));
    }

    #[test]
    fn an_empty_machine_still_has_one_of_everything() {
        let host = Host::discover_in(tree(&[]).path());
        assert_eq!((host.nodes.len(), host.cpus_usable(), host.cores_allowed), (1, 1, 1));
        assert_eq!((host.name.as_str(), host.identity.as_str()), ("localhost", "localhost/net:?"));
        assert!(!host.to_string().is_empty());
    }

    #[test]
    fn survives_garbage() {
        let garbage = "\u{1}-9,99999999999999999999 :\n\n::K";
        let files: Vec<_> = TWO_SOCKETS.iter().map(|&(path, _)| (path, garbage)).collect();
        let host = Host::discover_in(tree(&files).path());
        assert!(host.cpus_usable() >= 1 && !host.nodes.is_empty());
        assert!(host.caches.is_empty() && host.limits == Limits::default());
        assert_eq!(mem_total("MemTotal: 99999999999999999999 kB"), None);
        assert_eq!((size("K"), size(""), size("99999999999999999K")), (None, None, None));
    }

    #[test]
    fn finds_this_machine() {
        let host = Host::discover();
        assert!(host.cpus_usable() >= 1 && host.cpus_usable() <= host.cpus_allowed.len().max(1));
        assert_eq!(host, Host::discover());
    }

    #[test]
    fn shows_sizes() {
        let sizes = [0, 1023, 1 << 10, 1536 << 20, u64::MAX];
        let shown = ["0 B", "1023 B", "1 KiB", "1.5 GiB", "16777216 TiB"];
        assert_eq!(sizes.map(bytes), shown);
    }
}
