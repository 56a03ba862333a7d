//! One operator on one element type, resolved to kernels.

use std::mem::MaybeUninit;

use syncline_codecs::float::environment::DefaultEnvironment;

use super::kernel::{Level, Map, Zip};
use super::ops::{self, And, Avg, Divide, Max, Min, Narrow, Or, Prod, Scale, Sum, Widen, Xor};
use super::{DType, Format, ReduceOp, one_pass};
use crate::error::{Error, Rank, Result};
use crate::memory::{Span, SpanMut};

/// How many elements of a narrow type are widened at a time: their f32 stay in the L1 cache.
const BLOCK: usize = 512;

/// Combines, converts and finishes elements of one type by one operator.
///
/// Cheap to copy; nothing is looked up, allocated or locked when it is used. Spans need no
/// alignment. A destination may be the very same span as a source, and must not overlap it
/// otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Reducer {
    dtype: DType,
    op: ReduceOp,
    /// `⊕` on accumulators.
    combine: Zip,
    /// `⊕` and the operator's last step, on accumulators.
    combine_last: Zip,
    /// `combine_last` on the type itself, where that differs from its accumulator and takes one
    /// pass.
    one_pass: Option<Zip>,
    /// The operator's last step on accumulators, where it has one.
    last: Option<Map>,
    /// Multiplication by the factor of `premul_sum`, on accumulators.
    scale: Option<Map>,
    /// Conversions, for types that are narrower than their accumulator.
    conversions: Option<Conversions>,
    /// Bytes per element as `combine` counts them.
    unit: usize,
    ranks: f64,
}

#[derive(Clone, Copy, Debug)]
struct Conversions {
    widen: Map,
    narrow: Map,
}

/// Room for one block of accumulators of a narrow type.
struct Block([MaybeUninit<f32>; BLOCK]);

