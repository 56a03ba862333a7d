//! all_reduce, reduce, scan, exscan: one vector per rank. reduce_scatter: one block per rank of
//! the reduced vector. broadcast: the vector of the root.

use super::{Contract, Counts, InPlace, Request, refuse};
use crate::error::{Rank, Result};
use crate::schedule::Collective;

fn uniform(request: &Request) -> Result<usize> {
    match &request.counts {
        Counts::Uniform(count) => Ok(*count),
        _ => refuse(request.collective, "takes one count".to_owned()),
    }
}

pub(super) fn contract(request: &Request, me: Rank, ranks: Rank) -> Result<Contract> {
    let collective = request.collective;
    if collective == Collective::ReduceScatter {
        return reduce_scatter(request, me, ranks);
    }
    let count = uniform(request)?;
    let has_output = collective != Collective::Reduce || me == request.root;
    let output = has_output.then_some(count);
    Ok(Contract { collective, input: Some(count), output, in_place: InPlace::Same })
}

fn reduce_scatter(request: &Request, me: Rank, ranks: Rank) -> Result<Contract> {
    let me = me as usize;
    let (total, mine, before) = match &request.counts {
        Counts::Uniform(count) => (count * ranks as usize, *count, count * me),
        Counts::PerRank(counts) => {
            (counts.iter().sum(), counts[me], counts[..me].iter().sum::<usize>())
        }
        Counts::PerPair { .. } => return refuse(request.collective, "takes counts per rank"),
    };
    Ok(Contract {
        collective: request.collective,
        input: Some(total),
        output: Some(mine),
        in_place: InPlace::OutputInInput(before),
    })
}

pub(super) fn broadcast(request: &Request, me: Rank) -> Result<Contract> {
    let count = uniform(request)?;
    let input = (me == request.root).then_some(count);
    Ok(Contract {
        collective: request.collective,
        input,
        output: Some(count),
        in_place: InPlace::Same,
    })
}
