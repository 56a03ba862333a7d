//! A system that has run out of something: shared memory in /dev/shm, descriptors, threads,
//! address space. Nothing hangs or dies by a signal, and the message says what to raise.
#![expect(clippy::print_stdout, reason = "a skipped test says why; children report")]

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use syncline_tests::launch::{FILE, RANK, WORLD};

/// Two ranks, of which each runs under `shell`, a script that ends by becoming `"$0" "$@"`.
/// Answers what each printed; panics when one was killed, or was still there after a minute.
fn under(shells: [&str; 2], part: &str, transport: &str) -> [String; 2] {
    let folder = tempfile::tempdir().unwrap();
    let world_writable = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), world_writable).unwrap();
    // Where another user can run it.
    let worker = folder.path().join("worker");
    std::fs::copy(env!("CARGO_BIN_EXE_worker"), &worker).unwrap();
    let start = |(rank, shell): (usize, &str)| {
        Command::new("sh")
            .args(["-c", shell])
            .arg(&worker)
            .args(["limit", transport, part])
            .env(RANK, rank.to_string())
            .env(WORLD, "2")
            .env(FILE, folder.path().join("rendezvous"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut children: Vec<_> = shells.into_iter().enumerate().map(start).collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    while children.iter_mut().any(|child| matches!(child.try_wait(), Ok(None))) {
        if Instant::now() > deadline {
            children.iter_mut().for_each(|child| child.kill().unwrap());
            panic!("{part} over {transport} hangs");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let texts: Vec<String> =
        children.into_iter().map(|child| text(&child.wait_with_output().unwrap())).collect();
    texts.try_into().unwrap()
}

fn text(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // No status: a signal. 101: a panic.
    assert!(output.status.code().is_some_and(|code| code != 101), "{:?}: {text}", output.status);
    text.into_owned()
}

const FREE: &str = r#"exec "$0" "$@""#;

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// A container's 64 MB, and worse: nothing of ours is there.
#[test]
fn a_full_dev_shm_does_not_matter() {
    if !is_root() {
        return;
    }
    let shell = r#"
        mount -t tmpfs -o size=64k tmpfs /dev/shm || { echo "skipped: no mount"; exit 0; }
        dd if=/dev/zero of=/dev/shm/full bs=4k count=99 2>/dev/null
        exec "$0" "$@""#;
    let apart = |shell: &str| format!("exec unshare --mount -- sh -c '{shell}' \"$0\" \"$@\"");
    let shell = apart(shell);
    for text in under([&shell, &shell], "init", "shm") {
        if text.contains("skipped") {
            println!("{text}");
            return;
        }
        assert!(text.contains("worked"), "{text}");
    }
}

/// Too few to begin with: refused with the reason, before anybody counts on this rank; enough:
/// it works. Never anything between.
#[test]
fn few_descriptors() {
    for (limit, transport) in [(4, "shm"), (12, "tcp"), (20, "shm"), (40, "tcp")] {
        let shell = format!("ulimit -n {limit}; {FREE}");
        let [limited, other] = under([&shell, FREE], "init", transport);
        assert!(
            limited.contains("refused: ") && limited.contains("ulimit -n"),
            "{limit}: {limited}"
        );
        assert!(other.contains("refused: "), "{limit}: {other}");
    }
    for transport in ["shm", "tcp"] {
        for text in under([&format!("ulimit -n 64; {FREE}"), FREE], "init", transport) {
            assert!(text.contains("worked"), "{transport}: {text}");
        }
    }
}

/// Descriptors that run out later: what needs none works, and nothing is lost.
#[test]
fn no_more_descriptors_after_init() {
    for transport in ["shm", "tcp"] {
        for text in under([FREE, FREE], "descriptors", transport) {
            let told = text.contains("descriptors") && text.contains("ulimit -n");
            assert!(text.contains("worked") || told, "{transport}: {text}");
        }
    }
}

/// Whoever waits for a rank that can take no connection is told what that rank lacks.
#[test]
fn a_rank_that_cannot_accept_says_why() {
    for text in under([FREE, FREE], "accept", "tcp") {
        let wanted = ["rank 1 on", "cannot take connections", "descriptors", "ulimit -n"];
        assert!(wanted.iter().all(|word| text.contains(word)), "{text}");
    }
}

/// The second rank is where no route leads to the first.
#[test]
fn an_address_without_a_route_is_named() {
    if !is_root() {
        return;
    }
    let shell = r#"exec unshare --net -- "$0" "$@""#;
    let [root, apart] = under([FREE, shell], "apart", "tcp");
    if apart.contains("unshare") {
        println!("skipped: {apart}");
        return;
    }
    assert!(apart.contains("refused: ") && apart.contains("cannot reach the root ("), "{apart}");
    assert!(apart.contains("no route leads there from this host: name an interface"), "{apart}");
    assert!(root.contains("1 of 2 ranks have not come: 1; "), "{root}");
}

/// A user that may have no more threads. Root may always.
fn without_threads(most: &str) -> String {
    format!(
        r#"exec setpriv --reuid 54321 --regid 54321 --clear-groups -- prlimit --nproc={most} "$0" "$@""#
    )
}

#[test]
fn no_thread_at_init() {
    if !is_root() {
        return;
    }
    let shell = without_threads("1");
    let [limited, other] = under([&shell, FREE], "init", "shm");
    if limited.contains("setpriv") {
        println!("skipped: {limited}");
        return;
    }
    assert!(limited.contains("thread") && limited.contains("limit"), "{limited}");
    assert!(other.contains("refused: "), "{other}");
}

#[test]
fn no_thread_at_the_first_non_blocking_call() {
    if !is_root() {
        return;
    }
    let shell = without_threads("100");
    for text in under([&shell, &shell], "threads", "shm") {
        if text.contains("setpriv") {
            println!("skipped: {text}");
            return;
        }
        let wanted = "refused: starting the progress thread: ";
        assert!(text.contains(wanted) && text.contains("ulimit -u"), "{text}");
    }
}

#[test]
fn little_address_space() {
    // Enough for the program, not for the segment.
    for kilobytes in [40_000, 60_000, 80_000] {
        let shell = format!("ulimit -v {kilobytes}; {FREE}");
        let [limited, _other] = under([&shell, FREE], "init", "shm");
        if !limited.contains("worked") {
            let told = limited.contains("memory") || limited.contains("limit");
            assert!(told, "{kilobytes}: {limited}");
        }
    }
}

#[test]
fn a_limit_on_file_sizes_is_no_signal() {
    let shell = format!("ulimit -f 64; {FREE}");
    let [limited, _other] = under([&shell, FREE], "init", "shm");
    assert!(limited.contains("refused: ") && limited.contains("ulimit -f"), "{limited}");
}
