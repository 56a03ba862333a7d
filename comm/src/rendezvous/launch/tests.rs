//! Recorded environments, and launchers' servers that are played here.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::super::{MemberInfo, Membership, Participant, Ports};
use super::*;
use crate::engine::wait_until_readable;

const LONG: Duration = Duration::from_secs(30);

/// What a launcher set, as `NAME=value` lines.
fn detect(recorded: &str) -> Result<Option<LaunchEnvironment>> {
    let pairs: Vec<(&str, &str)> =
        recorded.lines().filter_map(|line| line.trim().split_once('=')).collect();
    LaunchEnvironment::detect_with(|name| {
        pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    })
}

fn found(recorded: &str) -> LaunchEnvironment {
    detect(recorded).unwrap().expect("a launcher")
}

fn refused(recorded: &str) -> String {
    detect(recorded).unwrap_err().to_string()
}

/// torchrun 2.15, two nodes of two, rank 3.
const TORCHRUN: &str = "
    LOCAL_RANK=1
    RANK=3
    GROUP_RANK=1
    ROLE_RANK=3
    ROLE_NAME=default
    LOCAL_WORLD_SIZE=2
    WORLD_SIZE=4
    GROUP_WORLD_SIZE=2
    ROLE_WORLD_SIZE=4
    MASTER_ADDR=node7
    MASTER_PORT=29500
    TORCHELASTIC_RESTART_COUNT=2
    TORCHELASTIC_MAX_RESTARTS=3
    TORCHELASTIC_RUN_ID=run-1
    TORCHELASTIC_USE_AGENT_STORE=True
    OMP_NUM_THREADS=1";

/// Open MPI 4.1, four ranks on one host.
const OPEN_MPI: &str = "
    HOME=/home/me
    OMPI_COMM_WORLD_RANK=2
    OMPI_COMM_WORLD_SIZE=4
    OMPI_COMM_WORLD_LOCAL_RANK=2
    OMPI_COMM_WORLD_LOCAL_SIZE=4
    OMPI_UNIVERSE_SIZE=4
    PMIX_RANK=2
    PMIX_NAMESPACE=2771517441
    PMIX_SERVER_URI2=2771517440.0;tcp4://127.0.0.1:46253
    PMIX_SECURITY_MODE=native";

/// MPICH 4.0's Hydra.
const HYDRA: &str = "
    PMI_RANK=1
    PMI_FD=7
    PMI_SIZE=2
    MPI_LOCALNRANKS=2
    MPI_LOCALRANKID=1";

/// srun, three nodes, six tasks.
const SLURM: &str = "
    HOME=/home/me
    SLURM_CLUSTER_NAME=blue
    SLURM_JOB_ID=4711
    SLURM_STEP_ID=2
    SLURM_JOB_NODELIST=n[01-04]
    SLURM_STEP_NODELIST=n[02-04]
    SLURM_NNODES=4
    SLURM_STEP_NUM_NODES=3
    SLURM_NTASKS=8
    SLURM_STEP_NUM_TASKS=6
    SLURM_PROCID=3
    SLURM_LOCALID=1
    SLURM_NODEID=1
    SLURM_STEP_RESV_PORTS=12000-12003";

/// PALS on one node.
const PALS: &str = "
    PALS_RANKID=1
    PALS_LOCAL_RANKID=1
    PALS_LOCAL_SIZE=2
    PALS_NODEID=0
    PALS_APID=5d3c
    PMI_SIZE=2";

#[test]
fn no_launcher_is_no_job() {
    assert_eq!(detect("HOME=/home/me\nPATH=/bin").unwrap(), None);
    // A batch script outside any step is not a task.
    assert_eq!(detect("SLURM_JOB_ID=1\nSLURM_PROCID=0\nSLURM_NTASKS=8").unwrap(), None);
    assert_eq!(detect("RANK=1\nWORLD_SIZE=2").unwrap(), None, "nowhere to meet");
}

