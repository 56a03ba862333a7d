//! How much CPU time and memory the process's control groups grant, version 1 and 2.
//!
//! A limit of any group on the way up from the process's own applies, so the least counts. A
//! container often sees its own group as the root of the mount while `/proc/self/cgroup` names a
//! path that is not there; going up to the mount's root covers that.

use crate::files::Files;

const MOUNT: &str = "sys/fs/cgroup";

/// What version 1 reports when there is no limit is near 2^63.
const MEMORY_BYTES_MAX: u64 = 1 << 60;

/// Limits of the control groups this process is in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// CPU time per time: 1.5 is one and a half CPUs.
    pub cpus: Option<f64>,
    /// Memory.
    pub memory_bytes: Option<u64>,
}

impl Limits {
    pub(crate) fn read(files: &Files) -> Self {
        let mut limits = Self::default();
        let groups = files.text("proc/self/cgroup").unwrap_or_default();
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            if let (Some(controllers), Some(path)) = (fields.next(), fields.next()) {
                limits.add(files, controllers, path);
            }
        }
        limits
    }

    /// Adds the limits of one hierarchy: version 2 has no list of controllers.
    fn add(&mut self, files: &Files, controllers: &str, path: &str) {
        if path.split('/').any(|part| part == "..") {
            return self.add(files, controllers, "");
        }
        let has = |name| controllers.split(',').any(|c| c == name);
        let mounts = match controllers {
            "" => vec![MOUNT.to_owned(), format!("{MOUNT}/unified")],
            _ if has("cpu") => vec![format!("{MOUNT}/{controllers}"), format!("{MOUNT}/cpu")],
            _ if has("memory") => vec![format!("{MOUNT}/memory")],
            _ => return,
        };
        for mount in mounts {
            for group in upwards(path) {
                let at = |file: &str| format!("{mount}{group}/{file}");
                if controllers.is_empty() {
                    self.lower_cpus(files.text(&at("cpu.max")).and_then(|text| cpu_max(&text)));
                    self.lower_memory(files.number(&at("memory.max")));
                } else {
                    let quota = files.number::<f64>(&at("cpu.cfs_quota_us"));
                    let period = files.number::<f64>(&at("cpu.cfs_period_us"));
                    self.lower_cpus(
                        quota.zip(period).and_then(|(quota, period)| ratio(quota, period)),
                    );
                    self.lower_memory(files.number(&at("memory.limit_in_bytes")));
                }
            }
        }
    }

    fn lower_cpus(&mut self, cpus: Option<f64>) {
        if let Some(cpus) = cpus {
            self.cpus = Some(self.cpus.map_or(cpus, |least| least.min(cpus)));
        }
    }

    fn lower_memory(&mut self, bytes: Option<u64>) {
        if let Some(bytes) = bytes.filter(|&bytes| bytes < MEMORY_BYTES_MAX) {
            self.memory_bytes = Some(self.memory_bytes.map_or(bytes, |least| least.min(bytes)));
        }
    }
}

/// `path` and everything above it, the last being empty.
fn upwards(path: &str) -> impl Iterator<Item = &str> {
    let start = path.trim_end_matches('/');
    std::iter::successors(Some(start), |path| path.rfind('/').map(|at| &path[..at]))
}

/// `200000 100000`, or `max 100000`.
fn cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    ratio(quota.parse().ok()?, period.trim().parse().ok()?)
}

fn ratio(quota: f64, period: f64) -> Option<f64> {
    let cpus = quota / period;
    (cpus.is_finite() && quota > 0.0 && period > 0.0).then_some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::tree;

    fn limits(files: &[(&str, &str)]) -> Limits {
        Limits::read(&Files::new(tree(files).path()))
    }

    #[test]
    fn version_2_takes_the_least_on_the_way_up() {
        let found = limits(&[
            ("proc/self/cgroup", "0::/job/step\n"),
            ("sys/fs/cgroup/job/step/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/job/cpu.max", "250000 100000\n"),
            ("sys/fs/cgroup/job/memory.max", "8589934592\n"),
            ("sys/fs/cgroup/job/step/memory.max", "max\n"),
        ]);
        assert_eq!(found, Limits { cpus: Some(2.5), memory_bytes: Some(8 << 30) });
    }

    #[test]
    fn version_1_and_paths_that_are_not_there() {
        let found = limits(&[
            ("proc/self/cgroup", "7:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:pids:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "400000"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000"),
        ]);
        assert_eq!(found, Limits { cpus: Some(4.0), memory_bytes: Some(1 << 30) });
        let unlimited = limits(&[
            ("proc/self/cgroup", "7:memory:/\n4:cpu:/"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"),
        ]);
        assert_eq!(unlimited, Limits::default());
    }

    #[test]
    fn survives_garbage() {
        assert_eq!(limits(&[]), Limits::default());
        for groups in ["", "::", "0::", "0:/", "x", "0::/../../etc", "4:cpu:/a\n\n7"] {
            let found = limits(&[
                ("proc/self/cgroup", groups),
                ("sys/fs/cgroup/cpu.max", "100000 0"),
                ("sys/fs/cgroup/memory.max", "-7"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "nan"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "inf"),
            ]);
            assert_eq!(found, Limits::default(), "{groups:?}");
        }
    }
}
