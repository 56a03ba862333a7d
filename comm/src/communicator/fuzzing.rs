//! What other ranks say about where they run, and the constants the root chose, for fuzzers.

use super::{choice, place};
use crate::fuzzing::Feed;
use crate::rendezvous::MemberInfo;

/// Payloads of a few members on a few hosts.
pub(crate) fn place(data: &[u8]) {
    let mut feed = Feed::new(data);
    let mut members = Vec::new();
    while !feed.is_empty() && members.len() < 16 {
        let host = format!("host {}", feed.u8() % 4);
        let processors = feed.u32();
        members.push(MemberInfo {
            rank: u32::try_from(members.len()).expect("a few"),
            host: host.clone(),
            host_identity: host,
            pid: 1,
            processors,
            addresses: Vec::new(),
            local_name: Vec::new(),
            payload: feed.chunk().to_vec(),
        });
    }
    if members.is_empty() {
        return;
    }
    assert_eq!(place::members(&members).len(), members.len());
    assert!(place::cpus_per_host(&members) > 0);
    for member in &members {
        place::oversubscribed(&members, member.rank);
    }
}

/// The root's constants.
pub(crate) fn constants(data: &[u8]) {
    if let Ok(constants) = choice::agreed(data, 0, 2) {
        assert_eq!(constants.to_bytes(), data);
    }
}