#[test]
fn torchrun_is_recognised() {
    let job = found(TORCHRUN);
    assert_eq!((job.launcher, job.rank, job.ranks), (Launcher::Torchrun, 3, 4));
    assert_eq!((job.local_rank, job.local_ranks, job.leads), (Some(1), Some(2), false));
    let meeting = Meeting::AgentStore {
        host: "node7".to_owned(),
        port: 29500,
        namespace: "syncline/run-1/2".to_owned(),
    };
    assert_eq!(job.meeting, meeting);
    assert_eq!(
        job.to_string(),
        "rank 3 of 4 under torchrun, meeting through torchrun's store at node7 port 29500"
    );
}

#[test]
fn without_an_agents_store_the_master_port_is_left_alone() {
    let bare = TORCHRUN.replace("AGENT_STORE=True", "AGENT_STORE=False");
    let job = found(&format!("{bare}\nHOME=/home/me"));
    assert!(matches!(&job.meeting, Meeting::File(p) if p.starts_with("/home/me/.syncline")));
    let job = found(&format!("{bare}\nSYNCLINE_JOB_SECRET=0123456789abcdef0123"));
    let Meeting::FirstHost { host, ports, .. } = &job.meeting else { panic!("{job}") };
    let ports = std::ops::RangeInclusive::from(*ports);
    assert!(host == "node7" && !ports.contains(&29500), "{job}");
    assert!(*ports.start() >= 20_000 && *ports.end() < 32_000 && ports.count() == 8);
    let plain = "RANK=0\nWORLD_SIZE=2\nMASTER_ADDR=m\nMASTER_PORT=1\nHOME=/home/me";
    assert_eq!(found(plain).launcher, Launcher::Torch);
}

#[test]
fn open_mpi_is_recognised() {
    let job = found(OPEN_MPI);
    assert_eq!((job.launcher, job.rank, job.ranks), (Launcher::OpenMpi, 2, 4));
    assert!(matches!(&job.meeting, Meeting::File(path) if path.starts_with("/tmp")), "{job}");
    let wide = found(&OPEN_MPI.replace("LOCAL_SIZE=4", "LOCAL_SIZE=2"));
    let Meeting::File(path) = &wide.meeting else { panic!("{wide}") };
    assert!(path.starts_with("/home/me/.syncline"), "{wide}");
    let other = found(&OPEN_MPI.replace("2771517441", "2771517442"));
    assert_ne!(job.meeting, other.meeting, "every job has a file of its own");
    let shared = found(&format!("{OPEN_MPI}\nSYNCLINE_RENDEZVOUS_DIR=/scratch/me"));
    assert!(matches!(&shared.meeting, Meeting::File(path) if path.starts_with("/scratch/me")));
}

#[test]
fn hydra_is_recognised() {
    let job = found(HYDRA);
    assert_eq!(
        (job.launcher, job.rank, job.ranks, job.local_ranks),
        (Launcher::Pmi, 1, 2, Some(2))
    );
    assert_eq!(job.meeting, Meeting::Pmi(PmiServer::Descriptor(7)));
    let port = found(&HYDRA.replace("PMI_FD=7", "PMI_PORT=node1:4000\nPMI_ID=5"));
    let server = PmiServer::Port { host: "node1".to_owned(), port: 4000, id: "5".to_owned() };
    assert_eq!(port.meeting, Meeting::Pmi(server));
}

#[test]
fn slurm_is_recognised() {
    let job = found(SLURM);
    assert_eq!((job.launcher, job.rank, job.ranks), (Launcher::Slurm, 3, 6));
    assert!(matches!(&job.meeting, Meeting::File(path) if path.starts_with("/home/me/.syncline")));
    let secret = format!("{SLURM}\nSYNCLINE_JOB_SECRET=0123456789abcdef");
    let job = found(&secret);
    let Meeting::FirstHost { host, ports, .. } = &job.meeting else { panic!("{job}") };
    assert_eq!(
        (host.as_str(), ports.to_string().as_str(), job.leads),
        ("n02", "12000-12003", false)
    );
    // The first task of the first node leads, whatever its rank.
    let first = secret.replace("NODEID=1", "NODEID=0").replace("LOCALID=1", "LOCALID=0");
    assert!(found(&first).leads && found(&first).rank == 3);
    let one = found(&SLURM.replace("STEP_NUM_NODES=3", "STEP_NUM_NODES=1"));
    assert!(matches!(&one.meeting, Meeting::File(path) if path.starts_with("/tmp")), "{one}");
    assert_eq!(one.local_ranks, Some(6));
    let alone = SLURM.replace("NUM_TASKS=6", "NUM_TASKS=1").replace("PROCID=3", "PROCID=0");
    assert_eq!(found(&alone).meeting, Meeting::Alone);
}

