//! The loops, and the instruction sets they are compiled for.
//!
//! The loops are plain, so that the compiler vectorises them for whatever the function around
//! them may use. Elements need no alignment. Rust's scalar arithmetic is IEEE 754 and never
//! contracted to fused multiply-add, so that every version gives the same bits.

use std::sync::OnceLock;

use super::ops::{Binary, Unary};

/// `dst[i] = a[i] ⊕ b[i]` for `count` elements.
///
/// # Safety
/// The CPU has the level's features; `a` and `b` are readable and `dst` writable for `count`
/// elements; `dst` is `a`, or overlaps neither operand.
pub(super) type Zip = unsafe fn(dst: *mut u8, a: *const u8, b: *const u8, count: usize, arg: f64);

/// `dst[i] = f(src[i])` for `count` elements.
///
/// # Safety
/// The CPU has the level's features; `src` is readable and `dst` writable for `count` elements;
/// they do not overlap, or are the same and the elements have the same size.
pub(super) type Map = unsafe fn(dst: *mut u8, src: *const u8, count: usize, arg: f64);

/// An instruction set with its own version of every kernel, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// What the compilation target guarantees: SSE2 on x86-64, NEON on AArch64.
    Baseline,
    /// AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ, VL, and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// Every level of this architecture.
    #[cfg(target_arch = "x86_64")]
    pub(super) const ALL: &[Self] = &[Self::Baseline, Self::Avx2, Self::Avx512];
    /// Every level of this architecture.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) const ALL: &[Self] = &[Self::Baseline];

    /// Whether this CPU can run it.
    pub(super) fn is_available(self) -> bool {
        match self {
            Self::Baseline => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
        }
    }

    /// The best one this CPU can run; looked up once per process.
    pub(super) fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| {
            let available = Self::ALL.iter().rev().find(|level| level.is_available());
            available.copied().unwrap_or(Self::Baseline)
        })
    }

    /// The kernel of `O`. Calling it needs this level to be available.
    pub(super) fn zip<O: Binary>(self) -> Zip {
        match self {
            Self::Baseline => baseline::zip::<O>,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::zip::<O>,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::zip::<O>,
        }
    }

    /// The kernel of `O`. Calling it needs this level to be available.
    pub(super) fn map<O: Unary>(self) -> Map {
        match self {
            Self::Baseline => baseline::map::<O>,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::map::<O>,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::map::<O>,
        }
    }
}

macro_rules! level {
    ($name:ident $(, $features:literal)?) => {
        mod $name {
            use super::{Binary, Unary};

            /// See [`super::Zip`].
            ///
            /// # Safety
            /// As [`super::Zip`] says.
            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn zip<O: Binary>(
                dst: *mut u8,
                a: *const u8,
                b: *const u8,
                count: usize,
                arg: f64,
            ) {
                // SAFETY: the same contract.
                unsafe { super::zip::<O>(dst.cast(), a.cast(), b.cast(), count, arg) }
            }

            /// See [`super::Map`].
            ///
            /// # Safety
            /// As [`super::Map`] says.
            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn map<O: Unary>(
                dst: *mut u8,
                src: *const u8,
                count: usize,
                arg: f64,
            ) {
                // SAFETY: the same contract.
                unsafe { super::map::<O>(dst.cast(), src.cast(), count, arg) }
            }
        }
    };
}

level!(baseline);
#[cfg(target_arch = "x86_64")]
level!(avx2, "avx2,f16c");
#[cfg(target_arch = "x86_64")]
level!(avx512, "avx512f,avx512bw,avx512dq,avx512vl,f16c");

/// Element `i`.
///
/// # Safety
/// It must be readable.
#[inline(always)]
unsafe fn load<T: Copy>(base: *const T, i: usize) -> T {
    // SAFETY: by contract it lies in the same range of memory as `base`.
    let at = unsafe { base.add(i) };
    // SAFETY: by contract; no alignment is assumed.
    unsafe { at.read_unaligned() }
}

/// Sets element `i`.
///
/// # Safety
/// It must be writable.
#[inline(always)]
unsafe fn store<T: Copy>(base: *mut T, i: usize, value: T) {
    // SAFETY: by contract it lies in the same range of memory as `base`.
    let at = unsafe { base.add(i) };
    // SAFETY: by contract; no alignment is assumed.
    unsafe { at.write_unaligned(value) }
}

/// The loop of [`Zip`], for a caller whose features its arithmetic may use. In place is a loop of
/// its own because the compiler must see that `dst` and `a` are the same: a check at run time for
/// "no overlap" would send it to scalar code.
#[inline(always)]
pub(super) unsafe fn zip<O: Binary>(
    dst: *mut O::Value,
    a: *const O::Value,
    b: *const O::Value,
    count: usize,
    arg: f64,
) {
    if dst.cast_const() == a {
        for i in 0..count {
            // SAFETY: `i < count`, and `dst` is `a`.
            let x = unsafe { load(dst, i) };
            // SAFETY: `i < count`.
            let y = unsafe { load(b, i) };
            // SAFETY: `i < count`.
            unsafe { store(dst, i, O::apply(x, y, arg)) };
        }
    } else {
        for i in 0..count {
            // SAFETY: `i < count`.
            let x = unsafe { load(a, i) };
            // SAFETY: `i < count`.
            let y = unsafe { load(b, i) };
            // SAFETY: `i < count`.
            unsafe { store(dst, i, O::apply(x, y, arg)) };
        }
    }
}

/// The loop of [`Map`].
#[inline(always)]
unsafe fn map<O: Unary>(dst: *mut O::To, src: *const O::From, count: usize, arg: f64) {
    if dst.cast_const().cast() == src {
        for i in 0..count {
            // SAFETY: `i < count`, and `dst` is `src`, with elements of the same size.
            let x = unsafe { load(dst.cast_const().cast::<O::From>(), i) };
            // SAFETY: `i < count`.
            unsafe { store(dst, i, O::apply(x, arg)) };
        }
    } else {
        for i in 0..count {
            // SAFETY: `i < count`.
            let x = unsafe { load(src, i) };
            // SAFETY: `i < count`.
            unsafe { store(dst, i, O::apply(x, arg)) };
        }
    }
}
