//! Which of this host's addresses others can reach it at.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice};

use super::wire::{Decoder, Encoder, Malformed};

/// An address of an interface of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalAddress {
    pub(crate) interface: String,
    pub(crate) address: IpAddr,
}

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Every address of every interface, as the kernel lists them (rtnetlink(7)).
fn list() -> io::Result<Vec<LocalAddress>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        flags,
        None, // NETLINK_ROUTE is protocol 0, the default.,
    )?;
    let mut request = Encoder::default();
    request.u32(24);
    request.u16(RTM_GETADDR);
    request.u16(NLM_F_REQUEST_DUMP);
    request.u32(1);
    request.u32(0);
    request.raw(&[0; 8]);
    let kernel = SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &request.finish(), SendFlags::empty(), &kernel)?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    // The kernel answers before `sendto` returns, and goes on as the answer is read.
    loop {
        let (bytes, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        let done = parse(&buffer[..bytes], &mut found)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "unexpected netlink answer"))?;
        if done {
            break;
        }
    }
    let mut addresses = Vec::new();
    for (index, address) in found {
        // An interface that went away meanwhile has no name any more.
        if let Ok(interface) = netdevice::index_to_name(&socket, index) {
            addresses.push(LocalAddress { interface, address });
        }
    }
    Ok(addresses)
}

/// Reads one datagram of the kernel's answer; whether it was the last.
fn parse(mut datagram: &[u8], found: &mut Vec<(u32, IpAddr)>) -> Result<bool, Malformed> {
    while !datagram.is_empty() {
        let mut header = Decoder::new(datagram);
        let (bytes, kind) = (header.u32()? as usize, header.u16()?);
        let message = datagram.get(..bytes).filter(|m| m.len() >= 16).ok_or(Malformed)?;
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return Err(Malformed),
            RTM_NEWADDR => found.extend(parse_address(&message[16..])?),
            _ => {}
        }
        datagram = datagram.get(bytes.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// One `ifaddrmsg` and its attributes.
fn parse_address(message: &[u8]) -> Result<Option<(u32, IpAddr)>, Malformed> {
    let mut decoder = Decoder::new(message);
    let family = decoder.u8()?;
    decoder.raw(3)?;
    let index = decoder.u32()?;
    let mut address = None;
    let mut rest = decoder.raw(message.len() - 8)?;
    while !rest.is_empty() {
        let mut attribute = Decoder::new(rest);
        let (bytes, kind) = (usize::from(attribute.u16()?), attribute.u16()?);
        let value = rest.get(4..bytes).ok_or(Malformed)?;
        let ip = match family {
            AF_INET => value.try_into().ok().map(|v: [u8; 4]| IpAddr::V4(v.into())),
            AF_INET6 => value.try_into().ok().map(|v: [u8; 16]| IpAddr::V6(v.into())),
            _ => None,
        };
        // On a point-to-point link IFA_ADDRESS is the far end and IFA_LOCAL this one.
        if kind == IFA_LOCAL || (kind == IFA_ADDRESS && address.is_none()) {
            address = ip;
        }
        rest = rest.get(bytes.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(address.map(|address| (index, address)))
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

/// The addresses that a process which does not know yet who will come offers, best first:
/// those of `interface` (a name or an address) when given; else the source addresses of the
/// default routes, then other interfaces; loopback only when there is nothing else.
pub(crate) fn offered(interface: Option<&str>) -> io::Result<Vec<IpAddr>> {
    if let Some(text) = interface {
        return chosen(text);
    }
    let all = list().unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot list interfaces; offering the default routes' addresses");
        Vec::new()
    });
    // Addresses kept for documentation (RFC 5737, RFC 3849): only the default route matches.
    let defaults = [
        SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9)),
        SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9)),
    ];
    let mut offered: Vec<IpAddr> =
        defaults.into_iter().filter_map(|target| route_source(target).ok()).collect();
    let others = all.iter().filter(|a| {
        is_running(&a.interface) && !is_private_bridge(&a.interface) && !is_link_local(a.address)
    });
    offered.extend(others.map(|a| a.address));
    offered.retain(|a| !a.is_loopback() && !a.is_unspecified());
    let mut unique = Vec::new();
    for address in offered {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    if unique.is_empty() {
        unique.push(Ipv4Addr::LOCALHOST.into());
    }
    Ok(unique)
}

/// The addresses of the interface a user named, or the one address a user gave.
pub(crate) fn chosen(text: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let all = list()?;
    let mut addresses: Vec<IpAddr> =
        all.iter().filter(|a| a.interface == text).map(|a| a.address).collect();
    if addresses.iter().any(|&a| !is_link_local(a)) {
        addresses.retain(|&a| !is_link_local(a));
    }
    if addresses.is_empty() {
        let mut names: Vec<&str> = all.iter().map(|a| a.interface.as_str()).collect();
        names.dedup();
        return Err(io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            format!("no interface `{text}` with an address; there are {}", names.join(", ")),
        ));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_listed() {
        let all = list().unwrap();
        let lo = LocalAddress { interface: "lo".to_owned(), address: Ipv4Addr::LOCALHOST.into() };
        assert!(all.contains(&lo), "{all:?}");
        assert!(chosen("lo").unwrap().contains(&Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn an_address_stands_for_itself_and_an_unknown_name_is_an_error() {
        assert_eq!(chosen("::1").unwrap(), vec![IpAddr::from(Ipv6Addr::LOCALHOST)]);
        let error = chosen("nosuch0").unwrap_err().to_string();
        assert!(error.contains("`nosuch0`") && error.contains("lo"), "{error}");
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

    #[test]
    fn damaged_answers_are_refused() {
        assert!(parse(&[0xff; 20], &mut Vec::new()).is_err());
        assert!(parse(&[24, 0, 0, 0, 20, 0, 0, 0], &mut Vec::new()).is_err());
        assert!(parse(&[0; 16], &mut Vec::new()).is_err(), "a length of zero must not loop");
    }
}