#[test]
fn pals_is_recognised() {
    let job = found(PALS);
    assert_eq!((job.launcher, job.rank, job.ranks), (Launcher::Pals, 1, 2));
    assert!(matches!(job.meeting, Meeting::File(_)));
}

#[test]
fn our_own_launcher_comes_first() {
    let own = "SYNCLINE_RANK=1\nSYNCLINE_WORLD_SIZE=2\nSYNCLINE_RENDEZVOUS=/tmp/x";
    let all = [own, TORCHRUN, OPEN_MPI, HYDRA, PALS, SLURM].join("\n");
    let job = found(&all);
    assert_eq!((job.launcher, job.meeting), (Launcher::Syncline, Meeting::File("/tmp/x".into())));
    let id = UniqueId::listen(Some("127.0.0.1")).unwrap();
    let by_id = own.replace("/tmp/x", &id.to_string());
    assert_eq!(found(&by_id).meeting, Meeting::Id(id));
}

#[test]
fn of_several_launchers_the_innermost_counts() {
    let order = [
        (TORCHRUN, Launcher::Torchrun),
        (OPEN_MPI, Launcher::OpenMpi),
        (HYDRA, Launcher::Pmi),
        (PALS, Launcher::Pals),
        (SLURM, Launcher::Slurm),
        ("RANK=0\nWORLD_SIZE=2\nMASTER_ADDR=m\nHOME=/h", Launcher::Torch),
    ];
    for (from, (_, expected)) in order.iter().enumerate() {
        let all: Vec<&str> = order[from..].iter().rev().map(|(recorded, _)| *recorded).collect();
        assert_eq!(found(&all.join("\n")).launcher, *expected);
    }
}

#[test]
fn what_is_wrong_with_an_environment_is_named() {
    let partial = refused("SYNCLINE_RANK=1");
    assert!(partial.contains("SYNCLINE_WORLD_SIZE and SYNCLINE_RENDEZVOUS not set"), "{partial}");
    for (recorded, expected) in [
        (TORCHRUN.replace("\n    RANK=3", ""), "torchrun started this process but set no RANK"),
        (
            TORCHRUN.replace("MASTER_PORT=29500", "MASTER_PORT=x"),
            "MASTER_PORT=\"x\" is not a number",
        ),
        (OPEN_MPI.replace("SIZE=4", "SIZE=2"), "rank 2 (OMPI_COMM_WORLD_RANK) of 2 ranks"),
        (HYDRA.replace("PMI_FD=7", "PMI_PORT=nowhere"), "PMI_PORT=\"nowhere\" is not HOST:PORT"),
        ("PMI_PORT=node1:4000\nPMI_ID=5".to_owned(), "start the job without mpiexec's -pmi-port"),
        (SLURM.replace("n[02-04]", "n[02-"), "Slurm's node list: the brackets"),
        (SLURM.replace("HOME=/home/me", ""), "name a folder that all hosts share"),
        (PALS.replace("PMI_SIZE=2", ""), "set no PMI_SIZE or PALS_SIZE"),
        (format!("{SLURM}\nSYNCLINE_JOB_SECRET=short"), "SYNCLINE_JOB_SECRET has 5 bytes"),
        (
            format!("{SLURM}\nSYNCLINE_JOB_SECRET_FILE=/no/such"),
            "SYNCLINE_JOB_SECRET_FILE=/no/such: No such",
        ),
        (
            "SYNCLINE_RANK=0\nSYNCLINE_WORLD_SIZE=1\nSYNCLINE_RENDEZVOUS=syncline9-x".to_owned(),
            "another version",
        ),
    ] {
        let reason = refused(&recorded);
        assert!(reason.contains(expected), "{reason}\n{recorded}");
    }
}

fn nothing(_: &[MemberInfo]) -> Vec<u8> {
    Vec::new()
}

