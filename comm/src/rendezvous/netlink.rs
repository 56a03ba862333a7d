//! This host's addresses, as the kernel lists them (rtnetlink(7)).

use std::io;
use std::net::IpAddr;

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

/// Every address of every interface.
pub(crate) fn list() -> io::Result<Vec<LocalAddress>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        flags,
        None, // NETLINK_ROUTE is protocol 0, the default.
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
pub(super) fn parse(
    mut datagram: &[u8],
    found: &mut Vec<(u32, IpAddr)>,
) -> Result<bool, Malformed> {
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_loopback_interface_is_listed() {
        let all = list().unwrap();
        let lo = LocalAddress { interface: "lo".to_owned(), address: Ipv4Addr::LOCALHOST.into() };
        assert!(all.contains(&lo), "{all:?}");
    }

    #[test]
    fn damaged_answers_are_refused() {
        assert!(parse(&[0xff; 20], &mut Vec::new()).is_err());
        assert!(parse(&[24, 0, 0, 0, 20, 0, 0, 0], &mut Vec::new()).is_err());
        assert!(parse(&[0; 16], &mut Vec::new()).is_err(), "a length of zero must not loop");
    }
}
