//! all_to_all: rank r gets block r of every rank's input, in rank order.

use super::{Contract, Counts, InPlace, Request, refuse};
use crate::error::{Rank, Result};

pub(super) fn contract(request: &Request, me: Rank, ranks: Rank) -> Result<Contract> {
    let collective = request.collective;
    let (input, output) = match &request.counts {
        Counts::Uniform(count) => (count * ranks as usize, count * ranks as usize),
        Counts::PerPair { send, receive } => {
            let rank = me as usize;
            if send[rank] != receive[rank] {
                let reason = format!(
                    "rank {me} sends {} elements to itself but receives {}; make them equal",
                    send[rank], receive[rank]
                );
                return refuse(collective, reason);
            }
            (send.iter().sum(), receive.iter().sum())
        }
        Counts::PerRank(_) => return refuse(collective, "takes counts per pair"),
    };
    Ok(Contract { collective, input: Some(input), output: Some(output), in_place: InPlace::Same })
}
