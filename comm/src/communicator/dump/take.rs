//! Taking a dump.

use std::sync::Weak;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{
    DumpKind, DumpMember, DumpOperation, DumpState, DumpWaiting, FORMAT, FlightDump, VERSION, write,
};
use crate::communicator::{Communicator, Inner};
use crate::engine::{OpKey, OpRecord, OpState};
use crate::rendezvous::JobKey;

/// How long a dump waits for whoever drives the engine to let go of it.
const WITHIN: Duration = Duration::from_secs(1);

impl Communicator {
    /// What this rank knows about its last operations: which they were, how they ended, and what
    /// those under way wait for. May be called from any thread, at any time, also after a
    /// failure. Takes a moment while another thread drives the communicator.
    pub fn dump(&self) -> FlightDump {
        self.inner.dump()
    }
}

impl Inner {
    pub(super) fn dump(&self) -> FlightDump {
        let snapshot = self.cell.snapshot(WITHIN);
        let busy = snapshot.is_none();
        let snapshot = snapshot.unwrap_or_default();
        let refusals = self.job.listener.refusals();
        let member = |member: &crate::rendezvous::MemberInfo| DumpMember {
            rank: member.rank,
            host: member.host.clone(),
            pid: member.pid,
            wire: self.wire_to(member.rank).map(str::to_owned),
        };
        FlightDump {
            format: FORMAT.to_owned(),
            version: VERSION,
            library: env!("CARGO_PKG_VERSION").to_owned(),
            job: job_name(self.job.listener.key()),
            communicator: format!("{:016x}", self.identity.id),
            epoch: self.identity.epoch,
            rank: self.me,
            members: self.members.iter().map(member).collect(),
            taken_unix_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64(),
            taken_s: snapshot.now.as_secs_f64(),
            timeout_s: self.options.timeout.as_secs_f64(),
            failure: snapshot.broken.map(|error| error.to_string()),
            busy,
            operations_total: snapshot.operations,
            next_collective: snapshot.next_collective,
            strangers_dropped: refusals.strangers,
            stragglers_dropped: refusals.stragglers,
            operations: snapshot.records.into_iter().map(operation).collect(),
        }
    }
}

/// The same for every process of a job, and of no use to anybody who wants to join it.
fn job_name(key: &JobKey) -> String {
    key.name().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn operation(record: OpRecord) -> DumpOperation {
    let (kind, peer) = match record.key() {
        OpKey::Collective(_) => (DumpKind::Collective, None),
        OpKey::Send { peer, .. } => (DumpKind::Send, Some(peer)),
        OpKey::Recv { peer, .. } => (DumpKind::Recv, Some(peer)),
    };
    DumpOperation {
        kind,
        peer,
        sequence: record.sequence,
        call: record.description.to_string(),
        fingerprint: format!("{:016x}", record.fingerprint),
        state: match record.state {
            OpState::Queued => DumpState::Queued,
            OpState::Running => DumpState::Running,
            OpState::Done => DumpState::Done,
            OpState::Failed => DumpState::Failed,
        },
        started_s: record.started.as_secs_f64(),
        ended_s: record.ended.map(|ended| ended.as_secs_f64()),
        waiting: record.unfinished.map(|unfinished| DumpWaiting {
            awaits: unfinished.awaits,
            refused_by: unfinished.refused_by,
            sent_bytes: unfinished.transfer.sent_bytes,
            to_send_bytes: unfinished.transfer.to_send_bytes,
            received_bytes: unfinished.transfer.received_bytes,
            to_receive_bytes: unfinished.transfer.to_receive_bytes,
        }),
    }
}

/// Writes a dump when the communicator has failed.
pub(in crate::communicator) struct Obituary(pub(in crate::communicator) Weak<Inner>);

impl crate::engine::Mourner for Obituary {
    fn mourn(&self) {
        let Some(inner) = self.0.upgrade() else { return };
        let Some(folder) = &inner.options.dump_dir else { return };
        let dump = inner.dump();
        match write::write(&dump, folder) {
            Ok(path) => tracing::info!(path = %path.display(), "wrote a flight dump"),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "cannot write a flight dump");
            }
        }
    }
}
