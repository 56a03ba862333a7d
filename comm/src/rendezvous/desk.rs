//! Sorts proven connections: to whoever registered for them, to wait for who will, or away.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::framed::Framed;
use super::handshake::Purpose;
use super::inbox::{Accepted, Mailbox};
use super::member::{MESSAGE_BYTES_MAX, Verdict};

/// Proven connections kept for communicators that this process has not made yet.
const UNCLAIMED_MAX: usize = 8192;
/// Destroyed communicators, and ended epochs, remembered to turn latecomers away.
const RETIRED_MAX: usize = 4096;

/// A communicator and what a connection to it is for.
pub(super) type Key = (u64, Purpose);

/// What became of a proven connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sorted {
    /// Handed over, or kept until somebody asks for it.
    Kept,
    /// For a job that is complete, told so.
    Refused,
    /// For a communicator or an epoch that is over here.
    Straggler,
    /// The oldest of too many that nobody has asked for.
    Crowded,
}

/// A socket whose owner went away before its last bytes fitted into the buffer.
pub(super) struct LastWords {
    pub(super) fd: OwnedFd,
    pub(super) bytes: Vec<u8>,
    pub(super) until: Instant,
}

#[derive(Default)]
pub(super) struct Desk {
    mailboxes: HashMap<Key, Arc<Mailbox>>,
    unclaimed: VecDeque<Accepted>,
    retired: VecDeque<Key>,
    /// Communicators with the first epoch of theirs that is not over.
    epochs: VecDeque<(u64, u32)>,
    pub(super) lingering: Vec<LastWords>,
}

impl Desk {
    pub(super) fn register(&mut self, key: Key, mailbox: &Arc<Mailbox>) {
        let unclaimed = std::mem::take(&mut self.unclaimed);
        for accepted in unclaimed {
            if (accepted.hello.communicator, accepted.hello.purpose) == key {
                mailbox.push(accepted);
            } else {
                self.unclaimed.push_back(accepted);
            }
        }
        self.retired.retain(|&retired| retired != key);
        self.mailboxes.insert(key, Arc::clone(mailbox));
    }

    pub(super) fn retire(&mut self, key: Key) {
        self.mailboxes.remove(&key);
        remember(&mut self.retired, key);
    }

    /// Ends all epochs of a communicator before `first`; how many waiting connections that drops.
    pub(super) fn retire_epochs(&mut self, communicator: u64, first: u32) -> usize {
        let first = first.max(self.first_epoch(communicator));
        self.epochs.retain(|&(other, _)| other != communicator);
        remember(&mut self.epochs, (communicator, first));
        let before = self.unclaimed.len();
        self.unclaimed.retain(|a| a.hello.communicator != communicator || a.hello.epoch >= first);
        before - self.unclaimed.len()
    }

    fn first_epoch(&self, communicator: u64) -> u32 {
        let found = self.epochs.iter().find(|&&(other, _)| other == communicator);
        found.map_or(0, |&(_, first)| first)
    }

    pub(super) fn sort(&mut self, accepted: Accepted) -> Sorted {
        let hello = &accepted.hello;
        let key = (hello.communicator, hello.purpose);
        // One that wants to join is told that it is too late.
        if hello.purpose != Purpose::Join && hello.epoch < self.first_epoch(hello.communicator) {
            return Sorted::Straggler;
        }
        if let Some(mailbox) = self.mailboxes.get(&key) {
            mailbox.push(accepted);
            return Sorted::Kept;
        }
        if hello.purpose == Purpose::Join {
            let mut guest = Framed::new(accepted.fd, accepted.session, MESSAGE_BYTES_MAX);
            guest.push(&Verdict::Closed.encode());
            // Best effort: the connection is closed in any case.
            guest.flush().ok();
            return Sorted::Refused;
        }
        if self.retired.contains(&key) {
            return Sorted::Straggler;
        }
        self.unclaimed.push_back(accepted);
        if self.unclaimed.len() > UNCLAIMED_MAX {
            self.unclaimed.pop_front();
            return Sorted::Crowded;
        }
        Sorted::Kept
    }

    /// Sends what there is room for.
    pub(super) fn flush_lingering(&mut self, now: Instant) {
        self.lingering.retain_mut(|LastWords { fd, bytes, until }| {
            match rustix::net::send(&*fd, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    bytes.drain(..sent);
                    !bytes.is_empty() && now < *until
                }
                Err(Errno::AGAIN | Errno::INTR) => now < *until,
                Err(_) => false,
            }
        });
    }
}

fn remember<T>(memory: &mut VecDeque<T>, item: T) {
    if memory.len() >= RETIRED_MAX {
        memory.pop_front();
    }
    memory.push_back(item);
}
