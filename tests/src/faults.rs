//! What a rank does in a test of faults: it meets trouble, says what it was told, goes on with
//! those that are left, and looks whether it has kept anything that it should not have.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use syncline::collective::Request;
use syncline::communicator::{Communicator, Options, Rendezvous, TransportChoice, UniqueId};
use syncline::error::{Error, Rank};
use syncline::reduce::{DType, ReduceOp};
use syncline::schedule::Collective;

/// What went wrong in the test itself.
type Outcome = Result<(), String>;

/// A rank of a fault test.
pub struct Actor {
    /// Its communicator.
    comm: Communicator,
    rank: Rank,
    folder: PathBuf,
    transport: TransportChoice,
}

fn text(error: Error) -> String {
    error.to_string()
}

/// Milliseconds on the clock that all processes of a host share.
pub fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// Says something to whoever reads the test's output.
#[expect(clippy::print_stdout, reason = "the output of a rank is the test's report")]
pub fn say(what: &str, details: &str) {
    println!("{what} at {} ms: {details}", now_ms());
}

/// What this process holds: descriptors, threads, mappings of shared segments.
fn holdings() -> [usize; 3] {
    let entries = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let segments = maps.lines().filter(|line| line.contains("memfd:")).count();
    [entries("/proc/self/fd"), entries("/proc/self/task"), segments]
}

/// Plays the part called `name` as `rank` of `ranks`.
///
/// # Errors
/// What was not as it should be, in words.
pub fn play(
    name: &str,
    (rank, ranks): (Rank, Rank),
    file: &Path,
    transport: TransportChoice,
    timeout: Duration,
) -> Outcome {
    let before = holdings();
    let options = options(transport, timeout, name);
    let folder = file.parent().unwrap_or(file).to_owned();
    let (part, argument) = name.split_once(':').unwrap_or((name, ""));
    if part == "newcomer" {
        return newcomer(&folder, (rank, ranks), options);
    }
    let at = Rendezvous::File(file.to_owned());
    let comm = Communicator::init(&at, rank, ranks, options).map_err(text)?;
    let actor = Actor { comm, rank, folder, transport };
    match part {
        "endure" => actor.endure(argument)?,
        "abort" => actor.abort()?,
        "mismatch" => actor.mismatch(argument)?,
        "absent" => actor.absent()?,
        "two" => actor.two()?,
        "split" => actor.split()?,
        "circle" => actor.circle()?,
        "exit" => actor.exit()?,
        "revoke" => actor.revoke()?,
        "grow" => actor.grow()?,
        other => return Err(format!("no part {other}")),
    }
    drop(actor);
    // The progress thread stays for a second after its last work.
    let patience = Instant::now() + Duration::from_millis(1500);
    while holdings() != before && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(20));
    }
    match holdings() {
        after if after == before => Ok(()),
        after => Err(format!("descriptors, threads, segments: {before:?}, in the end {after:?}")),
    }
}

fn options(transport: TransportChoice, timeout: Duration, name: &str) -> Options {
    let rank: Rank = std::env::var(crate::launch::RANK).map_or(0, |r| r.parse().unwrap_or(0));
    let algorithm = match name {
        "mismatch:algorithm" if rank == 1 => Some("ring".to_owned()),
        "mismatch:algorithm" => Some("recursive_doubling".to_owned()),
        _ => None,
    };
    let host_timeout = Duration::from_secs(2);
    Options { transport, timeout, algorithm, host_timeout, ..Options::default() }
}

impl Actor {
    /// Tells the test that this rank has come so far.
    fn mark(&self, what: &str) -> Outcome {
        let path = self.folder.join(format!("{what}.{}", self.rank));
        std::fs::write(path, b"").map_err(|error| error.to_string())
    }

    /// Makes the same call until it fails.
    fn call_until_it_fails(&self, collective: &str) -> Result<Error, String> {
        let collective = Collective::ALL
            .into_iter()
            .find(|known| known.name() == collective)
            .ok_or("no such collective")?;
        let request = Request::new(collective, DType::F32, 20_000).op(ReduceOp::Sum);
        let contract = syncline::collective::contract(&request, self.rank, self.comm.ranks());
        let contract = contract.map_err(text)?;
        let input = vec![0u8; contract.input.unwrap_or(0) * 4];
        let mut output = vec![0u8; contract.output.unwrap_or(0) * 4];
        self.comm.run(&request, Some(&input), &mut output).map_err(text)?;
        self.comm.barrier().map_err(text)?;
        self.mark("running")?;
        loop {
            if let Err(error) = self.comm.run(&request, Some(&input), &mut output) {
                return Ok(error);
            }
        }
    }

