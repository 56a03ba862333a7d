//! Elementwise reduction: types, operators, and the kernels, chosen once per process.

mod dtype;
mod op;

pub use dtype::DType;
pub use op::ReduceOp;

/// How the values of a slice are stored.
///
/// 8- and 16-bit floats are summed in f32 and rounded once at the end, so a partial result of
/// such a type is wider than the user's data. For all other types the two formats have the same
/// width, and differ only in whether the operator's last step (the division of `avg`) is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// As the user stores it: a contribution that was not reduced yet, or a finished result.
    Data,
    /// A partial result, in [`DType::accumulator`].
    Acc,
}
