//! A job that computes while its ports are under attack, and what it reports.

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use syncline::communicator::{Communicator, Options, Rendezvous, TransportChoice, UniqueId};
use syncline::reduce::ReduceOp;

use crate::attack::{Target, record};

/// How long a rank waits for what another process is about to write.
const PATIENCE: Duration = Duration::from_secs(60);
/// After the attack, strangers are gone within the time they had to prove themselves.
const SETTLING: Duration = Duration::from_secs(20);

/// At whom the attackers throw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weapon {
    /// At the job.
    Job,
    /// At ports that have nothing to do with it.
    Decoy,
}

/// A job and its attackers.
#[derive(Clone, Debug)]
pub struct Siege {
    /// Ranks of the job.
    pub ranks: u32,
    /// At whom the attackers throw.
    pub weapon: Weapon,
    /// For how long.
    pub time: Duration,
    /// Rest of an attacker between two connections.
    pub rest_us: u32,
    /// Encrypt the job.
    pub encrypt: bool,
    /// Take all of rank 0's descriptors away for the time of the attack.
    pub starve: bool,
}

impl Default for Siege {
    fn default() -> Self {
        Self {
            ranks: 3,
            weapon: Weapon::Job,
            time: Duration::from_secs(10),
            rest_us: 500,
            encrypt: false,
            starve: false,
        }
    }
}

/// What rank 0 saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Calls, all with the right result.
    pub iterations: usize,
    /// Time of a call in microseconds: median, first and last decile.
    pub times_us: [f64; 3],
    /// Dropped, by all ranks together: strangers, rate-limited; and shortages.
    pub dropped: [u64; 3],
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, low, high] = self.times_us;
        let [strangers, rate_limited, shortages] = self.dropped;
        write!(
            f,
            "{} {median} {low} {high} {strangers} {rate_limited} {shortages}",
            self.iterations
        )
    }
}

impl Report {
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [iterations, median, low, high, strangers, rate_limited, shortages] = words[..] else {
            return None;
        };
        let time = |text: &str| text.parse::<f64>().ok();
        let count = |text: &str| text.parse::<u64>().ok();
        Some(Self {
            iterations: iterations.parse().ok()?,
            times_us: [time(median)?, time(low)?, time(high)?],
            dropped: [count(strangers)?, count(rate_limited)?, count(shortages)?],
        })
    }
}

/// Processes that end with this value.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended already cannot be killed; that is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Siege {
    /// Runs it with `program`, which is `attack`; rank 0's report.
    ///
    /// # Errors
    /// What went wrong: a wrong result, a failed call, a descriptor that is still open.
    pub fn run(&self, program: &Path) -> Result<Report, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut children = Children(Vec::new());
        let flag = |on: bool| if on { "1" } else { "0" };
        let start = |children: &mut Children, rank: u32, id: &str| {
            let child = Command::new(program)
                .args(["rank", &rank.to_string(), &self.ranks.to_string()])
                .arg(folder.path())
                .args([id, flag(self.encrypt), flag(self.starve && rank == 0)])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn();
            child.map(|child| children.0.push(child)).map_err(|error| error.to_string())
        };
        start(&mut children, 0, "-")?;
        let id: UniqueId = wait_for(&folder.path().join("id"))?
            .parse()
            .map_err(|error: syncline::Error| error.to_string())?;
        for rank in 1..self.ranks - 1 {
            start(&mut children, rank, &id.to_string())?;
        }
        // The last rank comes through somebody who listens in.
        let spy = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let near = spy.local_addr().map_err(|error| error.to_string())?;
        start(&mut children, self.ranks - 1, &id.through(near).to_string())?;
        let heard = record(&spy, id.addresses()[0]).map_err(|error| error.to_string())?;
        // Greeting, proof and hello; in the clear, the rest is what the rank told the root.
        let handshake = &heard[..heard.len().min(if self.encrypt { 144 } else { 96 })];
        write(&folder.path().join("record"), handshake)?;
        wait_for(&folder.path().join("targets"))?;
        self.throw(program, folder.path())?;
        write(&folder.path().join("stop"), b"stop")?;
        let reports = finish(children)?;
        Report::parse(&reports[0]).ok_or_else(|| format!("no report: {}", reports[0]))
    }

    fn throw(&self, program: &Path, folder: &Path) -> Result<(), String> {
        let weapon = if self.weapon == Weapon::Job { "job" } else { "decoy" };
        let output = Command::new(program)
            .arg("throw")
            .arg(folder)
            .args([weapon, &self.time.as_secs().to_string(), &self.rest_us.to_string()])
            .output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(text)
    }
}

