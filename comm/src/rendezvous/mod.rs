//! Who is in this job, and how to reach them.
//!
//! One process, the root, listens; the others find it through a [`UniqueId`] or a file, prove
//! that they know the job's secret, and report where they can be reached. When all ranks are
//! there the root sends everybody the table of members. Nothing here blocks: all waiting goes
//! through the function that [`join`] is given.
//!
//! Afterwards every rank keeps its [`Listener`], which serves all communicators of the job.

mod client;
mod desk;
mod file;
mod framed;
mod handshake;
mod inbox;
mod interface;
mod listener;
mod member;
mod proof;
mod registry;
mod root;
#[cfg(test)]
mod tests;
mod unique_id;
mod wait;
pub(crate) mod wire;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

pub use handshake::{Address, Dial, HandshakeError, Hello, PROVEN_HELLO_BYTES, Purpose};
pub use inbox::{Accepted, Inbox};
pub use listener::{Listener, Refusals};
pub use member::{AGREED_BYTES_MAX, MemberInfo, PAYLOAD_BYTES_MAX};
pub use proof::JobKey;
pub use unique_id::{UniqueId, WIRE_VERSION};
pub use wait::Wait;

use crate::error::{Error, Rank, Result};
use proof::Secret;

/// How the ranks of a job find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rendezvous {
    /// By an id that one of the ranks made with [`UniqueId::listen`] and that a launcher or the
    /// environment carried to the others.
    Id(UniqueId),
    /// By a file that all ranks can see. Rank 0 makes an id and publishes it there, replacing
    /// what an earlier job may have left, and removes it when everybody has come; the others wait
    /// for it.
    File(PathBuf),
}

/// What a rank brings to the rendezvous.
pub struct Participant<'a> {
    /// Its rank.
    pub rank: Rank,
    /// Ranks in the job.
    pub ranks: Rank,
    /// When to give up. The job fails for all ranks at the earliest deadline of any.
    pub deadline: Instant,
    /// Interface (by name) or address to listen on; `None`: the one that leads to the root.
    pub interface: Option<&'a str>,
    /// Opaque bytes for the other ranks, at most [`PAYLOAD_BYTES_MAX`].
    pub payload: Vec<u8>,
    /// Called at the root alone, once all members are known: what it returns (at most
    /// [`AGREED_BYTES_MAX`]) reaches every rank as [`Membership::agreed`].
    pub agree: &'a dyn Fn(&[MemberInfo]) -> Vec<u8>,
}

impl Participant<'_> {
    fn error(&self, reason: impl Into<String>) -> Error {
        Error::Rendezvous { rank: self.rank, world: self.ranks, reason: reason.into() }
    }

    fn describe(&self, listener: &Listener) -> MemberInfo {
        let (host, host_identity) = member::describe_host();
        MemberInfo {
            rank: self.rank,
            host,
            host_identity,
            pid: std::process::id(),
            processors: std::thread::available_parallelism()
                .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            addresses: listener.addresses().to_vec(),
            local_name: listener.local_name().to_vec(),
            payload: self.payload.clone(),
        }
    }
}

/// What a rank has after the rendezvous.
pub struct Membership {
    /// All ranks, in order.
    pub members: Vec<MemberInfo>,
    /// What the root's [`Participant::agree`] returned.
    pub agreed: Vec<u8>,
    /// Accepts the connections of the job's communicators for this process.
    pub listener: Arc<Listener>,
}

impl UniqueId {
    /// Opens the listener of a new job's root in this process and names the job.
    ///
    /// `interface` restricts it to one interface (by name) or address; otherwise it listens on all
    /// and offers those that the default routes and running interfaces have, or loopback on a
    /// host without any. The listener stays open until a rank of this process joins the job.
    ///
    /// # Errors
    /// [`Error::System`] when there is no such interface or no socket can be had.
    pub fn listen(interface: Option<&str>) -> Result<Self> {
        let (id, listener) = open_root(interface).map_err(|error| Error::System {
            what: "opening the listener of a job's root".to_owned(),
            source_text: error.to_string(),
            hint: "name an interface or address of this host, or none".to_owned(),
        })?;
        registry::keep(id.clone(), listener);
        Ok(id)
    }
}

fn open_root(interface: Option<&str>) -> io::Result<(UniqueId, Listener)> {
    let secret = Secret::random().map_err(io::Error::other)?;
    let addresses = interface::offered(interface)?;
    let listener = Listener::open(JobKey::new(&secret), &addresses)?;
    let port = listener.addresses()[0].port();
    Ok((UniqueId::new(secret, &addresses, port), listener))
}

/// Takes part in the job: returns once all ranks have come.
///
/// The process that made the id acts as root; of several of its ranks (threads), the first to
/// call. With [`Rendezvous::File`] rank 0 is the root.
///
/// # Errors
/// [`Error::Rendezvous`] on every rank, naming the ranks concerned, when ranks are missing at the
/// deadline, when two claim the same rank, when they disagree about the number of ranks or run
/// different versions; or when the root cannot be reached. Whatever `wait` returns.
pub fn join(at: &Rendezvous, me: &Participant<'_>, wait: Wait<'_>) -> Result<Membership> {
    if me.rank >= me.ranks {
        return Err(Error::InvalidArgument {
            operation: "rendezvous",
            reason: format!("rank {} of {} ranks; ranks count from 0", me.rank, me.ranks),
        });
    }
    if me.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Error::InvalidArgument {
            operation: "rendezvous",
            reason: format!("a payload of {} bytes is too large", me.payload.len()),
        });
    }
    match at {
        Rendezvous::Id(id) => match registry::claim(id) {
            Some(listener) => root::gather(Arc::new(listener), me, wait),
            None => client::join_by_id(id, me, wait),
        },
        Rendezvous::File(path) if me.rank == 0 => {
            let (id, listener) = open_root(me.interface)
                .map_err(|error| me.error(format!("cannot open the root's listener: {error}")))?;
            file::publish(path, &id).map_err(|error| {
                me.error(format!("cannot write the rendezvous file {}: {error}", path.display()))
            })?;
            let result = root::gather(Arc::new(listener), me, wait);
            file::retract(path, &id);
            result
        }
        Rendezvous::File(path) => client::join_by_file(path, me, wait),
    }
}
