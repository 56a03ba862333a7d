//! From paths to groups of dumps that belong together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use syncline::communicator::FlightDump;
use syncline::communicator::dump::{DumpKind, DumpOperation};

use crate::failure::{Failure, Outcome};

/// Largest file that is taken for a dump: a million operations of a thousand ranks are less.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The dumps of one communicator, at most one per rank.
pub(super) struct Group {
    pub(super) dumps: BTreeMap<u32, FlightDump>,
}

impl Group {
    /// Any of its dumps: what all have in common.
    pub(super) fn any(&self) -> &FlightDump {
        self.dumps.values().next().expect("a group has a dump")
    }

    pub(super) fn ranks(&self) -> u32 {
        u32::try_from(self.any().members.len()).unwrap_or(u32::MAX)
    }

    /// `rank 3 on node1 (pid 77)`.
    pub(super) fn name(&self, rank: u32) -> String {
        let member = &self.any().members[rank as usize];
        format!("rank {rank} on {} (pid {})", member.host, member.pid)
    }

    /// What `rank` remembers of an operation.
    pub(super) fn find(
        &self,
        rank: u32,
        kind: DumpKind,
        peer: Option<u32>,
        sequence: u64,
    ) -> Option<&DumpOperation> {
        self.dumps.get(&rank)?.operations.iter().find(|operation| {
            operation.kind == kind && operation.peer == peer && operation.sequence == sequence
        })
    }
}

/// Reads files, and of folders what the library wrote there.
pub(super) fn read(paths: &[PathBuf]) -> Outcome<Vec<Group>> {
    group(expand(paths)?.into_iter().map(|path| load(&path).map(|dump| (path, dump))))
}

/// Puts dumps, each with where it is from, together.
pub(super) fn group(
    dumps: impl Iterator<Item = Outcome<(PathBuf, FlightDump)>>,
) -> Outcome<Vec<Group>> {
    let mut groups: BTreeMap<(String, u32), Group> = BTreeMap::new();
    let mut sources: BTreeMap<(String, u32, u32), PathBuf> = BTreeMap::new();
    let mut job: Option<(String, PathBuf)> = None;
    for dump in dumps {
        let (path, dump) = dump?;
        let (known, first) = job.get_or_insert_with(|| (dump.job.clone(), path.clone()));
        if *known != dump.job {
            return Err(Failure::usage(format!(
                "{} is of another job ({}) than {} ({known}); give the dumps of one job",
                path.display(),
                dump.job,
                first.display()
            )));
        }
        let name = (dump.communicator.clone(), dump.epoch);
        let source = (name.0.clone(), name.1, dump.rank);
        if let Some(other) = sources.insert(source, path.clone()) {
            return Err(Failure::usage(format!(
                "{} and {} are both of rank {}; give one dump per rank",
                other.display(),
                path.display(),
                dump.rank
            )));
        }
        let group = groups.entry(name).or_insert_with(|| Group { dumps: BTreeMap::new() });
        let same = |other: &FlightDump| {
            let pairs = other.members.iter().zip(&dump.members);
            other.members.len() == dump.members.len()
                && pairs.into_iter().all(|(a, b)| (&a.host, a.pid) == (&b.host, b.pid))
        };
        if !group.dumps.values().all(same) {
            return Err(Failure::usage(format!(
                "{} lists other members than the other dumps of its communicator; are they of \
                 different runs?",
                path.display()
            )));
        }
        group.dumps.insert(dump.rank, dump);
    }
    Ok(groups.into_values().collect())
}

fn load(path: &Path) -> Outcome<FlightDump> {
    let wrong = |reason: String| Failure::usage(format!("{} {reason}", path.display()));
    let size = std::fs::metadata(path).map_err(|e| wrong(format!("cannot be read: {e}")))?.len();
    if size > FILE_BYTES_MAX {
        return Err(wrong(format!("has {size} bytes; no dump is that large")));
    }
    let bytes = std::fs::read(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("is not text".to_owned()))?;
    FlightDump::from_json(&text).map_err(wrong)
}

/// The files, those of folders in place of the folders.
fn expand(paths: &[PathBuf]) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let wrong = |e: std::io::Error| Failure::usage(format!("{}: {e}", path.display()));
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(wrong)? {
            let file = entry.map_err(wrong)?.path();
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("syncline-") && name.ends_with(".json") {
                found.push(file);
            }
        }
        if found.is_empty() {
            return Err(Failure::usage(format!(
                "{} holds no dump (syncline-*.json)",
                path.display()
            )));
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}
