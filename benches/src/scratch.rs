//! A private temporary directory, removed with its owner.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::owner::Owner;

const PREFIX: &str = "collbench-";

/// A directory that only this user can enter; removed on drop.
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one, after removing those of processes that are gone.
    pub(crate) fn new() -> Result<Self, String> {
        let parent = std::env::temp_dir();
        sweep(&parent);
        let path = parent.join(format!("{PREFIX}{}", Owner::me()?));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|e| format!("cannot make {}: {e}; set TMPDIR", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing sensible is left to do when this fails; the next run sweeps.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes this user's directories whose owner is gone.
fn sweep(parent: &Path) {
    let Ok(me) = std::fs::metadata("/proc/self") else { return };
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|n| n.strip_prefix(PREFIX)?.parse::<Owner>().ok());
        let is_mine = entry.metadata().is_ok_and(|m| m.is_dir() && m.uid() == me.uid());
        if is_mine && owner.is_some_and(Owner::is_gone) {
            // Somebody else may be sweeping at the same time.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_owners_directory_is_swept_and_nothing_else() {
        let parent = std::env::temp_dir().join(format!("sweep-test-{}", std::process::id()));
        let me = Owner::me().expect("proc").to_string();
        let dead = format!("{}-{}", me.rsplit_once('-').expect("three parts").0, 1);
        for name in [&format!("{PREFIX}{me}"), &format!("{PREFIX}{dead}"), "collbench-other"] {
            std::fs::create_dir_all(parent.join(name)).expect("temp");
        }
        sweep(&parent);
        assert!(parent.join(format!("{PREFIX}{me}")).exists());
        assert!(!parent.join(format!("{PREFIX}{dead}")).exists());
        assert!(parent.join("collbench-other").exists());
        std::fs::remove_dir_all(parent).expect("temp");
    }
}