/// Waits for all ranks; what they printed, by rank.
fn finish(mut children: Children) -> Result<Vec<String>, String> {
    let until = Instant::now() + PATIENCE + SETTLING;
    while children.0.iter_mut().any(|child| matches!(child.try_wait(), Ok(None))) {
        if Instant::now() > until {
            return Err("the job did not end".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut reports = Vec::new();
    for (rank, child) in std::mem::take(&mut children.0).into_iter().enumerate() {
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!("rank {rank}: {}", String::from_utf8_lossy(&output.stderr)));
        }
        reports.push(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Ok(reports)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, bytes)
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn wait_for(path: &Path) -> Result<String, String> {
    let until = Instant::now() + PATIENCE;
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) => return Ok(text),
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
}

/// One rank of the job: arguments are its rank, the number of ranks, the folder of the siege, the
/// id or `-`, whether to encrypt, and whether to go without descriptors.
///
/// # Errors
/// What went wrong, in words.
pub fn rank(arguments: &[&str]) -> Result<String, String> {
    let [rank, ranks, folder, id, encrypt, starve] = *arguments else {
        return Err("rank needs six arguments".to_owned());
    };
    let number = |text: &str| text.parse::<u32>().map_err(|error| error.to_string());
    let (rank, ranks, folder) = (number(rank)?, number(ranks)?, PathBuf::from(folder));
    let id: UniqueId = if id == "-" {
        let id = UniqueId::listen(Some("127.0.0.1")).map_err(|error| error.to_string())?;
        write(&folder.join("id"), id.to_string().as_bytes())?;
        id
    } else {
        id.parse().map_err(|error: syncline::Error| error.to_string())?
    };
    let options = Options {
        transport: TransportChoice::Tcp,
        timeout: PATIENCE,
        encrypt: encrypt == "1",
        ..Options::default()
    };
    let comm = Communicator::init(&Rendezvous::Id(id), rank, ranks, options)
        .map_err(|error| error.to_string())?;
    let mut citizen = Citizen { comm, folder, iteration: 0, times_us: Vec::new() };
    citizen.live(starve == "1").map_err(|reason| format!("rank {rank}: {reason}"))
}

struct Citizen {
    comm: Communicator,
    folder: PathBuf,
    iteration: u32,
    times_us: Vec<f64>,
}

impl Citizen {
    fn live(&mut self, starve: bool) -> Result<String, String> {
        for _ in 0..100 {
            self.sum(false)?;
        }
        let descriptors = open_descriptors();
        if self.comm.rank() == 0 {
            self.publish_targets()?;
        }
        let taken = if starve { take_descriptors() } else { Vec::new() };
        self.times_us.clear();
        let stop = self.folder.join("stop");
        let mut over = false;
        while !over {
            let end = self.comm.rank() == 0 && self.iteration.is_multiple_of(64) && stop.exists();
            over = self.sum(end)?;
        }
        drop(taken);
        let times_us = std::mem::take(&mut self.times_us);
        let left = self.settle(descriptors)?;
        if left > descriptors {
            return Err(format!("{left} descriptors are open, {descriptors} were before"));
        }
        self.report(times_us)
    }

    /// Waits until the strangers are gone; how many descriptors are open then, here.
    fn settle(&mut self, descriptors: usize) -> Result<usize, String> {
        let until = Instant::now() + SETTLING;
        loop {
            let left = open_descriptors();
            let wait = left > descriptors && Instant::now() < until;
            let mut waiting = [u8::from(wait)];
            self.comm.all_reduce(&mut waiting, ReduceOp::Max).map_err(|error| error.to_string())?;
            if waiting == [0] {
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn publish_targets(&self) -> Result<(), String> {
        let mut lines = Vec::new();
        for member in self.comm.members() {
            lines.extend(member.addresses.iter().map(|&address| Target::Tcp(address).line()));
            let name = String::from_utf8_lossy(&member.local_name).into_owned();
            lines.push(Target::Unix(name).line());
        }
        write(&self.folder.join("targets"), lines.join("\n").as_bytes())
    }

    /// One checked all_reduce; whether rank 0 said that it was the last.
    fn sum(&mut self, last: bool) -> Result<bool, String> {
        let (rank, ranks) = (self.comm.rank(), self.comm.ranks());
        let long = self.iteration % 16 == 15;
        let count = if long { 100_000 } else { 1000 };
        let value = |rank: u32, at: u32| (rank + (self.iteration + at) % 61) as f32;
        let mut data: Vec<f32> = (0..count).map(|at| value(rank, at)).collect();
        data.push(f32::from(u8::from(last)));
        let start = Instant::now();
        self.comm.all_reduce(&mut data, ReduceOp::Sum).map_err(|error| error.to_string())?;
        if !long {
            self.times_us.push(start.elapsed().as_secs_f64() * 1e6);
        }
        for (at, &sum) in (0..count).zip(&data) {
            let right: f32 = (0..ranks).map(|rank| value(rank, at)).sum();
            if sum != right {
                return Err(format!("iteration {}: {sum} at {at}, not {right}", self.iteration));
            }
        }
        self.iteration += 1;
        Ok(data[count as usize] == 1.0)
    }

    fn report(&self, mut times_us: Vec<f64>) -> Result<String, String> {
        let mine = self.comm.refusals();
        let mut dropped = [mine.strangers, mine.rate_limited, mine.shortages];
        self.comm.all_reduce(&mut dropped, ReduceOp::Sum).map_err(|error| error.to_string())?;
        times_us.sort_by(f64::total_cmp);
        let decile = |tenths: usize| times_us[(times_us.len() - 1) * tenths / 10];
        let times_us = [decile(5), decile(1), decile(9)].map(|time| (time * 10.0).round() / 10.0);
        Ok(Report { iterations: self.iteration as usize, times_us, dropped }.to_string())
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count())
}

/// Opens files until the process has no descriptor left.
fn take_descriptors() -> Vec<std::fs::File> {
    let limit = rustix::process::Rlimit { current: Some(200), maximum: None };
    let kept = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let limit = rustix::process::Rlimit { maximum: kept, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("a lower limit");
    std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect()
}
