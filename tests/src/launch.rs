//! Starts ranks as real processes and collects how they ended.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Environment variables of a rank.
pub const RANK: &str = "SYNCLINE_RANK";
/// Number of ranks.
pub const WORLD: &str = "SYNCLINE_WORLD_SIZE";
/// Rendezvous file.
pub const FILE: &str = "SYNCLINE_TEST_FILE";

/// How one rank ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status 0.
    pub success: bool,
    /// Both outputs.
    pub output: String,
}

/// Ranks that are running; whatever is left of them dies with this value.
#[derive(Debug)]
pub struct Ranks {
    children: Vec<Child>,
    folder: tempfile::TempDir,
}

impl Ranks {
    /// Starts `ranks` processes of `worker` with `arguments`.
    pub fn start(worker: &Path, ranks: usize, arguments: &[&str]) -> Self {
        let commands = (0..ranks).map(|_| {
            let mut command = Command::new(worker);
            command.args(arguments);
            command
        });
        Self::start_each(commands, ranks)
    }

    /// Starts one rank by each of `commands`. The first `world` are told that there are so many,
    /// those that come later how many there are in the end.
    pub fn start_each(commands: impl ExactSizeIterator<Item = Command>, world: usize) -> Self {
        let all = commands.len();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("rendezvous");
        let start = |(rank, mut command): (usize, Command)| {
            command
                .env(RANK, rank.to_string())
                .env(WORLD, if rank < world { world } else { all }.to_string())
                .env(FILE, &file)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the worker starts")
        };
        Self { children: commands.enumerate().map(start).collect(), folder }
    }

    /// Waits until each of `ranks` has left a mark of this name beside the rendezvous file.
    pub fn await_marks(&self, name: &str, ranks: std::ops::Range<usize>, limit: Duration) {
        let deadline = Instant::now() + limit;
        for rank in ranks {
            let path = self.folder.path().join(format!("{name}.{rank}"));
            while !path.exists() {
                assert!(Instant::now() < deadline, "rank {rank} does not get to `{name}`");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Sends a signal to a rank.
    pub fn signal(&self, rank: usize, signal: Signal) {
        let pid = i32::try_from(self.pid(rank)).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it is ours");
    }

    /// Whether a rank has ended.
    pub fn has_ended(&mut self, rank: usize) -> bool {
        !matches!(self.children[rank].try_wait(), Ok(None))
    }

    /// The process of `rank`.
    pub fn pid(&self, rank: usize) -> u32 {
        self.children[rank].id()
    }

    /// Waits for all, at most `limit`; the rest is killed.
    pub fn finish(mut self, limit: Duration) -> Vec<Ended> {
        let deadline = Instant::now() + limit;
        while self.children.iter_mut().any(|child| matches!(child.try_wait(), Ok(None))) {
            if Instant::now() > deadline {
                self.kill();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let children = std::mem::take(&mut self.children);
        children.into_iter().map(Self::ended).collect()
    }

    fn ended(child: Child) -> Ended {
        let output = child.wait_with_output().expect("its output can be read");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ended { success: output.status.success(), output: text }
    }

    fn kill(&mut self) {
        for child in &mut self.children {
            // A child that has ended already cannot be killed; that is fine.
            let _ = child.kill();
        }
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        self.kill();
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

/// Starts ranks and asserts that all succeed within `limit`.
pub fn all_succeed(worker: &Path, ranks: usize, arguments: &[&str], limit: Duration) {
    let ended = Ranks::start(worker, ranks, arguments).finish(limit);
    for (rank, end) in ended.iter().enumerate() {
        assert!(end.success, "rank {rank} of {ranks} {arguments:?}:\n{}", end.output);
    }
}
