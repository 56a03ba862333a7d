//! Having the kernel find out whether the host at the other end is still there.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;

const PROBES: u32 = 3;
/// What the kernel takes at most (tcp(7)).
const INTERVAL_MAX: Duration = Duration::from_secs(32767);
const UNHEARD_MAX: Duration = Duration::from_millis(i32::MAX.unsigned_abs() as u64);

/// Ends a TCP connection on which the other host has not answered for `silence`. A peer that keeps
/// its window closed answers, and is waited for.
///
/// # Errors
/// When the socket is not TCP.
pub(crate) fn keep_alive(socket: BorrowedFd<'_>, silence: Duration) -> Result<(), Errno> {
    // Whole seconds, which the kernel counts in.
    let interval = Duration::from_secs((silence / (PROBES + 1)).as_secs());
    let interval = interval.clamp(Duration::from_secs(1), INTERVAL_MAX);
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, interval)?;
    sockopt::set_tcp_keepintvl(socket, interval)?;
    sockopt::set_tcp_keepcnt(socket, PROBES)
}

/// Ends a TCP connection also when what was sent is not taken for `time`: for peers that read
/// whatever comes, such as control threads, and no others (tcp(7)).
///
/// # Errors
/// When the socket is not TCP.
pub(crate) fn limit_unheard(socket: BorrowedFd<'_>, time: Duration) -> Result<(), Errno> {
    let time_ms = u32::try_from(time.min(UNHEARD_MAX).as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(socket, time_ms)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn any_time_is_taken_and_no_longer_than_it_says() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let fd = stream.as_fd();
        for seconds in [0, 1, 2, 5, 30, 100_000, u64::MAX] {
            let silence = Duration::from_secs(seconds);
            keep_alive(fd, silence).unwrap();
            limit_unheard(fd, silence).unwrap();
            let idle = sockopt::tcp_keepidle(fd).unwrap();
            let interval = sockopt::tcp_keepintvl(fd).unwrap();
            let probes = sockopt::tcp_keepcnt(fd).unwrap();
            assert!(idle + interval * probes <= silence.max(Duration::from_secs(4)), "{silence:?}");
            assert!(sockopt::socket_keepalive(fd).unwrap());
        }
    }
}
