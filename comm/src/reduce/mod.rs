//! Elementwise reduction: types, operators, and the kernels, chosen once per process.
//!
//! What the operators mean to the last bit is ADR 0003. Each kernel is written once, as a scalar
//! function in `ops` and a loop in `kernel`, and compiled for several instruction sets; the ones
//! this CPU can run are found at start. All of them give the same bits.

#[cfg(target_arch = "x86_64")]
mod bf16;
mod dtype;
mod element;
#[cfg(target_arch = "x86_64")]
mod f16c;
mod kernel;
mod one_pass;
mod op;
mod ops;
mod reducer;
mod streaming;
#[cfg(test)]
mod tests;

pub use dtype::DType;
pub use element::Element;
pub use op::ReduceOp;
pub use reducer::Reducer;

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
