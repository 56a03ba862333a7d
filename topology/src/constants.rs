//! Latencies and rates of links and cores: defaults, and a TOML file that overrides them.
//!
//! ```toml
//! copy_bytes_per_s = 8e9
//! reduce_bytes_per_s = 5e9
//! switch_s = 2e-6
//!
//! [links.tcp]
//! latency_s = 20e-6
//! overhead_s = 3e-6
//! bytes_per_s = 3e9
//! host_bytes_per_s = 3e9
//! congestion = 0.02
//! ```
//!
//! Keys that are left out keep their defaults.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::measure::Measured;

/// What a message travels over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LinkClass {
    /// Shared memory, both ranks bound to one NUMA node.
    SharedMemoryLocal,
    /// Shared memory of one host.
    SharedMemory,
    /// TCP within a host.
    TcpLoopback,
    /// TCP between hosts.
    Tcp,
}

/// One class of links.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkConstants {
    /// From a send to the receive of a tiny message, both ranks waiting, in seconds.
    pub latency_s: f64,
    /// Time that a message takes of its sender's or receiver's core, in seconds.
    pub overhead_s: f64,
    /// What one rank can send, or receive at the same time, in bytes per second.
    pub bytes_per_s: f64,
    /// What all ranks of a host together can: its network interface, or its memory.
    pub host_bytes_per_s: f64,
    /// By what fraction each further peer that a rank exchanges with at the same time slows it
    /// down: bursts that meet in a switch or a cache.
    pub congestion: f64,
}

/// All classes of links.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Links {
    /// [`LinkClass::SharedMemoryLocal`].
    pub shared_memory_local: LinkConstants,
    /// [`LinkClass::SharedMemory`].
    pub shared_memory: LinkConstants,
    /// [`LinkClass::TcpLoopback`].
    pub tcp_loopback: LinkConstants,
    /// [`LinkClass::Tcp`].
    pub tcp: LinkConstants,
}

/// Everything the cost model knows of the machines. All ranks must use the same: agree on the
/// file or on one rank's measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Constants {
    /// What a core copies, in bytes per second.
    pub copy_bytes_per_s: f64,
    /// What a core combines of one operand, in bytes per second.
    pub reduce_bytes_per_s: f64,
    /// Time until another rank runs on a core that ranks share, in seconds.
    pub switch_s: f64,
    /// The links.
    pub links: Links,
}

impl Default for Constants {
    /// A server of 2020 or later with 25 Gbit/s Ethernet.
    fn default() -> Self {
        let link = |latency_s, overhead_s, bytes_per_s, host_bytes_per_s, congestion| {
            LinkConstants { latency_s, overhead_s, bytes_per_s, host_bytes_per_s, congestion }
        };
        Self {
            copy_bytes_per_s: 8e9,
            reduce_bytes_per_s: 5e9,
            switch_s: 2e-6,
            links: Links {
                shared_memory_local: link(0.3e-6, 0.15e-6, 7e9, 60e9, 0.01),
                shared_memory: link(0.6e-6, 0.15e-6, 5e9, 40e9, 0.01),
                tcp_loopback: link(10e-6, 3e-6, 3e9, 20e9, 0.01),
                tcp: link(20e-6, 3e-6, 2.8e9, 2.8e9, 0.002),
            },
        }
    }
}