fn arrive(environment: &LaunchEnvironment, within: Duration) -> Result<Membership> {
    let me = Participant {
        rank: environment.rank,
        ranks: environment.ranks,
        deadline: Instant::now() + within,
        interface: Some("lo"),
        ports: Ports::ANY,
        encrypt: false,
        payload: Vec::new(),
        agree: &nothing,
    };
    join(environment, &me, &mut wait_until_readable)
}

fn environment(rank: Rank, ranks: Rank, meeting: Meeting) -> LaunchEnvironment {
    let launcher = Launcher::Slurm;
    let leads = rank == 0;
    LaunchEnvironment { launcher, rank, ranks, local_rank: None, local_ranks: None, meeting, leads }
}

/// All ranks of a job at once, each with its way to meet.
fn arrive_all(meetings: Vec<Meeting>, within: Duration) -> Vec<Result<Membership>> {
    let ranks = meetings.len() as Rank;
    thread::scope(|scope| {
        let threads: Vec<_> = meetings
            .into_iter()
            .zip(0..)
            .map(|(meeting, rank)| {
                scope.spawn(move || arrive(&environment(rank, ranks, meeting), within))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn all_meet(meetings: Vec<Meeting>) {
    let ranks = meetings.len();
    for membership in arrive_all(meetings, LONG) {
        assert_eq!(membership.unwrap().members.len(), ranks);
    }
}

#[test]
fn alone_there_is_nobody_to_wait_for() {
    all_meet(vec![Meeting::Alone]);
}

#[test]
fn a_file_in_a_folder_of_ones_own() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("folder").join("job");
    all_meet(vec![Meeting::File(path.clone()); 3]);
    let mode = |p: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(p).unwrap().permissions())
    };
    assert_eq!(mode(path.parent().unwrap()) & 0o777, 0o700);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(path.parent().unwrap(), open).unwrap();
    let reason = arrive(&environment(1, 2, Meeting::File(path)), LONG).err().unwrap().to_string();
    assert!(reason.contains("others can write to it"), "{reason}");
}

#[test]
fn the_first_host_by_a_secret_that_was_given() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ports = Ports::new(port, port.saturating_add(7)).unwrap();
    let secret = JobSecret::derive("0123456789abcdef", "job").unwrap();
    // Somebody else is at the first of the ports.
    let meeting = Meeting::FirstHost { host: "127.0.0.1".to_owned(), ports, secret };
    all_meet(vec![meeting; 3]);
}

#[test]
fn a_wrong_secret_does_not_get_in() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ports = Ports::new(free, free).unwrap();
    let meeting = |text: &str| Meeting::FirstHost {
        host: "::ffff:127.0.0.1".to_owned(),
        ports,
        secret: JobSecret::derive(text, "job").unwrap(),
    };
    let within = Duration::from_millis(700);
    let both = arrive_all(vec![meeting("0123456789abcdef"), meeting("another secret..")], within);
    let reasons: Vec<String> = both.into_iter().map(|r| r.err().unwrap().to_string()).collect();
    assert!(reasons[0].contains("1 of 2 ranks have not come: 1;"), "{}", reasons[0]);
    assert!(reasons[1].contains("with the same job secret?"), "{}", reasons[1]);
}

/// A PMI-1 server for `ranks` processes; what it keeps is in the mutex.
struct PmiJob {
    ranks: usize,
    state: Mutex<(Vec<(String, String)>, usize)>,
    all_in: Condvar,
}

