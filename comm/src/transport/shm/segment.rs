//! The segment that the ranks of one host share.
//!
//! The host's leader creates it and passes its descriptors on (see `exchange`); the others
//! attach, and believe nothing they have not checked. It has no name in any file system, so
//! nothing is left behind whatever happens to its processes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{
    FallocateFlags, FileType, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals,
    fstat, ftruncate, memfd_create,
};
use rustix::process::{Resource, getrlimit};

use super::geometry::{Geometry, PAGE_BYTES};
use super::mapped::header_words;
use crate::error::{Error, Result};
use crate::memory::Mapping;

/// `syncline` in ASCII.
const MAGIC: u64 = u64::from_be_bytes(*b"syncline");
/// Raised with every change of the layout or the protocol.
const VERSION: u64 = 1;
/// With these, no holder of the descriptor can pull memory from under another one.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Memory and doorbells of the ranks of one communicator on one host.
#[derive(Debug)]
pub struct Segment {
    pub(super) mapping: Mapping,
    pub(super) geometry: Geometry,
    memory: OwnedFd,
    /// One eventfd per local rank.
    pub(super) bells: Vec<OwnedFd>,
}

impl Segment {
    /// Creates an empty segment. It costs memory only where it is used.
    ///
    /// # Errors
    /// `System` when the operating system has no descriptors or address space left.
    pub fn create(geometry: Geometry) -> Result<Self> {
        let bytes = geometry.total_bytes();
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = memfd_create(c"syncline", flags).map_err(|e| failed("create", e))?;
        check_file_size(bytes as u64)?;
        ftruncate(&memory, bytes as u64).map_err(|e| failed("size", e))?;
        if counts_commitments() {
            reserve(&memory, bytes as u64)?;
        }
        fcntl_add_seals(&memory, SEALS).map_err(|e| failed("seal", e))?;
        let mapping = Mapping::shared(&memory, bytes).map_err(|e| failed("map", e))?;
        let words = header_words(&mapping);
        let [small, bulk, point] = geometry.ring_bytes.map(u64::from);
        let values = [MAGIC, VERSION, u64::from(geometry.local_ranks), small, bulk, point];
        for (word, value) in words.into_iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bells = (0..geometry.local_ranks)
            .map(|_| eventfd(0, flags).map_err(|e| failed("make the doorbells of", e)))
            .collect::<Result<_>>()?;
        Ok(Self { mapping, geometry, memory, bells })
    }

    /// What the other local ranks need: the memory, then one doorbell per local rank.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        std::iter::once(&self.memory).chain(&self.bells).map(AsFd::as_fd).collect()
    }

    /// Attaches to a segment for `local_ranks` ranks, given what `fds` returned where it was
    /// created.
    ///
    /// # Errors
    /// `System` when these descriptors are not those of a segment this version can use.
    pub fn attach(fds: Vec<OwnedFd>, local_ranks: u32) -> Result<Self> {
        let mut fds = fds.into_iter();
        let memory = fds.next().ok_or_else(|| refused("no descriptor came".into()))?;
        let bells: Vec<_> = fds.collect();
        if bells.len() != local_ranks as usize {
            return Err(refused(format!("{} doorbells for {local_ranks} ranks", bells.len())));
        }
        let stat = fstat(&memory).map_err(|e| failed("examine", e))?;
        let seals = fcntl_get_seals(&memory).map_err(|e| failed("examine", e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || !seals.contains(SEALS)
        {
            return Err(refused("it is not a sealed memory file".into()));
        }
        let bytes = usize::try_from(stat.st_size).unwrap_or(0);
        if bytes < PAGE_BYTES {
            return Err(refused(format!("it has {bytes} bytes")));
        }
        let mapping = Mapping::shared(&memory, bytes).map_err(|e| failed("map", e))?;
        let geometry = read_geometry(&mapping, local_ranks)?;
        Ok(Self { mapping, geometry, memory, bells })
    }

    /// Ranks it serves.
    pub fn local_ranks(&self) -> u32 {
        self.geometry.local_ranks
    }
}

/// The limit on the size of files holds for memory files too, and what exceeds it is answered by
/// a signal.
fn check_file_size(bytes: u64) -> Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(bytes_max) if bytes > bytes_max => Err(Error::System {
            what: "size the shared memory segment".into(),
            source_text: format!("it takes {bytes} bytes, and files may have {bytes_max}"),
            hint: "raise the limit on file sizes (ulimit -f), lower staging_bytes_max, or choose \
                   tcp"
            .into(),
        }),
        _ => Ok(()),
    }
}

