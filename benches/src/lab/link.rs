//! What a plain TCP stream reaches over a lab's links: the yardstick for collectives.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::netns::Lab;
use crate::failure::{Failure, Outcome};
use crate::launch::{Group, Notice, Placement, describe, die_with_parent};
use crate::report::say;

/// Time for the stream to reach its speed before it is measured.
const RAMP: Duration = Duration::from_millis(300);
/// How long an end waits for the other.
const PATIENCE: Duration = Duration::from_secs(10);

/// Payload bytes per second from host 0 to host 1, and back.
pub(crate) fn measure_link(lab: &Lab) -> Outcome<[f64; 2]> {
    Ok([one_way(lab, 0, 1)?, one_way(lab, 1, 0)?])
}

fn one_way(lab: &Lab, from: u32, to: u32) -> Outcome<f64> {
    let placement = Placement { namespaces: lab.hosts().to_vec(), ranks_per_host: 1 };
    let arguments = |list: &[&str], host| {
        let list: Vec<&OsStr> = list.iter().map(OsStr::new).collect();
        placement.command(host, &list)
    };
    let address = Lab::address(to).to_string();
    let mut receiver = Group::spawn([arguments(&["__stream", "--listen", &address], to)])?;
    let port = line(&mut receiver)?;
    let mut sender = Group::spawn([arguments(&["__stream", &port], from)])?;
    let rate = line(&mut receiver)?;
    sender.end();
    receiver.end();
    rate.parse().map_err(|_| Failure::run(format!("the stream reported '{rate}'")))
}

/// The next line of a group of one.
fn line(group: &mut Group) -> Outcome<String> {
    let mut said = String::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match group.next(Some(deadline))? {
            Some(Notice::Out(_, line)) => return Ok(line),
            Some(Notice::Err(_, line)) => said.push_str(&line),
            Some(Notice::Stop) => return Err(Failure::Interrupted),
            Some(Notice::Exit(_, status)) => {
                let how = describe(status);
                return Err(Failure::run(format!("measuring the link: a stream {how}: {said}")));
            }
            Some(Notice::Ready | Notice::Timeout) | None => {
                return Err(Failure::run("measuring the link: no answer from the other host"));
            }
        }
    }
}

/// One end of a stream: listens on `listen` and prints address and rate, or sends to `to`.
pub(crate) fn stream(to: Option<SocketAddr>, listen: Option<IpAddr>, seconds: f64) -> Outcome {
    die_with_parent()?;
    let failed = |e: std::io::Error| Failure::run(format!("stream: {e}"));
    match (to, listen) {
        (Some(to), None) => send(to).map_err(failed),
        (None, Some(listen)) => {
            let listener = TcpListener::bind((listen, 0)).map_err(failed)?;
            say(&listener.local_addr().map_err(failed)?.to_string())?;
            let rate = receive(&listener, Duration::from_secs_f64(seconds)).map_err(failed)?;
            say(&rate.to_string())
        }
        _ => Err(Failure::usage("__stream takes an address to send to, or --listen")),
    }
}

/// Sends until the receiver has seen enough.
fn send(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let block = vec![0x5A; 256 * 1024];
    while through_stops(|| stream.write(&block)).is_ok() {}
    Ok(())
}

/// Bytes per second.
fn receive(listener: &TcpListener, time: Duration) -> std::io::Result<f64> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut block = vec![0; 256 * 1024];
    let begin = Instant::now();
    while begin.elapsed() < RAMP {
        read(&mut stream, &mut block)?;
    }
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < time {
        bytes += read(&mut stream, &mut block)?;
    }
    Ok(bytes as f64 / start.elapsed().as_secs_f64())
}

/// Reads what there is, which is more than nothing.
fn read(stream: &mut TcpStream, block: &mut [u8]) -> std::io::Result<usize> {
    match through_stops(|| stream.read(block))? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        bytes => Ok(bytes),
    }
}

/// Tries again after SIGSTOP and SIGCONT: they interrupt a call that has a time-out.
fn through_stops<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_over_loopback_is_measured() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback");
        let to = listener.local_addr().expect("bound");
        let sender = std::thread::spawn(move || send(to));
        let rate = receive(&listener, Duration::from_millis(50)).expect("a stream");
        assert!(rate > 0.0);
        drop(listener);
        sender.join().expect("no panic").expect("sent");
    }
}
