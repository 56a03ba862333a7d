//! What a caller asks for.

use super::refuse;
use crate::error::{Rank, Result};
use crate::reduce::{DType, ReduceOp};
use crate::schedule::Collective;

/// Element counts, as NCCL and MPI count them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Counts {
    /// The same everywhere: the vector (all_reduce, broadcast, reduce, scan, exscan), what each
    /// rank contributes (all_gather, gather) or receives (reduce_scatter, scatter), or what each
    /// rank sends to each (all_to_all).
    Uniform(usize),
    /// One count per rank, the same list on every rank: the `_v` forms of all_gather, gather,
    /// reduce_scatter and scatter.
    PerRank(Vec<usize>),
    /// What this rank sends to and receives from every rank: all_to_all_v.
    PerPair {
        /// Elements sent to each rank.
        send: Vec<usize>,
        /// Elements received from each rank.
        receive: Vec<usize>,
    },
}

/// One call of a collective. Every rank must make the same request, apart from `PerPair` counts
/// and the factor of [`ReduceOp::PreMulSum`].
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Which collective.
    pub collective: Collective,
    /// Element type.
    pub dtype: DType,
    /// The operator; ignored by collectives that only move data.
    pub op: ReduceOp,
    /// The root; ignored by collectives without one.
    pub root: Rank,
    /// How many elements.
    pub counts: Counts,
}

impl Request {
    /// A request with `count` elements everywhere, operator sum, root 0.
    pub const fn new(collective: Collective, dtype: DType, count: usize) -> Self {
        Self { collective, dtype, op: ReduceOp::Sum, root: 0, counts: Counts::Uniform(count) }
    }

    /// The same with another operator.
    pub const fn op(mut self, op: ReduceOp) -> Self {
        self.op = op;
        self
    }

    /// The same with another root.
    pub const fn root(mut self, root: Rank) -> Self {
        self.root = root;
        self
    }
}

/// Refuses what no collective accepts.
pub(super) fn check(request: &Request, ranks: Rank) -> Result<()> {
    let Request { collective, dtype, op, root, counts } = request;
    if collective.is_rooted() && *root >= ranks {
        return refuse(
            *collective,
            format!("root {root} is not a rank; the communicator has ranks 0 to {}", ranks - 1),
        );
    }
    if collective.reduces() && !op.supports(*dtype) {
        let reason = format!(
            "op {} is not defined on {}; and, or, xor take integers, premul_sum takes floats",
            op.name(),
            dtype.name()
        );
        return refuse(*collective, reason);
    }
    if matches!(collective, Collective::Scan | Collective::ExScan) && *op == ReduceOp::Avg {
        return refuse(*collective, "avg of a prefix is not defined; use sum and divide");
    }
    check_counts(*collective, counts, ranks)?;
    let total = match counts {
        Counts::Uniform(count) => count.checked_mul(ranks as usize),
        Counts::PerRank(counts) => sum(counts),
        Counts::PerPair { send, receive } => sum(send).zip(sum(receive)).map(|(s, r)| s.max(r)),
    };
    // 8: the widest accumulator. Offsets are computed in signed arithmetic somewhere below.
    if total.and_then(|t| t.checked_mul(8)).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return refuse(*collective, "the buffers would not fit into an address space".to_owned());
    }
    Ok(())
}

fn sum(counts: &[usize]) -> Option<usize> {
    counts.iter().try_fold(0usize, |total, &count| total.checked_add(count))
}

fn check_counts(collective: Collective, counts: &Counts, ranks: Rank) -> Result<()> {
    let per_rank = matches!(
        collective,
        Collective::AllGather
            | Collective::Gather
            | Collective::ReduceScatter
            | Collective::Scatter
    );
    let lengths: &[usize] = match counts {
        Counts::Uniform(_) => return Ok(()),
        Counts::PerRank(list) if per_rank => &[list.len()],
        Counts::PerPair { send, receive } if collective == Collective::AllToAll => {
            &[send.len(), receive.len()]
        }
        Counts::PerRank(_) => {
            return refuse(
                collective,
                "takes one count; lists of counts per rank belong to all_gather, gather, \
                 reduce_scatter and scatter",
            );
        }
        Counts::PerPair { .. } => {
            return refuse(collective, "takes one count; counts per pair belong to all_to_all");
        }
    };
    match lengths.iter().find(|&&length| length != ranks as usize) {
        None => Ok(()),
        Some(length) => {
            refuse(collective, format!("{length} counts given for {ranks} ranks; give one each"))
        }
    }
}
