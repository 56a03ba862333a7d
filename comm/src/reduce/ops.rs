//! What each operator does to one pair of elements (ADR 0003), as branch-free scalar functions.

use std::marker::PhantomData;

use syncline_codecs::float;

/// Combines two values of one type, commutatively to the last bit.
pub(super) trait Binary {
    /// The type of the operands and the result.
    type Value: Copy;
    /// `a ⊕ b`; `argument` is the rank count, for operators that need it.
    fn apply(a: Self::Value, b: Self::Value, argument: f64) -> Self::Value;
}

/// Converts or changes one value.
pub(super) trait Unary {
    /// The type of the operand.
    type From: Copy;
    /// The type of the result.
    type To: Copy;
    /// The result; `argument` is the divisor or factor, for operators that need it.
    fn apply(x: Self::From, argument: f64) -> Self::To;
}

/// Sum.
pub(super) struct Sum<T>(PhantomData<T>);
/// Product.
pub(super) struct Prod<T>(PhantomData<T>);
/// Smaller one.
pub(super) struct Min<T>(PhantomData<T>);
/// Larger one.
pub(super) struct Max<T>(PhantomData<T>);
/// Sum, divided.
pub(super) struct Avg<T>(PhantomData<T>);
/// Bitwise and.
pub(super) struct And;
/// Bitwise or.
pub(super) struct Or;
/// Bitwise exclusive or.
pub(super) struct Xor;
/// Divided by the argument.
pub(super) struct Divide<T>(PhantomData<T>);
/// Multiplied by the argument.
pub(super) struct Scale<T>(PhantomData<T>);
/// To f32, from the small float of that marker.
pub(super) struct Widen<S>(PhantomData<S>);
/// From f32, to the small float of that marker.
pub(super) struct Narrow<S>(PhantomData<S>);

macro_rules! binary {
    ($op:ident $(<$type:ty>)?, $value:ty, |$a:ident, $b:ident, $argument:pat_param| $result:expr) => {
        impl Binary for $op $(<$type>)? {
            type Value = $value;
            #[inline(always)]
            fn apply($a: $value, $b: $value, $argument: f64) -> $value {
                $result
            }
        }
    };
}

macro_rules! unary {
    ($op:ident<$type:ty>, $from:ty => $to:ty, |$x:ident, $argument:pat_param| $result:expr) => {
        impl Unary for $op<$type> {
            type From = $from;
            type To = $to;
            #[inline(always)]
            fn apply($x: $from, $argument: f64) -> $to {
                $result
            }
        }
    };
}

macro_rules! float_ops {
    ($type:ident, $canonical:ident, nan: $nan:literal) => {
        /// `x`, with every NaN made the same. In integers: the compiler may change the payload
        /// of a float on its way, but not of an integer.
        #[inline(always)]
        fn $canonical(x: $type) -> $type {
            $type::from_bits(if x.is_nan() { $nan } else { x.to_bits() })
        }

        binary!(Sum<$type>, $type, |a, b, _| $canonical(a + b));
        binary!(Prod<$type>, $type, |a, b, _| $canonical(a * b));
        binary!(Avg<$type>, $type, |a, b, ranks| $canonical((a + b) / ranks as $type));
        // Equal numbers have equal bits, except for zeros of different sign: there `|` gives -0
        // and `&` gives +0. A NaN is unequal to anything, and found last.
        binary!(Min<$type>, $type, |a, b, _| {
            let (x, y) = (a.to_bits(), b.to_bits());
            let least = if a == b { x | y } else if a < b { x } else { y };
            $type::from_bits(if a.is_nan() | b.is_nan() { $nan } else { least })
        });
        binary!(Max<$type>, $type, |a, b, _| {
            let (x, y) = (a.to_bits(), b.to_bits());
            let greatest = if a == b { x & y } else if a > b { x } else { y };
            $type::from_bits(if a.is_nan() | b.is_nan() { $nan } else { greatest })
        });
        unary!(Divide<$type>, $type => $type, |x, divisor| $canonical(x / divisor as $type));
        unary!(Scale<$type>, $type => $type, |x, factor| $canonical(x * factor as $type));
    };
}

macro_rules! integer_ops {
    ($type:ident, via: $via:ident) => {
        binary!(Min<$type>, $type, |a, b, _| a.min(b));
        binary!(Max<$type>, $type, |a, b, _| a.max(b));
        binary!(Avg<$type>, $type, |a, b, ranks| {
            (a.wrapping_add(b) as $via / ranks as $via) as $type
        });
        unary!(Divide<$type>, $type => $type, |x, ranks| (x as $via / ranks as $via) as $type);
    };
}

macro_rules! wrapping_ops {
    ($($type:ident),*) => {
        $(
            binary!(Sum<$type>, $type, |a, b, _| a.wrapping_add(b));
            binary!(Prod<$type>, $type, |a, b, _| a.wrapping_mul(b));
        )*
    };
}

float_ops!(f32, canonical_f32, nan: 0x7fc0_0000);
float_ops!(f64, canonical_f64, nan: 0x7ff8_0000_0000_0000);

// The quotient of two 32-bit integers, rounded to f64 and truncated, is the truncated quotient:
// it lies at least 2^-32 below the next integer, and below 2^32 an f64 is finer than that.
integer_ops!(i8, via: f64);
integer_ops!(u8, via: f64);
integer_ops!(i32, via: f64);
integer_ops!(u32, via: f64);
integer_ops!(i64, via: i64);
integer_ops!(u64, via: u64);

// Wrapping sums and products do not depend on the sign.
wrapping_ops!(u8, u32, u64);

binary!(And, u8, |a, b, _| a & b);
binary!(Or, u8, |a, b, _| a | b);
binary!(Xor, u8, |a, b, _| a ^ b);

/// Marks [`Widen`] and [`Narrow`] of f16.
pub(super) struct F16;
/// Marks [`Widen`] and [`Narrow`] of bf16.
pub(super) struct BF16;
/// Marks [`Widen`] and [`Narrow`] of f8e4m3.
pub(super) struct F8E4M3;
/// Marks [`Widen`] and [`Narrow`] of f8e5m2.
pub(super) struct F8E5M2;

unary!(Widen<F16>, u16 => f32, |x, _| float::f16_to_f32(x));
unary!(Widen<BF16>, u16 => f32, |x, _| float::bf16_to_f32(x));
unary!(Widen<F8E4M3>, u8 => f32, |x, _| float::f8e4m3_to_f32(x));
unary!(Widen<F8E5M2>, u8 => f32, |x, _| float::f8e5m2_to_f32(x));
unary!(Narrow<F16>, f32 => u16, |x, _| float::f16_from_f32(x));
unary!(Narrow<BF16>, f32 => u16, |x, _| float::bf16_from_f32(x));
unary!(Narrow<F8E4M3>, f32 => u8, |x, _| float::f8e4m3_from_f32(x));
unary!(Narrow<F8E5M2>, f32 => u8, |x, _| float::f8e5m2_from_f32(x));
