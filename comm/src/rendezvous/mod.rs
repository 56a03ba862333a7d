//! Who is in this job, and how to reach them.
//!
//! One process, the root, listens; the others learn of it (a [`UniqueId`], a file, a store, what
//! a launcher provides: [`Rendezvous`]), prove that they know the job's secret, and report where
//! they can be reached. When all ranks are there the table of members goes to everybody. Nothing
//! here blocks: all waiting goes through the function that [`join`] is given.
//!
//! Afterwards every rank keeps its [`Listener`], which serves all communicators of the job.

pub(crate) mod applicant;
pub(crate) mod assembly;
mod client;
pub(crate) mod descriptors;
mod desk;
mod dial;
mod dialing;
mod entrance;
mod file;
mod framed;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod handshake;
mod inbox;
mod interface;
mod invitation;
pub(crate) mod keepalive;
mod key_value;
mod launch;
mod listener;
pub(crate) mod member;
#[cfg(test)]
mod mishaps;
mod netlink;
mod noise;
mod ports;
mod proof;
mod registry;
mod root;
pub(crate) mod roster;
mod source;
pub(crate) mod spread;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod timings;
mod unique_id;
mod wait;
pub(crate) mod wire;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

pub use dial::{Address, Dial};
pub use framed::Framed;
pub use handshake::{HandshakeError, Hello, Purpose};
pub use inbox::{Accepted, Inbox};
pub use key_value::{ALL_GATHER_BYTES, AllGather, KeyValueStore};
pub use launch::{JobSecret, LaunchEnvironment, Launcher, Meeting, PmiServer};
pub use listener::{Listener, Refusals};
pub use member::{AGREED_BYTES_MAX, MemberInfo, PAYLOAD_BYTES_MAX};
pub use noise::Session;
pub use ports::Ports;
pub use proof::JobKey;
pub use timings::InitTimings;
pub use unique_id::{UniqueId, WIRE_VERSION};
pub use wait::Wait;

pub(crate) use dialing::{Dialed, Multidial, Unreachable};
pub(crate) use invitation::{INVITATION_BYTES_MAX, InvitationNonce};
pub(crate) use noise::{
    RECORD_LENGTH_BYTES, RECORD_OVERHEAD_BYTES, RECORD_PLAIN_BYTES_MAX, Tampered,
};
pub(crate) use timings::Lap;

use crate::error::{Error, Rank, Result};
use proof::Secret;

/// How the ranks of a job find each other.
#[derive(Clone)]
pub enum Rendezvous {
    /// By an id that one of the ranks made with [`UniqueId::listen`] and that a launcher or the
    /// environment carried to the others.
    Id(UniqueId),
    /// By a file that all ranks can see. Rank 0 makes an id and publishes it there, replacing
    /// what an earlier job may have left, and removes it when everybody has come; the others wait
    /// for it.
    File(PathBuf),
    /// Through a store that the host program brings: rank 0 makes an id and puts it there, the
    /// others ask for it until it comes.
    KeyValue {
        /// The store.
        store: Arc<dyn KeyValueStore>,
        /// Goes before the key. Communicators that come together through one store at the same
        /// time need one each; one after the other, the same will do.
        namespace: String,
    },
    /// Through an all-gather that the host program brings: rank 0 makes an id and contributes it.
    AllGather(Arc<dyn AllGather>),
    /// As the launcher that started the job provides for; see [`LaunchEnvironment::detect`].
    Launched(LaunchEnvironment),
}

impl fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.debug_tuple("Id").field(id).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::KeyValue { namespace, .. } => {
                f.debug_struct("KeyValue").field("namespace", namespace).finish_non_exhaustive()
            }
            Self::AllGather(_) => f.write_str("AllGather(..)"),
            Self::Launched(environment) => f.debug_tuple("Launched").field(environment).finish(),
        }
    }
}

/// What a rank brings to the rendezvous.
pub struct Participant<'a> {
    /// Its rank.
    pub rank: Rank,
    /// Ranks in the job.
    pub ranks: Rank,
    /// When to give up. The job fails for all ranks at the earliest deadline of any.
    pub deadline: Instant,
    /// Interfaces to listen on, as `Options::interface` writes them; `None`: the one that leads
    /// to the root.
    pub interface: Option<&'a str>,
    /// Ports to listen on.
    pub ports: Ports,
    /// Whether to encrypt what is said over TCP; the same on all ranks.
    pub encrypt: bool,
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
    /// How long it took, up to here.
    pub timings: InitTimings,
}

impl UniqueId {
    /// Opens the listener of a new job's root in this process and names the job.
    ///
    /// `interface` restricts where it listens, as `Options::interface` does; otherwise it listens
    /// on all and offers those that the default routes and running interfaces have, or loopback
    /// on a host without any. The listener stays open until a rank of this process joins the job.
    ///
    /// # Errors
    /// [`Error::System`] when there is no such interface or no socket can be had.
    pub fn listen(interface: Option<&str>) -> Result<Self> {
        Self::listen_at(interface, Ports::ANY)
    }

