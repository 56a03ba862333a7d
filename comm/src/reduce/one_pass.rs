//! Operators on the 16-bit floats in one pass: widened, combined and rounded in registers. The
//! same bits as three passes over a block, and several times as fast.

use std::marker::PhantomData;

use super::kernel::{Level, Zip};
use super::ops::{Avg, BF16, Binary, Max, Min, Narrow, Prod, Sum, Unary, Widen};
use super::{DType, ReduceOp};

/// `O` on the small float of marker `S`.
pub(super) struct Through<S, O>(PhantomData<(S, O)>);

impl<S, O> Binary for Through<S, O>
where
    Widen<S>: Unary<To = f32>,
    Narrow<S>: Unary<From = f32, To = <Widen<S> as Unary>::From>,
    O: Binary<Value = f32>,
{
    type Value = <Widen<S> as Unary>::From;

    #[inline(always)]
    fn apply(a: Self::Value, b: Self::Value, argument: f64) -> Self::Value {
        let (a, b) = (Widen::<S>::apply(a, 0.0), Widen::<S>::apply(b, 0.0));
        Narrow::<S>::apply(O::apply(a, b, argument), 0.0)
    }
}

/// The kernel of `op` with its last step, on `dtype` itself; none for types that have no such
/// kernel.
pub(super) fn combine_last(dtype: DType, op: ReduceOp, level: Level) -> Option<Zip> {
    match op {
        ReduceOp::Sum | ReduceOp::PreMulSum(_) => kernel::<Sum<f32>>(dtype, level),
        ReduceOp::Avg => kernel::<Avg<f32>>(dtype, level),
        ReduceOp::Prod => kernel::<Prod<f32>>(dtype, level),
        ReduceOp::Min => kernel::<Min<f32>>(dtype, level),
        ReduceOp::Max => kernel::<Max<f32>>(dtype, level),
        ReduceOp::BitAnd | ReduceOp::BitOr | ReduceOp::BitXor => None,
    }
}

fn kernel<O: Binary<Value = f32>>(dtype: DType, level: Level) -> Option<Zip> {
    match dtype {
        #[cfg(target_arch = "x86_64")]
        DType::BF16 if level != Level::Baseline => Some(super::bf16::zip::<O>),
        DType::BF16 => Some(level.zip::<Through<BF16, O>>()),
        #[cfg(target_arch = "x86_64")]
        DType::F16 if level != Level::Baseline => Some(super::f16c::zip::<O>),
        _ => None,
    }
}
