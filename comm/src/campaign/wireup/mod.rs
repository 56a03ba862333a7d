//! How a simulated job comes together: the rendezvous, in which things go wrong too.
//!
//! The root's [`Assembly`](crate::rendezvous::assembly::Assembly) and every other process's
//! [`Applicant`](crate::rendezvous::applicant::Applicant) are the library's; connections, clock and
//! processes are simulated. Joins and tables come late, twice, and overtake each other on different
//! connections; connections break; processes die and are started again; others come that are none
//! of the job's, or want a rank that is taken.

mod judge;
mod plan;
mod world;

use crate::rendezvous::MemberInfo;

/// What came of wiring a job up.
#[derive(Debug)]
pub(super) struct Wired {
    /// The members; none when the job could not be assembled at all.
    pub(super) members: Option<Vec<MemberInfo>>,
    /// What is wrong, in words.
    pub(super) wrong: Vec<String>,
    /// Fingerprint of everything that happened.
    pub(super) trace: u64,
    /// Processes that were refused.
    pub(super) refused: u64,
    /// What happened, in words.
    pub(super) story: Vec<String>,
}

/// Wires up the job of `seed`. When trouble keeps it from being assembled, that is judged, and it
/// is started once more with an id of its own, while processes of the day before still come.
pub(super) fn wire(seed: u64, ranks: u32, host_ranks: u32) -> Wired {
    let mut wired =
        Wired { members: None, wrong: Vec::new(), trace: 0, refused: 0, story: Vec::new() };
    for attempt in 0..2 {
        let plan = plan::plan(seed, attempt, ranks, host_ranks);
        let run = world::run(&plan);
        wired.wrong.extend(judge::judge(&plan, &run));
        wired.trace = wired.trace.rotate_left(17) ^ run.trace;
        wired.refused += run.refused();
        wired.story.push(format!("{plan:#?}"));
        wired.story.extend(run.story);
        wired.members = run.table.map(|table| table.members);
        if wired.members.is_some() {
            return wired;
        }
    }
    wired.wrong.push("the job could not be wired up though nothing was wrong".to_owned());
    wired
}
