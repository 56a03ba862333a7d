//! The installed tree, and programs compiled against it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A language a program is compiled as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    C11,
    Cxx17,
}

impl Language {
    pub(crate) const ALL: [Self; 2] = [Self::C11, Self::Cxx17];

    fn compiler(self) -> Command {
        let (program, standard, kind) = match self {
            Self::C11 => ("cc", "-std=c11", "c"),
            Self::Cxx17 => ("c++", "-std=c++17", "c++"),
        };
        let mut command = Command::new(program);
        command.args([standard, "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1", "-g"]);
        command.args(["-x", kind]);
        command
    }
}

pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The installed tree, moved after it was installed: its parts must find each other.
pub(crate) fn prefix() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let first = scratch("syncline").join("installed");
        let moved = scratch("syncline").join("moved");
        for folder in [&first, &moved] {
            let _absent = std::fs::remove_dir_all(folder);
        }
        let mut install = Command::new(env!("CARGO"));
        install.current_dir(source("../..")).args(["run", "--quiet", "--package", "xtask", "--"]);
        succeed(install.args(["install", "--debug", "--prefix"]).arg(&first));
        std::fs::rename(&first, &moved).unwrap();
        moved
    })
}

/// Runs `command`, which has to succeed; its standard output.
pub(crate) fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?} ended with {status}\n{stdout}{stderr}");
    stdout.into_owned()
}

/// What pkg-config says of the library.
pub(crate) fn pkg_config(what: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig")).args(what).arg("syncline");
    succeed(&mut command).split_whitespace().map(str::to_owned).collect()
}

/// Compiles a program, given by its path in this crate, with the flags that pkg-config names;
/// once, whichever test comes first: a program that runs cannot be written.
pub(crate) fn compile(program: &str, language: Language) -> PathBuf {
    static COMPILED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let path = source(program);
    let name = path.file_stem().unwrap().to_str().unwrap();
    let built = scratch("programs").join(format!("{name}-{language:?}"));
    let flags = pkg_config(&["--cflags", "--libs"]);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if compiled.contains(&built) {
        return built;
    }
    let mut command = language.compiler();
    command.arg(&path).args(["-x", "none", "-o"]).arg(&built);
    command.args(flags).arg("-pthread");
    command.arg(format!("-Wl,-rpath,{}", prefix().join("lib").display()));
    succeed(&mut command);
    compiled.push(built.clone());
    built
}
