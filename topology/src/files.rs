//! Small system files below a root, so that tests can bring their own. What is missing,
//! unreadable, too long or not text reads as nothing.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// No system file that is read here comes near this.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Directories with more entries than this are cut off.
const NAMES_MAX: usize = 1 << 14;

/// The root of a file system tree.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    root: PathBuf,
}

impl Files {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The trimmed contents of a file.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let mut text = String::new();
        let file = File::open(self.path(path)).ok()?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text.trim().to_owned())
    }

    /// A file that holds one number.
    pub(crate) fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// Where a symbolic link points.
    pub(crate) fn link(&self, path: &str) -> Option<String> {
        let target = std::fs::read_link(self.path(path)).ok()?;
        target.to_str().map(str::to_owned)
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The names in a directory, sorted.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(path)) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.take(NAMES_MAX).collect();
        names.sort();
        names
    }

    /// The numbers n of the entries `<prefix>n` of a directory, sorted.
    pub(crate) fn numbered(&self, path: &str, prefix: &str) -> Vec<u32> {
        let names = self.names(path);
        let number = |name: &String| name.strip_prefix(prefix)?.parse().ok();
        let mut numbers: Vec<_> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// Trees for tests.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tree of these files.
    pub(crate) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        let root = tree(&[("a/n1", " 17\n"), ("a/n10", "x"), ("a/n2", "-1"), ("a/nx", "3")]);
        std::fs::write(root.path().join("a/n3"), [0xff, 0xfe]).unwrap();
        let files = Files::new(root.path());
        assert_eq!(files.number::<u32>("a/n1"), Some(17));
        assert_eq!(files.number::<u32>("a/n10"), None);
        assert_eq!(files.number::<u32>("a/n2"), None);
        assert_eq!((files.text("a/n3"), files.text("a"), files.text("b")), (None, None, None));
        assert_eq!(files.numbered("a", "n"), [1, 2, 3, 10]);
        assert!(files.names("b").is_empty() && !files.exists("b") && files.link("a/n1").is_none());
    }
}
