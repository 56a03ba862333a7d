//! Installs the C library: `libsyncline`, `syncline.h`, and what pkg-config and CMake read. What
//! is installed finds its parts relative to itself, so that the tree may be moved.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::header::HEADER;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// As `bindings/c/build.rs` says.
const SONAME: &str = "libsyncline.so.0";
/// System libraries that Rust's runtime uses, for users of the static library.
const STATIC_NEEDS: &str = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc";

/// Builds and installs into `prefix`.
pub(crate) fn run(root: &Path, prefix: &Path, debug: bool) -> Result<(), String> {
    let built = build(root, debug)?;
    let library = prefix.join("lib");
    let shared = format!("libsyncline.so.{VERSION}");
    install(&find(&built, "so")?, &library.join(&shared))?;
    link(&shared, &library.join(SONAME))?;
    link(SONAME, &library.join("libsyncline.so"))?;
    install(&find(&built, "a")?, &library.join("libsyncline.a"))?;
    install(&root.join(HEADER), &prefix.join("include/syncline.h"))?;
    write(&library.join("pkgconfig/syncline.pc"), &pkg_config())?;
    let cmake = library.join("cmake/syncline");
    write(&cmake.join("syncline-config.cmake"), &cmake_config())?;
    write(&cmake.join("syncline-config-version.cmake"), &cmake_version())?;
    println!("installed Syncline {VERSION} in {}", prefix.display());
    Ok(())
}

/// Builds the library; the files that cargo made.
fn build(root: &Path, debug: bool) -> Result<Vec<PathBuf>, String> {
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .args(["build", "--quiet", "--package", "syncline-c"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit());
    if !debug {
        command.arg("--release");
    }
    let output = command.output().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?} ended with {}", output.status));
    }
    let mut files = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: serde_json::Value =
            serde_json::from_str(line).map_err(|error| format!("cargo said {line}: {error}"))?;
        let of_library = message["manifest_path"]
            .as_str()
            .is_some_and(|path| path.ends_with("bindings/c/Cargo.toml"));
        if of_library && let Some(names) = message["filenames"].as_array() {
            files.extend(names.iter().filter_map(|name| name.as_str()).map(PathBuf::from));
        }
    }
    Ok(files)
}

fn find(built: &[PathBuf], extension: &str) -> Result<PathBuf, String> {
    let found = built.iter().find(|path| path.extension().is_some_and(|e| e == extension));
    found.cloned().ok_or_else(|| format!("cargo made no libsyncline.{extension}"))
}

fn folder_of(path: &Path) -> Result<(), String> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

/// Copies beside the target and renames: a program that uses the old file keeps it.
fn install(from: &Path, to: &Path) -> Result<(), String> {
    folder_of(to)?;
    let beside = to.with_extension("new");
    fs::copy(from, &beside)
        .and_then(|_| fs::rename(&beside, to))
        .map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    folder_of(path)?;
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn link(target: &str, at: &Path) -> Result<(), String> {
    let _absent = fs::remove_file(at);
    symlink(target, at).map_err(|error| format!("{}: {error}", at.display()))
}

fn pkg_config() -> String {
    format!(
        "prefix=${{pcfiledir}}/../..\n\
         libdir=${{prefix}}/lib\n\
         includedir=${{prefix}}/include\n\n\
         Name: syncline\n\
         Description: Topology-aware collective communication\n\
         Version: {VERSION}\n\
         Libs: -L${{libdir}} -lsyncline\n\
         Libs.private: {STATIC_NEEDS}\n\
         Cflags: -I${{includedir}}\n"
    )
}

fn cmake_config() -> String {
    let needs: Vec<&str> = STATIC_NEEDS.split(' ').collect();
    format!(
        r#"# find_package(syncline) makes syncline::syncline, the shared library, and syncline::static.
get_filename_component(_syncline_prefix "${{CMAKE_CURRENT_LIST_DIR}}/../../.." ABSOLUTE)
if(NOT TARGET syncline::syncline)
  add_library(syncline::syncline SHARED IMPORTED)
  set_target_properties(syncline::syncline PROPERTIES
    IMPORTED_LOCATION "${{_syncline_prefix}}/lib/libsyncline.so.{VERSION}"
    IMPORTED_SONAME "{SONAME}"
    INTERFACE_INCLUDE_DIRECTORIES "${{_syncline_prefix}}/include")
  add_library(syncline::static STATIC IMPORTED)
  set_target_properties(syncline::static PROPERTIES
    IMPORTED_LOCATION "${{_syncline_prefix}}/lib/libsyncline.a"
    INTERFACE_INCLUDE_DIRECTORIES "${{_syncline_prefix}}/include"
    INTERFACE_LINK_LIBRARIES "{needs}")
endif()
unset(_syncline_prefix)
"#,
        needs = needs.join(";")
    )
}

/// Before 1.0 a minor version may change the interface.
fn cmake_version() -> String {
    let mut parts = VERSION.split('.');
    let (major, minor) = (parts.next().unwrap_or("0"), parts.next().unwrap_or("0"));
    format!(
        r#"set(PACKAGE_VERSION "{VERSION}")
if(PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION
    OR NOT PACKAGE_FIND_VERSION_MAJOR EQUAL {major}
    OR (PACKAGE_FIND_VERSION_COUNT GREATER 1 AND NOT PACKAGE_FIND_VERSION_MINOR EQUAL {minor}))
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
else()
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
endif()
"#
    )
}
