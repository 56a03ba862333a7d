//! Names of hosts to addresses, without blocking the caller.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Instant;

use super::super::wait::Wait;
use super::talk::Silence;

/// The addresses of `host`. The system's resolver knows no deadline, so it runs on a thread of
/// its own; one that is not done in time ends when the resolver lets it.
pub(super) fn resolve(
    host: &str,
    port: u16,
    until: Instant,
    wait: Wait<'_>,
) -> Result<Vec<SocketAddr>, Silence> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let broken = |error: std::io::Error| Silence::Broken(error.to_string());
    // The far end closes when the thread is done: that is readable.
    let (near, far) = UnixStream::pair().map_err(broken)?;
    let (answer, answered) = mpsc::channel();
    let target = (bare.to_owned(), port);
    std::thread::Builder::new()
        .name("syncline-resolve".to_owned())
        .spawn(move || {
            let found = target.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
            // Nobody listens any more when the deadline has passed.
            answer.send(found).ok();
            drop(far);
        })
        .map_err(broken)?;
    loop {
        match answered.try_recv() {
            Ok(Ok(addresses)) if !addresses.is_empty() => return Ok(unique(addresses)),
            Ok(Ok(_)) => return Err(Silence::Broken(format!("{host} has no address"))),
            Ok(Err(error)) => {
                return Err(Silence::Broken(format!("cannot resolve {host}: {error}")));
            }
            Err(mpsc::TryRecvError::Disconnected) => {
                return Err(Silence::Broken(format!("cannot resolve {host}")));
            }
            Err(mpsc::TryRecvError::Empty) => {}
        }
        if Instant::now() >= until {
            return Err(Silence::Late);
        }
        wait(&[near.as_fd()], until).map_err(Silence::Ended)?;
    }
}

fn unique(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut unique = Vec::new();
    for address in addresses {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::wait_until_readable;

    fn ask(host: &str) -> Result<Vec<SocketAddr>, Silence> {
        let until = Instant::now() + Duration::from_secs(20);
        resolve(host, 7, until, &mut wait_until_readable)
    }

    #[test]
    fn names_and_addresses() {
        assert_eq!(ask("127.0.0.1").unwrap(), ["127.0.0.1:7".parse().unwrap()]);
        assert_eq!(ask("[::1]").unwrap(), ["[::1]:7".parse().unwrap()]);
        assert!(ask("localhost").unwrap().iter().all(|a| a.ip().is_loopback()));
    }

    #[test]
    fn an_unknown_name_is_named() {
        match ask("no-such-host.invalid") {
            Err(Silence::Broken(reason)) => assert!(reason.contains("no-such-host.invalid")),
            other => panic!("{other:?}"),
        }
    }
}
