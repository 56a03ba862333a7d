//! From environment variables to a job.

use std::path::PathBuf;

use super::nodelist::expand;
use super::{JobSecret, LaunchEnvironment, Launcher, Meeting, PmiServer, job_secret};
use crate::error::Rank;
use crate::rendezvous::ports::Ports;

/// Ports that a job's root may take when it listens at ports of its own: one of as many as this,
/// below those that systems give to connections on their own accord.
const JOB_PORTS: u16 = 8;
const JOB_PORTS_FIRST: u16 = 20_000;
const JOB_PORTS_LAST: u16 = 31_999;

/// Longest value that is looked at.
const VALUE_BYTES_MAX: usize = 1 << 20;

type Found<T> = Result<Option<T>, String>;

/// Environment variables, real or not.
pub(super) struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl<'a> Variables<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self(lookup)
    }

    /// A variable that is set, and not to nothing.
    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty() && value.len() <= VALUE_BYTES_MAX)
    }

    fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Found<T> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.trim().parse();
        number.map(Some).map_err(|_| format!("{name}={text:?} is not a number that fits"))
    }

    /// The first of these variables that is set.
    fn first_number(&self, names: &[&str]) -> Found<Rank> {
        for name in names {
            if let Some(number) = self.number(name)? {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn required(&self, launcher: Launcher, names: &[&str]) -> Result<Rank, String> {
        self.first_number(names)?.ok_or_else(|| {
            format!("{launcher} started this process but set no {}", names.join(" or "))
        })
    }
}

/// What the launchers' variables have in common.
struct Place {
    launcher: Launcher,
    rank: Rank,
    ranks: Rank,
    local_rank: Option<Rank>,
    local_ranks: Option<Rank>,
}

impl Place {
    fn read(
        v: &Variables<'_>,
        launcher: Launcher,
        [rank, ranks, local_rank, local_ranks]: [&[&str]; 4],
    ) -> Result<Self, String> {
        let place = Self {
            launcher,
            rank: v.required(launcher, rank)?,
            ranks: v.required(launcher, ranks)?,
            local_rank: v.first_number(local_rank)?,
            local_ranks: v.first_number(local_ranks)?,
        };
        if place.rank >= place.ranks {
            return Err(format!(
                "{launcher} set rank {} ({}) of {} ranks ({}); ranks count from 0",
                place.rank,
                rank.join(" or "),
                place.ranks,
                ranks.join(" or ")
            ));
        }
        Ok(place)
    }

    /// Rank 0 leads unless it is said who does.
    fn meets(self, leads: Option<bool>, meeting: Meeting) -> LaunchEnvironment {
        let Self { launcher, rank, ranks, local_rank, local_ranks } = self;
        let leads = leads.unwrap_or(rank == 0);
        let meeting = if ranks == 1 { Meeting::Alone } else { meeting };
        LaunchEnvironment { launcher, rank, ranks, local_rank, local_ranks, meeting, leads }
    }

    fn on_one_host(&self) -> bool {
        self.local_ranks == Some(self.ranks)
    }
}

/// A job whose launcher carries no id.
struct Bare<'a> {
    /// Tells the job from all others of this user.
    job: &'a str,
    /// The host that everybody knows, and whether this process leads there.
    first_host: Option<(String, bool)>,
    /// Ports that the launcher reserved for the job.
    reserved: Option<Ports>,
    on_one_host: bool,
}

/// The job this process belongs to.
pub(super) fn detect(v: &Variables<'_>) -> Found<LaunchEnvironment> {
    for look in [syncline, torchrun, open_mpi, pmi, pals, slurm, torch] {
        if let Some(found) = look(v)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn syncline(v: &Variables<'_>) -> Found<LaunchEnvironment> {
    const NAMES: [&str; 3] = ["SYNCLINE_RANK", "SYNCLINE_WORLD_SIZE", "SYNCLINE_RENDEZVOUS"];
    let missing: Vec<&str> = NAMES.into_iter().filter(|name| !v.has(name)).collect();
    match missing.len() {
        0 => {}
        3 => return Ok(None),
        _ => {
            return Err(format!(
                "{} not set although others of {} are; set all of them or none",
                missing.join(" and "),
                NAMES.join(", ")
            ));
        }
    }
    let place = Place::read(
        v,
        Launcher::Syncline,
        [
            &["SYNCLINE_RANK"],
            &["SYNCLINE_WORLD_SIZE"],
            &["SYNCLINE_LOCAL_RANK", "LOCAL_RANK"],
            &["SYNCLINE_LOCAL_WORLD_SIZE", "LOCAL_WORLD_SIZE"],
        ],
    )?;
    let text = v.text("SYNCLINE_RENDEZVOUS").unwrap_or_default();
    if text.starts_with("syncline") && !text.contains('/') {
        let id = text.parse().map_err(|error| format!("SYNCLINE_RENDEZVOUS: {error}"))?;
        // Whoever carries an id made it; the root is the process that holds its listener.
        return Ok(Some(place.meets(Some(false), Meeting::Id(id))));
    }
    Ok(Some(place.meets(None, Meeting::File(PathBuf::from(text)))))
}

const TORCH_PLACE: [&[&str]; 4] =
    [&["RANK"], &["WORLD_SIZE"], &["LOCAL_RANK"], &["LOCAL_WORLD_SIZE"]];

fn torchrun(v: &Variables<'_>) -> Found<LaunchEnvironment> {
    let Some(run) = v.text("TORCHELASTIC_RUN_ID") else { return Ok(None) };
    let place = Place::read(v, Launcher::Torchrun, TORCH_PLACE)?;
    let attempt: u64 = v.number("TORCHELASTIC_RESTART_COUNT")?.unwrap_or(0);
    let agent = v.text("TORCHELASTIC_USE_AGENT_STORE");
    if !agent.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        let job = format!("{run}/{attempt}");
        return under_master(v, place, &job).map(Some);
    }
    let (Some(host), Some(port)) = (v.text("MASTER_ADDR"), v.number("MASTER_PORT")?) else {
        return Err("torchrun set no MASTER_ADDR and MASTER_PORT".to_owned());
    };
    // The agent's store outlives restarts of the workers: every attempt has keys of its own.
    let namespace = format!("syncline/{run}/{attempt}");
    Ok(Some(place.meets(None, Meeting::AgentStore { host, port, namespace })))
}

fn torch(v: &Variables<'_>) -> Found<LaunchEnvironment> {
    if !["RANK", "WORLD_SIZE", "MASTER_ADDR"].into_iter().all(|name| v.has(name)) {
        return Ok(None);
    }
    let place = Place::read(v, Launcher::Torch, TORCH_PLACE)?;
    under_master(v, place, "").map(Some)
}

/// Without an agent's store `MASTER_PORT` belongs to whatever the program itself, say torch, does
/// there; it is part of the job's name here, and never bound.
fn under_master(v: &Variables<'_>, place: Place, job: &str) -> Result<LaunchEnvironment, String> {
    let master = v.text("MASTER_ADDR").unwrap_or_default();
    let port = v.text("MASTER_PORT").unwrap_or_default();
    let bare = Bare {
        job: &format!("torch/{master}/{port}/{job}"),
        first_host: (!master.is_empty()).then(|| (master.clone(), place.rank == 0)),
        reserved: None,
        on_one_host: place.on_one_host(),
    };
    let (leads, meeting) = bare.meeting(v)?;
    Ok(place.meets(leads, meeting))
}

fn open_mpi(v: &Variables<'_>) -> Found<LaunchEnvironment> {
    if !v.has("OMPI_COMM_WORLD_RANK") {
        return Ok(None);
    }
    let place = Place::read(
        v,
        Launcher::OpenMpi,
        [
            &["OMPI_COMM_WORLD_RANK"],
            &["OMPI_COMM_WORLD_SIZE"],
            &["OMPI_COMM_WORLD_LOCAL_RANK"],
            &["OMPI_COMM_WORLD_LOCAL_SIZE"],
        ],
    )?;
    let space = ["PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"].into_iter().find_map(|n| v.text(n));
    let Some(space) = space else {
        return Err("Open MPI started this process but set no PMIX_NAMESPACE".to_owned());
    };
    let bare = Bare {
        job: &format!("pmix/{space}"),
        first_host: None,
        reserved: None,
        on_one_host: place.on_one_host(),
    };
    let (_, meeting) = bare.meeting(v)?;
    Ok(Some(place.meets(None, meeting)))
}

fn pmi(v: &Variables<'_>) -> Found<LaunchEnvironment> {
    let server = if let Some(fd) = v.number("PMI_FD")? {
        PmiServer::Descriptor(fd)
    } else if let Some(text) = v.text("PMI_PORT") {
        if !v.has("PMI_SIZE") {
            return Err("the process manager tells ranks at PMI_PORT only; start the job without \
                        mpiexec's -pmi-port"
                .to_owned());
        }
        let malformed = || format!("PMI_PORT={text:?} is not HOST:PORT");
        let (host, port) = text.rsplit_once(':').ok_or_else(malformed)?;
        PmiServer::Port {
            host: host.to_owned(),
            port: port.parse().map_err(|_| malformed())?,
            id: v.text("PMI_ID").or_else(|| v.text("PMI_RANK")).unwrap_or_default(),
        }
    } else {
        return Ok(None);
    };
    let place = Place::read(
        v,
        Launcher::Pmi,
        [
            &["PMI_RANK", "PMI_ID"],
            &["PMI_SIZE"],
            &["MPI_LOCALRANKID", "PMI_LOCAL_RANK", "SLURM_LOCALID"],
            &["MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"],
        ],
    )?;
    Ok(Some(place.meets(None, Meeting::Pmi(server))))
}

fn pals(v: &Variables<'_>) -> Found<LaunchEnvironment> {
    if !v.has("PALS_RANKID") {
        return Ok(None);
    }
    let place = Place::read(
        v,
        Launcher::Pals,
        [
            &["PALS_RANKID"],
            &["PMI_SIZE", "PALS_SIZE"],
            &["PALS_LOCAL_RANKID"],
            &["PMI_LOCAL_SIZE", "PALS_LOCAL_SIZE"],
        ],
    )?;
    let Some(job) = v.text("PALS_APID") else {
        return Err("PALS started this process but set no PALS_APID".to_owned());
    };
    let bare = Bare {
        job: &format!("pals/{job}"),
        first_host: None,
        reserved: None,
        on_one_host: place.on_one_host(),
    };
    let (_, meeting) = bare.meeting(v)?;
    Ok(Some(place.meets(None, meeting)))
}

fn slurm(v: &Variables<'_>) -> Found<LaunchEnvironment> {
    let job = v.text("SLURM_JOB_ID").or_else(|| v.text("SLURM_JOBID"));
    let step = v.text("SLURM_STEP_ID").or_else(|| v.text("SLURM_STEPID"));
    // A batch script has a process number, too, but is no task of a step.
    let (Some(job), Some(step), true) = (job, step, v.has("SLURM_PROCID")) else { return Ok(None) };
    let sizes: &[&str] = &["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS"];
    let place =
        Place::read(v, Launcher::Slurm, [&["SLURM_PROCID"], sizes, &["SLURM_LOCALID"], &[]])?;
    let nodes = ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"];
    let first_host = match nodes.into_iter().find_map(|name| v.text(name)) {
        Some(list) => {
            let hosts = expand(&list).map_err(|reason| format!("Slurm's node list: {reason}"))?;
            // Not rank 0, which tasks that are distributed at will may have elsewhere.
            let node: Option<u32> = v.number("SLURM_NODEID")?;
            hosts.into_iter().next().map(|h| (h, node == Some(0) && place.local_rank == Some(0)))
        }
        None => None,
    };
    let node_count = v.first_number(&["SLURM_STEP_NUM_NODES", "SLURM_NNODES"])?;
    let reserved = match v.text("SLURM_STEP_RESV_PORTS") {
        Some(text) => Some(text.parse().map_err(|e| format!("SLURM_STEP_RESV_PORTS: {e}"))?),
        None => None,
    };
    let cluster = v.text("SLURM_CLUSTER_NAME").unwrap_or_default();
    let attempt = v.text("SLURM_RESTART_COUNT").unwrap_or_default();
    let bare = Bare {
        job: &format!("slurm/{cluster}/{job}.{step}/{attempt}"),
        first_host,
        reserved,
        on_one_host: node_count == Some(1),
    };
    let (leads, meeting) = bare.meeting(v)?;
    let local_ranks = (node_count == Some(1)).then_some(place.ranks);
    Ok(Some(Place { local_ranks, ..place }.meets(leads, meeting)))
}

impl Bare<'_> {
    /// How such a job meets, and who leads unless it is rank 0.
    ///
    /// On one host by a file that only this user can read. Over several at the first host if the
    /// user gave the job a secret, because everything else that all ranks know, others know, too;
    /// otherwise by a file in a folder that the hosts share.
    fn meeting(&self, v: &Variables<'_>) -> Result<(Option<bool>, Meeting), String> {
        let name = blake3::hash(self.job.as_bytes()).to_hex();
        let name = format!("job-{}", &name[..24]);
        let own_folder = || format!("/tmp/syncline-{}", rustix::process::getuid().as_raw());
        let shared = v.text("SYNCLINE_RENDEZVOUS_DIR");
        if self.on_one_host {
            let folder = shared.unwrap_or_else(own_folder);
            return Ok((None, Meeting::File(PathBuf::from(folder).join(name))));
        }
        if let (Some((host, leads)), Some(secret)) = (&self.first_host, self.secret(v)?) {
            let ports = self.reserved.unwrap_or_else(|| job_ports(self.job));
            let meeting = Meeting::FirstHost { host: host.clone(), ports, secret };
            return Ok((Some(*leads), meeting));
        }
        let folder = shared
            .map(PathBuf::from)
            .or_else(|| v.text("HOME").map(|home| PathBuf::from(home).join(".syncline")));
        match folder {
            Some(folder) => Ok((None, Meeting::File(folder.join(name)))),
            None => Err(
                "the launcher carries nothing from rank to rank, and there is no HOME to put a \
                 file into; name a folder that all hosts share in SYNCLINE_RENDEZVOUS_DIR"
                    .to_owned(),
            ),
        }
    }

    fn secret(&self, v: &Variables<'_>) -> Found<JobSecret> {
        if let Some(text) = v.text("SYNCLINE_JOB_SECRET") {
            let secret = JobSecret::derive(&text, self.job);
            return secret.map(Some).map_err(|reason| format!("SYNCLINE_JOB_SECRET {reason}"));
        }
        let Some(path) = v.text("SYNCLINE_JOB_SECRET_FILE") else { return Ok(None) };
        let read = || -> std::io::Result<String> {
            use std::io::Read as _;
            let mut text = String::new();
            let limit = 2 * job_secret::TEXT_BYTES_MAX as u64;
            std::fs::File::open(&path)?.take(limit).read_to_string(&mut text)?;
            Ok(text)
        };
        read()
            .map_err(|error| error.to_string())
            .and_then(|text| JobSecret::derive(&text, self.job))
            .map(Some)
            .map_err(|reason| format!("SYNCLINE_JOB_SECRET_FILE={path}: {reason}"))
    }
}

/// The ports of a job of this name.
fn job_ports(job: &str) -> Ports {
    let hash = blake3::hash(job.as_bytes());
    let number = u16::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes"));
    let groups = (JOB_PORTS_LAST - JOB_PORTS_FIRST + 1) / JOB_PORTS;
    let first = JOB_PORTS_FIRST + number % groups * JOB_PORTS;
    Ports::new(first, first + JOB_PORTS - 1).expect("the constants make a range")
}
