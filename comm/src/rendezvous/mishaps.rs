//! Rendezvous that go wrong on the way: what is survived, and what is said about the rest.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use super::member::{Join, MESSAGE_BYTES_MAX, Verdict};
use super::spread::RECEIPT;
use super::testing::{LONG, arrive, participant, reason};
use super::*;
use crate::engine::wait_until_readable;

fn arrive_all(at: &Rendezvous, ranks: Rank, within: Duration) -> Vec<Result<Membership>> {
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..ranks).map(|rank| scope.spawn(move || arrive(at, rank, ranks, within))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn id() -> UniqueId {
    UniqueId::listen(Some("127.0.0.1")).unwrap()
}

/// A rank that is played here: it has proved that it belongs, and says what the test says.
struct Played(Framed);

impl Played {
    fn connect(id: &UniqueId, rank: Rank) -> Self {
        let hello = Hello {
            communicator: 0,
            epoch: 0,
            purpose: Purpose::Join,
            lane: 0,
            encrypted: false,
            from: rank,
            to: 0,
            tag: 0,
        };
        let key = JobKey::new(id.secret());
        let mut dial = Dial::start(&Address::Tcp(id.addresses()[0]), &hello).unwrap();
        while !dial.advance(&key).unwrap() {
            thread::yield_now();
        }
        let (fd, session) = dial.into_parts();
        Self(Framed::new(fd, session, MESSAGE_BYTES_MAX))
    }

    fn say(&mut self, message: &[u8]) {
        self.0.push(message);
        while !self.0.flush().unwrap() {
            thread::yield_now();
        }
    }

    fn hear(&mut self) -> Verdict {
        loop {
            if let Some(message) = self.0.receive().unwrap() {
                return Verdict::decode(&message).unwrap();
            }
            thread::yield_now();
        }
    }
}

fn request(rank: Rank, ranks: Rank, attempt: u32) -> Join {
    let member = MemberInfo {
        rank,
        host: "played".to_owned(),
        host_identity: "played".to_owned(),
        pid: 4711,
        processors: 1,
        addresses: vec!["127.0.0.1:9".parse().unwrap()],
        local_name: format!("played-{rank}").into_bytes(),
        payload: Vec::new(),
    };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Join { version, ranks, patience_ms: 30_000, attempt, member }
}

/// The root waits for one more rank, which `play` plays.
fn with_root<T: Send>(
    ranks: Rank,
    play: impl FnOnce(&UniqueId) -> T + Send,
) -> (Result<Membership>, T) {
    let id = id();
    let at = Rendezvous::Id(id.clone());
    thread::scope(|scope| {
        let root = scope.spawn(|| arrive(&at, 0, ranks, LONG));
        let played = play(&id);
        (root.join().unwrap(), played)
    })
}

#[test]
fn a_rank_that_loses_its_connection_comes_again() {
    let (root, table) = with_root(2, |id| {
        let mut first = Played::connect(id, 1);
        first.say(&request(1, 2, 0).encode());
        drop(first);
        let mut second = Played::connect(id, 1);
        second.say(&request(1, 2, 1).encode());
        let table = second.hear();
        second.say(RECEIPT);
        table
    });
    let Verdict::Table(table) = table else { panic!("{table:?}") };
    assert_eq!(root.unwrap().members, table.members);
    assert_eq!(table.members[1].pid, 4711);
}

#[test]
fn a_join_that_comes_twice_and_late_changes_nothing() {
    let (root, table) = with_root(3, |id| {
        let mut second = Played::connect(id, 1);
        second.say(&request(1, 3, 1).encode());
        // The first attempt's join was on its way for longer.
        let mut first = Played::connect(id, 1);
        first.say(&request(1, 3, 0).encode());
        first.say(&request(1, 3, 0).encode());
        let mut third = Played::connect(id, 2);
        third.say(&request(2, 3, 0).encode());
        let table = second.hear();
        second.say(RECEIPT);
        third.hear();
        third.say(RECEIPT);
        table
    });
    assert!(matches!(table, Verdict::Table(_)));
    assert_eq!(root.unwrap().members.len(), 3);
}

#[test]
fn a_rank_that_dies_before_all_have_come_is_named() {
    let (root, ()) = with_root(3, |id| {
        let mut played = Played::connect(id, 2);
        played.say(&request(2, 3, 0).encode());
    });
    let reason = reason(root);
    assert!(reason.contains("rank 2 (process 4711 on played) came and was lost"), "{reason}");
}

#[test]
fn another_version_is_named() {
    let (root, verdict) = with_root(2, |id| {
        let mut played = Played::connect(id, 1);
        let mut join = request(1, 2, 0);
        join.version = "9.8.7".to_owned();
        let mut message = join.encode();
        // A later version may have more to say.
        message.extend_from_slice(b"more");
        played.say(&message);
        played.hear()
    });
    let reason = reason(root);
    assert!(reason.contains("version mismatch") && reason.contains("9.8.7"), "{reason}");
    assert!(reason.contains("install the same version everywhere"), "{reason}");
    let Verdict::Failed(told) = verdict else { panic!("{verdict:?}") };
    assert!(reason.ends_with(&told), "{told}");
}

/// Somebody who speaks the wire protocol of another version answers where the root should be.
#[test]
fn another_version_of_the_wire_protocol_is_named() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let secret = Secret::from_bytes([7; 16]);
    let id = UniqueId::new(secret, &["127.0.0.1".parse().unwrap()], port);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = other.accept().unwrap();
            let mut greeting = [0; 32];
            stream.read_exact(&mut greeting).unwrap();
            let mut challenge = b"SynclinA\x63\0".to_vec();
            challenge.resize(64, 0);
            stream.write_all(&challenge).unwrap();
        });
        let reason = reason(arrive(&Rendezvous::Id(id), 1, 2, LONG));
        assert!(reason.contains("speaks version 99 of the wire protocol"), "{reason}");
        assert!(reason.contains("install the same version everywhere"), "{reason}");
    });
}

