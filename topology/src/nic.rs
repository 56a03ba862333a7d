//! Network interfaces.

use std::fmt;

use crate::files::Files;

const NET: &str = "sys/class/net";

/// `IFF_LOOPBACK` of the interface flags.
const LOOPBACK: u32 = 0x8;

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// The kernel's name.
    pub name: String,
    /// Link speed, if the driver knows it.
    pub speed_mbit_per_s: Option<u32>,
    /// Largest packet.
    pub mtu_bytes: Option<u32>,
    /// Whether it can carry traffic.
    pub is_up: bool,
    /// Whether it leads nowhere but here.
    pub is_loopback: bool,
    /// Whether there is hardware behind it.
    pub is_physical: bool,
    /// The NUMA node it is attached to, if it is to one.
    pub numa_node: Option<u32>,
}

impl Nic {
    /// All interfaces, by name.
    pub(crate) fn all(files: &Files) -> Vec<Self> {
        let names = files.names(NET);
        names.into_iter().filter_map(|name| Self::read(files, name)).collect()
    }

    fn read(files: &Files, name: String) -> Option<Self> {
        let at = |file: &str| format!("{NET}/{name}/{file}");
        let state = files.text(&at("operstate"))?;
        let flags = files.text(&at("flags")).unwrap_or_default();
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap_or(0);
        let is_loopback = flags & LOOPBACK != 0;
        // The kernel says -1 for unknown, or refuses to say.
        let speed = files.number::<i64>(&at("speed")).and_then(|speed| u32::try_from(speed).ok());
        Some(Self {
            speed_mbit_per_s: speed.filter(|&speed| speed > 0 && speed < u32::MAX),
            mtu_bytes: files.number(&at("mtu")),
            // Loopback and some virtual interfaces never say more than `unknown`.
            is_up: state == "up" || state == "unknown" && flags & 1 != 0,
            is_loopback,
            is_physical: files.exists(&at("device")),
            numa_node: files.number(&at("device/numa_node")),
            name,
        })
    }
}

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, if self.is_up { "up" } else { "down" })?;
        if let Some(speed) = self.speed_mbit_per_s {
            write!(f, ", {} Gbit/s", f64::from(speed) / 1000.0)?;
        } else if !self.is_loopback {
            write!(f, ", speed unknown")?;
        }
        if let Some(mtu) = self.mtu_bytes {
            write!(f, ", MTU {mtu}")?;
        }
        match (self.is_loopback, self.is_physical) {
            (true, _) => write!(f, ", loopback"),
            (_, false) => write!(f, ", virtual"),
            _ => Ok(()),
        }?;
        match self.numa_node {
            Some(node) => write!(f, ", NUMA node {node}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::tree;

    #[test]
    fn reads_interfaces_and_survives_garbage() {
        let root = tree(&[
            ("sys/class/net/eth0/operstate", "up\n"),
            ("sys/class/net/eth0/speed", "100000\n"),
            ("sys/class/net/eth0/mtu", "9000"),
            ("sys/class/net/eth0/flags", "0x1003"),
            ("sys/class/net/eth0/device/numa_node", "1"),
            ("sys/class/net/lo/operstate", "unknown"),
            ("sys/class/net/lo/flags", "0x9"),
            ("sys/class/net/veth1/operstate", "down"),
            ("sys/class/net/veth1/speed", "-1"),
            ("sys/class/net/veth1/device/numa_node", "-1"),
            ("sys/class/net/zz/operstate", ""),
            ("sys/class/net/zz/flags", "zzz"),
            ("sys/class/net/zz/speed", "fast"),
            ("sys/class/net/bonding_masters", "bond0"),
        ]);
        let nics = Nic::all(&Files::new(root.path()));
        let shown: Vec<_> = nics.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "eth0: up, 100 Gbit/s, MTU 9000, NUMA node 1",
                "lo: up, loopback",
                "veth1: down, speed unknown",
                "zz: down, speed unknown, virtual",
            ]
        );
        assert!(nics[1].is_loopback && nics[0].is_physical && !nics[3].is_physical);
    }
}
