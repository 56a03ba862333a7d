//! What users hold: communicators, work handles, groups, options.

mod candidates;
mod choice;
mod coalesce;
mod descriptors;
pub mod dump;
mod examine;
mod explain;
pub(crate) mod fingerprint;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod group;
mod growth;
mod message;
mod options;
mod pieces;
mod place;
mod plan;
pub(crate) mod prepare;
mod raw;
mod recovery;
mod setup;
mod split;
#[cfg(test)]
mod tests;
mod typed;
mod work;

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

pub use dump::FlightDump;
pub use explain::Explanation;
pub use group::Group;
pub use options::{Options, TransportChoice};
pub use raw::RawWork;
pub use recovery::Agreement;
pub use work::Work;

pub use crate::rendezvous::{
    AllGather, InitTimings, JobSecret, KeyValueStore, LaunchEnvironment, Launcher, Meeting,
    PmiServer, Ports, Refusals, Rendezvous, UniqueId,
};

use crate::collective::{self, Counts, InPlace, Request};
use crate::control::{Control, Fate};
use crate::engine::{
    Buffers, Courtesy, Engine, EngineCell, EngineConfig, MonotonicClock, Patience,
    wait_until_readable,
};
use crate::error::{Error, Peer, Rank, Result};
use crate::memory::{Loan, Spares, process_generation};
use crate::rendezvous::{Listener, MemberInfo, Participant, join};
use choice::Planner;
use growth::Invitation;
use message::Messages;
use plan::{Planned, Plans};
use syncline_topology::Constants;

/// What the communicators of one job in this process share.
struct Job {
    /// First: it says farewell before the listener closes.
    control: Control,
    listener: Arc<Listener>,
    /// What this process has invited others to.
    invitations: Mutex<Vec<Invitation>>,
}

/// Whom a communicator is made of.
struct Seats {
    /// This rank.
    me: Rank,
    /// All ranks, in order.
    members: Arc<[MemberInfo]>,
    /// Their ranks in the job.
    jobs: Arc<[Rank]>,
}

/// A communicator that control knows of. Dropping it leaves the communicator.
struct Charge {
    job: Arc<Job>,
    id: u64,
    fate: Arc<Fate>,
}

impl Charge {
    /// This rank could not make its part: the others are not to wait for it.
    fn give_up(&self, error: &Error) {
        let reason = format!("it could not make the communicator: {error}");
        self.job.control.abort(self.id, &reason);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.job.control.close(self.id);
    }
}

/// A group of ranks that exchange data. Cheap to clone: clones are the same communicator.
///
/// Dropping the last clone closes its connections; operations that still run fail on the other
/// ranks if they need this one.
#[derive(Clone)]
pub struct Communicator {
    inner: Arc<Inner>,
}

/// What tells a communicator from all others of its job; the same on all its ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    id: u64,
    /// Counts the changes of members that led to it; communicators made by `split` inherit it.
    epoch: u32,
}

/// What making a communicator has to be finished by, when it began, and what has taken how long.
struct Start<'a> {
    deadline: Instant,
    since: Instant,
    timings: InitTimings,
    /// The communicator whose collective call this is: the call ends when that fails.
    parent: Option<&'a Fate>,
}

struct Inner {
    /// First: the others learn that this rank goes before its wires close.
    charge: Charge,
    job: Arc<Job>,
    timings: InitTimings,
    identity: Identity,
    me: Rank,
    members: Arc<[MemberInfo]>,
    /// The members' ranks in the job.
    jobs: Arc<[Rank]>,
    hosts: u32,
    options: Options,
    cell: Arc<EngineCell>,
    planner: Planner,
    plans: Plans,
    messages: Messages,
    /// Name of the wire to every rank; none to this one.
    wires: Vec<Option<&'static str>>,
    /// Where small tensors are packed side by side.
    packed: Mutex<Vec<u8>>,
    /// What kept the buffers of started operations.
    spare_kept: Spares<Box<dyn Any + Send>>,
    sequence: AtomicU64,
    children: AtomicU64,
    /// Attempts to shrink it.
    shrinks: AtomicU64,
    clock: MonotonicClock,
    oversubscribed: bool,
    courtesy: Courtesy,
    /// The process that made it: its generation and its id.
    maker: (u64, u32),
}

impl std::fmt::Debug for Communicator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Communicator")
            .field("id", &self.inner.identity.id)
            .field("epoch", &self.inner.identity.epoch)
            .field("rank", &self.rank())
            .field("ranks", &self.ranks())
            .finish_non_exhaustive()
    }
}

impl Communicator {
    /// Joins the job that meets at `at` as `rank` of `ranks`. Returns once all ranks have come.
    ///
    /// # Errors
    /// [`Error::Rendezvous`] naming the ranks that did not come within the timeout, or that
    /// disagree; [`Error::InvalidArgument`] for options that make no sense; [`Error::System`] when
    /// the system lacks something, saying what to raise.
    pub fn init(at: &Rendezvous, rank: Rank, ranks: Rank, options: Options) -> Result<Self> {
        Self::join(at, rank, ranks, options, 0)
    }

