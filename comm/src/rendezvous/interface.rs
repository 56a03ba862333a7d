//! Which of this host's addresses others can reach it at, and how a user overrides that.
//!
//! One syntax serves every place where an interface can be named ([`Selection`]).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::netlink::{LocalAddress, list};

/// Longest selection text; far more than anybody types.
const SELECTION_BYTES_MAX: usize = 4096;

/// One item of a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// An interface of this name.
    Name(String),
    /// Interfaces whose names begin like this.
    Prefix(String),
    /// This address.
    Address(IpAddr),
    /// Addresses that share the first bits with this one.
    Subnet(IpAddr, u8),
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Some((address, bits)) = bare.split_once('/') {
            let malformed = || format!("`{text}` is not a subnet such as 10.1.0.0/16");
            let address: IpAddr = address.parse().map_err(|_| malformed())?;
            let bits: u8 = bits.parse().map_err(|_| malformed())?;
            let bits_max = if address.is_ipv4() { 32 } else { 128 };
            return if bits <= bits_max {
                Ok(Self::Subnet(address, bits))
            } else {
                Err(malformed())
            };
        }
        if let Ok(address) = bare.parse() {
            return Ok(Self::Address(address));
        }
        if bare.contains('%') {
            return Err(format!(
                "`{text}` is an address that only this link knows; name the interface instead"
            ));
        }
        match bare.strip_suffix('*') {
            Some(prefix) => Ok(Self::Prefix(prefix.to_owned())),
            None => Ok(Self::Name(bare.to_owned())),
        }
    }

    fn matches(&self, local: &LocalAddress) -> bool {
        match self {
            Self::Name(name) => local.interface == *name,
            Self::Prefix(prefix) => local.interface.starts_with(prefix),
            Self::Address(address) => local.address == *address,
            Self::Subnet(subnet, bits) => share_bits(local.address, *subnet, *bits),
        }
    }
}

fn share_bits(a: IpAddr, b: IpAddr, bits: u8) -> bool {
    let bits = u32::from(bits);
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Which interfaces a user wants: a comma-separated list of names (`eth0`; `ib*` for all that
/// begin with `ib`), addresses (`10.1.0.7`, `fd00::7`) and subnets (`10.1.0.0/16`). `^` before an
/// item excludes it; `^` before the first item makes the whole list one of exclusions, as NCCL
/// has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    wanted: Vec<Pattern>,
    unwanted: Vec<Pattern>,
}

impl Selection {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > SELECTION_BYTES_MAX {
            return Err(format!("is longer than {SELECTION_BYTES_MAX} bytes"));
        }
        let mut selection = Self { wanted: Vec::new(), unwanted: Vec::new() };
        let all_unwanted = text.trim_start().starts_with('^');
        for item in text.split(',').map(str::trim) {
            let (item, unwanted) = match item.strip_prefix('^') {
                Some(rest) => (rest.trim(), true),
                None => (item, all_unwanted),
            };
            if item.is_empty() {
                return Err("names nothing between two commas; write eth0,ib0".to_owned());
            }
            let pattern = Pattern::parse(item)?;
            if unwanted { &mut selection.unwanted } else { &mut selection.wanted }.push(pattern);
        }
        Ok(selection)
    }

    fn excludes(&self, local: &LocalAddress) -> bool {
        self.unwanted.iter().any(|pattern| pattern.matches(local))
    }

    /// The addresses of `all` that are meant, in the order of the list; of `usual`, which is what
    /// would be taken without a selection, when it only excludes.
    pub(super) fn apply(
        &self,
        all: &[LocalAddress],
        usual: &[IpAddr],
    ) -> Result<Vec<IpAddr>, String> {
        let mut chosen = Vec::new();
        if self.wanted.is_empty() {
            let excluded = |address: &IpAddr| {
                all.iter().any(|local| local.address == *address && self.excludes(local))
            };
            chosen.extend(usual.iter().filter(|address| !excluded(address)));
            if chosen.is_empty() {
                return Err(format!("excludes every address of this host: {}", describe(all)));
            }
            return Ok(chosen);
        }
        for pattern in &self.wanted {
            let matching = all.iter().filter(|l| pattern.matches(l) && !self.excludes(l));
            let mut found: Vec<IpAddr> = matching.map(|local| local.address).collect();
            // All of 127.0.0.0/8 is this host, though the kernel lists one address of it.
            if let Pattern::Address(address @ IpAddr::V4(v4)) = pattern
                && found.is_empty()
                && v4.is_loopback()
            {
                found.push(*address);
            }
            if found.iter().any(|&address| !is_link_local(address)) {
                found.retain(|&address| !is_link_local(address));
            }
            chosen.extend(found);
        }
        if chosen.is_empty() {
            return Err(format!("matches no address of this host; there are {}", describe(all)));
        }
        Ok(unique(chosen))
    }
}

