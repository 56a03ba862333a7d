//! What every rank learns about every other one, and the messages that carry it.

use std::net::SocketAddr;

use super::dial::Address;
use super::wire::{Decoder, Encoder, Malformed};
use crate::error::Rank;

/// Longest host name, host identity or version.
const TEXT_BYTES_MAX: usize = 256;
/// Most listener addresses of one rank.
const ADDRESSES_MAX: u16 = 32;
/// Largest [`MemberInfo::payload`].
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Largest blob that the root attaches to the table.
pub const AGREED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Largest message of the rendezvous: a table of tens of thousands of ranks.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One rank of the job: who it is and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its rank.
    pub rank: Rank,
    /// Host name, for people.
    pub host: String,
    /// Equal on two ranks exactly when they can reach each other's Unix listeners: same running
    /// kernel and same network namespace.
    pub host_identity: String,
    /// Process id, as the process itself sees it.
    pub pid: u32,
    /// Processors this process may run on.
    pub processors: u32,
    /// Where its TCP listener can be reached, best first.
    pub addresses: Vec<SocketAddr>,
    /// Name of its Unix listener in the abstract namespace.
    pub local_name: Vec<u8>,
    /// Opaque bytes that the rank brought along.
    pub payload: Vec<u8>,
}

impl MemberInfo {
    /// Whether this rank and `other` are on one host and can pass each other descriptors.
    pub fn same_host(&self, other: &Self) -> bool {
        self.host_identity == other.host_identity
    }

    /// Where this rank is reached from `other`'s host, best first.
    pub(crate) fn reached_from(&self, other: &Self) -> Vec<Address> {
        if self.same_host(other) {
            return vec![Address::Local(self.local_name.clone())];
        }
        self.addresses.iter().copied().map(Address::Tcp).collect()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.u32(self.rank);
        encoder.bytes(cut(&self.host).as_bytes());
        encoder.bytes(cut(&self.host_identity).as_bytes());
        encoder.u32(self.pid);
        encoder.u32(self.processors);
        let addresses = &self.addresses[..self.addresses.len().min(usize::from(ADDRESSES_MAX))];
        encoder.u16(u16::try_from(addresses.len()).expect("at most ADDRESSES_MAX"));
        for &address in addresses {
            encoder.address(address);
        }
        encoder.bytes(&self.local_name);
        encoder.bytes(&self.payload);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let rank = decoder.u32()?;
        let host = decoder.text(TEXT_BYTES_MAX)?;
        let host_identity = decoder.text(TEXT_BYTES_MAX)?;
        let (pid, processors) = (decoder.u32()?, decoder.u32()?);
        let count = decoder.u16()?;
        if count > ADDRESSES_MAX {
            return Err(Malformed);
        }
        let addresses = (0..count).map(|_| decoder.address()).collect::<Result<_, _>>()?;
        let local_name = decoder.bytes(TEXT_BYTES_MAX)?.to_vec();
        let payload = decoder.bytes(PAYLOAD_BYTES_MAX)?.to_vec();
        Ok(Self { rank, host, host_identity, pid, processors, addresses, local_name, payload })
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// What this process says about itself besides its rank and addresses.
pub(crate) fn describe_host() -> (String, String) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    let identity = if boot.is_empty() || namespace.as_os_str().is_empty() {
        // Without /proc nothing tells two hosts of one name apart: be a host of one's own.
        let mut unique = [0; 16];
        getrandom::fill(&mut unique).ok();
        format!("{host}/{:032x}", u128::from_ne_bytes(unique))
    } else {
        format!("{}/{}", boot.trim(), namespace.display())
    };
    (host, identity)
}

/// A rank's request to take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Join {
    pub(crate) version: String,
    pub(crate) ranks: Rank,
    /// How much longer this rank is willing to wait.
    pub(crate) patience_ms: u64,
    /// How often this process has asked before.
    pub(crate) attempt: u32,
    pub(crate) member: MemberInfo,
}

/// All there is to know about a job that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// The rank that gathered it.
    pub(crate) root: Rank,
    /// Everybody, by rank.
    pub(crate) members: Vec<MemberInfo>,
    /// What the root decided.
    pub(crate) agreed: Vec<u8>,
}

/// The root's answer to every rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The job is complete.
    Table(Table),
    /// It cannot be assembled.
    Failed(String),
    /// This root has assembled its job already: the caller belongs to another one.
    Closed,
}