    /// Joins a job of which this rank knows the `epoch`; new ranks do not, and say 0.
    fn join(
        at: &Rendezvous,
        rank: Rank,
        ranks: Rank,
        options: Options,
        epoch: u32,
    ) -> Result<Self> {
        let start = Instant::now();
        let deadline = setup::deadline_after(options.timeout);
        descriptors::check("joining the job", descriptors::TO_JOIN)?;
        let constants = choice::constants(&options)?;
        let participant = Participant {
            rank,
            ranks,
            deadline,
            interface: options.interface.as_deref(),
            ports: options.ports,
            encrypt: options.encrypt,
            payload: place::describe(epoch),
            agree: &|_| constants.to_bytes(),
        };
        let joined = join(at, &participant, &mut wait_until_readable)?;
        let constants = choice::agreed(&joined.agreed, rank, ranks)?;
        let epoch = place::epoch(&joined.members);
        let (listener, timings) = (joined.listener, joined.timings);
        // Whoever comes from before the last change of members comes too late.
        listener.retire_epochs(ROOT_ID, epoch);
        let members = joined.members.into();
        let control = Control::start(rank, epoch, &members, &listener, options.host_timeout)?;
        let job = Job { control, listener, invitations: Mutex::default() };
        let start = Start { deadline, since: start, timings, parent: None };
        let seats = Seats { me: rank, members, jobs: (0..ranks).collect() };
        let root = Identity { id: ROOT_ID, epoch };
        let joined = Self::assemble(&Arc::new(job), root, seats, options, constants, start)?;
        tracing::info!(rank, ranks, timings = %joined.init_timings(), "joined the job");
        Ok(joined)
    }

    /// Joins the job that a launcher started this process as part of: torchrun, Slurm, Open MPI,
    /// Hydra, PALS, or collbench. See [`LaunchEnvironment`] for what is recognised.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when no launcher is recognised, or when its variables are
    /// incomplete; those of [`init`](Self::init).
    pub fn init_from_environment(options: Options) -> Result<Self> {
        let found = LaunchEnvironment::detect()?.ok_or_else(|| Error::InvalidArgument {
            operation: "init_from_environment",
            reason: "no launcher started this process as part of a job; use torchrun, srun, \
                     mpirun or mpiexec, or set SYNCLINE_RANK, SYNCLINE_WORLD_SIZE and \
                     SYNCLINE_RENDEZVOUS (a path that all ranks share)"
                .to_owned(),
        })?;
        let (rank, ranks) = (found.rank, found.ranks);
        Self::init(&Rendezvous::Launched(found), rank, ranks, options)
    }