/// `lo (127.0.0.1, ::1), eth0 (10.1.0.7)`.
fn describe(all: &[LocalAddress]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for local in all {
        if !names.contains(&local.interface.as_str()) {
            names.push(&local.interface);
        }
    }
    let show = |name: &&str| {
        let of = all.iter().filter(|local| local.interface == **name);
        let addresses: Vec<String> = of.map(|local| local.address.to_string()).collect();
        format!("{name} ({})", addresses.join(", "))
    };
    names.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn unique(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut unique = Vec::new();
    for address in addresses {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    unique
}

/// The address packets to `target` would leave from. Asks the routing table; sends nothing.
fn route_source(target: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Whether an interface is up and has a carrier. The flags in /sys lack `IFF_RUNNING`, so its
/// operational state (RFC 2863) is asked.
fn is_running(interface: &str) -> bool {
    let state = std::fs::read_to_string(format!("/sys/class/net/{interface}/operstate"));
    // Without /sys there is nothing to go by, and some drivers do not know: keep the interface.
    state.map_or(true, |state| matches!(state.trim(), "up" | "unknown"))
}

/// Bridges of container and virtual machine software: other hosts have them too, with the same
/// addresses, and cannot reach this one through them.
fn is_private_bridge(interface: &str) -> bool {
    ["docker", "br-", "virbr", "veth", "cni", "podman", "lxc"]
        .iter()
        .any(|prefix| interface.starts_with(prefix))
}

/// The source addresses of the default routes, then other interfaces; loopback only when there is
/// nothing else.
fn usual(all: &[LocalAddress]) -> Vec<IpAddr> {
    // Addresses kept for documentation (RFC 5737, RFC 3849): only the default route matches.
    let defaults = [
        SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9)),
        SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9)),
    ];
    let mut usual: Vec<IpAddr> =
        defaults.into_iter().filter_map(|target| route_source(target).ok()).collect();
    let others = all.iter().filter(|a| {
        is_running(&a.interface) && !is_private_bridge(&a.interface) && !is_link_local(a.address)
    });
    usual.extend(others.map(|a| a.address));
    usual.retain(|a| !a.is_loopback() && !a.is_unspecified());
    let mut usual = unique(usual);
    if usual.is_empty() {
        usual.push(Ipv4Addr::LOCALHOST.into());
    }
    usual
}

fn select(text: &str, all: &[LocalAddress], usual: &[IpAddr]) -> io::Result<Vec<IpAddr>> {
    Selection::parse(text).and_then(|selection| selection.apply(all, usual)).map_err(|reason| {
        io::Error::new(io::ErrorKind::AddrNotAvailable, format!("interface `{text}` {reason}"))
    })
}

/// The addresses that a process which does not know yet who will come offers, best first:
/// those that `selection` names, or those of the default routes and running interfaces.
pub(crate) fn offered(selection: Option<&str>) -> io::Result<Vec<IpAddr>> {
    let all = list().unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot list interfaces; offering the default routes' addresses");
        Vec::new()
    });
    let usual = usual(&all);
    match selection {
        Some(text) => select(text, &all, &usual),
        None => Ok(usual),
    }
}

