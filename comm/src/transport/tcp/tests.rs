//! The conformance suite over loopback, and what is peculiar to TCP.

use std::thread;

use super::*;
use crate::rendezvous::{Membership, Participant, Rendezvous, UniqueId, block_on_fds, join};
use crate::transport::conformance::{Fabric, conformance_tests};

/// The memberships of a job of `ranks` on `interface`, all in this process.
fn job(ranks: Rank, interface: &str) -> Vec<Membership> {
    let at = Rendezvous::Id(UniqueId::listen(Some(interface)).unwrap());
    let arrive = |rank| {
        let me = Participant {
            rank,
            ranks,
            deadline: Instant::now() + Duration::from_secs(30),
            interface: Some(interface),
            payload: Vec::new(),
            agree: &|_| Vec::new(),
        };
        join(&at, &me, &mut block_on_fds).unwrap()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks).map(|rank| scope.spawn(move || arrive(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn transport(membership: &Membership, rank: Rank, communicator: u64) -> TcpTransport {
    let others = membership.members.iter().filter(|member| member.rank != rank);
    let peers = others.map(|m| TcpPeer { rank: m.rank, addresses: m.addresses.clone() }).collect();
    let config = TcpConfig { communicator, rank, peers, buffer_bytes_max: 64 << 20 };
    TcpTransport::new(&membership.listener, config).unwrap()
}

fn transports(ranks: Rank, interface: &str) -> Vec<TcpTransport> {
    let job = job(ranks, interface);
    job.iter().zip(0..).map(|(membership, rank)| transport(membership, rank, 1)).collect()
}

fn fabric(ranks: Rank, interface: &str) -> Fabric {
    let ends = transports(ranks, interface)
        .into_iter()
        .map(|end| Box::new(end) as Box<dyn Transport>)
        .collect();
    Fabric { ends, idle: Box::new(thread::yield_now) }
}

fn fabric_v4(ranks: Rank) -> Fabric {
    fabric(ranks, "127.0.0.1")
}

fn fabric_v6(ranks: Rank) -> Fabric {
    fabric(ranks, "::1")
}

mod v4 {
    use super::*;
    conformance_tests!(conformance, fabric_v4, sleep: [Poll]);
}

mod v6 {
    use super::*;
    conformance_tests!(conformance, fabric_v6, sleep: [Poll]);
}