impl Join {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.bytes(cut(&self.version).as_bytes());
        encoder.u32(self.ranks);
        encoder.u64(self.patience_ms);
        encoder.u32(self.attempt);
        self.member.encode(&mut encoder);
        encoder.finish()
    }

    pub(crate) fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut decoder = Decoder::new(message);
        let version = decoder.text(TEXT_BYTES_MAX)?;
        let (ranks, patience_ms, attempt) = (decoder.u32()?, decoder.u64()?, decoder.u32()?);
        let member = MemberInfo::decode(&mut decoder)?;
        decoder.finish()?;
        Ok(Self { version, ranks, patience_ms, attempt, member })
    }

    /// The version of whoever sent `message`, which leads in every version.
    pub(crate) fn version_of(message: &[u8]) -> Option<String> {
        Decoder::new(message).text(TEXT_BYTES_MAX).ok()
    }
}

impl Verdict {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        match self {
            Self::Table(Table { root, members, agreed }) => {
                encoder.u8(0);
                encoder.u32(*root);
                encoder.bytes(agreed);
                encoder.u32(u32::try_from(members.len()).expect("ranks are 32 bits"));
                for member in members {
                    member.encode(&mut encoder);
                }
            }
            Self::Failed(reason) => {
                encoder.u8(1);
                encoder.bytes(reason.as_bytes());
            }
            Self::Closed => encoder.u8(2),
        }
        encoder.finish()
    }

    pub(crate) fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut decoder = Decoder::new(message);
        let verdict = match decoder.u8()? {
            0 => {
                let root = decoder.u32()?;
                let agreed = decoder.bytes(AGREED_BYTES_MAX)?.to_vec();
                let count = decoder.u32()?;
                let mut members = Vec::new();
                for _ in 0..count {
                    members.push(MemberInfo::decode(&mut decoder)?);
                }
                // Whoever passes the table on counts from the root.
                if root >= count {
                    return Err(Malformed);
                }
                Self::Table(Table { root, members, agreed })
            }
            1 => Self::Failed(decoder.text(message.len())?),
            2 => Self::Closed,
            _ => return Err(Malformed),
        };
        decoder.finish()?;
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(rank: Rank) -> MemberInfo {
        MemberInfo {
            rank,
            host: "node".to_owned(),
            host_identity: "boot/net:[1]".to_owned(),
            pid: 7,
            processors: 2,
            addresses: vec!["10.0.0.1:5".parse().unwrap(), "[::1]:6".parse().unwrap()],
            local_name: b"syncline-0".to_vec(),
            payload: vec![1, 2, 3],
        }
    }

    #[test]
    fn messages_round_trip_and_truncated_ones_are_refused() {
        let join = Join {
            version: "0.1.0".to_owned(),
            ranks: 4,
            patience_ms: 1000,
            attempt: 2,
            member: member(3),
        };
        let bytes = join.encode();
        assert_eq!(Join::version_of(&bytes[..9]).as_deref(), Some("0.1.0"));
        assert_eq!(Join::decode(&bytes).as_ref(), Ok(&join));
        for cut in 0..bytes.len() {
            assert!(Join::decode(&bytes[..cut]).is_err());
        }
        let (members, agreed) = (vec![member(0), member(1)], b"agreed".to_vec());
        let table = Verdict::Table(Table { root: 1, members, agreed });
        let bytes = table.encode();
        assert_eq!(Verdict::decode(&bytes).as_ref(), Ok(&table));
        for cut in 0..bytes.len() {
            assert!(Verdict::decode(&bytes[..cut]).is_err());
        }
        let nobody = Table { root: 2, members: vec![member(0), member(1)], agreed: Vec::new() };
        assert!(Verdict::decode(&Verdict::Table(nobody).encode()).is_err());
        let failed = Verdict::Failed("no".to_owned());
        assert_eq!(Verdict::decode(&failed.encode()), Ok(failed));
        assert_eq!(Verdict::decode(&Verdict::Closed.encode()), Ok(Verdict::Closed));
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let mut long = member(0);
        long.host = "ä".repeat(200);
        let join =
            Join { version: String::new(), ranks: 1, patience_ms: 0, attempt: 0, member: long };
        let back = Join::decode(&join.encode()).unwrap();
        assert_eq!(back.member.host, "ä".repeat(128));
    }

    #[test]
    fn a_host_recognises_itself() {
        assert_eq!(describe_host(), describe_host());
    }
}
