//! Starts ranks as real processes and collects how they ended.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
    _folder: tempfile::TempDir,
}

impl Ranks {
    /// Starts `ranks` processes of `worker` with `arguments`.
    pub fn start(worker: &Path, ranks: usize, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("rendezvous");
        let start = |rank: usize| {
            Command::new(worker)
                .args(arguments)
                .env(RANK, rank.to_string())
                .env(WORLD, ranks.to_string())
                .env(FILE, &file)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the worker starts")
        };
        Self { children: (0..ranks).map(start).collect(), _folder: folder }
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
