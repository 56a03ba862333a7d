//! How the table of members reaches everybody: down a tree, in which every rank that has it
//! passes it on.
//!
//! The root alone would send as many tables as there are ranks, each as long as there are ranks.
//! In the tree nobody sends more than [`FAN_OUT`], and the last has it after a logarithmic number
//! of hops. Every rank tells the root when it has the table; the root itself serves those whose
//! receipt does not come, so that a rank that dies on the way cuts nobody off.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::Participant;
use super::dial::Address;
use super::dialing::{Dialed, EMPTY_EVENT, Multidial, Unreachable};
use super::framed::Framed;
use super::handshake::{Hello, Purpose};
use super::member::{MESSAGE_BYTES_MAX, Table};
use super::proof::JobKey;
use super::wait::Wait;
use crate::error::{Rank, Result};

/// How many ranks one rank serves.
pub(crate) const FAN_OUT: u32 = 16;
/// What a rank sends to the root when it has the table.
pub(crate) const RECEIPT: &[u8] = b"receipt";
/// How long a rank tries to pass the table on; the root steps in much earlier.
const PASSING_TIME_MAX: Duration = Duration::from_secs(5);

/// The ranks that `rank` serves in the tree of `ranks` ranks under `root`.
pub(crate) fn children(rank: Rank, root: Rank, ranks: Rank) -> impl Iterator<Item = Rank> {
    let (rank, root, ranks) = (u64::from(rank), u64::from(root), u64::from(ranks));
    let position = (rank + ranks - root) % ranks;
    let first = position * u64::from(FAN_OUT) + 1;
    let last = (first + u64::from(FAN_OUT)).min(ranks);
    // Below `ranks`, which is 32 bits.
    (first..last).map(move |position| ((position + root) % ranks) as Rank)
}

enum Passing {
    Dialing(Multidial),
    Sending(Framed),
}

/// The children of one rank on their way to the table.
struct Errand<'a> {
    message: &'a [u8],
    epoll: OwnedFd,
    under_way: Vec<(Rank, Passing)>,
}

/// Passes `message`, the encoded `table`, on to the ranks that `me` serves. What cannot be
/// reached is left to the root.
///
/// # Errors
/// Only those of `wait`.
pub(crate) fn pass_on(
    me: &Participant<'_>,
    table: &Table,
    message: &[u8],
    key: &JobKey,
    wait: Wait<'_>,
) -> Result<()> {
    let ranks = u32::try_from(table.members.len()).unwrap_or(Rank::MAX);
    let targets: Vec<Rank> = children(me.rank, table.root, ranks).collect();
    if targets.is_empty() {
        return Ok(());
    }
    let mut errand = match Errand::start(me, &targets, table, message, key) {
        Ok(errand) => errand,
        Err(errno) => {
            tracing::debug!(%errno, "cannot pass the table on; the root will");
            return Ok(());
        }
    };
    let until = Instant::now() + PASSING_TIME_MAX;
    while !errand.advance() && Instant::now() < until {
        wait(&[errand.epoll.as_fd()], until.min(Instant::now() + Duration::from_millis(250)))?;
    }
    Ok(())
}

impl<'a> Errand<'a> {
    fn start(
        me: &Participant<'_>,
        targets: &[Rank],
        table: &Table,
        message: &'a [u8],
        key: &JobKey,
    ) -> std::result::Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut under_way = Vec::with_capacity(targets.len());
        for &rank in targets {
            let mine = &table.members[me.rank as usize];
            let ways = table.members[rank as usize].reached_from(mine);
            let over_tcp = ways.iter().any(|way| matches!(way, Address::Tcp(_)));
            let hello = Hello {
                communicator: 0,
                epoch: 0,
                purpose: Purpose::Table,
                lane: 0,
                encrypted: me.encrypt && over_tcp,
                from: me.rank,
                to: rank,
                tag: 0,
            };
            let dialing = Multidial::new(ways, key.clone(), hello)?;
            watch(&epoll, dialing.fd(), epoll::EventFlags::IN)?;
            under_way.push((rank, Passing::Dialing(dialing)));
        }
        Ok(Self { message, epoll, under_way })
    }

    /// Goes as far as possible; whether nothing is left to do.
    fn advance(&mut self) -> bool {
        let mut events = [EMPTY_EVENT; FAN_OUT as usize];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Only clears the edges; what can go on is found by trying.
        epoll::wait(&self.epoll, &mut events, Some(&zero)).ok();
        let (message, epoll) = (self.message, &self.epoll);
        self.under_way.retain_mut(|(rank, passing)| {
            if let Passing::Dialing(dialing) = passing {
                match dialing.advance() {
                    Dialed::Pending(_) => return true,
                    Dialed::Failed(Unreachable { reason, .. }) => {
                        tracing::debug!(rank, reason, "cannot pass the table on; the root will");
                        return false;
                    }
                    Dialed::Connected(fd, session) => {
                        let flags = epoll::EventFlags::OUT | epoll::EventFlags::ET;
                        if watch(epoll, fd.as_fd(), flags).is_err() {
                            return false;
                        }
                        let mut framed = Framed::new(fd, session, MESSAGE_BYTES_MAX);
                        framed.push(message);
                        *passing = Passing::Sending(framed);
                    }
                }
            }
            let Passing::Sending(framed) = passing else { return true };
            matches!(framed.flush(), Ok(false))
        });
        self.under_way.is_empty()
    }
}

fn watch(
    epoll: &OwnedFd,
    fd: BorrowedFd<'_>,
    flags: epoll::EventFlags,
) -> std::result::Result<(), Errno> {
    epoll::add(epoll, fd, epoll::EventData::new_u64(0), flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_reaches_every_rank_once() {
        for ranks in [1, 2, 16, 17, 18, 64, 273, 274, 5000] {
            for root in [0, 1, ranks / 2, ranks - 1].map(|root| root % ranks) {
                let mut served = vec![0_u32; ranks as usize];
                for rank in 0..ranks {
                    for child in children(rank, root, ranks) {
                        served[child as usize] += 1;
                    }
                }
                served[root as usize] += 1;
                assert!(served.iter().all(|&times| times == 1), "{ranks} ranks under {root}");
            }
        }
    }

    #[test]
    fn the_tree_is_shallow_and_no_rank_serves_many() {
        let ranks = 4000;
        let mut depth = vec![0; ranks as usize];
        for rank in 0..ranks {
            let mine: Vec<Rank> = children(rank, 0, ranks).collect();
            assert!(mine.len() <= FAN_OUT as usize);
            for child in mine {
                depth[child as usize] = depth[rank as usize] + 1;
            }
        }
        assert_eq!(depth.iter().max(), Some(&3));
    }
}
