//! Structs that say their own size, so that fields can be appended.
//!
//! A struct of fewer bytes than this library knows comes from a program that was compiled against
//! an older header: the fields it lacks are 0, which always means the default. A struct of more
//! bytes comes from a newer header: what this library does not know must be 0, or it would be
//! ignored silently.

use std::mem::MaybeUninit;

use crate::status::{Failure, Outcome};

/// No struct of this interface is, or will be, larger. What claims to be is not initialised.
pub(crate) const BYTES_MAX: usize = 4096;

/// A struct whose first field, a `size_t`, is its size in bytes.
///
/// # Safety
/// `repr(C)`, without padding that matters, and valid when all of its bytes are 0.
pub(crate) unsafe trait Versioned: Copy {
    /// Its name in C.
    const NAME: &'static str;
    /// Its size in the first version that had it.
    const FIRST_BYTES: usize;
}

/// A copy of the struct at `at`; all 0 when that is null.
///
/// # Safety
/// `at` is null, or as many bytes as the first field says are readable there.
pub(crate) unsafe fn read<T: Versioned>(at: *const T) -> Outcome<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    if at.is_null() {
        // SAFETY: all bytes 0 is a valid value by the contract of the trait.
        return Ok(unsafe { value.assume_init() });
    }
    // SAFETY: the first field is there by this function's contract.
    let size = unsafe { at.cast::<usize>().read_unaligned() };
    let known = size_of::<T>();
    if !(T::FIRST_BYTES..=BYTES_MAX).contains(&size) {
        return Err(Failure::argument(format!(
            "{name}.size is {size}; it must be sizeof({name}), {known} in this version",
            name = T::NAME
        )));
    }
    // SAFETY: `size` bytes are readable, and at most the value's own are written.
    unsafe { at.cast::<u8>().copy_to(value.as_mut_ptr().cast(), size.min(known)) };
    if size > known {
        let tail = at.cast::<u8>().wrapping_add(known);
        // SAFETY: the rest of the `size` readable bytes.
        let tail = unsafe { std::slice::from_raw_parts(tail, size - known) };
        if let Some(offset) = tail.iter().position(|&byte| byte != 0) {
            return Err(Failure::argument(format!(
                "{name} has {size} bytes, of which this version of the library knows the first \
                 {known}; byte {at} is not 0 and asks for something newer: update libsyncline, or \
                 leave that field 0",
                name = T::NAME,
                at = known + offset
            )));
        }
    }
    // SAFETY: all bytes are initialised, those of the caller's fields with the caller's values.
    Ok(unsafe { value.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Old {
        size: usize,
        first: u64,
    }

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Now {
        size: usize,
        first: u64,
        second: u64,
    }

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Newer {
        size: usize,
        first: u64,
        second: u64,
        third: u64,
    }

    // SAFETY: three integers.
    unsafe impl Versioned for Now {
        const NAME: &'static str = "now_t";
        const FIRST_BYTES: usize = size_of::<Old>();
    }

    fn read_as<T>(given: &T) -> Outcome<Now> {
        // SAFETY: the tests' structs are as large as they say, or say what is refused.
        unsafe { read(std::ptr::from_ref(given).cast::<Now>()) }
    }

    fn now(size: usize) -> Now {
        Now { size, first: 1, second: 2 }
    }

    #[test]
    fn older_and_newer_callers_are_understood() {
        let exact = read_as(&now(size_of::<Now>())).unwrap();
        assert_eq!((exact.first, exact.second), (1, 2));
        let older = read_as(&Old { size: size_of::<Old>(), first: 7 }).unwrap();
        assert_eq!((older.first, older.second), (7, 0));
        let size = size_of::<Newer>();
        let newer = read_as(&Newer { size, first: 3, second: 4, third: 0 }).unwrap();
        assert_eq!((newer.first, newer.second), (3, 4));
        // SAFETY: null is allowed.
        let none = unsafe { read::<Now>(std::ptr::null()) }.unwrap();
        assert_eq!((none.size, none.first), (0, 0));
    }

    #[test]
    fn wrong_sizes_and_unknown_wishes_are_refused() {
        let text = read_as(&now(0)).err().unwrap().text;
        assert_eq!(text, "now_t.size is 0; it must be sizeof(now_t), 24 in this version");
        assert!(read_as(&now(8)).is_err());
        assert!(read_as(&now(usize::MAX)).is_err());
        let size = size_of::<Newer>();
        let newer = Newer { size, first: 3, second: 4, third: 1 << 8 };
        let text = read_as(&newer).err().unwrap().text;
        assert!(text.contains("byte 25 is not 0"), "{text}");
        assert_eq!(newer.third, 256);
    }
}
