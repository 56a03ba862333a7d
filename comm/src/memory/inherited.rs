//! Descriptors that a launcher left open and names by number.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// A duplicate of descriptor `number`, which whoever started this process left open; the
/// descriptor itself stays as it is.
///
/// # Errors
/// When there is no such descriptor.
pub(crate) fn duplicate_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::from(rustix::io::Errno::BADF));
    }
    // SAFETY: `number` is not -1, the one value that is forbidden. A borrowed descriptor must stay
    // open while it is borrowed, which is during the one call below: it duplicates whatever the
    // number stands for in that instant, or reports that there is nothing. Neither closes nor
    // changes what others use.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    inherited.try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_duplicate_is_a_descriptor_of_its_own() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let duplicate = duplicate_inherited(file.as_raw_fd()).unwrap();
        assert_ne!(duplicate.as_raw_fd(), file.as_raw_fd());
        assert!(duplicate_inherited(-1).is_err());
        assert!(duplicate_inherited(1_000_000).is_err());
    }
}
