//! Statuses, and what a failed call leaves behind.

use std::fmt::Display;

use comm::{Error, ErrorKind};

/// What a call returns: one of enum syncline_status.
pub type syncline_status_t = i32;

/// What a call returns. The numbers are stable. syncline_last_error() has the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum syncline_status {
    /// All went well.
    SYNCLINE_OK = 0,
    /// An argument the call cannot work with. Nothing was sent; the communicator is as before.
    SYNCLINE_ERROR_INVALID_ARGUMENT = 1,
    /// A peer's process or host is gone; syncline_last_error_ranks() names it.
    SYNCLINE_ERROR_PEER_LOST = 2,
    /// Nothing moved for the communicator's timeout; syncline_last_error_ranks() names who has
    /// not come.
    SYNCLINE_ERROR_TIMEOUT = 3,
    /// Two ranks disagree on collective, count, type, op or root.
    SYNCLINE_ERROR_MISMATCH = 4,
    /// A peer sent what the wire format does not allow.
    SYNCLINE_ERROR_PROTOCOL = 5,
    /// The job could not be assembled.
    SYNCLINE_ERROR_RENDEZVOUS = 6,
    /// The operating system refused something.
    SYNCLINE_ERROR_SYSTEM = 7,
    /// A rank gave up with syncline_comm_abort.
    SYNCLINE_ERROR_ABORTED = 8,
    /// A rank ended the communicator for everybody with syncline_comm_revoke.
    SYNCLINE_ERROR_REVOKED = 9,
    /// The other ranks went on without this one.
    SYNCLINE_ERROR_EXCLUDED = 10,
    /// The handle was made before fork(), by another process.
    SYNCLINE_ERROR_FORKED = 11,
    /// The handle was destroyed or freed, or is not what the call takes.
    SYNCLINE_ERROR_INVALID_HANDLE = 12,
    /// Not an error: the operation has not ended yet.
    SYNCLINE_IN_PROGRESS = 13,
    /// A defect of this library; please report the text.
    SYNCLINE_ERROR_INTERNAL = 14,
    /// The connection between two ranks broke, and both still run; syncline_last_error_ranks()
    /// names them. syncline_comm_shrink makes a communicator with new connections.
    SYNCLINE_ERROR_DISCONNECTED = 15,
}

use syncline_status as Status;

impl syncline_status {
    const ALL: [Self; 16] = [
        Status::SYNCLINE_OK,
        Status::SYNCLINE_ERROR_INVALID_ARGUMENT,
        Status::SYNCLINE_ERROR_PEER_LOST,
        Status::SYNCLINE_ERROR_TIMEOUT,
        Status::SYNCLINE_ERROR_MISMATCH,
        Status::SYNCLINE_ERROR_PROTOCOL,
        Status::SYNCLINE_ERROR_RENDEZVOUS,
        Status::SYNCLINE_ERROR_SYSTEM,
        Status::SYNCLINE_ERROR_ABORTED,
        Status::SYNCLINE_ERROR_REVOKED,
        Status::SYNCLINE_ERROR_EXCLUDED,
        Status::SYNCLINE_ERROR_FORKED,
        Status::SYNCLINE_ERROR_INVALID_HANDLE,
        Status::SYNCLINE_IN_PROGRESS,
        Status::SYNCLINE_ERROR_INTERNAL,
        Status::SYNCLINE_ERROR_DISCONNECTED,
    ];

