//! Meets as a launched job does.

use std::fs::{DirBuilder, Metadata};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::key_value::parse_id;
use super::super::listener::Listener;
use super::super::ports::Ports;
use super::super::proof::JobKey;
use super::super::source::{Given, Look, Source, Target};
use super::super::timings::{InitTimings, Lap};
use super::super::wait::Wait;
use super::super::{Membership, Participant, Rendezvous, client, interface, lead, open_root, root};
use super::pmi_client;
use super::resolve::resolve;
use super::talk::Silence;
use super::torch_store::AgentStore;
use super::{JobSecret, LaunchEnvironment, Meeting, PmiServer};
use crate::error::Result;

/// Ports of the first host that are tried at once.
const PORTS_MAX: usize = 16;
/// How often a first host that does not answer is tried again.
const FIRST_HOST_INTERVAL: Duration = Duration::from_millis(100);

/// Takes part in the job that `environment` describes.
pub(crate) fn join(
    environment: &LaunchEnvironment,
    me: &Participant<'_>,
    wait: Wait<'_>,
) -> Result<Membership> {
    tracing::info!(%environment, "joining the launched job");
    let leads = environment.leads;
    match &environment.meeting {
        Meeting::Alone => lead(me, |_, _| Ok(()), |_| {}, wait),
        Meeting::Id(id) => super::super::join(&Rendezvous::Id(id.clone()), me, wait),
        Meeting::File(path) => {
            prepare_folder(path).map_err(|reason| me.error(reason))?;
            super::super::join(&Rendezvous::File(path.clone()), me, wait)
        }
        Meeting::AgentStore { host, port, namespace } => {
            let mut store = AgentStore { host, port: *port, namespace, talk: None };
            if leads {
                return lead(me, |id, wait| store.publish(id, me, wait), |_| {}, wait);
            }
            client::join(&mut store, me, InitTimings::default(), wait)
        }
        Meeting::Pmi(server) => join_by_pmi(server, leads, me, wait),
        Meeting::FirstHost { host, ports, secret } => {
            // All ranks have the same options, so all come to the same ports.
            let ports = if me.ports.is_any() { *ports } else { me.ports };
            if leads {
                return lead_at(ports, secret, me, wait);
            }
            let mut source = FirstHost { host, ports, secret, target: None };
            client::join(&mut source, me, InitTimings::default(), wait)
        }
    }
}

/// Makes the folder of a rendezvous file, and refuses one that others can write to.
fn prepare_folder(path: &Path) -> std::result::Result<(), String> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    // Ranks race for it; what matters is who owns it in the end.
    DirBuilder::new().mode(0o700).create(folder).ok();
    let explain = |reason: String| format!("the rendezvous folder {}: {reason}", folder.display());
    let found = std::fs::metadata(folder).map_err(|error| explain(error.to_string()))?;
    let me = rustix::process::geteuid();
    if !is_private(&found, me.as_raw()) {
        return Err(explain(
            "others can write to it, so they could lead this job astray; remove it, or name \
             another in SYNCLINE_RENDEZVOUS_DIR"
                .to_owned(),
        ));
    }
    Ok(())
}

fn is_private(folder: &Metadata, me: u32) -> bool {
    let (writable_by_others, sticky) = (folder.mode() & 0o022 != 0, folder.mode() & 0o1000 != 0);
    folder.is_dir() && (folder.uid() == me || folder.uid() == 0) && (!writable_by_others || sticky)
}

fn join_by_pmi(
    server: &PmiServer,
    leads: bool,
    me: &Participant<'_>,
    wait: Wait<'_>,
) -> Result<Membership> {
    let (mut timings, mut lap) = (InitTimings::default(), Lap::start());
    // The others wait at the barrier: whatever happens here, this rank has to go there.
    let opened = leads.then(|| open_root(me.interface, me.ports));
    let (offer, listener) = match opened {
        None => (None, None),
        Some(Ok((id, listener))) => (Some(id.to_string()), Some(listener)),
        Some(Err(error)) => (Some(format!("failed:{error}")), None),
    };
    let carried = pmi_client::exchange(server, offer.as_deref(), me, wait)?;
    lap.end(&mut timings.resolve);
    if let Some(reason) = carried.strip_prefix("failed:") {
        return Err(me.error(format!("rank 0 could not open the job's listener: {reason}")));
    }
    let id = parse_id(carried.as_bytes()).map_err(|reason| {
        me.error(format!("the process manager's key space holds no id of this job: {reason}"))
    })?;
    match listener {
        Some(listener) => root::gather(Arc::new(listener), me, timings, wait),
        None => client::join(&mut Given(id), me, timings, wait),
    }
}

/// Leads at ports that everybody knows, with a secret that was given.
fn lead_at(
    ports: Ports,
    secret: &JobSecret,
    me: &Participant<'_>,
    wait: Wait<'_>,
) -> Result<Membership> {
    let opened = interface::offered(me.interface)
        .and_then(|addresses| Listener::open(JobKey::new(secret.secret()), &addresses, ports));
    let listener = opened.map_err(|error| {
        me.error(format!("cannot open the root's listener at ports {ports}: {error}"))
    })?;
    root::gather(Arc::new(listener), me, InitTimings::default(), wait)
}

/// The first host of the job, at one of several ports.
struct FirstHost<'a> {
    host: &'a str,
    ports: Ports,
    secret: &'a JobSecret,
    target: Option<Target>,
}

impl Source for FirstHost<'_> {
    fn look(&mut self, me: &Participant<'_>, wait: Wait<'_>) -> Result<Look> {
        if let Some(target) = &self.target {
            return Ok(Look::Found(target.clone()));
        }
        let found = match resolve(self.host, 0, me.deadline, wait) {
            Ok(found) => found,
            Err(Silence::Ended(error)) => return Err(error),
            Err(Silence::Late) => {
                let reason = format!("the resolver does not answer for {}", self.host);
                return Ok(Look::NotYet(reason));
            }
            Err(Silence::Broken(reason)) => return Err(me.error(reason)),
        };
        let ports = std::ops::RangeInclusive::from(self.ports).take(PORTS_MAX);
        let addresses = ports
            .flat_map(|port| found.iter().map(move |a| std::net::SocketAddr::new(a.ip(), port)))
            .collect();
        let target = Target { secret: self.secret.secret().clone(), addresses };
        self.target = Some(target.clone());
        Ok(Look::Found(target))
    }

    fn interval(&self, _: u32) -> Duration {
        FIRST_HOST_INTERVAL
    }

    /// It never names another root, but others may be at its ports: the right one comes yet.
    fn recheck(&self) -> Option<Duration> {
        Some(Duration::from_secs(3600))
    }

    fn hint(&self) -> &'static str {
        "is the first rank of the job's first host running, with the same job secret?"
    }
}
