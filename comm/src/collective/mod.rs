//! The collectives' contracts: what each does, which buffers it takes, what it refuses.
//!
//! One file per family of collectives. A [`Request`] is what a caller asks for; its [`Contract`]
//! says how large this rank's buffers are and how they may share memory. Everything a call can
//! get wrong on one rank is refused here, before anything is sent.

mod all_to_all;
mod contract;
mod gather_scatter;
mod placement;
mod reduction;
mod request;
mod synchronize;

pub use contract::{Contract, InPlace};
pub use request::{Counts, Request};

use crate::error::{Error, Rank, Result};
use crate::schedule::Collective;

/// The contract of `request` on rank `me` of `ranks`.
///
/// # Errors
/// [`Error::InvalidArgument`] when the request makes no sense on any rank: a root outside the
/// communicator, an operator the type does not have, counts of the wrong kind or number, or more
/// bytes than an address space holds.
pub fn contract(request: &Request, me: Rank, ranks: Rank) -> Result<Contract> {
    request::check(request, ranks)?;
    match request.collective {
        Collective::AllReduce
        | Collective::Reduce
        | Collective::Scan
        | Collective::ExScan
        | Collective::ReduceScatter => reduction::contract(request, me, ranks),
        Collective::Broadcast => reduction::broadcast(request, me),
        Collective::AllGather | Collective::Gather | Collective::Scatter => {
            gather_scatter::contract(request, me, ranks)
        }
        Collective::AllToAll => all_to_all::contract(request, me, ranks),
        Collective::Barrier => synchronize::contract(request),
    }
}

/// A refusal of `collective`, for `reason`.
fn refuse<T>(collective: Collective, reason: impl Into<String>) -> Result<T> {
    Err(Error::InvalidArgument { operation: collective.name(), reason: reason.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reduce::{DType, ReduceOp};

    fn refusal(request: &Request) -> String {
        contract(request, 1, 4).unwrap_err().to_string()
    }

    #[test]
    fn buffers_are_sized_as_nccl_counts_them() {
        let sizes = |collective| {
            let c = contract(&Request::new(collective, DType::F32, 3), 1, 4).unwrap();
            (c.input, c.output, c.in_place)
        };
        assert_eq!(sizes(Collective::AllReduce), (Some(3), Some(3), InPlace::Same));
        assert_eq!(sizes(Collective::Reduce), (Some(3), None, InPlace::Same));
        assert_eq!(sizes(Collective::Broadcast), (None, Some(3), InPlace::Same));
        let shared = InPlace::OutputInInput(3);
        assert_eq!(sizes(Collective::ReduceScatter), (Some(12), Some(3), shared));
        let shared = InPlace::InputInOutput(3);
        assert_eq!(sizes(Collective::AllGather), (Some(3), Some(12), shared));
        assert_eq!(sizes(Collective::AllToAll), (Some(12), Some(12), InPlace::Same));
        assert_eq!(sizes(Collective::Gather), (Some(3), None, InPlace::Same));
        assert_eq!(sizes(Collective::Scatter), (None, Some(3), InPlace::Same));
    }

    #[test]
    fn uneven_counts_place_the_own_block() {
        let mut request = Request::new(Collective::AllGather, DType::U8, 0);
        request.counts = Counts::PerRank(vec![5, 0, 7, 1]);
        let c = contract(&request, 2, 4).unwrap();
        assert_eq!((c.input, c.output), (Some(7), Some(13)));
        assert_eq!(c.in_place, InPlace::InputInOutput(5));
        assert!(c.check_lengths(7, 13).is_ok());
        assert!(c.check_lengths(7, 12).unwrap_err().to_string().contains("12 elements"));
    }

    #[test]
    fn bad_requests_say_what_would_be_right() {
        let request = Request::new(Collective::Broadcast, DType::F32, 3).root(4);
        assert!(refusal(&request).contains("root 4 is not a rank"));
        let request = Request::new(Collective::AllReduce, DType::F32, 3).op(ReduceOp::BitXor);
        assert!(refusal(&request).contains("xor is not defined on f32"));
        let request =
            Request::new(Collective::AllReduce, DType::I32, 3).op(ReduceOp::PreMulSum(0.5));
        assert!(refusal(&request).contains("premul_sum takes floats"));
        let request = Request::new(Collective::Scan, DType::F32, 3).op(ReduceOp::Avg);
        assert!(refusal(&request).contains("avg of a prefix"));
        let request = Request::new(Collective::AllGather, DType::U8, usize::MAX / 4);
        assert!(refusal(&request).contains("address space"));
        let mut request = Request::new(Collective::AllGather, DType::U8, 0);
        request.counts = Counts::PerRank(vec![1, 2, 3]);
        assert!(refusal(&request).contains("3 counts given for 4 ranks"));
        request.collective = Collective::AllReduce;
        assert!(refusal(&request).contains("takes one count"));
        request.collective = Collective::AllToAll;
        request.counts = Counts::PerPair { send: vec![1; 4], receive: vec![1, 2, 1, 1] };
        assert!(refusal(&request).contains("make them equal"));
    }
}
