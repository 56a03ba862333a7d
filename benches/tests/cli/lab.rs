//! `collbench lab`: real network namespaces. Skipped, saying so, without root or iproute2, except
//! in CI, where both are there.

use std::process::{Command, Stdio};

use crate::common::{COLLECTIVES, collbench, eventually, text};

/// Why labs cannot be tested here.
fn obstacle() -> Option<&'static str> {
    let works = |program: &str| {
        Command::new(program).arg("-V").output().is_ok_and(|output| output.status.success())
    };
    let id = Command::new("id").arg("-u").output().expect("id");
    match () {
        () if id.stdout != b"0\n" => Some("not root"),
        () if !works("ip") || !works("tc") => Some("no iproute2"),
        () => None,
    }
}

/// Whether to go on; prints the reason if not.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn can_run() -> bool {
    match obstacle() {
        None => true,
        Some(reason) => {
            assert!(std::env::var_os("CI").is_none(), "CI must be able to make labs: {reason}");
            eprintln!("skipped: {reason}");
            false
        }
    }
}

/// Names of the namespaces that the collbench process `pid` made.
fn namespaces_of(pid: u32) -> Vec<String> {
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|n| n.starts_with("collbench-") && n.contains(&format!("-{pid}-"))).collect()
}

#[test]
fn hosts_are_apart_and_reach_each_other_at_the_links_speed() {
    if !can_run() {
        return;
    }
    let mut command =
        collbench("lab --hosts 3 --ranks-per-host 2 --rate 200mbit --measure-link --");
    command.args(["launch", "-n", "6", "--", "sh", "-c"]);
    command.arg("echo $LOCAL_RANK $(readlink /proc/self/ns/net)");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let pid = child.id();
    let output = child.wait_with_output().expect("ends");
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    let namespace = |rank: u32, local: u32| {
        let prefix = format!("[{rank}] {local} ");
        let line = out.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("rank {rank} in {out}")).to_owned()
    };
    assert_eq!(namespace(0, 0), namespace(1, 1));
    assert_ne!(namespace(1, 1), namespace(2, 0));
    assert_ne!(namespace(3, 1), namespace(4, 0));
    let link = out.lines().find(|line| line.starts_with("# link")).expect("measured");
    let rates: Vec<f64> = link.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(rates.len(), 2, "{link}");
    assert!(rates.iter().all(|&mbit| mbit > 0.0 && mbit < 220.0), "the shaper holds: {link}");
    assert_eq!(namespaces_of(pid), Vec::<String>::new());
}

#[test]
fn every_collective_over_several_hosts() {
    if !can_run() {
        return;
    }
    for collective in COLLECTIVES.into_iter().chain(["sendrecv"]) {
        let line = format!("lab --hosts 3 --ranks-per-host 2 --rate 500mbit -- run {collective}");
        let mut command = collbench(&line);
        command.args("-b 8 -e 1M -f 16 --iters 2 --warmup 0 --timeout 20".split(' '));
        let output = command.output().expect("starts");
        let (out, err) = text(&output);
        assert_eq!(output.status.code(), Some(0), "{collective}: {err}\n{out}");
        assert!(out.contains(&format!("{collective} on 6 ranks, 3 hosts")), "{out}");
        assert!(out.contains("every element right"), "{out}");
        assert_eq!(out.contains("# limit at"), collective == "all_reduce", "{out}");
    }
}

#[test]
fn nothing_is_left_of_a_lab_that_is_interrupted_or_killed() {
    if !can_run() {
        return;
    }
    for signal in ["-INT", "-KILL"] {
        let mut command = collbench("lab --hosts 2 -- launch -n 2 -- sleep 1000");
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let pid = child.id();
        eventually("the lab stands", || namespaces_of(pid).len() == 3);
        let kill = Command::new("kill").args([signal, &pid.to_string()]).status();
        assert!(kill.expect("kill").success());
        child.wait().expect("ends");
        eventually("the lab is gone", || namespaces_of(pid).is_empty());
    }
}

#[test]
fn cleaning_leaves_living_labs_alone() {
    if !can_run() {
        return;
    }
    let mut command = collbench("lab --hosts 2 -- launch -n 2 -- sleep 1000");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    let pid = child.id();
    eventually("the lab stands", || namespaces_of(pid).len() == 3);
    let output = collbench("lab --clean").output().expect("starts");
    assert!(output.status.success(), "{:?}", text(&output));
    assert_eq!(namespaces_of(pid).len(), 3);
    Command::new("kill").args(["-TERM", &pid.to_string()]).status().expect("kill");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert!(namespaces_of(pid).is_empty());
}
