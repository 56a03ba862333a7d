//! all_gather, gather, scatter: one block per rank, in rank order.

use super::{Contract, Counts, InPlace, Request, refuse};
use crate::error::{Rank, Result};
use crate::schedule::Collective;

pub(super) fn contract(request: &Request, me: Rank, ranks: Rank) -> Result<Contract> {
    let rank = me as usize;
    let (total, mine, before) = match &request.counts {
        Counts::Uniform(count) => (count * ranks as usize, *count, count * rank),
        Counts::PerRank(counts) => {
            (counts.iter().sum(), counts[rank], counts[..rank].iter().sum::<usize>())
        }
        Counts::PerPair { .. } => return refuse(request.collective, "takes counts per rank"),
    };
    let at_root = me == request.root;
    let (input, output, in_place) = match request.collective {
        Collective::Scatter if at_root => (Some(total), Some(mine), InPlace::OutputInInput(before)),
        Collective::Scatter => (None, Some(mine), InPlace::Same),
        Collective::Gather if !at_root => (Some(mine), None, InPlace::Same),
        _ => (Some(mine), Some(total), InPlace::InputInOutput(before)),
    };
    Ok(Contract { collective: request.collective, input, output, in_place })
}