/// Whether the system refuses memory when it is promised to too many (`vm.overcommit_memory` is
/// 2). A page of a sparse file may then be refused at its first use, by a signal.
fn counts_commitments() -> bool {
    std::fs::read("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.starts_with(b"2"))
}

/// Takes all memory of the segment now, or is refused it.
fn reserve(memory: &OwnedFd, bytes: u64) -> Result<()> {
    fallocate(memory, FallocateFlags::empty(), 0, bytes).map_err(|e| failed("reserve", e))
}

/// The geometry that a segment's first page states, checked against its size.
fn read_geometry(mapping: &Mapping, local_ranks: u32) -> Result<Geometry> {
    let values = header_words(mapping).map(|word| word.load(Ordering::Relaxed));
    let [magic, version, ranks, small, bulk, point] = values;
    if magic != MAGIC {
        return Err(refused("it is not a Syncline segment".into()));
    }
    if version != VERSION {
        return Err(refused(format!("it has layout {version}, this library has {VERSION}")));
    }
    if ranks != u64::from(local_ranks) {
        return Err(refused(format!("it is for {ranks} ranks, not for {local_ranks}")));
    }
    let ring_bytes = [small, bulk, point].map(|bytes| u32::try_from(bytes).unwrap_or(0));
    let geometry = Geometry { local_ranks, ring_bytes };
    if !geometry.is_sound() || geometry.total_bytes() != mapping.len() {
        let text = format!("rings of {ring_bytes:?} bytes do not fit in {}", mapping.len());
        return Err(refused(text));
    }
    Ok(geometry)
}

fn failed(act: &str, error: rustix::io::Errno) -> Error {
    Error::System {
        what: format!("{act} the shared memory segment"),
        source_text: error.to_string(),
        hint: "check the limits on descriptors and memory (ulimit -n, -v), or choose tcp".into(),
    }
}

fn refused(reason: String) -> Error {
    Error::System {
        what: "attach to the shared memory segment".into(),
        source_text: reason,
        hint: "run the same version of the library in every rank of the job".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::Mode;

    fn duplicate(segment: &Segment) -> Vec<OwnedFd> {
        let fds = segment.fds();
        fds.iter().map(|fd| fd.try_clone_to_owned().expect("a descriptor")).collect()
    }

    fn segment(ranks: u32) -> Segment {
        Segment::create(Geometry::new(ranks, 32 << 20).expect("sound")).expect("memory")
    }

    #[test]
    fn a_segment_attaches_where_it_is_meant_to() {
        let made = segment(3);
        let attached = Segment::attach(duplicate(&made), 3).expect("it is one");
        assert_eq!(attached.geometry, made.geometry);
        assert_eq!(attached.mapping.len(), made.mapping.len());
        assert!(Segment::attach(duplicate(&made), 2).is_err());
        assert!(Segment::attach(vec![], 3).is_err());
    }

    #[test]
    fn what_a_stranger_wrote_is_refused() {
        // Every word of the first page, made wrong.
        for (index, value) in [(0, 1), (1, 7), (2, 4), (3, 0), (4, 4 << 20), (5, 4097)] {
            let made = segment(3);
            header_words(&made.mapping)[index].store(value, Ordering::Relaxed);
            let error = Segment::attach(duplicate(&made), 3).expect_err("not sound").to_string();
            assert!(error.starts_with("attach to the shared memory"), "{error}");
        }
    }

    #[test]
    fn a_file_that_could_shrink_is_refused() {
        let made = segment(2);
        let mut fds = duplicate(&made);
        let file = memfd_create(c"loose", MemfdFlags::ALLOW_SEALING).expect("memory");
        ftruncate(&file, made.mapping.len() as u64).expect("memory");
        fds[0] = file;
        assert!(Segment::attach(fds, 2).expect_err("no seals").to_string().contains("sealed"));
        let mut fds = duplicate(&made);
        let flags = rustix::fs::OFlags::RDONLY;
        fds[0] = rustix::fs::open("/dev/null", flags, Mode::empty()).expect("it exists");
        assert!(Segment::attach(fds, 2).is_err());
    }

    #[test]
    fn a_segment_takes_memory_where_it_is_used_or_all_of_it_at_once() {
        let segment = Segment::create(Geometry::new(4, 4 << 20).expect("fits")).expect("memory");
        let bytes = segment.geometry.total_bytes() as u64;
        let taken = || fstat(&segment.memory).expect("a file").st_blocks as u64 * 512;
        assert!(counts_commitments() || taken() < bytes / 2, "{} of {bytes}", taken());
        reserve(&segment.memory, bytes).expect("memory");
        assert!(taken() >= bytes, "{} of {bytes}", taken());
    }
}
