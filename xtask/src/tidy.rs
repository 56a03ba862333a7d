//! The repository's own rules, checked on every tracked file.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const RUST_LINES_MAX: usize = 700;
/// rustfmt keeps code within 100 columns; text and macros it cannot break may need a little more.
const LINE_WIDTH_MAX: usize = 106;
const FILE_BYTES_MAX: usize = 2 << 20;

/// Where `unsafe` may stand: raw memory, SIMD kernels, shared memory, the C boundary.
const UNSAFE_ROOMS: &[&str] = &[
    "comm/src/memory/",
    "comm/src/reduce/",
    "comm/src/transport/shm/",
    "bindings/c/",
    // The control register of the floating-point unit.
    "codecs/src/float/environment.rs",
];

/// In `codecs/`, files of SIMD kernels are called this.
const SIMD_KERNELS: &str = "simd";

/// The one wait loop (promise P3).
const WAIT_ROOM: &str = "comm/src/engine/wait";

/// What blocks a thread. Assembled here so that this file does not contain the words it bans.
fn blocking_calls() -> Vec<String> {
    ["thread::sleep(", "thread::park", "Condvar", "event::poll(", "futex::wait(", "nanosleep("]
        .map(String::from)
        .into()
}

/// A file and its text; binary files have none.
struct File {
    path: String,
    bytes: usize,
    text: Option<String>,
}

/// Checks every rule; the error lists all violations.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let files = tracked(root)?;
    let mut violations = Vec::new();
    for file in &files {
        size(file, &mut violations);
        if let Some(text) = &file.text {
            machine_names(&file.path, text, &mut violations);
            if file.path.ends_with(".rs") {
                rust(&file.path, text, &mut violations);
            }
        }
    }
    dead_files(&files, &mut violations);
    adr_numbers(&files, &mut violations);
    if violations.is_empty() {
        println!("tidy: {} files", files.len());
        return Ok(());
    }
    Err(format!("{} violations\n  {}", violations.len(), violations.join("\n  ")))
}

/// The paths of every Rust file.
pub(crate) fn rust_files(root: &Path) -> Result<Vec<String>, String> {
    let paths = tracked(root)?.into_iter().map(|file| file.path);
    Ok(paths.filter(|path| path.ends_with(".rs")).collect())
}

