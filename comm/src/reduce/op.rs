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
    /// Every operator; `factor` is [`Self::PreMulSum`]'s.
    pub const fn all(factor: f64) -> [Self; 9] {
        [
            Self::Sum,
            Self::Prod,
            Self::Min,
            Self::Max,
            Self::Avg,
            Self::PreMulSum(factor),
            Self::BitAnd,
            Self::BitOr,
            Self::BitXor,
        ]
    }

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

    /// A small number for it; the factor is each rank's own and left out.
    pub const fn number(self) -> u8 {
        match self {
            Self::Sum => 0,
            Self::Prod => 1,
            Self::Min => 2,
            Self::Max => 3,
            Self::Avg => 4,
            Self::PreMulSum(_) => 5,
            Self::BitAnd => 6,
            Self::BitOr => 7,
            Self::BitXor => 8,
        }
    }

    /// The name of the operator with this number.
    pub fn name_of(number: u8) -> Option<&'static str> {
        const NAMES: [&str; 9] =
            ["sum", "prod", "min", "max", "avg", "premul_sum", "and", "or", "xor"];
        NAMES.get(usize::from(number)).copied()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_the_names() {
        let all = ReduceOp::all(0.5);
        for op in all {
            assert_eq!(ReduceOp::name_of(op.number()), Some(op.name()));
        }
        assert_eq!(ReduceOp::name_of(all.len() as u8), None);
    }
}
