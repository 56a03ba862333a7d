//! One rank's view of the library: the only place that calls Syncline's communicator.

use std::collections::BTreeMap;

use syncline::reduce::{DType, ReduceOp};

use crate::operation::Operation;

/// One call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Call {
    /// What.
    pub(crate) operation: Operation,
    /// Element type.
    pub(crate) dtype: DType,
    /// Operator, where values are combined.
    pub(crate) op: ReduceOp,
    /// Root, where there is one.
    pub(crate) root: u32,
    /// Elements, as the call counts them.
    pub(crate) count: usize,
}

/// What will serve a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The algorithm's name.
    pub(crate) algorithm: String,
    /// The wires' names.
    pub(crate) transport: String,
    /// All the library has to say about it, in lines.
    pub(crate) explanation: String,
}

/// One rank of a job. Errors are the library's own words.
pub(crate) trait Runner {
    /// This rank.
    fn rank(&self) -> u32;

    /// All ranks.
    fn ranks(&self) -> u32;

    /// Hosts they are on.
    fn hosts(&self) -> u32;

    /// How long the parts of coming together took here, in milliseconds.
    fn init_ms(&self) -> BTreeMap<String, f64>;

    /// Makes one call; without `input`, in place.
    fn run(&self, call: &Call, input: Option<&[u8]>, output: &mut [u8]) -> Result<(), String>;

    /// What will serve `call`.
    fn choice(&self, call: &Call) -> Result<Choice, String>;
}