/// Serves one process as Hydra's proxy does.
fn serve_pmi(job: &PmiJob, input: impl Read, mut output: impl Write) {
    let mut lines = BufReader::new(input).lines();
    while let Some(Ok(line)) = lines.next() {
        let field = |key: &str| {
            line.split(' ')
                .find_map(|w| w.strip_prefix(&format!("{key}=")))
                .unwrap_or("")
                .to_owned()
        };
        let answer = match field("cmd").as_str() {
            // What Hydra says on a port, where a process has to introduce itself.
            "initack" => {
                assert_eq!(field("pmiid"), "1");
                "cmd=initack rc=0\ncmd=set size=2\ncmd=set rank=1\ncmd=set debug=0".to_owned()
            }
            "init" => "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0".to_owned(),
            "get_maxes" => "cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=1024".to_owned(),
            "get_my_kvsname" => "cmd=my_kvsname kvsname=kvs_7".to_owned(),
            "put" => {
                assert_eq!(field("kvsname"), "kvs_7");
                job.state.lock().unwrap().0.push((field("key"), field("value")));
                "cmd=put_result rc=0 msg=success".to_owned()
            }
            "barrier_in" => {
                let mut state = job.state.lock().unwrap();
                state.1 += 1;
                job.all_in.notify_all();
                let all = job.all_in.wait_while(state, |state| state.1 < job.ranks);
                drop(all.unwrap());
                "cmd=barrier_out".to_owned()
            }
            "get" => {
                let state = job.state.lock().unwrap();
                match state.0.iter().find(|(key, _)| *key == field("key")) {
                    Some((_, value)) => format!("cmd=get_result rc=0 msg=success value={value}"),
                    None => "cmd=get_result rc=-1 msg=key not found".to_owned(),
                }
            }
            "finalize" => "cmd=finalize_ack".to_owned(),
            other => panic!("unexpected {other}: {line}"),
        };
        if output.write_all(format!("{answer}\n").as_bytes()).is_err() {
            return;
        }
    }
}

fn pmi_job(ranks: usize) -> (Vec<UnixStream>, Vec<Meeting>) {
    let job = Arc::new(PmiJob { ranks, state: Mutex::default(), all_in: Condvar::new() });
    let mut ends = Vec::new();
    let mut meetings = Vec::new();
    for _ in 0..ranks {
        let (near, far) = UnixStream::pair().unwrap();
        let job = Arc::clone(&job);
        thread::spawn(move || serve_pmi(&job, far.try_clone().unwrap(), far));
        meetings.push(Meeting::Pmi(PmiServer::Descriptor(near.as_raw_fd())));
        ends.push(near);
    }
    (ends, meetings)
}

#[test]
fn a_pmi_server_carries_the_id() {
    let (_ends, meetings) = pmi_job(3);
    all_meet(meetings);
}

#[test]
fn a_pmi_server_may_be_on_a_port() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let job = Arc::new(PmiJob { ranks: 2, state: Mutex::default(), all_in: Condvar::new() });
    let (near, far) = UnixStream::pair().unwrap();
    let first = Meeting::Pmi(PmiServer::Descriptor(near.as_raw_fd()));
    let by_descriptor = Arc::clone(&job);
    thread::spawn(move || serve_pmi(&by_descriptor, far.try_clone().unwrap(), far));
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        serve_pmi(&job, stream.try_clone().unwrap(), stream);
    });
    let (host, id) = ("localhost".to_owned(), "1".to_owned());
    all_meet(vec![first, Meeting::Pmi(PmiServer::Port { host, port, id })]);
}

#[test]
fn a_rank_that_never_comes_to_the_barrier_ends_at_the_deadline() {
    let (_ends, mut meetings) = pmi_job(3);
    meetings.truncate(1);
    let within = Duration::from_millis(300);
    let me = environment(0, 3, meetings.remove(0));
    let reason = arrive(&me, within).err().unwrap().to_string();
    assert!(reason.contains("barrier until the deadline"), "{reason}");
}

#[test]
fn a_pmi_server_that_dies_is_named() {
    let (near, far) = UnixStream::pair().unwrap();
    drop(far);
    let meeting = Meeting::Pmi(PmiServer::Descriptor(near.as_raw_fd()));
    let reason = arrive(&environment(1, 2, meeting), LONG).err().unwrap().to_string();
    assert!(reason.contains("process manager (PMI-1) did not carry"), "{reason}");
    let gone = Meeting::Pmi(PmiServer::Descriptor(1_000_000));
    let reason = arrive(&environment(1, 2, gone), LONG).err().unwrap().to_string();
    assert!(reason.contains("PMI_FD=1000000"), "{reason}");
}

type Values = Arc<(Mutex<Vec<(Vec<u8>, Vec<u8>)>>, Condvar)>;

fn read_text(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 8];
    stream.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// Serves one connection as torch's TCPStore does.
