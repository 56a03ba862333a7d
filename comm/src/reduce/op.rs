//! Reduction operators.

use super::DType;

/// How contributions are combined, element by element.
///
/// Every operator is commutative to the last bit: a NaN result is always the type's canonical
/// quiet NaN, `min` and `max` propagate NaN and order -0 before +0 (ADR 0003).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReduceOp {
    /// Sum; integers wrap.
    Sum,
    /// Product; integers wrap.
    Prod,
    /// Smallest.
    Min,
    /// Largest.
    Max,
    /// Sum divided by the rank count; integers truncate toward zero.
    Avg,
    /// Sum of contributions, each first multiplied by its own rank's factor.
    PreMulSum(f64),
    /// Bitwise and (integers).
    BitAnd,
    /// Bitwise or (integers).
    BitOr,
    /// Bitwise exclusive or (integers).
    BitXor,
}

impl ReduceOp {
    /// The name used by the CLI and in errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Prod => "prod",
            Self::Min => "min",
            Self::Max => "max",
            Self::Avg => "avg",
            Self::PreMulSum(_) => "premul_sum",
            Self::BitAnd => "and",
            Self::BitOr => "or",
            Self::BitXor => "xor",
        }
    }

    /// Whether it is defined on `dtype`.
    pub const fn supports(self, dtype: DType) -> bool {
        match self {
            Self::BitAnd | Self::BitOr | Self::BitXor => !dtype.is_float(),
            Self::PreMulSum(_) => dtype.is_float(),
            _ => true,
        }
    }
}