impl Block {
    const fn new() -> Self {
        Self([MaybeUninit::uninit(); BLOCK])
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// An operand: where it is and how it is stored.
#[derive(Clone, Copy)]
struct Operand {
    ptr: *const u8,
    format: Format,
}

impl Reducer {
    /// The kernels for `op` on `dtype` in a communicator of `ranks` ranks, for this CPU.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the operator is not defined on the type, or `ranks` is 0.
    pub fn new(dtype: DType, op: ReduceOp, ranks: Rank) -> Result<Self> {
        Self::with_level(dtype, op, ranks, Level::best())
    }

    /// The same, for a given instruction set, which must be available.
    pub(super) fn with_level(
        dtype: DType,
        op: ReduceOp,
        ranks: Rank,
        level: Level,
    ) -> Result<Self> {
        let invalid = |reason| Err(Error::InvalidArgument { operation: op.name(), reason });
        if !op.supports(dtype) {
            let domain = if dtype.is_float() { "integers" } else { "floats" };
            return invalid(format!("not defined on {}; it takes {domain} only", dtype.name()));
        }
        if ranks == 0 {
            return invalid("a communicator has at least one rank".to_owned());
        }
        assert!(level.is_available(), "{level:?} kernels on a CPU without them");
        let accumulator = dtype.accumulator();
        let combine = combine(accumulator, op, level);
        let is_avg = op == ReduceOp::Avg;
        Ok(Self {
            dtype,
            op,
            combine,
            combine_last: if is_avg { combine_avg(accumulator, level) } else { combine },
            one_pass: one_pass::combine_last(dtype, op, level),
            last: is_avg.then(|| divide(accumulator, level)),
            scale: scale(accumulator, op, level),
            conversions: conversions(dtype, level),
            unit: if is_bitwise(op) { 1 } else { accumulator.size() },
            ranks: f64::from(ranks),
        })
    }

    /// The element type.
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// The operator.
    pub const fn op(&self) -> ReduceOp {
        self.op
    }

    /// Bytes per element in `format`.
    pub const fn size(&self, format: Format) -> usize {
        match format {
            Format::Data => self.dtype.size(),
            Format::Acc => self.dtype.accumulator().size(),
        }
    }

    /// `dst = a ⊕ b`, element by element; as many as `dst` holds.
    ///
    /// To [`Format::Data`] the result is finished: divided for `avg`, and rounded.
    ///
    /// Panics when the spans do not hold the same whole number of elements.
    #[inline]
    pub fn combine(
        &self,
        dst: SpanMut,
        dst_format: Format,
        a: Span,
        a_format: Format,
        b: Span,
        b_format: Format,
    ) {
        let count = self.count(dst, dst_format);
        assert_eq!(a.len(), count * self.size(a_format), "first operand's length in bytes");
        assert_eq!(b.len(), count * self.size(b_format), "second operand's length in bytes");
        debug_assert!(is_apart_or_same(dst, a) && is_apart_or_same(dst, b), "spans overlap");
        let _environment = DefaultEnvironment::enter();
        let all_data = [dst_format, a_format, b_format].iter().all(|&f| f == Format::Data);
        if let Some(kernel) = self.one_pass.filter(|_| all_data) {
            // SAFETY: the spans hold `count` elements, checked above.
            unsafe { self.zip(kernel, dst.as_ptr(), a.as_ptr(), b.as_ptr(), count) };
        } else if let Some(conversions) = self.conversions {
            let a = Operand { ptr: a.as_ptr(), format: a_format };
            let b = Operand { ptr: b.as_ptr(), format: b_format };
            self.combine_narrow(conversions, dst.as_ptr(), dst_format, a, b, count);
        } else {
            let kernel = if dst_format == Format::Data { self.combine_last } else { self.combine };
            // SAFETY: the spans hold `count` elements, checked above; `unit` divides them.
            unsafe {
                let units = dst.len() >> self.unit.trailing_zeros();
                self.zip(kernel, dst.as_ptr(), a.as_ptr(), b.as_ptr(), units);
            }
        }
    }

    /// `dst = src`, element by element; as many as `dst` holds.
    ///
    /// From [`Format::Acc`] to [`Format::Data`] the values are finished: divided for `avg`, and
    /// rounded. The other way they are widened. Panics when the spans do not hold the same whole
    /// number of elements.
    #[inline]
    pub fn copy(&self, dst: SpanMut, dst_format: Format, src: Span, src_format: Format) {
        let count = self.count(dst, dst_format);
        assert_eq!(src.len(), count * self.size(src_format), "source's length in bytes");
        debug_assert!(is_apart_or_same(dst, src), "spans overlap");
        let finish = (src_format, dst_format) == (Format::Acc, Format::Data);
        match self.conversions {
            Some(conversions) if src_format != dst_format => {
                let _environment = DefaultEnvironment::enter();
                let (to, from) = (dst.as_ptr(), src.as_ptr());
                if finish {
                    self.finish_narrow(conversions, to, from, count);
                } else {
                    // SAFETY: the spans hold `count` elements, checked above.
                    unsafe { (conversions.widen)(to, from, count, 0.0) };
                }
            }
            _ => match self.last.filter(|_| finish) {
                Some(last) => {
                    let _environment = DefaultEnvironment::enter();
                    // SAFETY: the spans hold `count` elements, checked above.
                    unsafe { last(dst.as_ptr(), src.as_ptr(), count, self.ranks) };
                }
                None if std::ptr::eq(dst.as_ptr(), src.as_ptr()) => {}
                None => dst.copy_from(src),
            },
        }
    }

    /// `dst = factor · src` for `premul_sum`, both in [`Format::Data`]: multiplied in the
    /// accumulator's type and rounded to the data's.
    ///
    /// Panics when the spans do not hold the same whole number of elements, or for any other
    /// operator.
    pub fn premul(&self, dst: SpanMut, src: Span) {
        let (ReduceOp::PreMulSum(factor), Some(scale)) = (self.op, self.scale) else {
            panic!("{} has no factor", self.op.name());
        };
        let count = self.count(dst, Format::Data);
        assert_eq!(src.len(), dst.len(), "source's length in bytes");
        debug_assert!(is_apart_or_same(dst, src), "spans overlap");
        let _environment = DefaultEnvironment::enter();
        let Some(Conversions { widen, narrow }) = self.conversions else {
            // SAFETY: the spans hold `count` elements, checked above.
            unsafe { scale(dst.as_ptr(), src.as_ptr(), count, factor) };
            return;
        };
        let mut block = Block::new();
        let wide = block.as_mut_ptr();
        for (at, len) in blocks(count) {
            let offset = at * self.dtype.size();
            // SAFETY: `len` elements lie in the spans from `at` on, and fit the block.
            unsafe { widen(wide, src.as_ptr().wrapping_add(offset), len, 0.0) };
            // SAFETY: the block holds `len` values now.
            unsafe { scale(wide, wide, len, factor) };
            // SAFETY: as the first; these elements of `src` are not read again.
            unsafe { narrow(dst.as_ptr().wrapping_add(offset), wide, len, 0.0) };
        }
    }

    #[inline]
    fn count(&self, dst: SpanMut, format: Format) -> usize {
        // A power of two: no division.
        let size = self.size(format);
        assert_eq!(dst.len() & (size - 1), 0, "{} bytes of {}", dst.len(), self.dtype.name());
        dst.len() >> size.trailing_zeros()
    }

    /// Calls `kernel`, with the operand that is `dst`, if any, first.
    ///
    /// # Safety
    /// As [`Zip`] says, but `dst` may also be `b`.
    #[inline]
    unsafe fn zip(&self, kernel: Zip, dst: *mut u8, a: *const u8, b: *const u8, count: usize) {
        let (a, b) = if std::ptr::eq(dst, b) { (b, a) } else { (a, b) };
        // SAFETY: by contract, and every operator is commutative to the last bit. The level was
        // available when this reducer was made.
        unsafe { kernel(dst, a, b, count, self.ranks) };
    }

    fn combine_narrow(
        &self,
        conversions: Conversions,
        dst: *mut u8,
        dst_format: Format,
        a: Operand,
        b: Operand,
        count: usize,
    ) {
        let (mut left, mut right) = (Block::new(), Block::new());
        let size = self.size(dst_format);
        for (at, len) in blocks(count) {
            let x = self.widened(conversions, a, at, len, &mut left);
            let y = self.widened(conversions, b, at, len, &mut right);
            let to = dst.wrapping_add(at * size);
            if dst_format == Format::Acc {
                // SAFETY: `combine` checked that `dst` holds the elements; `x` and `y` hold `len`.
                unsafe { self.zip(self.combine, to, x, y, len) };
            } else {
                let result = left.as_mut_ptr();
                // SAFETY: the block has room for `len` values; `x` is it or lies elsewhere.
                unsafe { self.zip(self.combine_last, result, x, y, len) };
                // SAFETY: as both above; the operands' elements are not read again.
                unsafe { (conversions.narrow)(to, result, len, 0.0) };
            }
        }
    }

    /// `len` accumulators of an operand from element `at` on, in `block` if they had to be made.
    fn widened(
        &self,
        conversions: Conversions,
        operand: Operand,
        at: usize,
        len: usize,
        block: &mut Block,
    ) -> *const u8 {
        let from = operand.ptr.wrapping_add(at * self.size(operand.format));
        if operand.format == Format::Acc {
            return from;
        }
        let wide = block.as_mut_ptr();
        // SAFETY: the caller checked that the operand holds them; `len` is at most `BLOCK`.
        unsafe { (conversions.widen)(wide, from, len, 0.0) };
        wide
    }

    fn finish_narrow(&self, conversions: Conversions, dst: *mut u8, src: *const u8, count: usize) {
        let mut block = Block::new();
        for (at, len) in blocks(count) {
            let mut from = src.wrapping_add(at * self.size(Format::Acc));
            if let Some(last) = self.last {
                let divided = block.as_mut_ptr();
                // SAFETY: `copy` checked that `src` holds them; `len` is at most `BLOCK`.
                unsafe { last(divided, from, len, self.ranks) };
                from = divided;
            }
            let to = dst.wrapping_add(at * self.size(Format::Data));
            // SAFETY: `copy` checked that `dst` holds them.
            unsafe { (conversions.narrow)(to, from, len, 0.0) };
        }
    }
}

/// The ranges `(start, length)` of at most [`BLOCK`] elements that make up `count`.
fn blocks(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).step_by(BLOCK).map(move |at| (at, BLOCK.min(count - at)))
}

/// Whether two ranges are one and the same, or share no byte.
fn is_apart_or_same(dst: SpanMut, src: Span) -> bool {
    let (d, s) = (dst.as_ptr().addr(), src.as_ptr().addr());
    (d == s && dst.len() == src.len()) || d + dst.len() <= s || s + src.len() <= d
}

const fn is_bitwise(op: ReduceOp) -> bool {
    matches!(op, ReduceOp::BitAnd | ReduceOp::BitOr | ReduceOp::BitXor)
}

/// The kernel of `op` on an accumulator type, without its last step.
fn combine(dtype: DType, op: ReduceOp, level: Level) -> Zip {
    match op {
        ReduceOp::Sum | ReduceOp::Avg | ReduceOp::PreMulSum(_) => match dtype {
            DType::I8 | DType::U8 => level.zip::<Sum<u8>>(),
            DType::I32 | DType::U32 => level.zip::<Sum<u32>>(),
            DType::I64 | DType::U64 => level.zip::<Sum<u64>>(),
            DType::F64 => level.zip::<Sum<f64>>(),
            _ => level.zip::<Sum<f32>>(),
        },
        ReduceOp::Prod => match dtype {
            DType::I8 | DType::U8 => level.zip::<Prod<u8>>(),
            DType::I32 | DType::U32 => level.zip::<Prod<u32>>(),
            DType::I64 | DType::U64 => level.zip::<Prod<u64>>(),
            DType::F64 => level.zip::<Prod<f64>>(),
            _ => level.zip::<Prod<f32>>(),
        },
        ReduceOp::Min => combine_min(dtype, level),
        ReduceOp::Max => combine_max(dtype, level),
        ReduceOp::BitAnd => level.zip::<And>(),
        ReduceOp::BitOr => level.zip::<Or>(),
        ReduceOp::BitXor => level.zip::<Xor>(),
    }
}

macro_rules! per_accumulator {
    ($name:ident, $method:ident -> $kernel:ident, $op:ident, $doc:literal) => {
        #[doc = $doc]
        fn $name(dtype: DType, level: Level) -> $kernel {
            match dtype {
                DType::I8 => level.$method::<$op<i8>>(),
                DType::U8 => level.$method::<$op<u8>>(),
                DType::I32 => level.$method::<$op<i32>>(),
                DType::U32 => level.$method::<$op<u32>>(),
                DType::I64 => level.$method::<$op<i64>>(),
                DType::U64 => level.$method::<$op<u64>>(),
                DType::F64 => level.$method::<$op<f64>>(),
                // f32, which is also the accumulator of everything narrow.
                _ => level.$method::<$op<f32>>(),
            }
        }
    };
}

per_accumulator!(combine_min, zip -> Zip, Min, "The kernel of `min`.");
per_accumulator!(combine_max, zip -> Zip, Max, "The kernel of `max`.");
per_accumulator!(combine_avg, zip -> Zip, Avg, "The kernel of `avg` with its division.");
per_accumulator!(divide, map -> Map, Divide, "The division of `avg` alone.");

/// The multiplication of `premul_sum`.
fn scale(dtype: DType, op: ReduceOp, level: Level) -> Option<Map> {
    match (op, dtype) {
        (ReduceOp::PreMulSum(_), DType::F64) => Some(level.map::<Scale<f64>>()),
        (ReduceOp::PreMulSum(_), _) => Some(level.map::<Scale<f32>>()),
        _ => None,
    }
}

/// The conversions of a type that is narrower than its accumulator.
fn conversions(dtype: DType, level: Level) -> Option<Conversions> {
    macro_rules! portable {
        ($small:ident) => {
            Conversions {
                widen: level.map::<Widen<ops::$small>>(),
                narrow: level.map::<Narrow<ops::$small>>(),
            }
        };
    }
    match dtype {
        #[cfg(target_arch = "x86_64")]
        DType::F16 if level != Level::Baseline => {
            Some(Conversions { widen: super::f16c::widen, narrow: super::f16c::narrow })
        }
        DType::F16 => Some(portable!(F16)),
        DType::BF16 => Some(portable!(BF16)),
        DType::F8E4M3 => Some(portable!(F8E4M3)),
        DType::F8E5M2 => Some(portable!(F8E5M2)),
        _ => None,
    }
}
