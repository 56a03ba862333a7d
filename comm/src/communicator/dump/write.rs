//! Dumps as files.

use std::io;
use std::path::{Path, PathBuf};

use super::FlightDump;

impl FlightDump {
    /// The name of its file: one per rank and communicator, the same whenever it is written.
    pub fn file_name(&self) -> String {
        format!("syncline-{}-{}-{}-rank{}.json", self.job, self.communicator, self.epoch, self.rank)
    }

    /// Writes it into `folder`, which is made if need be, in place of an earlier one of the same
    /// rank and communicator. A reader finds the whole file or none.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_into(&self, folder: &Path) -> io::Result<PathBuf> {
        write(self, folder)
    }
}

pub(super) fn write(dump: &FlightDump, folder: &Path) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(dump.file_name());
    let unfinished = folder.join(format!(".{}.{}", dump.file_name(), std::process::id()));
    let written = std::fs::write(&unfinished, dump.to_json())
        .and_then(|()| std::fs::rename(&unfinished, &path));
    if written.is_err() {
        // Nothing more can be done about a file that cannot be removed either.
        let _ = std::fs::remove_file(&unfinished);
    }
    written.map(|()| path)
}