    /// Goes on with those that are left, and sees that they count right.
    fn go_on(&self) -> Outcome {
        let start = Instant::now();
        let smaller = match self.comm.shrink() {
            Ok(smaller) => smaller,
            Err(error @ Error::Excluded { .. }) => {
                say("excluded", &text(error));
                return Ok(());
            }
            Err(error) => return Err(format!("shrink: {error}")),
        };
        say("shrunk", &format!("in {} ms", start.elapsed().as_millis()));
        if smaller.epoch() != self.comm.epoch() + 1 {
            return Err(format!("epoch {}", smaller.epoch()));
        }
        check(&smaller)?;
        say("ranks", &format!("{} of {}", smaller.rank(), smaller.ranks()));
        smaller.barrier().map_err(text)
    }

    /// Calls one collective until a rank is killed or stopped.
    fn endure(&self, collective: &str) -> Outcome {
        let error = self.call_until_it_fails(collective)?;
        say("failed", &text(error));
        let again = self.comm.barrier().err().ok_or("a call after the failure succeeded")?;
        say("again", &text(again));
        let failure = self.comm.failure().ok_or("the communicator does not know that it failed")?;
        say("failure", &text(failure));
        self.go_on()
    }

    /// Rank 1 aborts from another thread, while rank 0 computes and the others wait.
    fn abort(&self) -> Outcome {
        self.comm.barrier().map_err(text)?;
        let comm = &self.comm;
        let result = std::thread::scope(|scope| {
            if self.rank == 1 {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(300));
                    say("aborting", "");
                    comm.abort("the user pressed stop");
                });
            }
            if self.rank == 0 {
                std::thread::sleep(Duration::from_millis(1000));
            }
            comm.barrier()
        });
        say("failed", &text(result.err().ok_or("the barrier succeeded")?));
        self.go_on()
    }

    /// Rank 1's call differs from the others' in one thing.
    fn mismatch(&self, what: &str) -> Outcome {
        self.comm.barrier().map_err(text)?;
        say("calling", "");
        let usual = Request::new(Collective::AllReduce, DType::F32, 1000).op(ReduceOp::Sum);
        let rooted = Request::new(Collective::Broadcast, DType::F32, 1000);
        let differs = self.rank == 1;
        let request = match what {
            "op" if differs => usual.op(ReduceOp::Max),
            "type" if differs => Request { dtype: DType::I32, ..usual },
            "count" if differs => {
                Request::new(Collective::AllReduce, DType::F32, 999).op(ReduceOp::Sum)
            }
            "collective" if differs => Request::new(Collective::AllGather, DType::F32, 1000),
            "root" if differs => rooted.root(2),
            "root" => rooted.root(0),
            _ => usual,
        };
        let contract = syncline::collective::contract(&request, self.rank, self.comm.ranks());
        let contract = contract.map_err(text)?;
        let input = vec![0u8; contract.input.unwrap_or(0) * 4];
        let mut output = vec![0u8; contract.output.unwrap_or(0) * 4];
        let mut result = self.comm.run(&request, Some(&input), &mut output);
        if result.is_ok() {
            // A rank that only sends may be done before anybody compares.
            result = self.comm.barrier();
        }
        say("failed", &text(result.err().ok_or("the call succeeded")?));
        Ok(())
    }

    /// Rank 2 lives, and does not come.
    fn absent(&self) -> Outcome {
        check(&self.comm)?;
        if self.rank == 2 {
            std::thread::sleep(Duration::from_millis(3000));
        }
        say("calling", "");
        say("failed", &text(self.comm.barrier().err().ok_or("the barrier succeeded")?));
        Ok(())
    }

    /// One of two communicators fails; the other does not notice.
    fn two(&self) -> Outcome {
        let other = self.comm.duplicate().map_err(text)?;
        check(&other)?;
        if self.rank == 1 {
            self.comm.revoke("no longer wanted");
        }
        say("failed", &text(self.comm.barrier().err().ok_or("the barrier succeeded")?));
        for _ in 0..20 {
            check(&other)?;
        }
        Ok(())
    }

    /// The last rank dies while the others split.
    fn split(&self) -> Outcome {
        self.comm.barrier().map_err(text)?;
        self.mark("running")?;
        if self.rank + 1 == self.comm.ranks() {
            std::thread::sleep(Duration::from_secs(60));
        }
        let error = self.comm.split(Some(0), 0).err().ok_or("the split succeeded")?;
        say("failed", &text(error));
        self.go_on()
    }

    /// The first ranks wait for each other, and for nobody else; the last two are stopped and
    /// killed.
    fn circle(&self) -> Outcome {
        self.comm.barrier().map_err(text)?;
        self.mark("running")?;
        let circle = self.comm.ranks() - 2;
        let from = if self.rank < circle { (self.rank + 1) % circle } else { 0 };
        let mut data = [0u8; 8];
        let error = self.comm.recv(&mut data, from).err().ok_or("nobody sends")?;
        say("failed", &text(error));
        self.mark("told")?;
        self.go_on()
    }

    /// The root of a broadcast exits without a word once its part is done.
    fn exit(&self) -> Outcome {
        let mut data = vec![self.rank; 5000];
        // So that the wires are open, and the kernel has what is sent.
        for _ in 0..3 {
            self.comm.broadcast(&mut data, 0).map_err(text)?;
            self.comm.barrier().map_err(text)?;
        }
        data.fill(self.rank);
        let result = self.comm.broadcast(&mut data, 0);
        if self.rank == 0 {
            result.map_err(text)?;
            std::process::exit(0);
        }
        std::thread::sleep(Duration::from_millis(50));
        result.map_err(|error| format!("what was sent before the exit: {error}"))?;
        if data.iter().any(|&x| x != 0) {
            return Err("a wrong result".to_owned());
        }
        say("failed", &text(self.comm.barrier().err().ok_or("the barrier succeeded")?));
        self.go_on()
    }

    /// All revoke, agree, and go on together.
    fn revoke(&self) -> Outcome {
        let agreed = self.comm.agree(!(1 << self.rank)).map_err(text)?;
        let expected = !((1u64 << self.comm.ranks()) - 1);
        if agreed.flags != expected || !agreed.failed.is_empty() {
            return Err(format!("agreed on {agreed:?}"));
        }
        if self.rank == 2 {
            self.comm.revoke("time for something new");
        }
        say("failed", &text(self.comm.barrier().err().ok_or("the barrier succeeded")?));
        let agreed = self.comm.agree(7).map_err(text)?;
        if agreed.flags != 7 || !agreed.failed.is_empty() {
            return Err(format!("agreed on {agreed:?}"));
        }
        self.go_on()
    }

    /// Admits two ranks.
    fn grow(&self) -> Outcome {
        let ranks = self.comm.ranks() + 2;
        let invitation = if self.rank == 1 {
            let id = self.comm.invite().map_err(text)?;
            let path = self.folder.join("invitation");
            let half = self.folder.join("invitation.half");
            std::fs::write(&half, id.to_string()).map_err(|error| error.to_string())?;
            std::fs::rename(half, path).map_err(|error| error.to_string())?;
            Some(id)
        } else {
            None
        };
        let grown = self.comm.grow(invitation.as_ref(), ranks).map_err(text)?;
        if (grown.rank(), grown.ranks()) != (self.rank, ranks) {
            return Err(format!("rank {} of {}", grown.rank(), grown.ranks()));
        }
        check(&grown)?;
        check(&self.comm)?;
        say("grown", &format!("{:?}", self.transport));
        Ok(())
    }
}

/// Waits for the invitation and joins.
fn newcomer(folder: &Path, (rank, ranks): (Rank, Rank), options: Options) -> Outcome {
    let path = folder.join("invitation");
    let patience = Instant::now() + Duration::from_secs(60);
    let invitation = loop {
        match std::fs::read_to_string(&path) {
            Ok(text) => break text,
            Err(error) if Instant::now() > patience => return Err(error.to_string()),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let id: UniqueId = invitation.parse().map_err(text)?;
    let comm = Communicator::init(&Rendezvous::Id(id), rank, ranks, options).map_err(text)?;
    check(&comm)
}

/// An all_reduce, and whether it is right.
fn check(comm: &Communicator) -> Outcome {
    let mut data = vec![u64::from(comm.rank()) + 1; 3000];
    comm.all_reduce(&mut data, ReduceOp::Sum).map_err(text)?;
    let ranks = u64::from(comm.ranks());
    match data.iter().all(|&sum| sum == ranks * (ranks + 1) / 2) {
        true => Ok(()),
        false => Err(format!("the sum over {ranks} ranks is {}", data[0])),
    }
}