/// The addresses of a process whose way to the root leaves from `local`: that one, or those that
/// `selection` names, or, when it only excludes and `local` is among the excluded, the others.
pub(crate) fn facing(local: IpAddr, selection: Option<&str>) -> io::Result<Vec<IpAddr>> {
    let Some(text) = selection else { return Ok(vec![local]) };
    let all = list()?;
    let mut here = vec![local];
    let excluded =
        |selection: &Selection| all.iter().any(|l| l.address == local && selection.excludes(l));
    if Selection::parse(text).is_ok_and(|selection| excluded(&selection)) {
        here = usual(&all);
    }
    select(text, &all, &here)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Vec<LocalAddress> {
        [
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("eth0", "10.1.0.7"),
            ("eth0", "fe80::7"),
            ("eth0", "fd00::7"),
            ("ib0", "10.2.0.7"),
            ("ib1", "10.3.0.7"),
            ("wlan0", "169.254.3.3"),
        ]
        .map(|(interface, address)| LocalAddress {
            interface: interface.to_owned(),
            address: address.parse().unwrap(),
        })
        .to_vec()
    }

    fn chosen(text: &str) -> Result<Vec<String>, String> {
        let usual = ["10.1.0.7", "fd00::7", "10.2.0.7", "10.3.0.7"].map(|a| a.parse().unwrap());
        let chosen = Selection::parse(text)?.apply(&host(), &usual)?;
        Ok(chosen.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn names_addresses_subnets_and_lists() {
        for (text, expected) in [
            ("eth0", "10.1.0.7 fd00::7"),
            ("ib*", "10.2.0.7 10.3.0.7"),
            ("ib1, eth0", "10.3.0.7 10.1.0.7 fd00::7"),
            ("10.2.0.7", "10.2.0.7"),
            ("[::1]", "::1"),
            ("127.0.0.9", "127.0.0.9"),
            ("10.2.0.0/15", "10.2.0.7 10.3.0.7"),
            ("fd00::/8", "fd00::7"),
            ("0.0.0.0/0,^lo,^wlan0", "10.1.0.7 10.2.0.7 10.3.0.7"),
            ("ib*,^10.3.0.0/16", "10.2.0.7"),
            ("wlan0", "169.254.3.3"),
        ] {
            assert_eq!(chosen(text).unwrap().join(" "), expected, "{text}");
        }
    }

    #[test]
    fn a_leading_caret_excludes_the_whole_list() {
        assert_eq!(chosen("^eth0").unwrap().join(" "), "10.2.0.7 10.3.0.7");
        assert_eq!(chosen("^eth0,ib0").unwrap().join(" "), "10.3.0.7");
        assert_eq!(
            chosen("^eth0,^ib*").unwrap_err().split(':').next(),
            Some("excludes every address of this host")
        );
    }

    #[test]
    fn what_matches_nothing_is_an_error_that_lists_what_there_is() {
        let error = chosen("eth").unwrap_err();
        assert!(error.contains("eth0 (10.1.0.7, fe80::7, fd00::7), ib0 (10.2.0.7)"), "{error}");
        assert!(chosen("192.0.2.1").unwrap_err().contains("no address of this host"));
        assert!(chosen("10.9.0.0/16").unwrap_err().contains("no address of this host"));
    }

    #[test]
    fn malformed_selections_are_refused() {
        for text in ["", "eth0,,ib0", "^", "10.1.0.0/33", "10.1/16", "fd00::/129", "fe80::1%eth0"] {
            assert!(Selection::parse(text).is_err(), "{text:?}");
        }
        assert!(Selection::parse(&"x".repeat(5000)).is_err());
    }

    #[test]
    fn this_host_can_be_selected_from() {
        assert!(offered(Some("lo")).unwrap().contains(&Ipv4Addr::LOCALHOST.into()));
        let error = offered(Some("nosuch0")).unwrap_err().to_string();
        assert!(error.contains("interface `nosuch0` matches no address"), "{error}");
        assert!(error.contains("lo (127.0.0.1"), "{error}");
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert_eq!(facing(local, None).unwrap(), [local]);
        assert_eq!(facing(local, Some("127.0.0.0/8")).unwrap(), [local]);
        assert_eq!(facing(local, Some("^nosuch0")).unwrap(), [local]);
    }

    #[test]
    fn something_is_always_offered() {
        let offered = offered(None).unwrap();
        assert!(!offered.is_empty());
        let loopback = offered.iter().filter(|a| a.is_loopback()).count();
        assert!(loopback == 0 || offered.len() == 1, "{offered:?}");
    }

    #[test]
    fn the_route_to_loopback_leaves_from_loopback() {
        let source = route_source((Ipv4Addr::LOCALHOST, 9).into()).unwrap();
        assert!(source.is_loopback());
    }
}
