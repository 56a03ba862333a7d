//! The instruction sets the kernels exist for. All give the same bits.

use std::sync::OnceLock;

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// What the compilation target guarantees, in plain Rust.
    Scalar,
    /// AVX2, F16C and POPCNT.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
}

/// Proof that this CPU has AVX2, F16C and POPCNT: only [`Avx2::detected`] makes one.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2(());

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// Asks the CPU.
    pub(crate) fn detected() -> Option<Self> {
        let all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("popcnt");
        all.then_some(Self(()))
    }
}

impl Level {
    /// The best one this CPU can run; looked up once per process.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(Self::detect)
    }

    #[cfg(target_arch = "x86_64")]
    fn detect() -> Self {
        Avx2::detected().map_or(Self::Scalar, Self::Avx2)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detect() -> Self {
        Self::Scalar
    }

    /// Every one this CPU can run.
    #[cfg(test)]
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        let best = Some(Self::best()).filter(|best| *best != Self::Scalar);
        std::iter::once(Self::Scalar).chain(best)
    }
}