#[test]
fn a_rank_that_dies_with_the_table_cuts_nobody_off() {
    // Ranks 17 and 18 are served by rank 1, which takes the table and does nothing.
    const RANKS: Rank = 19;
    let id = id();
    let at = Rendezvous::Id(id.clone());
    let memberships = thread::scope(|scope| {
        let others: Vec<_> = (0..RANKS)
            .filter(|&rank| rank != 1)
            .map(|rank| {
                let at = &at;
                scope.spawn(move || arrive(at, rank, RANKS, LONG))
            })
            .collect();
        let mut played = Played::connect(&id, 1);
        played.say(&request(1, RANKS, 0).encode());
        assert!(matches!(played.hear(), Verdict::Table(_)));
        drop(played);
        others.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect::<Vec<_>>()
    });
    for membership in &memberships {
        assert_eq!(membership.members, memberships[0].members);
        assert_eq!(membership.members.len(), RANKS as usize);
    }
}

#[test]
fn a_root_that_dies_is_reported_and_not_waited_for() {
    let id = id();
    let at = Rendezvous::Id(id.clone());
    let (seated, is_seated) = channel::<()>();
    let reason = thread::scope(|scope| {
        let root = scope.spawn(move || {
            let mut rounds = 0;
            let mut wait = |fds: &[std::os::fd::BorrowedFd<'_>], until: Instant| {
                rounds += 1;
                if rounds > 1 && is_seated.try_recv().is_ok() {
                    return Err(Error::System {
                        what: "test".to_owned(),
                        source_text: "killed".to_owned(),
                        hint: String::new(),
                    });
                }
                wait_until_readable(fds, until.min(Instant::now() + Duration::from_millis(20)))
            };
            join(&Rendezvous::Id(id), &participant(0, 3, LONG), &mut wait)
        });
        let member = scope.spawn(|| {
            let mut told = false;
            let mut waits = 0;
            let mut wait = |fds: &[std::os::fd::BorrowedFd<'_>], until: Instant| {
                waits += 1;
                // By then the join has been sent for long.
                if waits > 20 && !told {
                    told = true;
                    seated.send(()).unwrap();
                }
                wait_until_readable(fds, until.min(Instant::now() + Duration::from_millis(20)))
            };
            join(&at, &participant(1, 3, LONG), &mut wait)
        });
        assert!(reason(root.join().unwrap()).contains("killed"));
        reason(member.join().unwrap())
    });
    assert!(reason.contains("rank 1 of 3: lost the root of the job"), "{reason}");
    assert!(reason.contains("is the process that made the id running?"), "{reason}");
}

