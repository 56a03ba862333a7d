//! Sends spans to, and receives them from, a socket without copying.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

use super::{Span, SpanMut};

/// Parts handed to the kernel at once; what goes beyond is for the next call.
const PARTS_MAX: usize = 32;

/// Sends `lead`, and behind it the concatenation of `parts` without its first `skip` bytes, as
/// far as the socket takes it in one call. Returns the bytes sent, those of `lead` included.
/// Raises no SIGPIPE.
pub(crate) fn send_spans(
    fd: BorrowedFd<'_>,
    lead: &[u8],
    parts: &[Span],
    mut skip: usize,
) -> Result<usize, Errno> {
    let mut slices = [IoSlice::new(&[]); PARTS_MAX + 1];
    slices[0] = IoSlice::new(lead);
    let mut used = 1;
    for part in parts {
        if skip >= part.len() {
            skip -= part.len();
            continue;
        }
        if used == slices.len() {
            break;
        }
        let part = part.cut(skip, part.len() - skip);
        skip = 0;
        // SAFETY: `Span::new` promises that the bytes are readable and that nobody writes them
        // while they are in use, which they are until this function returns.
        let bytes = unsafe { std::slice::from_raw_parts(part.as_ptr(), part.len()) };
        slices[used] = IoSlice::new(bytes);
        used += 1;
    }
    let mut none = SendAncillaryBuffer::default();
    rustix::net::sendmsg(fd, &slices[..used], &mut none, SendFlags::NOSIGNAL)
}

/// Copies the concatenation of `parts` without its first `skip` bytes to the front of `out`, as
/// far as there is room. Returns the bytes copied.
pub(crate) fn gather_spans(parts: &[Span], mut skip: usize, out: &mut [u8]) -> usize {
    let mut copied = 0;
    for part in parts {
        if skip >= part.len() {
            skip -= part.len();
            continue;
        }
        let part = part.cut(skip, (part.len() - skip).min(out.len() - copied));
        skip = 0;
        // SAFETY: `Span::new` promises that the bytes are readable and that nobody writes them
        // while they are in use, which they are until the copy on the next line is done.
        let bytes = unsafe { std::slice::from_raw_parts(part.as_ptr(), part.len()) };
        out[copied..copied + bytes.len()].copy_from_slice(bytes);
        copied += bytes.len();
        if copied == out.len() {
            break;
        }
    }
    copied
}

/// Receives into `dst` and, when that is full, into `spill`, in one call. Returns the bytes
/// received; 0 at the end of the stream, or when there is no room at all.
pub(crate) fn receive_span(
    fd: BorrowedFd<'_>,
    dst: SpanMut,
    spill: &mut [u8],
) -> Result<usize, Errno> {
    // SAFETY: `SpanMut::new` promises that the bytes are writable and that all other accesses
    // are ordered against this one, which ends when this function returns.
    let bytes = unsafe { std::slice::from_raw_parts_mut(dst.as_ptr(), dst.len()) };
    let mut slices = [IoSliceMut::new(bytes), IoSliceMut::new(spill)];
    rustix::io::readv(fd, &mut slices)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::super::testing::{span, span_mut};
    use super::*;

    #[test]
    fn parts_are_sent_in_order_from_any_offset() {
        let (a, mut b) = UnixStream::pair().unwrap();
        let parts = [span(b"abc"), Span::EMPTY, span(b"defgh"), span(b"i")];
        for skip in 0..=9 {
            let sent = send_spans(a.as_fd(), b"xy", &parts, skip).unwrap();
            let expected = [b"xy", &b"abcdefghi"[skip..]].concat();
            assert_eq!(sent, expected.len());
            let mut got = vec![0; sent];
            b.read_exact(&mut got).unwrap();
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn parts_are_gathered_from_any_offset_into_any_room() {
        let parts = [span(b"abc"), Span::EMPTY, span(b"defgh"), span(b"i")];
        for skip in 0..=9 {
            for room in 0..=10 {
                let mut out = vec![0; room];
                let copied = gather_spans(&parts, skip, &mut out);
                assert_eq!(copied, room.min(9 - skip));
                assert_eq!(out[..copied], b"abcdefghi"[skip..][..copied]);
            }
        }
    }

    #[test]
    fn more_parts_than_fit_are_sent_by_calling_again() {
        let (a, mut b) = UnixStream::pair().unwrap();
        let bytes: Vec<u8> = (0..200).collect();
        let parts: Vec<Span> = bytes.chunks(1).map(span).collect();
        let mut sent = 0;
        while sent < bytes.len() {
            sent += send_spans(a.as_fd(), &[], &parts, sent).unwrap();
        }
        let mut got = vec![0; bytes.len()];
        b.read_exact(&mut got).unwrap();
        assert_eq!(got, bytes);
    }

    #[test]
    fn what_does_not_fit_spills() {
        let (mut a, b) = UnixStream::pair().unwrap();
        a.write_all(b"abcdef").unwrap();
        let (mut dst, mut spill) = ([0; 4], [0; 4]);
        let received = receive_span(b.as_fd(), span_mut(&mut dst), &mut spill).unwrap();
        assert_eq!((received, &dst, &spill[..2]), (6, b"abcd", &b"ef"[..]));
    }

    #[test]
    fn a_closed_socket_is_an_error_and_no_signal() {
        let (a, b) = UnixStream::pair().unwrap();
        drop(b);
        assert_eq!(send_spans(a.as_fd(), b"x", &[], 0), Err(Errno::PIPE));
    }
}
