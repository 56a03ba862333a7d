//! Whole rendezvous, one thread per rank, on loopback.

use crate::engine::wait_until_readable;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::testing::{LONG, arrive, participant, reason};
use super::*;

const LOOPBACK: Option<&str> = Some("127.0.0.1");

/// Every `(rank, ranks)` at once; results in that order.
fn arrive_all(at: &Rendezvous, who: &[(Rank, Rank)], within: Duration) -> Vec<Result<Membership>> {
    thread::scope(|scope| {
        let threads: Vec<_> = who
            .iter()
            .map(|&(rank, ranks)| scope.spawn(move || arrive(at, rank, ranks, within)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn by_id() -> Rendezvous {
    Rendezvous::Id(UniqueId::listen(LOOPBACK).unwrap())
}

#[test]
fn many_ranks_get_the_same_table() {
    let at = by_id();
    let who: Vec<_> = (0..64).map(|rank| (rank, 64)).collect();
    let memberships: Vec<_> = arrive_all(&at, &who, LONG).into_iter().map(Result::unwrap).collect();
    let table = &memberships[0].members;
    assert_eq!(table.len(), 64);
    for (membership, rank) in memberships.iter().zip(0..) {
        assert_eq!(&membership.members, table);
        let me = &table[rank as usize];
        assert_eq!(me.rank, rank);
        assert_eq!(me.pid, std::process::id());
        assert!(me.same_host(&table[0]));
        assert_eq!(me.addresses, membership.listener.addresses());
        assert!(me.addresses.iter().all(|a| a.ip().is_loopback()));
        assert_eq!(membership.listener.strangers(), 0);
    }
}

#[test]
fn all_interfaces_serve_when_none_is_named() {
    let at = Rendezvous::Id(UniqueId::listen(None).unwrap());
    let both = arrive_all(&at, &[(0, 2), (1, 2)], LONG);
    for membership in both {
        assert_eq!(membership.unwrap().members.len(), 2);
    }
}

#[test]
fn a_job_of_one_needs_nobody() {
    assert_eq!(arrive(&by_id(), 0, 1, LONG).unwrap().members.len(), 1);
}

#[test]
fn payloads_reach_the_root_and_its_word_reaches_everybody() {
    let at = by_id();
    let agree = |members: &[MemberInfo]| members.iter().map(|m| m.payload[0] * 2).collect();
    let agreed: Vec<Vec<u8>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..3_u8)
            .map(|rank| {
                let at = &at;
                scope.spawn(move || {
                    let me = Participant {
                        payload: vec![10 + rank],
                        agree: &agree,
                        ..participant(u32::from(rank), 3, LONG)
                    };
                    join(at, &me, &mut wait_until_readable).unwrap().agreed
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(agreed, vec![vec![20, 22, 24]; 3]);
}

#[test]
fn missing_ranks_are_named_on_every_rank() {
    let at = by_id();
    let within = Duration::from_millis(1000);
    for result in arrive_all(&at, &[(0, 8), (3, 8), (6, 8)], within) {
        let reason = reason(result);
        assert!(reason.contains("5 of 8 ranks have not come: 1-2, 4-5, 7;"), "{reason}");
    }
}

#[test]
fn a_rank_claimed_twice_fails_the_job_on_every_rank() {
    for reason in with_root_first((0, 4), &[(2, 4), (2, 4)]) {
        assert!(reason.contains("claim the same rank"), "{reason}");
    }
}

#[test]
fn different_world_sizes_fail_the_job_on_every_rank() {
    for reason in with_root_first((0, 3), &[(1, 4)]) {
        assert!(reason.contains("one of 4 ranks, rank 0 as one of 3"), "{reason}");
    }
}

#[test]
fn ranks_that_differ_about_encryption_are_told() {
    for root_encrypts in [false, true] {
        let at = by_id();
        let Rendezvous::Id(id) = &at else { unreachable!() };
        let arrive = |rank, encrypt| {
            let me = Participant { encrypt, ..participant(rank, 2, LONG) };
            join(&at, &me, &mut wait_until_readable)
        };
        let results = thread::scope(|scope| {
            let root = scope.spawn(|| arrive(0, root_encrypts));
            while registry::holds(id) {
                thread::yield_now();
            }
            let other = arrive(1, !root_encrypts);
            [root.join().unwrap(), other]
        });
        let names = if root_encrypts {
            ["comes in the clear", "rank 0 encrypted"]
        } else {
            ["comes encrypted", "rank 0 in the clear"]
        };
        for reason in results.map(reason) {
            assert!(reason.contains("rank 1 (process"), "{reason}");
            assert!(names.iter().all(|name| reason.contains(name)), "{reason}");
            assert!(reason.contains("set the option `encrypt` alike"), "{reason}");
        }
    }
}

#[test]
fn an_encrypted_rendezvous_gives_everybody_the_table() {
    let at = by_id();
    let tables: Vec<Vec<MemberInfo>> = thread::scope(|scope| {
        let at = &at;
        let threads: Vec<_> = (0..8)
            .map(|rank| {
                scope.spawn(move || {
                    let me = Participant { encrypt: true, ..participant(rank, 8, LONG) };
                    join(at, &me, &mut wait_until_readable).unwrap().members
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(tables[0].len(), 8);
    assert!(tables.iter().all(|table| table == &tables[0]));
}

/// Lets one rank take the root's place before the others come; why they all fail.
fn with_root_first(root: (Rank, Rank), others: &[(Rank, Rank)]) -> Vec<String> {
    let at = by_id();
    let Rendezvous::Id(id) = &at else { unreachable!() };
    let results = thread::scope(|scope| {
        let root = scope.spawn(|| arrive(&at, root.0, root.1, LONG));
        while registry::holds(id) {
            thread::yield_now();
        }
        let mut results = arrive_all(&at, others, LONG);
        results.push(root.join().unwrap());
        results
    });
    results.into_iter().map(reason).collect()
}

#[test]
fn a_rank_outside_the_job_is_an_argument_error() {
    assert!(reason(arrive(&by_id(), 4, 4, LONG)).contains("ranks count from 0"));
    assert!(reason(arrive(&by_id(), 0, u32::MAX, LONG)).contains("at most 131072"));
}

#[test]
fn an_id_serves_one_job() {
    let at = by_id();
    let first = arrive_all(&at, &[(0, 2), (1, 2)], LONG);
    let keep: Vec<_> = first.into_iter().map(Result::unwrap).collect();
    let Rendezvous::Id(id) = &at else { unreachable!() };
    let root = keep.into_iter().find(|m| m.listener.addresses() == id.addresses()).unwrap();
    let late = thread::spawn(move || reason(arrive(&at, 1, 2, LONG)));
    while !late.is_finished() {
        root.listener.service().unwrap();
        thread::yield_now();
    }
    let reason = late.join().unwrap();
    assert!(reason.contains("complete already"), "{reason}");
}

#[test]
fn an_id_whose_root_is_gone_fails_within_the_deadline() {
    let at = by_id();
    if let Rendezvous::Id(id) = &at {
        drop(registry::claim(id));
    }
    let reason = reason(arrive(&at, 1, 2, Duration::from_millis(300)));
    assert!(reason.contains("cannot reach the root"), "{reason}");
}

#[test]
fn an_abort_ends_the_rendezvous() {
    let mut calls = 0;
    let mut wait = |fds: &[std::os::fd::BorrowedFd<'_>], _| {
        calls += 1;
        if calls > 2 {
            return Err(Error::System {
                what: "test".to_owned(),
                source_text: "aborted".to_owned(),
                hint: String::new(),
            });
        }
        wait_until_readable(fds, Instant::now())
    };
    let result = join(&by_id(), &participant(0, 2, LONG), &mut wait);
    assert!(reason(result).contains("aborted"));
}

fn by_file(path: &Path) {
    let at = Rendezvous::File(path.to_owned());
    for result in arrive_all(&at, &[(1, 3), (2, 3), (0, 3)], LONG) {
        assert_eq!(result.unwrap().members.len(), 3);
    }
    assert!(!path.exists(), "the root removes the file when everybody has come");
}

#[test]
fn a_file_brings_ranks_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job");
    by_file(&path);
    by_file(&path);
}

#[test]
fn a_file_left_by_a_dead_job_is_waited_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job");
    let (dead, listener) = open_root(LOOPBACK, Ports::ANY).unwrap();
    file::publish(&path, &dead).unwrap();
    drop(listener);
    join_with_late_root(&path);
}

#[test]
fn a_file_that_leads_to_a_root_that_never_answers_is_waited_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job");
    let (silent, _listener) = open_root(LOOPBACK, Ports::ANY).unwrap();
    file::publish(&path, &silent).unwrap();
    join_with_late_root(&path);
}

/// Rank 1 comes first and finds whatever is at `path`; rank 0 comes when rank 1 has looked.
fn join_with_late_root(path: &Path) {
    let at = Rendezvous::File(path.to_owned());
    let (looked, has_looked) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let at = &at;
        let early = scope.spawn(move || {
            let mut wait = |fds: &[std::os::fd::BorrowedFd<'_>], until| {
                looked.send(()).ok();
                wait_until_readable(fds, until)
            };
            join(at, &participant(1, 2, LONG), &mut wait)
        });
        has_looked.recv().unwrap();
        arrive(at, 0, 2, LONG).unwrap();
        assert_eq!(early.join().unwrap().unwrap().members.len(), 2);
    });
}

#[test]
fn without_rank_0_the_file_never_comes() {
    let folder = tempfile::tempdir().unwrap();
    let at = Rendezvous::File(folder.path().join("job"));
    let reason = reason(arrive(&at, 1, 2, Duration::from_millis(150)));
    assert!(reason.contains("does not exist"), "{reason}");
}

#[test]
fn strangers_are_dropped_and_disturb_nothing() {
    let at = by_id();
    let Rendezvous::Id(id) = &at else { unreachable!() };
    let address = id.addresses()[0];
    // Random bytes, a well-formed greeting and nothing more, and one that hangs up at once.
    let noise = TcpStream::connect(address).unwrap();
    (&noise).write_all(&[0x5a; 200]).unwrap();
    let half = TcpStream::connect(address).unwrap();
    (&half).write_all(b"SynclinC\x01\0").unwrap();
    drop(TcpStream::connect(address).unwrap());
    let other = UniqueId::new(Secret::from_bytes([9; 16]), &[address.ip()], address.port());
    let results = thread::scope(|scope| {
        let stranger = scope.spawn(|| arrive(&Rendezvous::Id(other), 1, 2, LONG));
        let root = scope.spawn(|| arrive(&at, 0, 2, LONG));
        let stranger = reason(stranger.join().unwrap());
        assert!(stranger.contains("does not belong to this job"), "{stranger}");
        let member = arrive(&at, 1, 2, LONG);
        [root.join().unwrap(), member]
    });
    let [root, member] = results.map(Result::unwrap);
    assert_eq!(root.members, member.members);
    // The stranger with the wrong secret hangs up itself, after a proper greeting.
    assert_eq!(root.listener.strangers(), 2);
    let mut end = Vec::new();
    assert!((&noise).read_to_end(&mut end).is_err() || end.is_empty());
    drop(half);
    while root.listener.strangers() < 3 {
        root.listener.service().unwrap();
    }
}

fn hello(communicator: u64, purpose: Purpose, tag: u64) -> Hello {
    Hello { communicator, epoch: 0, purpose, lane: 1, encrypted: false, from: 2, to: 3, tag }
}

/// Connects as a rank does.
fn dial(listener: &Listener, address: &Address, hello: &Hello) -> OwnedFd {
    let mut dial = Dial::start(address, hello).unwrap();
    while !dial.advance(listener.key()).unwrap() {
        listener.service().unwrap();
    }
    dial.into_parts().0
}

fn solitary() -> Arc<Listener> {
    arrive(&by_id(), 0, 1, LONG).unwrap().listener
}

#[test]
fn connections_reach_whoever_registered_before_or_after() {
    let listener = solitary();
    let tcp = Address::Tcp(listener.addresses()[0]);
    let local = Address::Local(listener.local_name().to_vec());
    let early = hello(7, Purpose::Pipe, 1);
    let sender = dial(&listener, &tcp, &early);
    rustix::io::write(&sender, b"data behind the hello").unwrap();
    let _channel = dial(&listener, &local, &hello(7, Purpose::Local, 2));
    let accept = |inbox: &Inbox| loop {
        listener.service().unwrap();
        if let Some(accepted) = inbox.take() {
            return accepted;
        }
    };
    // Both connections are in before anybody registers.
    for _ in 0..100 {
        listener.service().unwrap();
    }
    let pipes = listener.register(7, Purpose::Pipe).unwrap();
    let channels = listener.register(7, Purpose::Local).unwrap();
    let first = accept(&pipes);
    assert_eq!(first.hello, early);
    let mut bytes = [0; 64];
    let read = rustix::io::read(&first.fd, &mut bytes).unwrap();
    assert_eq!(&bytes[..read], b"data behind the hello");
    assert_eq!(accept(&channels).hello.tag, 2);
    let _late = dial(&listener, &tcp, &hello(7, Purpose::Pipe, 3));
    assert_eq!(accept(&pipes).hello.tag, 3);
    assert!(pipes.take().is_none() && channels.take().is_none());
}

#[test]
fn a_destroyed_communicator_turns_latecomers_away() {
    let listener = solitary();
    drop(listener.register(7, Purpose::Pipe).unwrap());
    let tcp = Address::Tcp(listener.addresses()[0]);
    let fd = dial(&listener, &tcp, &hello(7, Purpose::Pipe, 0));
    let mut stream = TcpStream::from(fd);
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    loop {
        listener.service().unwrap();
        if matches!(stream.read(&mut [0; 1]), Ok(0)) {
            break;
        }
    }
    assert_eq!(listener.strangers(), 0);
}

#[test]
fn stragglers_of_an_old_epoch_are_dropped_and_counted() {
    let listener = solitary();
    let tcp = Address::Tcp(listener.addresses()[0]);
    let of_epoch = |epoch| Hello { epoch, ..hello(0, Purpose::Control, u64::from(epoch)) };
    let mut open = Vec::new();
    // One that came early waits unclaimed until its epoch ends.
    open.push(dial(&listener, &tcp, &of_epoch(1)));
    for _ in 0..100 {
        listener.service().unwrap();
    }
    listener.retire_epochs(0, 2);
    assert_eq!(listener.refusals(), Refusals { stragglers: 1, ..Refusals::default() });
    let inbox = listener.register(0, Purpose::Control).unwrap();
    for epoch in [1, 2, 0, 3] {
        open.push(dial(&listener, &tcp, &of_epoch(epoch)));
    }
    let mut come = Vec::new();
    while come.len() < 2 || listener.refusals().stragglers < 3 {
        listener.service().unwrap();
        come.extend(inbox.take().map(|accepted| accepted.hello.epoch));
    }
    assert_eq!(come, [2, 3]);
    // Epochs do not come back, and those of other communicators are their own business.
    listener.retire_epochs(0, 1);
    listener.retire_epochs(5, 7);
    open.push(dial(&listener, &tcp, &of_epoch(1)));
    open.push(dial(&listener, &tcp, &of_epoch(2)));
    while come.len() < 3 || listener.refusals().stragglers < 4 {
        listener.service().unwrap();
        come.extend(inbox.take().map(|accepted| accepted.hello.epoch));
    }
    assert_eq!(come, [2, 3, 2]);
    assert_eq!(listener.strangers(), 0);
}

#[test]
fn several_threads_may_service_a_listener() {
    let listener = solitary();
    let tcp = Address::Tcp(listener.addresses()[0]);
    let inbox = listener.register(7, Purpose::Pipe).unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    listener.service().unwrap();
                    thread::yield_now();
                }
            });
        }
        let mut tags: Vec<u64> = (0..100)
            .map(|tag| {
                let _open = dial(&listener, &tcp, &hello(7, Purpose::Pipe, tag));
                loop {
                    if let Some(accepted) = inbox.take() {
                        return accepted.hello.tag;
                    }
                    wait_until_readable(&[inbox.fd()], Instant::now() + LONG).unwrap();
                }
            })
            .collect();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        tags.sort_unstable();
        assert_eq!(tags, (0..100).collect::<Vec<_>>());
    });
    assert_eq!(listener.refusals(), Refusals::default());
}

/// What a connector sends in a true handshake, recorded on the way.
fn recorded(listener: &Listener, hello: &Hello) -> Vec<u8> {
    let spy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut dial = Dial::start(&Address::Tcp(spy.local_addr().unwrap()), hello).unwrap();
    let mut onward = TcpStream::connect(listener.addresses()[0]).unwrap();
    dial.advance(listener.key()).unwrap();
    let (mut member, _) = spy.accept().unwrap();
    for stream in [&member, &onward] {
        stream.set_nonblocking(true).unwrap();
    }
    let mut record = Vec::new();
    let mut chunk = [0; 256];
    let mut proven = false;
    loop {
        proven = proven || dial.advance(listener.key()).unwrap();
        if let Ok(bytes) = member.read(&mut chunk) {
            onward.write_all(&chunk[..bytes]).unwrap();
            record.extend_from_slice(&chunk[..bytes]);
        }
        if proven && record.len() >= 96 {
            break;
        }
        listener.service().unwrap();
        if let Ok(bytes) = onward.read(&mut chunk) {
            member.write_all(&chunk[..bytes]).unwrap();
        }
    }
    record
}

#[test]
fn a_replayed_handshake_proves_nothing() {
    let listener = solitary();
    let inbox = listener.register(7, Purpose::Pipe).unwrap();
    for (encrypted, strangers) in [(false, 1), (true, 2)] {
        let record = recorded(&listener, &Hello { encrypted, ..hello(7, Purpose::Pipe, 0) });
        assert_eq!(record.len(), if encrypted { 144 } else { 96 });
        while inbox.take().is_none() {
            listener.service().unwrap();
        }
        let mut replay = TcpStream::connect(listener.addresses()[0]).unwrap();
        replay.write_all(&record).unwrap();
        while listener.strangers() < strangers {
            listener.service().unwrap();
        }
        assert!(inbox.take().is_none());
    }
}

#[test]
fn messages_pass_in_the_clear_and_encrypted() {
    let listener = solitary();
    let inbox = listener.register(0, Purpose::Control).unwrap();
    let tcp = Address::Tcp(listener.addresses()[0]);
    for encrypted in [false, true] {
        let hello = Hello { encrypted, ..hello(0, Purpose::Control, 9) };
        let mut dial = Dial::start(&tcp, &hello).unwrap();
        let accepted = loop {
            dial.advance(listener.key()).unwrap();
            listener.service().unwrap();
            if let Some(accepted) = inbox.take() {
                break accepted;
            }
        };
        while !dial.advance(listener.key()).unwrap() {}
        assert_eq!(accepted.hello, hello);
        let (fd, session) = dial.into_parts();
        assert_eq!((session.is_some(), accepted.session.is_some()), (encrypted, encrypted));
        let mut ends = [
            Framed::new(fd, session, 1 << 20),
            Framed::new(accepted.fd, accepted.session, 1 << 20),
        ];
        for round in 0..40_usize {
            let sizes = [0, 1, round, 40_000 + round, 1 << 20];
            let [a, b] = &mut ends;
            for size in sizes {
                a.push(&vec![round as u8; size]);
            }
            let mut come = Vec::new();
            while come.len() < sizes.len() {
                a.flush().unwrap();
                while let Some(message) = b.receive().unwrap() {
                    come.push(message);
                }
            }
            assert_eq!(a.unsent_bytes(), 0);
            for (message, size) in come.iter().zip(sizes) {
                assert_eq!(message, &vec![round as u8; size]);
            }
            ends.reverse();
        }
    }
}

#[test]
fn a_message_longer_than_settled_ends_the_connection() {
    let (a, mut b) = std::os::unix::net::UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    let mut framed = Framed::new(a.into(), None, 100);
    b.write_all(&101_u32.to_le_bytes()).unwrap();
    let error = framed.receive().unwrap_err();
    assert_eq!(error.to_string(), "a message of 101 bytes; at most 100 are allowed");
}

#[test]
fn another_protocol_version_is_told_ours() {
    let listener = solitary();
    let mut old = TcpStream::connect(listener.addresses()[0]).unwrap();
    let mut greeting = b"SynclinC\x63\0".to_vec();
    greeting.resize(32, 0);
    old.write_all(&greeting).unwrap();
    while listener.strangers() == 0 {
        listener.service().unwrap();
    }
    let mut answer = [0; 10];
    old.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"SynclinA\x01\0");
}

#[test]
fn members_get_in_while_a_flood_runs() {
    let listener = solitary();
    let inbox = listener.register(7, Purpose::Pipe).unwrap();
    let address = listener.addresses()[0];
    let name = SocketAddr::from_abstract_name(listener.local_name()).unwrap();
    let [over, served] = [false; 2].map(std::sync::atomic::AtomicBool::new);
    thread::scope(|scope| {
        let flood = [false, true].map(|greets| {
            let (over, name) = (&over, &name);
            scope.spawn(move || {
                let mut held = std::collections::VecDeque::new();
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let tcp = TcpStream::connect(address);
                    let local = std::os::unix::net::UnixStream::connect_addr(name);
                    if let (Ok(tcp), true) = (&tcp, greets) {
                        let mut greeting = b"SynclinC\x01\0".to_vec();
                        greeting.resize(32, 7);
                        (&mut &*tcp).write_all(&greeting).ok();
                    }
                    held.push_back((tcp, local));
                    if held.len() > 150 {
                        held.pop_front();
                    }
                }
            })
        });
        let serving = scope.spawn(|| {
            while !served.load(std::sync::atomic::Ordering::Relaxed) {
                let soon = Instant::now() + Duration::from_millis(20);
                wait_until_readable(&[listener.fd()], soon).unwrap();
                listener.service().unwrap();
            }
        });
        let local = Address::Local(listener.local_name().to_vec());
        for (tag, address) in (0..6).zip([Address::Tcp(address), local].into_iter().cycle()) {
            let hello = hello(7, Purpose::Pipe, tag);
            let mut dial = Dial::start(&address, &hello).unwrap();
            let mut given_up = 0;
            loop {
                match dial.advance(listener.key()) {
                    Ok(true) => break,
                    Ok(false) => thread::yield_now(),
                    Err(error) => {
                        assert!(matches!(error, HandshakeError::Io(_)) && given_up < 8, "{error}");
                        given_up += 1;
                        dial = Dial::start(&address, &hello).unwrap();
                    }
                }
            }
            wait_until_readable(&[inbox.fd()], Instant::now() + LONG).unwrap();
            assert_eq!(inbox.take().unwrap().hello.tag, tag);
        }
        while listener.refusals().rate_limited + listener.refusals().strangers < 500 {
            thread::yield_now();
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        // A connection waits for room in the queue of those that are not served yet.
        for thread in flood {
            thread.join().unwrap();
        }
        served.store(true, std::sync::atomic::Ordering::Relaxed);
        serving.join().unwrap();
    });
}

#[test]
fn a_job_that_is_encrypted_takes_nothing_in_the_clear() {
    let listener = solitary();
    listener.set_encrypted(true);
    let inbox = listener.register(7, Purpose::Pipe).unwrap();
    let tcp = Address::Tcp(listener.addresses()[0]);
    let local = Address::Local(listener.local_name().to_vec());
    let _dropped = dial(&listener, &tcp, &hello(7, Purpose::Pipe, 1));
    let _kept = dial(&listener, &local, &hello(7, Purpose::Pipe, 2));
    let _kept = dial(&listener, &tcp, &Hello { encrypted: true, ..hello(7, Purpose::Pipe, 3) });
    let mut tags = Vec::new();
    while tags.len() < 2 || listener.strangers() < 1 {
        listener.service().unwrap();
        tags.extend(inbox.take().map(|accepted| accepted.hello.tag));
    }
    assert_eq!(tags, [2, 3]);
}

#[test]
fn last_words_are_sent_when_there_is_room() {
    let listener = solitary();
    let (sender, mut receiver) = std::os::unix::net::UnixStream::pair().unwrap();
    sender.set_nonblocking(true).unwrap();
    let mut filled = 0;
    while let Ok(bytes) = (&sender).write(&[1; 4096]) {
        filled += bytes;
    }
    listener.linger(sender.into(), b"last words".to_vec(), LONG);
    listener.service().unwrap();
    let mut received = vec![0; filled];
    receiver.read_exact(&mut received).unwrap();
    listener.service().unwrap();
    let mut rest = Vec::new();
    receiver.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"last words");
}
