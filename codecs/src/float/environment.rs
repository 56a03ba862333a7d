//! The floating-point environment the kernels need.
//!
//! A program may have told its threads to flush subnormals to zero (PyTorch's
//! `set_flush_denormal`, a library linked with `-ffast-math`) or to round another way. Ranks
//! that combine the same values would then differ, so the kernels run under the default
//! environment, and the thread gets its own back afterwards.

#[cfg(target_arch = "aarch64")]
use aarch64 as arch;
#[cfg(target_arch = "x86_64")]
use x86_64 as arch;

/// While it lives, this thread rounds to nearest even and keeps subnormals.
pub struct DefaultEnvironment {
    /// The control register to restore, if it had to be changed.
    restore: Option<arch::Control>,
    /// Belongs to one thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl DefaultEnvironment {
    /// Enters the default environment.
    #[inline]
    pub fn enter() -> Self {
        let control = arch::read();
        let restore = (control & arch::CHANGED != 0).then_some(control);
        if restore.is_some() {
            arch::write(control & !arch::CHANGED);
        }
        Self { restore, _thread: std::marker::PhantomData }
    }
}

impl Drop for DefaultEnvironment {
    #[inline]
    fn drop(&mut self) {
        if let Some(control) = self.restore {
            arch::write(control);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::asm;

    /// MXCSR.
    pub(super) type Control = u32;
    /// Flush to zero (bit 15), rounding mode (13, 14), denormals are zero (6).
    pub(super) const CHANGED: Control = 0xe040;

    #[inline]
    pub(super) fn read() -> Control {
        let mut control: Control = 0;
        // SAFETY: stores the register's 4 bytes to a local variable, and nothing else.
        unsafe {
            asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack, preserves_flags));
        }
        control
    }

    #[inline]
    pub(super) fn write(control: Control) {
        // SAFETY: `control` came from the register and so has no reserved bit set. It either
        // establishes the environment that compiled Rust code assumes, or gives back what was
        // found, and the memory clobber keeps the kernels' loads and stores between the two.
        unsafe {
            asm!("ldmxcsr [{}]", in(reg) &raw const control, options(nostack, preserves_flags));
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use std::arch::asm;

    /// FPCR.
    pub(super) type Control = u64;
    /// Default NaN (bit 25), flush to zero (24, 19), rounding mode (22, 23), FIZ and AH (0, 1).
    pub(super) const CHANGED: Control = 0x03c8_0003;

    #[inline]
    pub(super) fn read() -> Control {
        let control: Control;
        // SAFETY: reads a register.
        unsafe { asm!("mrs {}, fpcr", out(reg) control, options(nostack, preserves_flags)) };
        control
    }

    #[inline]
    pub(super) fn write(control: Control) {
        // SAFETY: `control` came from the register and so has no reserved bit set. It either
        // establishes the environment that compiled Rust code assumes, or gives back what was
        // found, and the memory clobber keeps the kernels' loads and stores between the two.
        unsafe { asm!("msr fpcr, {}", in(reg) control, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod arch {
    /// No control register is known here: the environment is taken to be the default.
    pub(super) type Control = u8;
    pub(super) const CHANGED: Control = 0;

    pub(super) fn read() -> Control {
        0
    }

    pub(super) fn write(_: Control) {}
}

/// Runs `body` on a thread that flushes subnormals to zero, as a host program may have asked for,
/// and checks that it still does afterwards: for tests of what must not depend on it.
///
/// # Panics
/// If `body` left another environment behind.
#[cfg(target_arch = "x86_64")]
pub fn flush_to_zero<R>(body: impl FnOnce() -> R) -> R {
    let before = arch::read();
    arch::write(before | 0x8040);
    let result = body();
    let after = arch::read();
    arch::write(before);
    assert_eq!(after & arch::CHANGED, 0x8040, "the thread's own environment was not restored");
    result
}
