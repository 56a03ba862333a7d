//! Who is still there, and why a communicator failed.
//!
//! Every member of a job takes part in one control protocol beside the data: it notices members
//! that are gone, finds out who is to blame when an operation cannot go on, tells everybody the
//! same cause, and lets the survivors agree. [`core`] is the protocol as a state machine without
//! I/O, driven by the control thread in production and by the simulator in tests.
//!
//! The thread, `syncline-control`, exists as long as the process is a member of the job. It
//! accepts the job's connections while the application computes, keeps control links to a few
//! other members, and ends the operations of a communicator when its cause of failure is known.

pub mod core;
mod fate;
mod link;
mod links;
#[cfg(all(test, syncline_loom))]
mod model;
mod requests;
pub(crate) mod seats;
mod thread;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use self::core::{Agreed, CommId, Excluded};
pub(crate) use self::fate::Fate;
use self::links::Links;
use self::requests::{Awaiting, Reply, Request, Requests};
use self::thread::Attendant;
use crate::engine::{Bell, Judge, Patience, wait, wait_fds_until};
use crate::error::{Error, Rank, Result};
use crate::rendezvous::{Listener, MemberInfo};

/// How long to wait for the thread to say its farewells.
const END_TIME_MAX: Duration = Duration::from_millis(100);
/// What an agreement may take beyond the patience of those who take part.
const AGREEMENT_SLACK: Duration = Duration::from_secs(5);

/// This process's part in the control protocol of one job. Dropping it leaves the job.
pub(crate) struct Control {
    requests: Arc<Requests>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Rings when the thread ends.
    ended: Arc<Bell>,
}

impl Control {
    /// Starts the control thread of member `me` of the job's present `epoch`; `members` are all of
    /// the job's.
    ///
    /// # Errors
    /// [`Error::System`] when the process is out of threads or descriptors.
    pub(crate) fn start(
        me: Rank,
        epoch: u32,
        members: &Arc<[MemberInfo]>,
        listener: &Arc<Listener>,
        host_timeout: Duration,
    ) -> Result<Self> {
        let requests = Requests::new();
        let Some(fd) = requests.fd() else {
            return Err(refused(&std::io::Error::from(rustix::io::Errno::MFILE)));
        };
        let links =
            Links::new((me, epoch), Arc::clone(members), Arc::clone(listener), fd, host_timeout)
                .map_err(|error| refused(&error))?;
        let ranks = Rank::try_from(members.len()).unwrap_or(Rank::MAX);
        let attendant = Attendant::new(me, ranks, links, Arc::clone(&requests));
        let ended = Arc::new(Bell::new());
        ended.prepare();
        let bell = Arc::clone(&ended);
        let run = move || {
            attendant.run();
            bell.ring();
        };
        let thread = std::thread::Builder::new().name("syncline-control".to_owned()).spawn(run);
        let thread = thread.map_err(|error| refused(&error))?;
        listener.attend();
        Ok(Self { requests, thread: Mutex::new(Some(thread)), ended })
    }

    /// Tells the others of a communicator that this rank makes.
    pub(crate) fn open(&self, fate: &Arc<Fate>) {
        self.requests.push(Request::Open(Arc::clone(fate)));
    }

    /// This rank leaves a communicator in good order.
    pub(crate) fn close(&self, comm: CommId) {
        self.requests.push(Request::Close(comm));
    }

    /// Who finds out why the engine of a communicator cannot go on.
    pub(crate) fn judge(&self, comm: CommId) -> Arc<dyn Judge> {
        Arc::new(fate::Reporter { comm, requests: Arc::clone(&self.requests) })
    }

    /// Ends a communicator for everybody.
    pub(crate) fn revoke(&self, comm: CommId, reason: &str) {
        self.requests.push(Request::Revoke(comm, reason.to_owned()));
    }

    /// This rank gives a communicator up.
    pub(crate) fn abort(&self, comm: CommId, reason: &str) {
        self.requests.push(Request::Abort(comm, reason.to_owned()));
    }

    /// Takes part in the next agreement of a communicator; waits for its end.
    pub(crate) fn agree(
        &self,
        comm: CommId,
        flags: u64,
        limit: Duration,
        patience: &Patience<'_>,
    ) -> Result<Agreed, Excluded> {
        let reply = Arc::new(Reply::default());
        self.requests.push(Request::Agree(comm, flags, limit, Arc::clone(&reply)));
        let end = limit.saturating_add(AGREEMENT_SLACK);
        let patience = Patience {
            stall_max: None,
            deadline: Some(patience.clock.now().saturating_add(end)),
            oversubscribed: true,
            ..*patience
        };
        wait(&mut Awaiting(&reply), &patience);
        let reason = "the agreement did not end".to_owned();
        reply.take().unwrap_or(Err(Excluded { reason }))
    }

    /// Whether this is a child, by fork, of the process that is the member.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.requests.is_elsewhere()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        if self.is_elsewhere() {
            // There is no such thread in a child.
            std::mem::forget(thread);
            return;
        }
        self.requests.push(Request::Leave);
        if let Some(fd) = self.ended.fd() {
            let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
            wait_fds_until(&mut fds, Instant::now() + END_TIME_MAX);
            if !fds[0].revents().is_empty() {
                // It has run to its end; what is left is to take its stack down.
                let _ = thread.join();
            }
        }
    }
}

fn refused(error: &std::io::Error) -> Error {
    Error::System {
        what: "starting the control thread".to_owned(),
        source_text: error.to_string(),
        hint: "raise the limits of threads and descriptors (ulimit -u, ulimit -n)".to_owned(),
    }
}