    /// Like [`listen`](Self::listen), at one of `ports`.
    ///
    /// # Errors
    /// As there; and when all of the ports are taken.
    pub fn listen_at(interface: Option<&str>, ports: Ports) -> Result<Self> {
        let (id, listener) = open_root(interface, ports).map_err(|error| Error::System {
            what: "opening the listener of a job's root".to_owned(),
            source_text: error.to_string(),
            hint: "name an interface or address of this host, or none".to_owned(),
        })?;
        registry::keep(id.clone(), listener);
        Ok(id)
    }
}

fn open_root(interface: Option<&str>, ports: Ports) -> io::Result<(UniqueId, Listener)> {
    let secret = Secret::random().map_err(io::Error::other)?;
    let addresses = interface::offered(interface)?;
    let listener = Listener::open(JobKey::new(&secret), &addresses, ports)?;
    let port = listener.addresses()[0].port();
    Ok((UniqueId::new(secret, &addresses, port), listener))
}

/// Most ranks of a job. The sets of ranks that travel have room for as many.
pub const RANKS_MAX: Rank = 1 << 17;

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
    if me.ranks > RANKS_MAX {
        return Err(Error::InvalidArgument {
            operation: "rendezvous",
            reason: format!("{} ranks; a job has at most {RANKS_MAX}", me.ranks),
        });
    }
    if me.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Error::InvalidArgument {
            operation: "rendezvous",
            reason: format!("a payload of {} bytes is too large", me.payload.len()),
        });
    }
    let mut timings = InitTimings::default();
    match at {
        Rendezvous::Id(id) => match registry::claim(id) {
            Some(listener) => root::gather(Arc::new(listener), me, timings, wait),
            None => client::join(&mut source::Given(id.clone()), me, timings, wait),
        },
        Rendezvous::File(path) if me.rank == 0 => {
            let publish = |id: &UniqueId, _: Wait<'_>| {
                file::publish(path, id).map_err(|error| {
                    let path = path.display();
                    me.error(format!("cannot write the rendezvous file {path}: {error}"))
                })
            };
            lead(me, publish, |id| file::retract(path, id), wait)
        }
        Rendezvous::File(path) => {
            client::join(&mut source::InFile(path.clone()), me, timings, wait)
        }
        Rendezvous::KeyValue { store, namespace } if me.rank == 0 => {
            let publish = |id: &UniqueId, _: Wait<'_>| {
                key_value::publish(&**store, namespace, id).map_err(|reason| me.error(reason))
            };
            lead(me, publish, |_| {}, wait)
        }
        Rendezvous::KeyValue { store, namespace } => {
            client::join(&mut source::InStore { store: &**store, namespace }, me, timings, wait)
        }
        Rendezvous::Launched(environment) => launch::join(environment, me, wait),
        Rendezvous::AllGather(host) => {
            let mut lap = Lap::start();
            let (listener, id) = all_gather(&**host, me)?;
            lap.end(&mut timings.resolve);
            match listener {
                Some(listener) => root::gather(Arc::new(listener), me, timings, wait),
                None => client::join(&mut source::Given(id), me, timings, wait),
            }
        }
    }
}

/// Opens the root's listener, makes its id known, and gathers the job.
fn lead(
    me: &Participant<'_>,
    publish: impl FnOnce(&UniqueId, Wait<'_>) -> Result<()>,
    retract: impl FnOnce(&UniqueId),
    wait: Wait<'_>,
) -> Result<Membership> {
    let (mut timings, mut lap) = (InitTimings::default(), Lap::start());
    let (id, listener) = open_root(me.interface, me.ports)
        .map_err(|error| me.error(format!("cannot open the root's listener: {error}")))?;
    publish(&id, wait)?;
    lap.end(&mut timings.resolve);
    let result = root::gather(Arc::new(listener), me, timings, wait);
    retract(&id);
    result
}

/// Lets the host carry rank 0's id; with rank 0's listener.
fn all_gather(host: &dyn AllGather, me: &Participant<'_>) -> Result<(Option<Listener>, UniqueId)> {
    let opened = if me.rank == 0 {
        // The others wait in the all-gather: whatever happens here, this rank has to go there.
        open_root(me.interface, me.ports).map(Some).map_err(|error| error.to_string())
    } else {
        Ok(None)
    };
    let (offer, listener) = match opened {
        Ok(Some((id, listener))) => (Ok(Some(id)), Some(listener)),
        Ok(None) => (Ok(None), None),
        Err(reason) => (Err(reason), None),
    };
    let mine = key_value::contribution(me.rank, me.ranks, &offer);
    let all = host
        .all_gather(&mine)
        .map_err(|reason| me.error(format!("the host's all-gather failed: {reason}")))?;
    let id = key_value::settle(&all, me.ranks).map_err(|reason| me.error(reason))?;
    Ok((listener, id))
}