    const fn name(self) -> &'static std::ffi::CStr {
        match self {
            Self::SYNCLINE_OK => c"SYNCLINE_OK",
            Self::SYNCLINE_ERROR_INVALID_ARGUMENT => c"SYNCLINE_ERROR_INVALID_ARGUMENT",
            Self::SYNCLINE_ERROR_PEER_LOST => c"SYNCLINE_ERROR_PEER_LOST",
            Self::SYNCLINE_ERROR_TIMEOUT => c"SYNCLINE_ERROR_TIMEOUT",
            Self::SYNCLINE_ERROR_MISMATCH => c"SYNCLINE_ERROR_MISMATCH",
            Self::SYNCLINE_ERROR_PROTOCOL => c"SYNCLINE_ERROR_PROTOCOL",
            Self::SYNCLINE_ERROR_RENDEZVOUS => c"SYNCLINE_ERROR_RENDEZVOUS",
            Self::SYNCLINE_ERROR_SYSTEM => c"SYNCLINE_ERROR_SYSTEM",
            Self::SYNCLINE_ERROR_ABORTED => c"SYNCLINE_ERROR_ABORTED",
            Self::SYNCLINE_ERROR_REVOKED => c"SYNCLINE_ERROR_REVOKED",
            Self::SYNCLINE_ERROR_EXCLUDED => c"SYNCLINE_ERROR_EXCLUDED",
            Self::SYNCLINE_ERROR_FORKED => c"SYNCLINE_ERROR_FORKED",
            Self::SYNCLINE_ERROR_INVALID_HANDLE => c"SYNCLINE_ERROR_INVALID_HANDLE",
            Self::SYNCLINE_IN_PROGRESS => c"SYNCLINE_IN_PROGRESS",
            Self::SYNCLINE_ERROR_INTERNAL => c"SYNCLINE_ERROR_INTERNAL",
            Self::SYNCLINE_ERROR_DISCONNECTED => c"SYNCLINE_ERROR_DISCONNECTED",
        }
    }
}

impl From<ErrorKind> for syncline_status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidArgument => Self::SYNCLINE_ERROR_INVALID_ARGUMENT,
            ErrorKind::PeerLost => Self::SYNCLINE_ERROR_PEER_LOST,
            ErrorKind::Disconnected => Self::SYNCLINE_ERROR_DISCONNECTED,
            ErrorKind::Timeout => Self::SYNCLINE_ERROR_TIMEOUT,
            ErrorKind::Mismatch => Self::SYNCLINE_ERROR_MISMATCH,
            ErrorKind::Protocol => Self::SYNCLINE_ERROR_PROTOCOL,
            ErrorKind::Rendezvous => Self::SYNCLINE_ERROR_RENDEZVOUS,
            ErrorKind::System => Self::SYNCLINE_ERROR_SYSTEM,
            ErrorKind::Aborted => Self::SYNCLINE_ERROR_ABORTED,
            ErrorKind::Revoked => Self::SYNCLINE_ERROR_REVOKED,
            ErrorKind::Excluded => Self::SYNCLINE_ERROR_EXCLUDED,
            ErrorKind::Forked => Self::SYNCLINE_ERROR_FORKED,
        }
    }
}

/// The name of `status`, such as "SYNCLINE_ERROR_TIMEOUT"; "unknown status" for other numbers.
/// Never fails, and the text is never freed.
#[unsafe(no_mangle)]
pub extern "C" fn syncline_status_name(status: syncline_status_t) -> *const std::ffi::c_char {
    let known = Status::ALL.into_iter().find(|&known| known as syncline_status_t == status);
    known.map_or(c"unknown status", Status::name).as_ptr()
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: syncline_status,
    /// Without the function's name, unless it came from `comm`.
    pub(crate) text: String,
    pub(crate) ranks: Vec<u32>,
    /// The text names the function already.
    pub(crate) named: bool,
}

/// What happens inside a call.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: syncline_status, text: impl Display) -> Self {
        Self { status, text: text.to_string(), ranks: Vec::new(), named: false }
    }

    /// An argument is wrong.
    pub(crate) fn argument(text: impl Display) -> Self {
        Self::new(Status::SYNCLINE_ERROR_INVALID_ARGUMENT, text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            status: error.kind().into(),
            text: error.to_string(),
            ranks: error.ranks(),
            named: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_number_and_its_name() {
        for (number, status) in (0..).zip(Status::ALL) {
            assert_eq!(status as syncline_status_t, number);
            assert_eq!(status.name().to_str().unwrap(), format!("{status:?}"));
        }
    }
}
