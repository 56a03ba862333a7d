//! Fuzzing with libFuzzer on the stable toolchain: its instrumentation is a pass of LLVM that any
//! rustc can be told to run, and its driver comes as the crate `libfuzzer-sys`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools;

/// What makes rustc count edges and compare operands the way libFuzzer reads them. Bounds within
/// the library are debug assertions; overflow is a finding.
const FLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Seconds per target of a smoke run.
const SMOKE_S: u32 = 3;
/// What is kept of a target's corpus in the repository.
const KEPT_BYTES_MAX: usize = 5 * 1024;
/// Longest input that is worth keeping.
const KEPT_INPUT_BYTES_MAX: usize = 1024;

/// What to do with the targets.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A target, or several with commas between them that share one run; all when left out.
    targets: Option<String>,
    /// How long to run.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Run every target for a few seconds.
    #[arg(long)]
    smoke: bool,
    /// Do not run: choose what to keep in fuzz/corpus from what runs have found so far.
    #[arg(long, conflicts_with_all = ["smoke", "seconds"])]
    minimize: bool,
}

/// Runs, or minimizes.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<(), String> {
    let all = names(root)?;
    let chosen: Vec<&str> = match &arguments.targets {
        Some(list) => list.split(',').collect(),
        None => all.iter().map(String::as_str).collect(),
    };
    if let Some(unknown) = chosen.iter().find(|name| !all.iter().any(|known| known == *name)) {
        return Err(format!("no target `{unknown}`; there are {}", all.join(", ")));
    }
    let fuzzer = Fuzzer { root: root.to_owned(), program: build(root)? };
    if arguments.minimize {
        return chosen.iter().try_for_each(|name| fuzzer.minimize(name));
    }
    if arguments.smoke {
        return chosen.iter().try_for_each(|name| fuzzer.fuzz(&[name], SMOKE_S));
    }
    fuzzer.fuzz(&chosen, arguments.seconds)
}

/// Every target has a corpus: one input per line, in hexadecimal digits.
fn names(root: &Path) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = entries(&root.join("fuzz/corpus"))?
        .iter()
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("{}: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

fn build(root: &Path) -> Result<PathBuf, String> {
    tools::run(
        Command::new("cargo")
            .current_dir(root)
            .env("RUSTFLAGS", FLAGS)
            .env("CARGO_TARGET_DIR", "target/fuzz")
            .args(["build", "--quiet", "--package", "syncline-fuzz", "--features", "libfuzzer"])
            .args(["--target", TRIPLE]),
    )?;
    Ok(root.join("target/fuzz").join(TRIPLE).join("debug/fuzz"))
}

struct Fuzzer {
    root: PathBuf,
    program: PathBuf,
}

impl Fuzzer {
    /// The corpus in the repository.
    fn kept(&self, name: &str) -> PathBuf {
        self.root.join("fuzz/corpus").join(name).with_extension("hex")
    }

    /// What runs on this machine have found, and what the repository has.
    fn found(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.folder(&format!("found/{name}"))?;
        let kept = fs::read_to_string(self.kept(name)).map_err(|error| error.to_string())?;
        for (number, line) in kept.lines().enumerate() {
            let input =
                unhex(line).ok_or_else(|| format!("{name}.hex:{}: not bytes", number + 1))?;
            write(&folder.join(format!("kept-{number}")), &input)?;
        }
        Ok(folder)
    }

    fn folder(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.root.join("target/fuzz").join(name);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(folder)
    }

    fn command(&self, targets: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.root).env("SYNCLINE_FUZZ_TARGETS", targets);
        command
    }

    /// One process over these targets. Ends with an error, and the input in `target/fuzz`, at the
    /// first finding.
    fn fuzz(&self, targets: &[&str], seconds: u32) -> Result<(), String> {
        let tally = self.folder("tallies")?.join(targets.join("+"));
        let outcome = self.run(targets, seconds, &tally);
        if let Ok(text) = fs::read_to_string(&tally) {
            print!("xtask: what each target got, up to the last second\n{text}");
        }
        outcome
    }

    fn run(&self, targets: &[&str], seconds: u32, tally: &Path) -> Result<(), String> {
        let artifacts = self.folder("findings")?;
        let mut command = self.command(&targets.join(","));
        command
            .env("SYNCLINE_FUZZ_TALLY", tally)
            .args(["-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1"])
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/{}-", artifacts.display(), targets.join("+")));
        let [only] = targets else {
            let shared = self.folder(&format!("shared/{}", targets.join("+")))?;
            self.gather(targets, &shared)?;
            let outcome = tools::run(command.arg(&shared));
            self.deal(targets, &shared)?;
            return outcome;
        };
        tools::run(command.arg(self.found(only)?))
    }

    /// Puts all inputs of `targets`, each behind the byte that chooses its target, in one folder.
    fn gather(&self, targets: &[&str], shared: &Path) -> Result<(), String> {
        for (choice, name) in (0..=u8::MAX).zip(targets) {
            for path in entries(&self.found(name)?)? {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                let input = [&[choice][..], &read(&path)?].concat();
                write(&shared.join(format!("{name}-{file}")), &input)?;
            }
        }
        Ok(())
    }

    /// The other way.
    fn deal(&self, targets: &[&str], shared: &Path) -> Result<(), String> {
        for path in entries(shared)? {
            let input = read(&path)?;
            let Some((&choice, rest)) = input.split_first() else { continue };
            let name = targets[usize::from(choice) % targets.len()];
            let file = path.file_name().unwrap_or_default();
            write(&self.found(name)?.join(file), rest)?;
        }
        Ok(())
    }

    /// Keeps small inputs that together reach what all of them reach, as far as there is room.
    fn minimize(&self, name: &str) -> Result<(), String> {
        let merged = self.folder(&format!("merged/{name}"))?;
        entries(&merged)?.iter().try_for_each(|path| remove(path))?;
        let mut command = self.command(name);
        command.args(["-merge=1", "-timeout=60"]).arg(&merged).arg(self.found(name)?);
        tools::run(&mut command)?;
        let mut inputs: Vec<Vec<u8>> =
            entries(&merged)?.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
        // Of too many, every so manieth: small and large ones reach different places.
        inputs.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        let every = inputs.iter().map(Vec::len).sum::<usize>().div_ceil(KEPT_BYTES_MAX).max(1);
        let mut room = KEPT_BYTES_MAX;
        let mut text = String::new();
        for input in inputs.iter().step_by(every) {
            if input.len() <= KEPT_INPUT_BYTES_MAX.min(room) {
                room -= input.len();
                text += &hex(input);
                text.push('\n');
            }
        }
        write(&self.kept(name), text.as_bytes())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(line: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = line.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

fn remove(path: &Path) -> Result<(), String> {
    fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_survive_as_text() {
        let input = [0, 0x0f, 0xff, b'\n'];
        assert_eq!(unhex(&hex(&input)).as_deref(), Some(&input[..]));
        assert_eq!((unhex("0"), unhex("0g"), unhex("")), (None, None, Some(vec![])));
    }
}
