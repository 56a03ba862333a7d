//! What launchers put into the environment, and what their servers answer, for fuzzers.

use std::collections::HashMap;

use super::{LaunchEnvironment, nodelist, pmi1, tcp_store};

/// Variables that decide something, so that a fuzzer need not guess their names: a line that
/// begins with a letter stands for one of these.
const NAMES: &[&str] = &[
    "SYNCLINE_RANK",
    "SYNCLINE_RANKS",
    "SYNCLINE_ID",
    "RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "PMIX_NAMESPACE",
    "PMI_RANK",
    "PMI_SIZE",
    "PMI_FD",
    "PMI_PORT",
    "PMI_ID",
    "PALS_RANKID",
    "PALS_APID",
    "SLURM_PROCID",
    "SLURM_NTASKS",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_JOB_NODELIST",
    "LOCAL_RANK",
];

/// An environment, one value per line: a letter for the name, or `NAME=value`.
pub(crate) fn launch(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return answers(data) };
    let mut variables = HashMap::new();
    for line in text.lines() {
        if let Some((name, value)) = line.split_once('=') {
            variables.insert(name.to_owned(), value.to_owned());
        } else if let Some(first) = line.bytes().next().filter(u8::is_ascii_lowercase) {
            let name = NAMES[usize::from(first - b'a')];
            variables.insert(name.to_owned(), line[1..].to_owned());
        }
    }
    if let Ok(Some(found)) = LaunchEnvironment::detect_with(|name| variables.get(name).cloned()) {
        assert!(found.rank < found.ranks, "{found:?}");
    }
    if let Ok(hosts) = nodelist::expand(text) {
        assert!(hosts.iter().all(|host| !host.contains(['[', ']'])));
    }
    if let Ok(reply) = pmi1::Reply::parse(text) {
        assert_eq!(reply.get("cmd"), Some(reply.command));
        let _failure = reply.failure();
    }
    answers(data);
}

/// Of a c10d store.
fn answers(data: &[u8]) {
    let within = |length: usize| assert!(length <= data.len());
    let _check = tcp_store::parse_check(data).is_ok_and(|got| got.is_some_and(|g| g.1 == 1));
    let _wait = tcp_store::parse_wait(data).is_ok_and(|got| got.is_some_and(|g| g.1 == 1));
    if let Ok(Some((value, length))) = tcp_store::parse_get(data) {
        within(length);
        assert_eq!(value, data[8..length]);
    }
}
