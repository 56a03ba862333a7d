//! The file through which ranks find their root.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::unique_id::UniqueId;

/// Puts the id at `path`, readable by this user alone, in one step: nobody sees half a file, and
/// a file of an earlier job is replaced.
pub(crate) fn publish(path: &Path, id: &UniqueId) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"));
    };
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let suffix = format!(".{:016x}", u64::from_ne_bytes(random));
    let mut temporary = name.to_owned();
    temporary.push(suffix);
    let temporary = path.with_file_name(temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = writeln!(file, "{id}").and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to report.
        fs::remove_file(&temporary).ok();
    }
    written
}

/// The id at `path`, or in words why there is none.
pub(crate) fn read(path: &Path) -> Result<UniqueId, String> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        _ => format!("{} cannot be read: {error}", path.display()),
    };
    // A network file system may remember for a minute that a file was not there; opening its
    // folder makes it look again.
    path.parent().map(fs::File::open);
    let file = fs::File::open(path).map_err(failed)?;
    let owner = file.metadata().map_err(failed)?.uid();
    let me = rustix::process::geteuid();
    // Whoever writes the file decides where this process connects to.
    if !me.is_root() && owner != me.as_raw() {
        return Err(format!("{} belongs to another user", path.display()));
    }
    let mut text = String::new();
    file.take(2 * UniqueId::TEXT_BYTES_MAX as u64).read_to_string(&mut text).map_err(failed)?;
    text.parse::<UniqueId>().map_err(|error| format!("{}: {error}", path.display()))
}

/// Removes the file unless another job has replaced it.
pub(crate) fn retract(path: &Path, id: &UniqueId) {
    if read(path).is_ok_and(|found| found == *id)
        && let Err(error) = fs::remove_file(path)
    {
        tracing::debug!(%error, path = %path.display(), "cannot remove the rendezvous file");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::proof::Secret;
    use super::*;

    fn id(secret: u8) -> UniqueId {
        UniqueId::new(Secret::from_bytes([secret; 16]), &[Ipv4Addr::LOCALHOST.into()], 9)
    }

    #[test]
    fn the_latest_id_replaces_earlier_ones_and_only_it_is_retracted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job");
        assert!(read(&path).unwrap_err().contains("does not exist"));
        publish(&path, &id(1)).unwrap();
        publish(&path, &id(2)).unwrap();
        assert_eq!(read(&path).unwrap(), id(2));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        retract(&path, &id(1));
        assert_eq!(read(&path).unwrap(), id(2));
        retract(&path, &id(2));
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_holds_no_id_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job");
        fs::write(&path, "not an id").unwrap();
        assert!(read(&path).unwrap_err().contains("does not start with"));
        assert!(publish(Path::new("/"), &id(1)).is_err());
    }
}