#[test]
fn ipv6_serves_as_well() {
    let at = Rendezvous::Id(UniqueId::listen(Some("::1")).unwrap());
    for membership in arrive_all(&at, 3, LONG) {
        let membership = membership.unwrap();
        assert!(membership.members.iter().flat_map(|m| &m.addresses).all(|a| a.is_ipv6()));
    }
    let both = Rendezvous::Id(UniqueId::listen(Some("lo")).unwrap());
    for membership in arrive_all(&both, 2, LONG) {
        assert_eq!(membership.unwrap().members.len(), 2);
    }
}

#[test]
fn an_address_without_a_route_is_named() {
    // Where 0.0.0.0/8 or multicast lead: nowhere, at once.
    let nowhere = UniqueId::new(Secret::from_bytes([7; 16]), &["ff0e::1".parse().unwrap()], 9);
    let within = Duration::from_millis(300);
    let reason = reason(arrive(&Rendezvous::Id(nowhere), 1, 2, within));
    assert!(reason.contains("cannot reach the root ([ff0e::1]:9: "), "{reason}");
    assert!(reason.contains("no route leads there from this host"), "{reason}");
}

#[test]
fn listeners_keep_to_the_ports_they_are_given() {
    // Four free ports in a row, which others may take meanwhile; then others are tried.
    for _ in 0..20 {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let first = free.local_addr().unwrap().port().min(65_000);
        drop(free);
        let ports = Ports::new(first, first + 3).unwrap();
        let Ok(id) = UniqueId::listen_at(Some("127.0.0.1"), ports) else { continue };
        let at = Rendezvous::Id(id);
        let within = Duration::from_secs(5);
        let joined: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|rank| {
                    let at = &at;
                    scope.spawn(move || {
                        let me = Participant { ports, ..participant(rank, 3, within) };
                        join(at, &me, &mut wait_until_readable)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        if joined.iter().any(Result::is_err) {
            continue;
        }
        let range = std::ops::RangeInclusive::from(ports);
        for member in &joined[0].as_ref().unwrap().members {
            assert!(member.addresses.iter().all(|a| range.contains(&a.port())), "{member:?}");
        }
        let full = UniqueId::listen_at(Some("127.0.0.1"), Ports::new(first, first).unwrap());
        let reason = full.unwrap_err().to_string();
        assert!(reason.contains(&format!("no port is left: {first} are all taken")), "{reason}");
        return;
    }
    panic!("no four free ports in a row in 20 tries");
}

#[test]
fn an_interface_that_does_not_exist_is_an_error_everywhere() {
    let reason = UniqueId::listen(Some("nosuch0")).unwrap_err().to_string();
    assert!(reason.contains("interface `nosuch0` matches no address"), "{reason}");
    assert!(reason.contains("lo (127.0.0.1"), "{reason}");
    let id = id();
    let at = Rendezvous::Id(id.clone());
    let within = Duration::from_secs(2);
    thread::scope(|scope| {
        scope.spawn(|| arrive(&at, 0, 2, within));
        // The first to come is the root, which has chosen its interfaces already.
        while registry::holds(&id) {
            thread::yield_now();
        }
        let me = Participant { interface: Some("10.255.0.0/30"), ..participant(1, 2, within) };
        let error = join(&at, &me, &mut wait_until_readable).err().unwrap().to_string();
        assert!(error.contains("rank 1 of 2: cannot listen: interface `10.255.0.0/30`"), "{error}");
    });
}

/// A store in memory that dies when told.
#[derive(Default)]
struct Store {
    values: Mutex<HashMap<String, Vec<u8>>>,
    dead: std::sync::atomic::AtomicBool,
    gets: std::sync::atomic::AtomicU32,
}

impl Store {
    fn alive(&self) -> Result<(), String> {
        let dead = self.dead.load(std::sync::atomic::Ordering::Relaxed);
        if dead { Err("connection reset".to_owned()) } else { Ok(()) }
    }
}

impl KeyValueStore for Store {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), String> {
        self.alive()?;
        self.values.lock().unwrap().insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, String> {
        self.gets.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.alive()?;
        Ok(self.values.lock().unwrap().get(key).cloned())
    }
}

fn in_store(store: &Arc<Store>) -> Rendezvous {
    Rendezvous::KeyValue { store: Arc::<Store>::clone(store), namespace: "job".to_owned() }
}

#[test]
fn a_store_of_the_hosts_brings_ranks_together_again_and_again() {
    let store = Arc::new(Store::default());
    for _ in 0..2 {
        // The second time finds the id of a job that is over.
        for membership in arrive_all(&in_store(&store), 4, LONG) {
            assert_eq!(membership.unwrap().members.len(), 4);
        }
    }
    let keys: Vec<String> = store.values.lock().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["job/syncline/id"]);
}

#[test]
fn a_store_that_dies_is_named_with_rank_and_key() {
    let store = Arc::new(Store::default());
    let at = in_store(&store);
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(|| reason(arrive(&at, 1, 2, LONG)));
        while store.gets.load(std::sync::atomic::Ordering::Relaxed) < 3 {
            thread::yield_now();
        }
        store.dead.store(true, std::sync::atomic::Ordering::Relaxed);
        waiting.join().unwrap()
    });
    let expected = "rendezvous at rank 1 of 2: cannot ask the store for the job's id at \
                    job/syncline/id: connection reset; is the store alive?";
    assert_eq!(waiting, expected);
    let root = reason(arrive(&at, 0, 2, LONG));
    assert!(root.contains("rank 0 of 2: cannot put the job's id into the store"), "{root}");
}

