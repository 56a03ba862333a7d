//! How much of what a phase sends are partial results.
//!
//! In a phase that continues with partial results, or leaves them, formats differ from those its
//! algorithm states its cost for: contributions may be partial results already, and results may
//! not be finished yet. Which sends those are only its schedules tell.

use super::super::algorithm::Algorithm;
use super::super::ir::{Buf, Step};
use super::classify::{Class, classify};
use super::phases::{Phase, Site};
use crate::error::Rank;

/// Phases among more ranks than this are not looked into: all they send counts as partial.
const RANKS_MAX: Rank = 32;

/// Blocks of the whole sent as partial results by the rank that sends most of those, given that
/// the algorithm states `sent` and, of these, `sent_acc`: exact among few ranks, else a bound.
pub(super) fn partials_sent(
    algorithm: &dyn Algorithm,
    phase: &Phase,
    flat: bool,
    (sent, sent_acc): (u64, u64),
) -> u64 {
    if phase.input != Site::Partial && phase.output != Site::Partial {
        return sent_acc;
    }
    if !flat || phase.shape.ranks > RANKS_MAX {
        return sent;
    }
    (0..phase.shape.ranks).map(|rank| by_rank(algorithm, phase, rank)).max().unwrap_or(0)
}

fn by_rank(algorithm: &dyn Algorithm, phase: &Phase, rank: Rank) -> u64 {
    let schedule = algorithm.build(&phase.shape, rank);
    let lists = phase.lists_of(&schedule);
    let classes = classify(algorithm, &phase.shape, rank, &schedule);
    let steps = schedule.rounds.iter().flat_map(|round| &round.steps);
    let mut partials = 0;
    for (step, (read, _)) in steps.zip(classes) {
        let Step::Send { src, .. } = step else { continue };
        for slice in src {
            let site = match (slice.buf, read) {
                (Buf::Work, _) => Site::Partial,
                (Buf::Input, _) | (Buf::Stage, Class::Raw) => phase.input,
                (Buf::Output, _) | (Buf::Stage, Class::Done) => phase.output,
            };
            if site == Site::Partial {
                let blocks = slice.block.0..slice.block.0 + slice.len;
                partials += blocks.map(|b| lists[b as usize].len() as u64).sum::<u64>();
            }
        }
    }
    partials
}