/// What a file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    copy_bytes_per_s: Option<f64>,
    reduce_bytes_per_s: Option<f64>,
    switch_s: Option<f64>,
    links: FileLinks,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileLinks {
    shared_memory_local: FileLink,
    shared_memory: FileLink,
    tcp_loopback: FileLink,
    tcp: FileLink,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileLink {
    latency_s: Option<f64>,
    overhead_s: Option<f64>,
    bytes_per_s: Option<f64>,
    host_bytes_per_s: Option<f64>,
    congestion: Option<f64>,
}

impl FileLink {
    fn over(&self, link: &mut LinkConstants) {
        replace(&mut link.latency_s, self.latency_s);
        replace(&mut link.overhead_s, self.overhead_s);
        replace(&mut link.bytes_per_s, self.bytes_per_s);
        replace(&mut link.host_bytes_per_s, self.host_bytes_per_s);
        replace(&mut link.congestion, self.congestion);
    }
}

fn replace(value: &mut f64, by: Option<f64>) {
    *value = by.unwrap_or(*value);
}

const LINKS: [&str; 4] = ["shared_memory_local", "shared_memory", "tcp_loopback", "tcp"];
const LINK_KEYS: [&str; 5] =
    ["latency_s", "overhead_s", "bytes_per_s", "host_bytes_per_s", "congestion"];

impl Constants {
    /// The constants of a class of links.
    pub const fn link(&self, class: LinkClass) -> &LinkConstants {
        match class {
            LinkClass::SharedMemoryLocal => &self.links.shared_memory_local,
            LinkClass::SharedMemory => &self.links.shared_memory,
            LinkClass::TcpLoopback => &self.links.tcp_loopback,
            LinkClass::Tcp => &self.links.tcp,
        }
    }

    /// With the rates measured on a machine: copying, reducing, and with them shared memory.
    #[must_use]
    pub fn with_measured(mut self, measured: Measured) -> Self {
        let faster = measured.copy_bytes_per_s as f64 / self.copy_bytes_per_s;
        self.copy_bytes_per_s *= faster;
        self.reduce_bytes_per_s = measured.reduce_bytes_per_s as f64;
        self.links.shared_memory_local.bytes_per_s *= faster;
        self.links.shared_memory.bytes_per_s *= faster;
        self
    }

    /// As bytes, for ranks to agree on one rank's constants.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.values().iter().flat_map(|(_, value)| value.to_le_bytes()).collect()
    }

    /// From [`to_bytes`](Self::to_bytes); `None` if they are not that, or make no sense.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut constants = Self::default();
        let (chunks, rest) = bytes.as_chunks::<8>();
        let fields = constants.fields();
        if chunks.len() != fields.len() || !rest.is_empty() {
            return None;
        }
        for (field, chunk) in fields.into_iter().zip(chunks) {
            *field = f64::from_le_bytes(*chunk);
        }
        constants.nonsense().is_none().then_some(constants)
    }

    /// These constants, overridden by what a TOML file says.
    ///
    /// # Errors
    /// Names the file, and the line or key and what is expected of it.
    pub fn read(self, path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::File { file: path.to_owned(), reason: e.to_string() })?;
        self.overridden(&text, path)
    }

    /// As [`read`](Self::read), of a text that was read from `path`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn overridden(mut self, text: &str, path: &Path) -> Result<Self, Error> {
        let file: File = toml::from_str(text)
            .map_err(|e| Error::Syntax { file: path.to_owned(), reason: e.to_string() })?;
        replace(&mut self.copy_bytes_per_s, file.copy_bytes_per_s);
        replace(&mut self.reduce_bytes_per_s, file.reduce_bytes_per_s);
        replace(&mut self.switch_s, file.switch_s);
        let links = &mut self.links;
        file.links.shared_memory_local.over(&mut links.shared_memory_local);
        file.links.shared_memory.over(&mut links.shared_memory);
        file.links.tcp_loopback.over(&mut links.tcp_loopback);
        file.links.tcp.over(&mut links.tcp);
        self.check(path)?;
        Ok(self)
    }

    /// Writes all of them, so that [`read`](Self::read) gets the same back.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let failed = |reason| Error::File { file: path.to_owned(), reason };
        let text = toml::to_string(self).map_err(|e| failed(e.to_string()))?;
        std::fs::write(path, text).map_err(|e| failed(e.to_string()))
    }

    fn check(&self, path: &Path) -> Result<(), Error> {
        self.nonsense().map_or(Ok(()), |(key, found, expected)| {
            let (file, found) = (path.to_owned(), found.to_string());
            Err(Error::Value { file, key, found, expected })
        })
    }

    /// The first number that makes no sense: its key, what it is, and what is expected.
    fn nonsense(&self) -> Option<(String, f64, &'static str)> {
        self.values().into_iter().find_map(|(key, value)| {
            let (range, expected) = if key.ends_with("_per_s") {
                (1.0..=1e15, "bytes per second, from 1 to 1e15")
            } else if key.ends_with("_s") {
                (0.0..=1.0, "seconds, from 0 to 1")
            } else {
                (0.0..=1.0, "a fraction, from 0 to 1")
            };
            (!range.contains(&value)).then_some((key, value, expected))
        })
    }

    /// All numbers with their keys.
    fn values(&self) -> Vec<(String, f64)> {
        let keys = ["copy_bytes_per_s", "reduce_bytes_per_s", "switch_s"].map(str::to_owned);
        let link_keys = LINKS
            .into_iter()
            .flat_map(|link| LINK_KEYS.into_iter().map(move |key| format!("links.{link}.{key}")));
        let mut copy = *self;
        let fields = copy.fields().into_iter().map(|field| *field);
        keys.into_iter().chain(link_keys).zip(fields).collect()
    }

    /// All numbers, in the order of [`values`](Self::values).
    fn fields(&mut self) -> Vec<&mut f64> {
        let mut fields =
            vec![&mut self.copy_bytes_per_s, &mut self.reduce_bytes_per_s, &mut self.switch_s];
        let Links { shared_memory_local, shared_memory, tcp_loopback, tcp } = &mut self.links;
        for link in [shared_memory_local, shared_memory, tcp_loopback, tcp] {
            let LinkConstants { latency_s, overhead_s, bytes_per_s, host_bytes_per_s, congestion } =
                link;
            fields.extend([latency_s, overhead_s, bytes_per_s, host_bytes_per_s, congestion]);
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Constants, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tuning.toml");
        std::fs::write(&path, text).unwrap();
        Constants::default().read(&path).map_err(|e| e.to_string())
    }

    #[test]
    fn survives_a_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tuning.toml");
        let mut constants = Constants::default()
            .with_measured(Measured { copy_bytes_per_s: 12_345_678_901, reduce_bytes_per_s: 7 });
        constants.links.tcp.latency_s = 1.0 / 3.0;
        constants.write(&path).unwrap();
        assert_eq!(Constants::default().read(&path).unwrap(), constants);
    }

    #[test]
    fn a_file_overrides_what_it_names() {
        let constants = read("switch_s = 0\n[links.tcp]\nlatency_s = 5e-6").unwrap();
        let mut expected = Constants { switch_s: 0.0, ..Constants::default() };
        expected.links.tcp.latency_s = 5e-6;
        assert_eq!(constants, expected);
        assert_eq!(read("").unwrap(), Constants::default());
        assert_eq!(constants.link(LinkClass::Tcp).latency_s, 5e-6);
    }

    #[test]
    fn errors_name_file_and_key() {
        for (text, parts) in [
            ("[links.tcp]\nlatency_s = -1.0", &["links.tcp.latency_s is -1", "seconds"][..]),
            ("copy_bytes_per_s = 0", &["copy_bytes_per_s is 0", "bytes per second"]),
            ("[links.tcp]\ncongestion = 2", &["links.tcp.congestion is 2", "a fraction"]),
            ("switch_s = nan", &["switch_s is NaN", "expected seconds"]),
            ("[links.tcp]\nlatency = 1e-6", &["unknown field `latency`", "latency_s", "line 2"]),
            ("[links.quantum]", &["unknown field `quantum`", "shared_memory"]),
            ("switch_s = \"fast\"", &["line 1", "switch_s", "expected f64"]),
            ("switch_s = ", &["line 1"]),
        ] {
            let error = read(text).unwrap_err();
            for part in parts.iter().chain(&["tuning.toml"]) {
                assert!(error.contains(part), "{part:?} is not in {error}");
            }
        }
        let missing = Constants::default().read(Path::new("no/such/file.toml")).unwrap_err();
        assert!(matches!(&missing, Error::File { .. }), "{missing}");
        let unwritable = Constants::default().write(Path::new("no/such/file.toml")).unwrap_err();
        assert!(unwritable.to_string().contains("no/such/file.toml"), "{unwritable}");
    }

    #[test]
    fn bytes_carry_all_of_them() {
        let mut constants = Constants::default();
        constants.links.tcp.host_bytes_per_s = 1e9 / 3.0;
        let bytes = constants.to_bytes();
        assert_eq!(Constants::from_bytes(&bytes), Some(constants));
        assert_eq!(Constants::from_bytes(&bytes[1..]), None);
        assert_eq!(Constants::from_bytes(&[bytes.clone(), vec![0; 8]].concat()), None);
        for value in [f64::NAN, -1.0, f64::INFINITY] {
            let bad = [&value.to_le_bytes()[..], &bytes[8..]].concat();
            assert_eq!(Constants::from_bytes(&bad), None);
        }
    }

    #[test]
    fn measured_rates_move_shared_memory_too() {
        let base = Constants::default();
        let measured = Measured { copy_bytes_per_s: 16_000_000_000, reduce_bytes_per_s: 9 };
        let constants = base.with_measured(measured);
        assert_eq!(constants.copy_bytes_per_s, 16e9);
        assert_eq!(constants.reduce_bytes_per_s, 9.0);
        assert_eq!(constants.links.shared_memory.bytes_per_s, 10e9);
        assert_eq!(constants.links.tcp, base.links.tcp);
    }
}
