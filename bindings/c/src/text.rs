//! Texts in and out.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::status::{Failure, Outcome};

/// The text at `at`; `None` when that is null.
///
/// # Safety
/// `at` is null or a C string that nobody changes during the call.
pub(crate) unsafe fn optional(at: *const c_char, name: &str) -> Outcome<Option<String>> {
    if at.is_null() {
        return Ok(None);
    }
    // SAFETY: the function's contract.
    let text = unsafe { CStr::from_ptr(at) };
    match text.to_str() {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(Failure::argument(format!("{name} is not UTF-8: {text:?}"))),
    }
}

/// The text at `at`, which must not be null.
///
/// # Safety
/// As [`optional`].
pub(crate) unsafe fn required(at: *const c_char, name: &str) -> Outcome<String> {
    // SAFETY: the function's contract.
    unsafe { optional(at, name) }?.ok_or_else(|| Failure::argument(format!("{name} is null")))
}

/// The path at `at`, in any encoding; `None` when that is null.
///
/// # Safety
/// As [`optional`].
pub(crate) unsafe fn path(at: *const c_char) -> Option<PathBuf> {
    if at.is_null() {
        return None;
    }
    // SAFETY: the function's contract.
    let bytes = unsafe { CStr::from_ptr(at) }.to_bytes();
    Some(OsStr::from_bytes(bytes).into())
}

/// Refuses a null pointer to where a result goes.
pub(crate) fn check_result<T>(at: *mut T, name: &str) -> Outcome<()> {
    if at.is_null() { Err(Failure::argument(format!("{name} is null"))) } else { Ok(()) }
}

/// Writes a result to where the caller wants it.
///
/// # Safety
/// `at` is null or writable.
pub(crate) unsafe fn put<T>(at: *mut T, name: &str, value: T) -> Outcome<()> {
    check_result(at, name)?;
    // SAFETY: the function's contract.
    unsafe { at.write(value) };
    Ok(())
}

/// The `count` elements at `at`.
///
/// # Safety
/// `at` is null, or that many elements are readable there and nobody writes them for as long as
/// the caller's frame lives.
pub(crate) unsafe fn list<'a, T>(at: *const T, count: usize, name: &str) -> Outcome<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if at.is_null() {
        return Err(Failure::argument(format!("{name} is null, and must have {count} elements")));
    }
    // SAFETY: the function's contract.
    Ok(unsafe { std::slice::from_raw_parts(at, count) })
}

/// Hands `text` to the caller, who frees it with syncline_text_free.
///
/// # Safety
/// As [`put`].
pub(crate) unsafe fn give(at: *mut *mut c_char, name: &str, mut text: String) -> Outcome<()> {
    text.retain(|c| c != '\0');
    check_result(at, name)?;
    let text = CString::new(text).unwrap_or_default().into_raw();
    // SAFETY: the function's contract.
    unsafe { put(at, name, text) }
}

/// Frees a text that a function of this library gave to its caller. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_text_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: it comes from `CString::into_raw` in `give`.
        drop(unsafe { CString::from_raw(text) });
    }
}
