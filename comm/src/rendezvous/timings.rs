//! How long each part of coming together took.

use std::fmt;
use std::time::{Duration, Instant};

/// Where the time went between the call that makes a communicator and its return, on this rank.
/// Phases that a rank does not go through take no time; the root, for one, does not connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InitTimings {
    /// Learning how to reach the root: reading the file, asking the store or the launcher,
    /// resolving names. Includes waiting until the root has made that known.
    pub resolve: Duration,
    /// Connecting to the root.
    pub connect: Duration,
    /// Proving to each other that root and rank belong to the job.
    pub handshake: Duration,
    /// Waiting until all ranks have come.
    pub gather: Duration,
    /// Receiving the table of members and passing it on.
    pub table: Duration,
    /// Making the shared memory of this host's ranks.
    pub shm: Duration,
    /// Preparing connections to other hosts; they open when first used.
    pub tcp: Duration,
    /// Everything, phases without a name of their own included.
    pub total: Duration,
}

impl InitTimings {
    /// The phases with their names, in order, the total last.
    pub fn phases(&self) -> [(&'static str, Duration); 8] {
        [
            ("resolve", self.resolve),
            ("connect", self.connect),
            ("handshake", self.handshake),
            ("gather", self.gather),
            ("table", self.table),
            ("shm", self.shm),
            ("tcp", self.tcp),
            ("total", self.total),
        ]
    }
}

impl fmt::Display for InitTimings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, time)) in self.phases().into_iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{name} {:.2} ms", time.as_secs_f64() * 1e3)?;
        }
        Ok(())
    }
}

/// Measures one phase after the other.
pub(crate) struct Lap(Instant);

impl Lap {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Adds what has passed since the last lap to `phase`.
    pub(crate) fn end(&mut self, phase: &mut Duration) {
        let now = Instant::now();
        *phase += now.duration_since(self.0);
        self.0 = now;
    }
}
