//! Holds what came of a rendezvous against what was wrong with it.

use super::plan::{Kind, PIDS, Plan, Process};
use super::world::{Run, Stage};
use crate::rendezvous::MemberInfo;
use crate::rendezvous::member::Table;
use crate::rendezvous::roster::ranges;

/// Everything that is wrong; empty when nothing is.
pub(super) fn judge(plan: &Plan, run: &Run) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, stage) in run.stages.iter().enumerate() {
        if let Some(why) = check(plan, run, index, stage) {
            let Process { rank, .. } = plan.processes[index];
            wrong.push(format!("wire-up: rank {rank}, process {}: {why}: {stage:?}", PIDS + index));
        }
    }
    if run.table.as_ref().is_some_and(|table| !is_right(plan, table)) {
        wrong.push(format!("wire-up: a wrong table: {:?}", run.table));
    }
    if let Some(why) = check_outcome(plan, run) {
        wrong.push(format!("wire-up: {why}: {:?}", run.outcome));
    }
    if plan.is_benign() && !matches!(run.outcome, Some((_, Ok(())))) {
        wrong.push(format!("wire-up: the job did not come together: {:?}", run.outcome));
    }
    wrong
}

/// Words that every process is known by.
fn name(index: usize) -> String {
    format!("(process {} on ", PIDS + index)
}

fn is_member(plan: &Plan, index: usize) -> bool {
    plan.processes[index].kind == Kind::Member
}

/// Whether everybody in the table is there by right.
fn is_right(plan: &Plan, table: &Table) -> bool {
    let claims = |(rank, member): (u32, &MemberInfo)| {
        let index = Plan::index(member);
        member.rank == rank && is_member(plan, index) && plan.member(index) == *member
    };
    table.members.len() == plan.ranks as usize
        && table.agreed == plan.seed.to_le_bytes()
        && table.root == plan.processes[0].rank
        && (0..).zip(&table.members).all(claims)
}

/// What is wrong with the end of one process.
fn check(plan: &Plan, run: &Run, index: usize, stage: &Stage) -> Option<&'static str> {
    let root_died = run.stages[0] == Stage::Dead;
    match stage {
        Stage::Dead => None,
        Stage::Absent | Stage::Looking | Stage::Waiting(_) => Some("it never ended"),
        Stage::Joined(table) => {
            let mine = plan.member(index);
            let seated = table.members.get(mine.rank as usize) == Some(&mine);
            let same = run.table.as_ref() == Some(table);
            (!(seated && same)).then_some("it has a wrong table")
        }
        Stage::Failed(reason) => {
            let seated =
                run.table.as_ref().is_some_and(|t| t.members.contains(&plan.member(index)));
            match &run.outcome {
                _ if plan.processes[index].kind == Kind::OtherSecret => {
                    let told = reason.contains("does not know the job's secret");
                    (!told && !root_died).then_some("it was not told that its id is another's")
                }
                _ if root_died => {
                    let told = ["lost the root of the job", "cannot reach", "in time"];
                    let told = told.iter().any(|words| reason.contains(words));
                    let why = run.outcome.as_ref().and_then(|(_, outcome)| outcome.as_ref().err());
                    // It may have come between the end of the rendezvous and that of the root.
                    let late = matches!(run.outcome, Some((_, Ok(()))))
                        && reason.contains("its job is complete already");
                    (!told && !late && why != Some(reason))
                        .then_some("it was not told that the root is gone")
                }
                Some((_, Ok(()))) if seated => Some("a member was left out"),
                Some((_, Ok(()))) => {
                    let told = ["its job is complete already", "did not complete the job in time"];
                    let told = told.iter().any(|words| reason.contains(words));
                    (!told).then_some("it was not told that it came too late")
                }
                Some((_, Err(why))) if run.present.contains(&index) => {
                    // One whose connection broke at that moment cannot be told.
                    let broke = reason.contains("lost the root") && !plan.resets.is_empty();
                    (reason != why && !broke).then_some("it was not told why there is no job")
                }
                Some((_, Err(why))) => {
                    let gone = ["lost the root of the job", "cannot reach"];
                    let told = reason == why || gone.iter().any(|words| reason.contains(words));
                    (!told).then_some("it was told something else than the others")
                }
                // It gave up by itself.
                None => Some("it failed, and the root knows nothing of it"),
            }
        }
    }
}

/// Whether what the root says is so.
fn check_outcome(plan: &Plan, run: &Run) -> Option<&'static str> {
    let Some((at, outcome)) = &run.outcome else {
        return (run.stages[0] != Stage::Dead).then_some("the root came to no end");
    };
    let reason = outcome.as_ref().err()?;
    let came = |index: usize| run.heard.get(&index).is_some_and(|since| since <= at);
    let count = plan.processes.len();
    let named: Vec<usize> = (0..count).filter(|index| reason.contains(&name(*index))).collect();
    let of_kind = |fits: fn(Kind) -> bool| {
        let named = named.iter().filter(|index| came(**index));
        named.into_iter().any(|index| fits(plan.processes[*index].kind))
    };
    if reason.contains("have not come") {
        // Whose place nobody took.
        let taken = |rank| {
            let there = |index: &usize| {
                plan.processes[*index].rank == rank
                    && is_member(plan, *index)
                    && (*index == 0 || came(*index))
            };
            (0..count).any(|index| there(&index))
        };
        let absent = ranges((0..plan.ranks).filter(|rank| !taken(*rank)));
        let exact = !absent.is_empty() && reason.contains(&format!("have not come: {absent};"));
        return (!exact).then_some("it does not name those who have not come");
    }
    let justified = if reason.contains("claim the same rank") {
        let alike = |a: &usize| {
            let ours = (*a == 0 || came(*a)) && is_member(plan, *a);
            ours && plan.processes[*a].rank == plan.processes[named[0]].rank
        };
        named.len() == 2 && named.iter().all(alike)
    } else if reason.contains("came and was lost") {
        let parted = |index: &usize| run.parted.get(index).is_some_and(|since| since <= at);
        let hurt = |index: &usize| {
            plan.processes[*index].dies.is_some_and(|dies| dies <= *at) || !plan.resets.is_empty()
        };
        named.len() == 1 && named.iter().all(|index| parted(index) && hurt(index))
    } else if reason.contains("was started as one of") {
        of_kind(|kind| matches!(kind, Kind::OtherSize(_)))
    } else {
        reason.contains("version mismatch") && of_kind(|kind| kind == Kind::OtherVersion)
    };
    (!justified).then_some("the root blames somebody without cause")
}
