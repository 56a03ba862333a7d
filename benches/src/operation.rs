//! The operations collbench measures, and what is special about each: sizes as nccl-tests counts
//! them, buffer lengths, bus bandwidth factors.

use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Operation {
    /// Every rank gets the reduction of all inputs
    AllReduce,
    /// Rank r gets part r of the reduction of all inputs
    ReduceScatter,
    /// Every rank gets every rank's input
    AllGather,
    /// Every rank gets the root's input
    Broadcast,
    /// The root gets the reduction of all inputs
    Reduce,
    /// The root gets every rank's input
    Gather,
    /// Rank r gets part r of the root's input
    Scatter,
    /// Rank r gets part r of every rank's input
    AllToAll,
    /// Rank r gets the reduction of the inputs of ranks 0 to r
    Scan,
    /// Rank r gets the reduction of the inputs of ranks 0 to r-1
    #[value(name = "exscan")]
    #[serde(rename = "exscan")]
    ExScan,
    /// Nobody leaves before everybody has come; no data
    Barrier,
    /// Rank r sends to rank r+1 and receives from rank r-1
    #[value(name = "sendrecv")]
    #[serde(rename = "sendrecv")]
    SendRecv,
}

impl Operation {
    /// Every operation.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 12] = [
        Self::AllReduce,
        Self::ReduceScatter,
        Self::AllGather,
        Self::Broadcast,
        Self::Reduce,
        Self::Gather,
        Self::Scatter,
        Self::AllToAll,
        Self::Scan,
        Self::ExScan,
        Self::Barrier,
        Self::SendRecv,
    ];

    /// The name on the command line, in tables and in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AllReduce => "all_reduce",
            Self::ReduceScatter => "reduce_scatter",
            Self::AllGather => "all_gather",
            Self::Broadcast => "broadcast",
            Self::Reduce => "reduce",
            Self::Gather => "gather",
            Self::Scatter => "scatter",
            Self::AllToAll => "all_to_all",
            Self::Scan => "scan",
            Self::ExScan => "exscan",
            Self::Barrier => "barrier",
            Self::SendRecv => "sendrecv",
        }
    }

    /// Whether it combines values with an operator.
    pub(crate) const fn reduces(self) -> bool {
        matches!(
            self,
            Self::AllReduce | Self::ReduceScatter | Self::Reduce | Self::Scan | Self::ExScan
        )
    }

    /// Whether it has a root.
    pub(crate) const fn rooted(self) -> bool {
        matches!(self, Self::Broadcast | Self::Reduce | Self::Gather | Self::Scatter)
    }

    /// Whether it can work in one buffer.
    pub(crate) const fn can_be_in_place(self) -> bool {
        !matches!(self, Self::SendRecv | Self::Barrier)
    }

    /// Whether a rank leaves only after all ranks have come, so that iterations may follow each
    /// other directly. The others are timed with a barrier before each iteration: their first
    /// ranks would otherwise run ahead and the calls overlap.
    pub(crate) const fn synchronises(self) -> bool {
        matches!(
            self,
            Self::AllReduce
                | Self::ReduceScatter
                | Self::AllGather
                | Self::AllToAll
                | Self::Barrier
        )
    }

    /// Whether the parts of all ranks make up the size, rather than one vector.
    const fn is_cut(self) -> bool {
        matches!(
            self,
            Self::ReduceScatter | Self::AllGather | Self::Gather | Self::Scatter | Self::AllToAll
        )
    }

    /// Elements as the call counts them, for about `size` bytes as nccl-tests counts those: the
    /// vector, or where ranks hold parts the whole of the larger buffer. At least 1, so the true
    /// size ([`Self::bytes`]) of a tiny message may be larger than asked for.
    pub(crate) fn count(self, size: u64, element_bytes: usize, ranks: u32) -> usize {
        let unit = element_bytes as u64 * if self.is_cut() { u64::from(ranks) } else { 1 };
        match self {
            Self::Barrier => 0,
            _ => usize::try_from((size / unit).max(1)).unwrap_or(usize::MAX),
        }
    }

    /// The size in bytes that `count` elements make, as the table shows it.
    pub(crate) fn bytes(self, count: usize, element_bytes: usize, ranks: u32) -> u64 {
        let parts = if self.is_cut() { u64::from(ranks) } else { 1 };
        count as u64 * element_bytes as u64 * parts
    }

    /// Elements of the input buffer of `rank`.
    pub(crate) const fn input_count(self, count: usize, rank: u32, ranks: u32, root: u32) -> usize {
        match self {
            Self::ReduceScatter | Self::AllToAll => count * ranks as usize,
            Self::Scatter if rank == root => count * ranks as usize,
            Self::Broadcast if rank != root => 0,
            Self::Scatter | Self::Barrier => 0,
            _ => count,
        }
    }

    /// Elements of the output buffer of `rank`.
    pub(crate) const fn output_count(
        self,
        count: usize,
        rank: u32,
        ranks: u32,
        root: u32,
    ) -> usize {
        match self {
            Self::AllGather | Self::AllToAll => count * ranks as usize,
            Self::Gather if rank == root => count * ranks as usize,
            Self::Reduce if rank != root => 0,
            Self::Gather | Self::Barrier => 0,
            _ => count,
        }
    }

    /// Bus bandwidth over algorithm bandwidth (nccl-tests, PERFORMANCE.md): the bytes that each
    /// rank's link must carry per byte of the size.
    pub(crate) fn bus_factor(self, ranks: u32) -> f64 {
        let p = f64::from(ranks);
        match self {
            Self::AllReduce => 2.0 * (p - 1.0) / p,
            _ if self.is_cut() => (p - 1.0) / p,
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_everywhere() {
        use clap::ValueEnum as _;
        for operation in Operation::ALL {
            let value = operation.to_possible_value().expect("not hidden");
            assert_eq!(value.get_name(), operation.name());
            let json = serde_json::to_string(&operation).expect("plain");
            assert_eq!(json, format!("\"{}\"", operation.name()));
        }
        assert_eq!(Operation::value_variants().len(), Operation::ALL.len());
    }

    #[test]
    fn sizes_are_those_of_nccl_tests() {
        let mib = 1 << 20;
        assert_eq!(Operation::AllReduce.count(mib, 4, 4), 1 << 18);
        assert_eq!(Operation::Broadcast.count(mib, 4, 4), 1 << 18);
        assert_eq!(Operation::AllGather.count(mib, 4, 4), 1 << 16, "sent per rank");
        assert_eq!(Operation::ReduceScatter.count(mib, 4, 4), 1 << 16, "received per rank");
        assert_eq!(Operation::AllToAll.count(mib, 4, 4), 1 << 16, "per pair");
        assert_eq!(Operation::Gather.count(mib, 4, 4), 1 << 16);
        assert_eq!(Operation::Barrier.count(mib, 4, 4), 0);
    }

    #[test]
    fn a_message_is_never_empty_and_says_its_true_size() {
        let count = Operation::AllGather.count(8, 4, 16);
        assert_eq!(count, 1);
        assert_eq!(Operation::AllGather.bytes(count, 4, 16), 64);
        assert_eq!(Operation::AllReduce.bytes(2, 4, 16), 8);
    }

    #[test]
    fn bus_factors() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
        close(Operation::AllReduce.bus_factor(4), 1.5);
        close(Operation::AllReduce.bus_factor(1), 0.0);
        for part in [Operation::ReduceScatter, Operation::AllGather, Operation::AllToAll] {
            close(part.bus_factor(4), 0.75);
        }
        close(Operation::Gather.bus_factor(4), 0.75);
        close(Operation::Scatter.bus_factor(4), 0.75);
        for whole in [Operation::Broadcast, Operation::Reduce, Operation::Scan] {
            close(whole.bus_factor(4), 1.0);
        }
    }

    #[test]
    fn what_goes_in_comes_out_somewhere() {
        for operation in Operation::ALL {
            let total = |f: &dyn Fn(u32) -> usize| (0..4).map(f).sum::<usize>();
            let into = total(&|r| operation.input_count(10, r, 4, 1));
            let out = total(&|r| operation.output_count(10, r, 4, 1));
            match operation {
                Operation::Barrier => assert_eq!((into, out), (0, 0)),
                Operation::Broadcast => assert_eq!((into, out), (10, 40)),
                Operation::Reduce => assert_eq!((into, out), (40, 10)),
                Operation::AllGather => assert_eq!((into, out), (40, 160)),
                Operation::ReduceScatter => assert_eq!((into, out), (160, 40)),
                Operation::AllToAll => assert_eq!((into, out), (160, 160)),
                _ => assert_eq!((into, out), (40, 40)),
            }
        }
    }
}