#[test]
fn a_store_without_a_root_is_left_at_the_deadline() {
    let at = in_store(&Arc::new(Store::default()));
    let reason = reason(arrive(&at, 1, 2, Duration::from_millis(100)));
    assert!(reason.contains("holds no job/syncline/id; is rank 0 running?"), "{reason}");
}

/// An all-gather among threads.
struct Host {
    mine: Mutex<Vec<Vec<u8>>>,
    barrier: Barrier,
}

/// One rank's side of it.
struct Side(Arc<Host>, Rank);

impl AllGather for Side {
    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        self.0.mine.lock().unwrap()[self.1 as usize] = mine.to_vec();
        self.0.barrier.wait();
        Ok(self.0.mine.lock().unwrap().clone())
    }
}

fn by_all_gather(ranks: Rank, interfaces: &[Option<&'static str>]) -> Vec<Result<Membership>> {
    let count = ranks as usize;
    let mine = Mutex::new(vec![Vec::new(); count]);
    let host = Arc::new(Host { mine, barrier: Barrier::new(count) });
    thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks)
            .map(|rank| {
                let at = Rendezvous::AllGather(Arc::new(Side(Arc::clone(&host), rank)));
                let interface = interfaces[rank as usize];
                scope.spawn(move || {
                    let me = Participant { interface, ..participant(rank, ranks, LONG) };
                    join(&at, &me, &mut wait_until_readable)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn an_all_gather_of_the_hosts_brings_ranks_together() {
    for membership in by_all_gather(4, &[None; 4]) {
        assert_eq!(membership.unwrap().members.len(), 4);
    }
}

#[test]
fn what_rank_0_cannot_do_reaches_everybody_through_the_all_gather() {
    for result in by_all_gather(3, &[Some("nosuch0"), None, None]) {
        let reason = reason(result);
        assert!(reason.contains("rank 0 could not open the job's listener: interface `nosuch0`"));
    }
}

#[test]
fn phases_are_timed() {
    let at = Rendezvous::Id(id());
    for (membership, rank) in arrive_all(&at, 2, LONG).into_iter().zip(0..) {
        let timings = membership.unwrap().timings;
        let root = timings.connect.is_zero();
        assert!(!timings.gather.is_zero() && !timings.table.is_zero(), "{rank}: {timings}");
        assert_eq!(root, timings.handshake.is_zero(), "{rank}: {timings}");
    }
}