/// Every file git tracks or would track.
fn tracked(root: &Path) -> Result<Vec<File>, String> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .output()
        .map_err(|error| format!("git ls-files: {error}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let names = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    let mut files = Vec::new();
    for path in names.split('\0').filter(|name| !name.is_empty()) {
        // Deleted but not yet staged.
        let Ok(content) = std::fs::read(root.join(path)) else { continue };
        let bytes = content.len();
        files.push(File { path: path.to_owned(), bytes, text: String::from_utf8(content).ok() });
    }
    Ok(files)
}

fn size(file: &File, violations: &mut Vec<String>) {
    if file.bytes > FILE_BYTES_MAX {
        violations.push(format!("{}: {} bytes; keep large files out", file.path, file.bytes));
    }
}

/// Paths of one machine and hosts of package registries do not belong in a public repository.
fn machine_names(path: &str, text: &str, violations: &mut Vec<String>) {
    if path == "Cargo.lock" {
        return;
    }
    let banned = [["/wo", "rk/"], ["/ro", "ot/"], ["index.crates", ".io"], ["pypi", ".org/"]]
        .map(|halves| halves.concat());
    for (number, line) in text.lines().enumerate() {
        if let Some(word) = banned.iter().find(|word| line.contains(word.as_str())) {
            violations.push(format!("{path}:{}: names {word}", number + 1));
        }
    }
}

fn rust(path: &str, text: &str, violations: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > RUST_LINES_MAX {
        violations.push(format!("{path}: {lines} lines, more than {RUST_LINES_MAX}; split it"));
    }
    if !text.starts_with("//!") {
        violations.push(format!("{path}: does not begin by saying what it is for (`//!`)"));
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let may_be_unsafe = UNSAFE_ROOMS.iter().any(|room| path.starts_with(room))
        || (path.starts_with("codecs/src/") && name.starts_with(SIMD_KERNELS));
    let library = path.starts_with("comm/src/");
    let unsafe_words = ["unsafe {", "unsafe fn", "unsafe impl"].map(String::from);
    let unfinished = [["FIX", "ME"], ["XX", "X "], ["to", "do!("]].map(|halves| halves.concat());
    let blocking = blocking_calls();
    let mut in_tests =
        ["/tests/", "/tests.rs", "/conformance/", "/model.rs"].iter().any(|p| path.contains(p));
    for (number, line) in text.lines().enumerate() {
        in_tests |= line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test");
        let place = format!("{path}:{}", number + 1);
        if line.chars().count() > LINE_WIDTH_MAX {
            violations.push(format!("{place}: wider than {LINE_WIDTH_MAX} columns"));
        }
        if path.starts_with("xtask/") {
            continue;
        }
        let code = line.split("//").next().unwrap_or("");
        if !may_be_unsafe && unsafe_words.iter().any(|word| code.contains(word.as_str())) {
            violations.push(format!("{place}: unsafe outside the rooms that may have it"));
        }
        if let Some(word) = unfinished.iter().find(|word| line.contains(word.as_str())) {
            violations.push(format!("{place}: {word}"));
        }
        if library
            && !in_tests
            && !path.starts_with(WAIT_ROOM)
            && let Some(word) = blocking.iter().find(|word| code.contains(word.as_str()))
        {
            violations.push(format!("{place}: {word} blocks outside the one wait loop"));
        }
    }
}

/// A source file no module declares is compiled by nobody.
fn dead_files(files: &[File], violations: &mut Vec<String>) {
    let texts: BTreeMap<&str, &str> =
        files.iter().filter_map(|f| Some((f.path.as_str(), f.text.as_deref()?))).collect();
    for path in texts.keys().filter(|path| path.ends_with(".rs") && path.contains("/src/")) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (parent_folder, module) = match name {
            "lib.rs" | "main.rs" => continue,
            _ if folder.ends_with("/bin") => continue,
            "mod.rs" => folder.rsplit_once('/').unwrap_or(("", folder)),
            _ => (folder, name.trim_end_matches(".rs")),
        };
        let parents = ["mod.rs", "lib.rs", "main.rs"].map(|f| format!("{parent_folder}/{f}"));
        let beside = format!("{parent_folder}.rs");
        let declared = parents.iter().chain([&beside]).any(|parent| {
            texts.get(parent.as_str()).is_some_and(|text| {
                // `name: ...` is how the list of algorithms declares its files.
                text.contains(&format!("mod {module}")) || text.contains(&format!("    {module}:"))
            })
        });
        if !declared {
            violations.push(format!("{path}: no module declares it"));
        }
    }
}

fn adr_numbers(files: &[File], violations: &mut Vec<String>) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for file in files {
        let Some(name) = file.path.strip_prefix("docs/adr/") else { continue };
        let number = name.split('-').next().unwrap_or("");
        if number.len() != 4 || !number.chars().all(|c| c.is_ascii_digit()) {
            violations.push(format!("{}: an ADR is called NNNN-title.md", file.path));
        } else if let Some(other) = seen.insert(number, name) {
            violations.push(format!("{}: number {number} is taken by {other}", file.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        run(&crate::root()).unwrap();
    }

    fn violations_of(path: &str, text: &str) -> Vec<String> {
        let mut violations = Vec::new();
        machine_names(path, text, &mut violations);
        rust(path, text, &mut violations);
        violations
    }

    #[test]
    fn each_rule_finds_its_violation() {
        let clean = "//! A file.\nfn main() {}\n";
        assert!(violations_of("comm/src/engine/a.rs", clean).is_empty());
        for (line, word) in [
            ("unsafe { f() }", "unsafe outside"),
            ("std::thread::sleep(d);", "one wait loop"),
            (concat!("// see /wo", "rk/x"), concat!("names /wo", "rk/")),
        ] {
            let text = format!("//! A file.\n{line}\n");
            let found = violations_of("comm/src/engine/a.rs", &text);
            assert_eq!(found.len(), 1, "{line}: {found:?}");
            assert!(found[0].contains(word), "{line}: {found:?}");
        }
        let kernel = "//! A file.\nunsafe { f() }\n";
        assert_eq!(violations_of("codecs/src/bounded/mod.rs", kernel).len(), 1);
        assert!(violations_of("codecs/src/bounded/simd.rs", kernel).is_empty());
        let long = format!("//! A file.\n{}", "fn f() {}\n".repeat(RUST_LINES_MAX));
        assert!(violations_of("comm/src/a.rs", &long)[0].contains("split it"));
        assert!(violations_of("comm/src/a.rs", "fn f() {}\n")[0].contains("begin by saying"));
    }

    #[test]
    fn an_undeclared_file_is_dead() {
        let file = |path: &str, text: &str| File {
            path: path.to_owned(),
            bytes: text.len(),
            text: Some(text.to_owned()),
        };
        let files = [
            file("a/src/lib.rs", "mod b;"),
            file("a/src/b/mod.rs", "mod c;"),
            file("a/src/b/c.rs", ""),
            file("a/src/b/d.rs", ""),
        ];
        let mut violations = Vec::new();
        dead_files(&files, &mut violations);
        assert_eq!(violations, ["a/src/b/d.rs: no module declares it"]);
    }
}
