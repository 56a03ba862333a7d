//! Flight dumps: what one rank knows about its last operations, as a file that `collbench doctor`
//! reads together with those of the other ranks.
//!
//! The file is JSON. [`FORMAT`] and [`VERSION`] stand first in it; a later version may add
//! fields, and raises the number when it changes the meaning of one.

mod take;
mod write;

use serde::{Deserialize, Serialize};

use crate::error::Rank;

pub(super) use take::Obituary;

/// What every dump says it is.
pub const FORMAT: &str = "syncline-flight-dump";
/// Version of the file's layout.
pub const VERSION: u32 = 1;

/// One rank of one communicator, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlightDump {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Version of the library that wrote it.
    pub library: String,
    /// Tells the job from others: 16 hexadecimal digits, the same in every process of the job.
    pub job: String,
    /// Which of the job's communicators: 16 hexadecimal digits.
    pub communicator: String,
    /// Changes of members that led to it.
    pub epoch: u32,
    /// The rank that wrote it.
    pub rank: Rank,
    /// Every rank.
    pub members: Vec<DumpMember>,
    /// Wall-clock time at which it was taken, in seconds since 1970.
    pub taken_unix_s: f64,
    /// The same moment on this rank's own clock, which all times below are on.
    pub taken_s: f64,
    /// How long a call may make no progress.
    pub timeout_s: f64,
    /// Why the communicator takes no more calls, if it does not.
    pub failure: Option<String>,
    /// The engine could not be asked in time: it was computing. There are no operations then.
    pub busy: bool,
    /// Operations begun so far; the last ones are listed.
    pub operations_total: u64,
    /// The number that the next collective gets.
    pub next_collective: u64,
    /// Connections dropped because they could not prove that they belong to the job.
    pub strangers_dropped: u64,
    /// Connections dropped because they came for a communicator or an epoch that is over.
    pub stragglers_dropped: u64,
    /// The last operations, oldest first.
    pub operations: Vec<DumpOperation>,
}

/// A rank, and where it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpMember {
    /// Its rank.
    pub rank: Rank,
    /// Its host's name.
    pub host: String,
    /// Its process id on that host.
    pub pid: u32,
    /// The wire to it; none to the rank itself.
    pub wire: Option<String>,
}

/// What an operation is, for numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DumpKind {
    /// Collectives of a communicator are numbered together.
    Collective,
    /// Messages to one rank are numbered together.
    Send,
    /// Messages from one rank are numbered together.
    Recv,
}

/// Where an operation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DumpState {
    /// It waits for scratch memory.
    Queued,
    /// It is under way.
    Running,
    /// It has ended well.
    Done,
    /// It has ended with an error.
    Failed,
}

impl DumpState {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DumpOperation {
    /// How it is numbered.
    pub kind: DumpKind,
    /// The other rank of a message.
    pub peer: Option<Rank>,
    /// Its number.
    pub sequence: u64,
    /// What was called, in words: `all_reduce(f32 x 1024, sum, ring)`.
    pub call: String,
    /// What all ranks must agree on: 16 hexadecimal digits.
    pub fingerprint: String,
    /// Where it is in its life.
    pub state: DumpState,
    /// When its call came. Small operations carry a time that may be a few operations old.
    pub started_s: f64,
    /// When it ended.
    pub ended_s: Option<f64>,
    /// What holds it up, or did when it failed.
    pub waiting: Option<DumpWaiting>,
}

/// What holds an operation up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpWaiting {
    /// Ranks whose message is due.
    pub awaits: Vec<Rank>,
    /// Ranks that do not take what is ready for them.
    pub refused_by: Vec<Rank>,
    /// Bytes the wires have taken.
    pub sent_bytes: u64,
    /// Bytes there are to send in all.
    pub to_send_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes there are to receive in all.
    pub to_receive_bytes: u64,
}

/// What comes first in every version.
#[derive(Deserialize)]
struct Head {
    format: Option<String>,
    version: Option<u32>,
}

impl FlightDump {
    /// The file's content.
    pub fn to_json(&self) -> String {
        // Numbers, strings and lists: nothing in it can fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// In words: not JSON, cut off, not a dump, or of another version.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let head: Head = serde_json::from_str(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Eof => {
                format!("is cut off at line {}, column {}", error.line(), error.column())
            }
            _ => format!("is not JSON: {error}"),
        })?;
        match (head.format.as_deref(), head.version) {
            (Some(FORMAT), Some(VERSION)) => {}
            (Some(FORMAT), Some(version)) => {
                return Err(format!(
                    "is a dump of version {version}, and this is for version {VERSION}; use the \
                     collbench that came with the library"
                ));
            }
            _ => return Err(format!("is not a flight dump: it does not say {FORMAT:?}")),
        }
        let dump: Self =
            serde_json::from_str(text).map_err(|error| format!("is damaged: {error}"))?;
        dump.check().map(|()| dump)
    }

    /// Refuses what no rank writes.
    fn check(&self) -> Result<(), String> {
        let ranks = self.members.len();
        let in_order = self.members.iter().zip(0..).all(|(member, rank)| member.rank == rank);
        let is_rank = |rank: &Rank| (*rank as usize) < ranks;
        let known = |operation: &DumpOperation| {
            let waiting = operation.waiting.iter();
            operation.peer.iter().all(is_rank)
                && waiting.flat_map(|w| w.awaits.iter().chain(&w.refused_by)).all(is_rank)
        };
        if in_order && is_rank(&self.rank) && self.operations.iter().all(known) {
            Ok(())
        } else {
            Err("is damaged: it names ranks that are not there".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump() -> FlightDump {
        let member = |rank| DumpMember { rank, host: "h".into(), pid: 1, wire: None };
        FlightDump {
            format: FORMAT.into(),
            version: VERSION,
            library: "0.1.0".into(),
            job: "0".into(),
            communicator: "0".into(),
            epoch: 0,
            rank: 1,
            members: vec![member(0), member(1)],
            taken_unix_s: 1.5,
            taken_s: 2.5,
            timeout_s: 300.0,
            failure: None,
            busy: false,
            operations_total: 0,
            next_collective: 0,
            strangers_dropped: 0,
            stragglers_dropped: 0,
            operations: vec![DumpOperation {
                kind: DumpKind::Collective,
                peer: None,
                sequence: 7,
                call: "barrier".into(),
                fingerprint: "0".into(),
                state: DumpState::Running,
                started_s: 1.0,
                ended_s: None,
                waiting: Some(DumpWaiting { awaits: vec![0], ..DumpWaiting::default() }),
            }],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(FlightDump::from_json(&dump().to_json()), Ok(dump()));
    }

    #[test]
    fn broken_files_are_refused_with_the_reason() {
        let text = dump().to_json();
        let refuse = |text: &str, word: &str| {
            let error = FlightDump::from_json(text).unwrap_err();
            assert!(error.contains(word), "{error}");
        };
        refuse(&text[..text.len() / 2], "cut off at line");
        refuse("", "cut off");
        refuse("not json", "not JSON");
        refuse("{}", "not a flight dump");
        refuse("[1]", "not JSON");
        refuse(&text.replace("\"version\": 1", "\"version\": 2"), "of version 2");
        refuse(
            &text.replace("\"rank\": 1,\n  \"members\"", "\"rank\": 9,\n  \"members\""),
            "ranks",
        );
        refuse(&text.replace("\"sequence\": 7", "\"sequence\": -7"), "damaged");
        for end in 0..text.len() {
            assert!(FlightDump::from_json(&text[..end]).is_err());
        }
    }
}
