//! The installed files themselves.

use std::collections::BTreeSet;
use std::process::Command;

use crate::tree::{Language, compile, pkg_config, prefix, source, succeed};

#[test]
fn the_library_has_its_soname_and_needs_only_the_system() {
    let library = prefix().join("lib/libsyncline.so");
    let dynamic = succeed(Command::new("readelf").arg("-d").arg(&library));
    assert!(dynamic.contains("soname: [libsyncline.so.0]"), "{dynamic}");
    let system = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux"];
    for line in dynamic.lines().filter(|line| line.contains("(NEEDED)")) {
        assert!(system.iter().any(|name| line.contains(name)), "{line}");
    }
}

#[test]
fn exactly_the_functions_of_the_header_are_exported() {
    let library = prefix().join("lib/libsyncline.so");
    let listed = succeed(Command::new("nm").args(["-D", "--defined-only"]).arg(library));
    let exported: BTreeSet<String> =
        listed.lines().filter_map(|line| line.split(' ').nth(2)).map(str::to_owned).collect();
    let header = std::fs::read_to_string(prefix().join("include/syncline.h")).unwrap();
    let declared: BTreeSet<String> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '#', '}']) && !line.starts_with("typedef"))
        .filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next())
        .map(str::to_owned)
        .collect();
    assert!(declared.len() > 40, "{declared:?}");
    assert_eq!(exported, declared);
}

#[test]
fn pkg_config_knows_version_and_places() {
    assert_eq!(pkg_config(&["--modversion"]), [env!("CARGO_PKG_VERSION")]);
    let flags = pkg_config(&["--cflags"]).join(" ");
    assert!(flags.contains("include"), "{flags}");
    assert!(pkg_config(&["--libs", "--static"]).contains(&"-lpthread".to_owned()));
}

#[test]
fn the_static_library_links_too() {
    let built = tempfile::tempdir().unwrap();
    let program = built.path().join("static");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-D_GNU_SOURCE"]).arg(source("examples/all_reduce.c"));
    compiler.arg("-I").arg(prefix().join("include")).arg(prefix().join("lib/libsyncline.a"));
    let needs = pkg_config(&["--libs-only-l", "--static"]);
    compiler.args(needs.iter().filter(|flag| *flag != "-lsyncline"));
    succeed(compiler.arg("-o").arg(&program));
    let printed = succeed(Command::new(program).arg("2"));
    assert_eq!(printed, "2 ranks: every element is 3\n");
}

#[test]
fn the_header_stands_alone_and_its_initialisers_fit() {
    // Compiled as C++ with every warning: the header alone.
    compile("tests/programs/header_only.c", Language::Cxx17);
    let program = compile("tests/programs/header_only.c", Language::C11);
    assert_eq!(succeed(&mut Command::new(program)), "");
}