fn serve_store(stream: &mut TcpStream, values: &Values) -> Option<()> {
    let value_at = |key: &[u8], all: &[(Vec<u8>, Vec<u8>)]| {
        all.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.clone())
    };
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).ok()?;
    assert_eq!(greeting, [0, 0xce, 0xf7, 0x85, 0x3c], "torch drops who does not greet");
    loop {
        let mut query = [0];
        stream.read_exact(&mut query).ok()?;
        if matches!(query, [5 | 6]) {
            let mut count = [0; 8];
            stream.read_exact(&mut count).ok()?;
            assert_eq!(u64::from_le_bytes(count), 1);
        }
        let key = read_text(stream)?;
        match query {
            [1] => {
                let value = read_text(stream)?;
                values.0.lock().unwrap().push((key, value));
                values.1.notify_all();
            }
            [3] => {
                let value = value_at(&key, &values.0.lock().unwrap()).expect("asked for too soon");
                stream.write_all(&(value.len() as u64).to_le_bytes()).ok()?;
                stream.write_all(&value).ok()?;
            }
            [5] => {
                let there = value_at(&key, &values.0.lock().unwrap()).is_some();
                stream.write_all(&[u8::from(!there)]).ok()?;
            }
            [6] => {
                let all = values.0.lock().unwrap();
                drop(values.1.wait_while(all, |all| value_at(&key, all).is_none()).unwrap());
                stream.write_all(&[0]).ok()?;
            }
            other => panic!("unexpected query {other:?}"),
        }
    }
}

/// An agent's store at a port of its own; what it holds.
fn agent() -> (u16, Values) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let values = Values::default();
    let held = Arc::clone(&values);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let values = Arc::clone(&held);
            thread::spawn(move || serve_store(&mut stream, &values));
        }
    });
    (port, values)
}

fn agent_meeting(port: u16) -> Meeting {
    let namespace = "syncline/run/0".to_owned();
    Meeting::AgentStore { host: "localhost".to_owned(), port, namespace }
}

#[test]
fn the_agents_store_carries_the_id() {
    let (port, values) = agent();
    all_meet(vec![agent_meeting(port); 3]);
    let keys: Vec<Vec<u8>> = values.0.lock().unwrap().iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(keys, [b"syncline/run/0/syncline/id".to_vec()], "one key, in its namespace");
}

#[test]
fn an_earlier_communicators_id_in_the_store_is_waited_out() {
    let (port, _values) = agent();
    all_meet(vec![agent_meeting(port); 2]);
    all_meet(vec![agent_meeting(port); 2]);
}

#[test]
fn without_rank_0_the_store_stays_empty() {
    let (port, _values) = agent();
    let me = environment(1, 2, agent_meeting(port));
    let reason = arrive(&me, Duration::from_millis(300)).err().unwrap().to_string();
    assert!(reason.contains("holds no syncline/run/0/syncline/id; is rank 0 running?"), "{reason}");
}

#[test]
fn a_store_that_dies_is_named() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for rank in 0..2 {
        let me = environment(rank, 2, agent_meeting(gone));
        let reason = arrive(&me, LONG).err().unwrap().to_string();
        assert!(reason.starts_with(&format!("rendezvous at rank {rank} of 2: ")), "{reason}");
        assert!(reason.contains("refused") && reason.contains("is the agent"), "{reason}");
    }
    // It dies while a rank waits.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 10]).unwrap();
    });
    let me = environment(
        1,
        2,
        Meeting::AgentStore { host: "127.0.0.1".to_owned(), port, namespace: String::new() },
    );
    let reason = arrive(&me, LONG).err().unwrap().to_string();
    server.join().unwrap();
    assert!(reason.contains("cannot ask torchrun's store at 127.0.0.1 port"), "{reason}");
}

#[test]
fn somebody_else_at_the_stores_port_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // Until it hangs up.
        stream.read_to_end(&mut Vec::new()).ok();
    });
    let me = environment(
        1,
        2,
        Meeting::AgentStore { host: "127.0.0.1".to_owned(), port, namespace: String::new() },
    );
    let reason = arrive(&me, LONG).err().unwrap().to_string();
    server.join().unwrap();
    assert!(reason.contains("is it a c10d TCPStore"), "{reason}");
}
