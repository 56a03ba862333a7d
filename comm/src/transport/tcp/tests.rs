//! The conformance suite over loopback, and what is peculiar to TCP.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::*;
use crate::engine::wait_until_readable;
use crate::memory::testing::{bytes, span};
use crate::rendezvous::{Address, Dial, Membership, Participant, Rendezvous, UniqueId, join};
use crate::transport::conformance::{Fabric, conformance_tests};

/// The memberships of a job of `ranks` on `interface`, all in this process.
fn job(ranks: Rank, interface: &str) -> Vec<Membership> {
    job_with(ranks, interface, false)
}

fn job_with(ranks: Rank, interface: &str, encrypt: bool) -> Vec<Membership> {
    let at = Rendezvous::Id(UniqueId::listen(Some(interface)).unwrap());
    let arrive = |rank| {
        let me = Participant {
            rank,
            ranks,
            deadline: Instant::now() + Duration::from_secs(30),
            interface: Some(interface),
            ports: crate::rendezvous::Ports::ANY,
            encrypt,
            payload: Vec::new(),
            agree: &|_| Vec::new(),
        };
        join(&at, &me, &mut wait_until_readable).unwrap()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks).map(|rank| scope.spawn(move || arrive(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn transport(membership: &Membership, rank: Rank, communicator: u64) -> TcpTransport {
    let others = membership.members.iter().filter(|member| member.rank != rank);
    let peers = others.map(|m| TcpPeer { rank: m.rank, addresses: m.addresses.clone() }).collect();
    let config = TcpConfig { communicator, epoch: 0, rank, peers, buffer_bytes_max: 64 << 20 };
    TcpTransport::new(&membership.listener, config).unwrap()
}

fn transports(ranks: Rank, interface: &str) -> Vec<TcpTransport> {
    transports_of(&job(ranks, interface))
}

fn transports_of(job: &[Membership]) -> Vec<TcpTransport> {
    job.iter().zip(0..).map(|(membership, rank)| transport(membership, rank, 1)).collect()
}

fn fabric(ranks: Rank, interface: &str) -> Fabric {
    fabric_of(&job(ranks, interface))
}

fn fabric_of(job: &[Membership]) -> Fabric {
    let ends =
        transports_of(job).into_iter().map(|end| Box::new(end) as Box<dyn Transport>).collect();
    Fabric { ends, idle: Box::new(thread::yield_now) }
}

fn fabric_v4(ranks: Rank) -> Fabric {
    fabric(ranks, "127.0.0.1")
}

fn fabric_v6(ranks: Rank) -> Fabric {
    fabric(ranks, "::1")
}

fn fabric_encrypted(ranks: Rank) -> Fabric {
    fabric_of(&job_with(ranks, "127.0.0.1", true))
}

mod encrypted {
    use super::*;
    conformance_tests!(conformance, fabric_encrypted, sleep: [Poll]);
}

mod v4 {
    use super::*;
    conformance_tests!(conformance, fabric_v4, sleep: [Poll]);
}

mod v6 {
    use super::*;
    conformance_tests!(conformance, fabric_v6, sleep: [Poll]);
}

/// One frame of `payload`, sent whole; polls both ends, since the first one has to connect.
fn deliver(from: &mut TcpTransport, to: &mut TcpTransport, lane: Lane, payload: &[u8]) {
    let header = FrameHeader {
        fingerprint: 7,
        sequence: 9,
        payload_bytes: u32::try_from(payload.len()).unwrap(),
    };
    let mut accepted = 0;
    let peer = to.rank;
    while !from.send(lane, peer, &header, &[span(payload)], &mut accepted).unwrap() {
        from.progress().unwrap();
        to.progress().unwrap();
    }
    assert_eq!(receive(to, lane, from.rank).unwrap(), payload);
}

/// The next frame's payload.
fn receive(at: &mut TcpTransport, lane: Lane, from: Rank) -> Result<Vec<u8>, Fault> {
    let header = loop {
        if let Some(header) = at.head(lane, from)? {
            break header;
        }
        at.progress()?;
    };
    let mut payload = Vec::new();
    while payload.len() < header.payload_bytes as usize {
        let shown = at.view(lane, from, 1)?;
        payload.extend(bytes(shown));
        at.consume(lane, from, shown.len())?;
    }
    if header.payload_bytes == 0 {
        at.consume(lane, from, 0)?;
    }
    Ok(payload)
}

/// A pipe to rank 0 of communicator 1 that the test itself writes to, as `from`.
fn forged_pipe(membership: &Membership, at: &mut TcpTransport, from: Rank, to: Rank) -> TcpStream {
    let hello = Hello {
        communicator: 1,
        epoch: 0,
        purpose: Purpose::Pipe,
        lane: 0,
        encrypted: false,
        from,
        to,
        tag: 0,
    };
    let address = Address::Tcp(membership.members[0].addresses[0]);
    let mut dial = Dial::start(&address, &hello).unwrap();
    while !dial.advance(membership.listener.key()).unwrap() {
        at.progress().unwrap();
    }
    let stream = TcpStream::from(dial.into_parts().0);
    stream.set_nonblocking(false).unwrap();
    stream
}

fn header(payload_bytes: u32) -> [u8; 16] {
    frame::encode(frame::Start::Frame(FrameHeader { fingerprint: 7, sequence: 9, payload_bytes }))
}

fn fault_of(at: &mut TcpTransport, lane: Lane, from: Rank) -> Fault {
    receive(at, lane, from).unwrap_err()
}

#[test]
fn strangers_do_not_disturb_traffic() {
    let job = job(2, "127.0.0.1");
    let (mut a, mut b) = (transport(&job[0], 0, 1), transport(&job[1], 1, 1));
    let address = job[1].members[1].addresses[0];
    let mut guests = Vec::new();
    for round in 0..40_u8 {
        let mut guest = TcpStream::connect(address).unwrap();
        match round % 4 {
            0 => guest.write_all(&[round; 300]).unwrap(),
            1 => guest.write_all(b"SynclinC\x01\0").unwrap(),
            2 => {
                // A good greeting, then a made-up proof.
                let mut bytes = b"SynclinC\x01\0".to_vec();
                bytes.resize(32 + 64, round);
                guest.write_all(&bytes).unwrap();
            }
            _ => drop(guest.shutdown(std::net::Shutdown::Both)),
        }
        guests.push(guest);
        for lane in Lane::ALL {
            deliver(&mut a, &mut b, lane, &[round; 5000]);
            deliver(&mut b, &mut a, lane, &[round; 10]);
        }
    }
    while job[1].listener.strangers() < 30 {
        b.progress().unwrap();
    }
    deliver(&mut a, &mut b, Lane::Small, b"still here");
    drop(guests);
    while job[1].listener.strangers() < 40 {
        b.progress().unwrap();
    }
    assert_eq!(job[0].listener.strangers(), 0);
}

#[test]
fn an_impossible_length_is_a_breach_of_protocol() {
    let job = job(2, "127.0.0.1");
    let mut a = transport(&job[0], 0, 1);
    let mut pipe = forged_pipe(&job[0], &mut a, 1, 0);
    pipe.write_all(&header(3)).unwrap();
    pipe.write_all(b"abc").unwrap();
    pipe.write_all(&header(u32::MAX - 1)).unwrap();
    assert_eq!(receive(&mut a, Lane::Small, 1).unwrap(), b"abc");
    let fault = fault_of(&mut a, Lane::Small, 1);
    assert!(matches!(fault.kind, FaultKind::Protocol(_)), "{fault}");
}

#[test]
fn a_frame_cut_off_is_a_loss_and_is_reported_once() {
    let job = job(2, "127.0.0.1");
    let mut a = transport(&job[0], 0, 1);
    let mut pipe = forged_pipe(&job[0], &mut a, 1, 0);
    pipe.write_all(&header(0)).unwrap();
    pipe.write_all(&header(100)).unwrap();
    pipe.write_all(&[1; 37]).unwrap();
    drop(pipe);
    assert_eq!(receive(&mut a, Lane::Small, 1).unwrap(), b"");
    while a.head(Lane::Small, 1).unwrap().is_none() {}
    let shown = loop {
        let shown = a.view(Lane::Small, 1, 1).unwrap();
        if shown.len() == 37 {
            break shown;
        }
    };
    assert_eq!(bytes(shown), [1; 37]);
    a.consume(Lane::Small, 1, 37).unwrap();
    let fault = loop {
        if let Err(fault) = a.view(Lane::Small, 1, 1) {
            break fault;
        }
        a.poll();
    };
    assert!(fault.to_string().contains("in the middle of a frame"), "{fault}");
    let reported = (0..10_000).filter(|_| a.progress().is_err()).count();
    assert!(reported <= 1, "reported {reported} times");
    assert!(a.view(Lane::Small, 1, 1).is_err(), "a fault stays");
}

#[test]
fn half_an_element_before_the_end_is_a_loss() {
    let job = job(2, "127.0.0.1");
    let mut a = transport(&job[0], 0, 1);
    let mut pipe = forged_pipe(&job[0], &mut a, 1, 0);
    pipe.write_all(&header(8)).unwrap();
    pipe.write_all(&[1; 3]).unwrap();
    drop(pipe);
    while a.head(Lane::Small, 1).unwrap().is_none() {}
    let fault = loop {
        match a.view(Lane::Small, 1, 4) {
            Ok(shown) => assert!(shown.len() < 4),
            Err(fault) => break fault,
        }
        a.poll();
    };
    assert!(matches!(fault.kind, FaultKind::Lost(_)), "{fault}");
}

#[test]
fn a_crash_is_reported_though_no_pipe_is_touched() {
    let job = job(2, "127.0.0.1");
    let mut a = transport(&job[0], 0, 1);
    let mut pipe = forged_pipe(&job[0], &mut a, 1, 0);
    pipe.write_all(&header(2)).unwrap();
    pipe.write_all(b"ok").unwrap();
    assert_eq!(receive(&mut a, Lane::Small, 1).unwrap(), b"ok");
    drop(pipe);
    let fault = loop {
        if let Err(fault) = a.progress() {
            break fault;
        }
    };
    assert_eq!(fault.peer, 1);
    assert!(matches!(fault.kind, FaultKind::Lost(_)), "{fault}");
    let header = FrameHeader { fingerprint: 0, sequence: 0, payload_bytes: 0 };
    assert!(a.send(Lane::Bulk, 1, &header, &[], &mut 0).is_err());
    assert!(a.head(Lane::Bulk, 1).is_err());
}

#[test]
fn unread_frames_come_before_the_report_of_a_crash() {
    let job = job(2, "127.0.0.1");
    let mut a = transport(&job[0], 0, 1);
    let mut pipe = forged_pipe(&job[0], &mut a, 1, 0);
    pipe.write_all(&header(2)).unwrap();
    pipe.write_all(b"ok").unwrap();
    pipe.write_all(&header(0)).unwrap();
    drop(pipe);
    for _ in 0..20_000 {
        a.progress().unwrap();
    }
    assert_eq!(receive(&mut a, Lane::Small, 1).unwrap(), b"ok");
    assert_eq!(receive(&mut a, Lane::Small, 1).unwrap(), b"");
    // Noticed without another look at the pipe, and told once.
    let told = (0..20_000).filter(|_| a.progress().is_err()).count();
    assert_eq!(told, 1);
    assert!(a.head(Lane::Small, 1).is_err());
}

#[test]
fn a_peer_that_leaves_properly_is_no_fault_until_more_is_expected() {
    let mut ends = transports(2, "127.0.0.1").into_iter();
    let (mut a, mut b) = (ends.next().unwrap(), ends.next().unwrap());
    deliver(&mut a, &mut b, Lane::Bulk, &[1; 100]);
    deliver(&mut b, &mut a, Lane::Small, &[2; 100]);
    drop(b);
    for _ in 0..20_000 {
        a.progress().unwrap();
    }
    for lane in Lane::ALL {
        let fault = fault_of(&mut a, lane, 1);
        assert!(fault.to_string().contains("has left"), "{fault}");
        let header = FrameHeader { fingerprint: 0, sequence: 0, payload_bytes: 0 };
        let fault = a.send(lane, 1, &header, &[], &mut 0).unwrap_err();
        assert!(fault.to_string().contains("has left"), "{fault}");
    }
    a.progress().unwrap();
}

#[test]
fn a_peer_that_leaves_without_ever_having_sent_is_missed() {
    let mut ends = transports(2, "127.0.0.1").into_iter();
    let (mut a, mut b) = (ends.next().unwrap(), ends.next().unwrap());
    deliver(&mut a, &mut b, Lane::Bulk, &[1; 100]);
    drop(b);
    for lane in Lane::ALL {
        let fault = fault_of(&mut a, lane, 1);
        assert!(fault.to_string().contains("has left"), "{fault}");
    }
    a.progress().unwrap();
}

/// Rank 0 knocks at rank 1, as it is about to sleep for it. Rank 1 sends its last frame and leaves
/// before it has taken that up, so that no goodbye goes that way; and the thread that attends to
/// rank 0's listener has yet to come to the frame.
#[test]
fn what_a_leaver_sent_is_taken_though_the_way_to_it_ends_first() {
    let job = job(2, "127.0.0.1");
    job[0].listener.attend();
    let (mut a, mut b) = (transport(&job[0], 0, 1), transport(&job[1], 1, 1));
    assert!(a.head(Lane::Small, 1).unwrap().is_none());
    a.arm(Sleep::Poll);
    a.disarm();
    let header = FrameHeader { fingerprint: 7, sequence: 9, payload_bytes: 4 };
    let mut accepted = 0;
    let mut send = || b.send(Lane::Small, 0, &header, &[span(b"last")], &mut accepted).unwrap();
    // The greeting is there; it is answered, and then nobody looks.
    assert!((0..100).all(|_| !send()));
    job[0].listener.service().unwrap();
    while !send() {}
    drop(b);
    while a.head(Lane::Small, 1).unwrap().is_none() {
        a.progress().unwrap();
        job[1].listener.service().unwrap();
    }
    assert_eq!(receive(&mut a, Lane::Small, 1).unwrap(), b"last");
    let kind = fault_of(&mut a, Lane::Small, 1).kind.to_string();
    assert!(kind.contains("has left"), "{kind}");
}

#[test]
fn a_pipe_for_somebody_else_is_dropped() {
    let job = job(2, "127.0.0.1");
    let (mut a, mut b) = (transport(&job[0], 0, 1), transport(&job[1], 1, 1));
    for (from, to) in [(1, 1), (0, 0), (77, 0)] {
        let mut pipe = forged_pipe(&job[0], &mut a, from, to);
        pipe.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        while !matches!(pipe.read(&mut [0]), Ok(0)) {
            a.progress().unwrap();
        }
    }
    deliver(&mut b, &mut a, Lane::Small, b"mine");
    // A second pipe for a lane that has one.
    let mut pipe = forged_pipe(&job[0], &mut a, 1, 0);
    pipe.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    while !matches!(pipe.read(&mut [0]), Ok(0)) {
        a.progress().unwrap();
    }
    deliver(&mut b, &mut a, Lane::Small, b"still mine");
}

#[test]
fn communicators_share_a_listener_and_nothing_else() {
    let job = job(2, "127.0.0.1");
    let (mut a, mut b) = (transport(&job[0], 0, 1), transport(&job[1], 1, 1));
    let mut early = transport(&job[0], 0, 2);
    let header = FrameHeader { fingerprint: 1, sequence: 1, payload_bytes: 5 };
    let mut accepted = 0;
    // Rank 1 serves its listener through communicator 1 and has not made communicator 2 yet.
    while !early.send(Lane::Small, 1, &header, &[span(b"early")], &mut accepted).unwrap() {
        deliver(&mut a, &mut b, Lane::Bulk, &[3; 1000]);
    }
    let mut late = transport(&job[1], 1, 2);
    assert_eq!(receive(&mut late, Lane::Small, 0).unwrap(), b"early");
    drop((early, late));
    deliver(&mut b, &mut a, Lane::Small, b"unharmed");
}

#[test]
fn transports_leave_a_listener_alone_that_a_thread_attends_to() {
    let job = job(2, "127.0.0.1");
    for membership in &job {
        membership.listener.attend();
    }
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for membership in &job {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let soon = Instant::now() + Duration::from_millis(20);
                    wait_until_readable(&[membership.listener.fd()], soon).unwrap();
                    membership.listener.service().unwrap();
                }
            });
        }
        let (mut a, mut b) = (transport(&job[0], 0, 1), transport(&job[1], 1, 1));
        for lane in Lane::ALL {
            deliver(&mut a, &mut b, lane, &[1; 5000]);
            deliver(&mut b, &mut a, lane, &[2; 10]);
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Accepts and hangs up after the greeting.
fn hang_up_on(listener: &TcpListener, outgoing: &mut Outgoing, membership: &Membership) -> Noticed {
    while outgoing.notice(membership.listener.key()) != Noticed::Nothing {}
    let (mut guest, _) = listener.accept().unwrap();
    let mut greeting = [0; 32];
    while guest.peek(&mut greeting).unwrap() < 32 {
        outgoing.notice(membership.listener.key());
    }
    guest.read_exact(&mut greeting).unwrap();
    drop(guest);
    loop {
        match outgoing.notice(membership.listener.key()) {
            Noticed::Nothing => thread::yield_now(),
            other => return other,
        }
    }
}

#[test]
fn a_connection_that_breaks_during_the_handshake_is_opened_again() {
    let job = job(1, "127.0.0.1");
    let moody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = moody.local_addr().unwrap();
    let hello = Hello {
        communicator: 1,
        epoch: 0,
        purpose: Purpose::Pipe,
        lane: 0,
        encrypted: false,
        from: 1,
        to: 0,
        tag: 0,
    };
    let mut outgoing = Outgoing::open(hello, &[address], 6);
    let mut redials = 0;
    while hang_up_on(&moody, &mut outgoing, &job[0]) == Noticed::Redialed {
        redials += 1;
    }
    assert_eq!(redials, 7);
    assert!(outgoing.is_broken());
    // With a second address the pipe comes about there.
    let mut outgoing = Outgoing::open(hello, &[address, job[0].members[0].addresses[0]], 6);
    for _ in 0..8 {
        assert_eq!(hang_up_on(&moody, &mut outgoing, &job[0]), Noticed::Redialed);
    }
    let inbox = job[0].listener.register(1, Purpose::Pipe).unwrap();
    while inbox.take().is_none() {
        outgoing.notice(job[0].listener.key());
        job[0].listener.service().unwrap();
    }
    assert_eq!(outgoing.end().map(|kind| kind.to_string()), None);
}

/// A transport of rank 0 with a pipe from rank 1, on which a frame has come already.
fn used_pipe(job: &[Membership]) -> (TcpTransport, TcpStream) {
    let mut a = transport(&job[0], 0, 1);
    let mut pipe = forged_pipe(&job[0], &mut a, 1, 0);
    pipe.write_all(&header(0)).unwrap();
    assert_eq!(receive(&mut a, Lane::Small, 1).unwrap(), b"");
    (a, pipe)
}

/// Whether a sleep would end at once.
fn wakes(a: &TcpTransport) -> bool {
    let mut fds: Vec<_> = a
        .poll_fds()
        .into_iter()
        .map(|fd| rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN))
        .collect();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).unwrap() > 0
}

#[test]
fn a_small_frame_is_read_without_a_poll_and_ends_no_later_sleep() {
    let job = job(2, "127.0.0.1");
    let (mut a, mut pipe) = used_pipe(&job);
    a.progress().unwrap();
    let polls = a.polls;
    assert!(a.head(Lane::Small, 1).unwrap().is_none());
    pipe.write_all(&[&header(3)[..], b"abc"].concat()).unwrap();
    while a.head(Lane::Small, 1).unwrap().is_none() {}
    assert_eq!(a.polls, polls, "the kernel was asked whether there is anything");
    assert_eq!(bytes(a.view(Lane::Small, 1, 3).unwrap()), b"abc");
    a.consume(Lane::Small, 1, 3).unwrap();
    // The event was never fetched, and is of the past.
    a.arm(Sleep::Poll);
    assert!(a.head(Lane::Small, 1).unwrap().is_none());
    assert!(!wakes(&a), "woken by what has been read");
    pipe.write_all(&header(0)).unwrap();
    while !wakes(&a) {}
    a.disarm();
    a.progress().unwrap();
    assert!(a.head(Lane::Small, 1).unwrap().is_some());
}

/// What ends a sleep may be something else than the frame that is waited for.
#[test]
fn a_pipe_read_in_vain_after_a_sleep_has_the_kernel_asked() {
    let job = job(2, "127.0.0.1");
    let (mut a, _pipe) = used_pipe(&job);
    a.progress().unwrap();
    assert!(a.head(Lane::Small, 1).unwrap().is_none());
    a.arm(Sleep::Poll);
    a.disarm();
    let polls = a.polls;
    a.progress().unwrap();
    assert_eq!(a.polls, polls, "the pipe comes first");
    assert!(a.head(Lane::Small, 1).unwrap().is_none());
    assert_eq!(a.polls, polls + 1);
}

#[test]
fn many_silent_pipes_are_asked_about_together() {
    let job = job(5, "127.0.0.1");
    let mut a = transport(&job[0], 0, 1);
    let _pipes: Vec<_> = (1..5).map(|from| forged_pipe(&job[0], &mut a, from, 0)).collect();
    while (1..5).any(|peer| a.peers[a.at(peer)].incoming[0].is_none()) {
        a.progress().unwrap();
    }
    let mut look_at = |peers: std::ops::RangeInclusive<Rank>| {
        for _ in 0..2 {
            a.progress().unwrap();
            for peer in peers.clone() {
                assert!(a.head(Lane::Small, peer).unwrap().is_none());
            }
        }
        a.progress().unwrap();
        a.tries(Lane::Small)
    };
    assert!(!look_at(1..=4));
    assert!(look_at(1..=2));
    assert!(!a.tries(Lane::Bulk), "large messages come slower that way");
}

#[test]
fn a_pipe_that_ended_is_not_read_again() {
    let job = job(2, "127.0.0.1");
    let (mut a, pipe) = used_pipe(&job);
    drop(pipe);
    fault_of(&mut a, Lane::Small, 1);
    let incoming = a.peers[0].incoming[0].as_mut().unwrap();
    incoming.notice(false);
    assert!(!incoming.may_fill(), "nothing behind the end counts");
}

#[test]
fn a_loopback_is_neither_paced_nor_probed() {
    let mut ends = transports(2, "127.0.0.1").into_iter();
    let (mut a, mut b) = (ends.next().unwrap(), ends.next().unwrap());
    deliver(&mut a, &mut b, Lane::Bulk, &[1; 100]);
    let outgoing = a.peers[0].outgoing[Lane::Bulk as usize].as_ref().unwrap();
    let chosen = rustix::net::sockopt::tcp_congestion(outgoing.fd().unwrap()).unwrap();
    assert_eq!(chosen, "reno");
}