    /// Makes a communicator of `members`, of whom every one does the same now.
    fn assemble(
        job: &Arc<Job>,
        identity: Identity,
        seats: Seats,
        options: Options,
        constants: Constants,
        start: Start<'_>,
    ) -> Result<Self> {
        let Start { deadline, since, mut timings, parent } = start;
        let Seats { me, members, jobs } = seats;
        let ranks = u32::try_from(members.len()).unwrap_or(Rank::MAX);
        let planner = Planner::new(me, &members, &options, constants)?;
        let name = |m: &MemberInfo| Peer { rank: m.rank, host: m.host.clone() };
        let peers: Arc<[Peer]> = members.iter().map(name).collect();
        let fate = Fate::new(identity.id, me, Arc::clone(&peers), Arc::clone(&jobs));
        job.control.open(&fate);
        let charge = Charge { job: Arc::clone(job), id: identity.id, fate };
        let (options_ref, fate) = (&options, &charge.fate);
        let setup = setup::Plan {
            job,
            identity,
            me,
            members: &members,
            options: options_ref,
            fate,
            parent,
            deadline,
        };
        let made = setup.wires(&mut timings).map_err(|error| setup.explained(error));
        let wires = made.inspect_err(|error| {
            if charge.fate.failure("init", 0).is_none() {
                charge.give_up(error);
            }
        })?;
        let names = wires.names(me);
        let engine = Engine::new(EngineConfig {
            rank: me,
            peers,
            transports: wires.transports,
            routes: wires.routes,
            staging_bytes_max: setup::scratch_bytes_max(&options),
            judge: Some(job.control.judge(identity.id)),
            flight_records: options.flight_records,
        })?;
        let cell = EngineCell::new(engine);
        charge.fate.attach(&cell);
        let mut hosts: Vec<&str> = members.iter().map(|m| m.host_identity.as_str()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let comm = Self {
            inner: Arc::new(Inner {
                charge,
                job: Arc::clone(job),
                jobs,
                timings: InitTimings { total: since.elapsed(), ..timings },
                identity,
                me,
                hosts: u32::try_from(hosts.len()).unwrap_or(u32::MAX),
                oversubscribed: place::oversubscribed(&members, me),
                courtesy: Courtesy::default(),
                options,
                cell,
                planner,
                plans: Plans::default(),
                messages: Messages::new(ranks),
                wires: names,
                packed: Mutex::default(),
                spare_kept: Spares::default(),
                sequence: AtomicU64::new(0),
                children: AtomicU64::new(0),
                shrinks: AtomicU64::new(0),
                clock: MonotonicClock::new(),
                maker: (process_generation(), std::process::id()),
                members,
            }),
        };
        let inner = &comm.inner;
        if inner.options.dump_dir.is_some() {
            inner.cell.set_mourner(Box::new(dump::Obituary(Arc::downgrade(inner))));
        }
        Ok(comm)
    }

    /// This process's rank.
    pub fn rank(&self) -> Rank {
        self.inner.me
    }

    /// Number of ranks.
    pub fn ranks(&self) -> Rank {
        self.inner.ranks()
    }

    /// Number of hosts.
    pub fn hosts(&self) -> u32 {
        self.inner.hosts
    }

    /// How many connections to this process's listener were dropped so far, and why. The listener
    /// serves all communicators of the job.
    pub fn refusals(&self) -> Refusals {
        self.inner.job.listener.refusals()
    }

    /// Every rank and the host it runs on.
    pub fn members(&self) -> &[MemberInfo] {
        &self.inner.members
    }

    /// How long it took to make this communicator, and with what.
    pub fn init_timings(&self) -> InitTimings {
        self.inner.timings
    }

    /// Runs one collective on untyped buffers. `input: None` is in place: `output` is the one
    /// buffer, laid out as [`InPlace`] says.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] before anything is sent; [`Error::PeerLost`],
    /// [`Error::Timeout`], [`Error::Mismatch`], [`Error::Protocol`] when it cannot be finished,
    /// after which the communicator takes no more calls.
    pub fn run(&self, request: &Request, input: Option<&[u8]>, output: &mut [u8]) -> Result<()> {
        if self.needs_pieces(request) {
            let contract = collective::contract(request, self.rank(), self.ranks())?;
            let size = request.dtype.size();
            contract.check_bytes(size, input.map(<[u8]>::len), output.len())?;
            let output_at = match (input, contract.in_place) {
                (None, InPlace::OutputInInput(elements)) => elements * size,
                _ => 0,
            };
            return self.run_in_pieces(request, input, (output, output_at));
        }
        self.run_whole(request, input, output)
    }

    fn run_whole(&self, request: &Request, input: Option<&[u8]>, output: &mut [u8]) -> Result<()> {
        let in_place = input.is_none();
        let plan = self.inner.plan(request, in_place)?;
        plan.check_bytes(input.map(<[u8]>::len), output.len())?;
        let loan = Loan::new(input.unwrap_or(&[]), output);
        let buffers = if in_place {
            Buffers::in_place(loan.output)
        } else {
            Buffers::separate(loan.input, loan.output)
        };
        let meta = plan.meta(self.inner.next_sequence());
        self.inner.cell.run_blocking(&plan.program, buffers, &meta, &self.inner.patience())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.check_process("drop").is_err() {
            // A forked child shares the sockets: farewells on them would come from the parent.
            std::mem::forget(Arc::clone(&self.cell));
        }
    }
}

/// A job's first communicator.
const ROOT_ID: u64 = 0;

impl Inner {
    fn ranks(&self) -> Rank {
        u32::try_from(self.members.len()).unwrap_or(Rank::MAX)
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Name of the wire to `peer`.
    fn wire_to(&self, peer: Rank) -> Option<&'static str> {
        self.wires.get(peer as usize).copied().flatten()
    }

    fn patience(&self) -> Patience<'_> {
        Patience {
            stall_max: Some(self.options.timeout),
            oversubscribed: self.oversubscribed,
            courtesy: Some(&self.courtesy),
            ..Patience::endless(&self.clock)
        }
    }

    /// Refuses calls of a child that was forked from the communicator's process.
    fn check_process(&self, operation: &'static str) -> Result<()> {
        let (generation, maker) = self.maker;
        if process_generation() == generation {
            return Ok(());
        }
        Err(Error::Forked { operation, maker })
    }

    fn plan(&self, request: &Request, in_place: bool) -> Result<Planned<'_>> {
        self.check_process(request.collective.name())?;
        if in_place && matches!(request.counts, Counts::PerPair { .. }) {
            return Err(Error::InvalidArgument {
                operation: request.collective.name(),
                reason: "counts per pair need an input and an output of their own".to_owned(),
            });
        }
        self.plans.get(request, in_place, &self.planner)
    }
}
