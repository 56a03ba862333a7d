//! Frames on the wire: fingerprint 8, sequence 4, payload length 4, little-endian, then payload.

use crate::transport::FrameHeader;

/// Bytes of a frame before its payload.
pub(super) const HEADER_BYTES: usize = 16;
/// Largest payload of a frame.
pub(super) const FRAME_BYTES_MAX: usize = 4 << 20;
/// Payload length that marks the goodbye, which is no frame.
const GOODBYE_LENGTH: u32 = u32::MAX;
const GOODBYE_FINGERPRINT: u64 = u64::from_le_bytes(*b"goodbye!");
/// The high bits of the byte that a receiver sends back on a pipe, once, when it leaves properly;
/// the low ones are the lanes it ever opened.
const BACKWARD_GOODBYE: u8 = 0xa0;
const LANES: u8 = 0b111;

/// What can stand where a frame may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A frame.
    Frame(FrameHeader),
    /// The sender has left; nothing follows. Bit `l` says whether it ever opened lane `l`.
    Goodbye { lanes: u8 },
}

pub(super) fn encode(start: Start) -> [u8; HEADER_BYTES] {
    let header = match start {
        Start::Frame(header) => header,
        Start::Goodbye { lanes } => FrameHeader {
            fingerprint: GOODBYE_FINGERPRINT,
            sequence: u32::from(lanes),
            payload_bytes: GOODBYE_LENGTH,
        },
    };
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&header.fingerprint.to_le_bytes());
    bytes[8..12].copy_from_slice(&header.sequence.to_le_bytes());
    bytes[12..].copy_from_slice(&header.payload_bytes.to_le_bytes());
    bytes
}

/// What a receiver that leaves properly sends back.
pub(super) const fn backward_goodbye(lanes: u8) -> u8 {
    BACKWARD_GOODBYE | (lanes & LANES)
}

/// The lanes that a leaving receiver ever opened, if that is what its byte says.
pub(super) fn lanes_of_leaver(byte: u8) -> Option<u8> {
    (byte & !LANES == BACKWARD_GOODBYE).then_some(byte & LANES)
}

/// Reads a header; in words what is wrong with it.
pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Start, String> {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let header = FrameHeader {
        fingerprint: u64::from(word(0)) | u64::from(word(4)) << 32,
        sequence: word(8),
        payload_bytes: word(12),
    };
    if header.payload_bytes == GOODBYE_LENGTH && header.fingerprint == GOODBYE_FINGERPRINT {
        let lanes = u8::try_from(header.sequence).map_err(|_| "malformed goodbye".to_owned())?;
        return Ok(Start::Goodbye { lanes });
    }
    if header.payload_bytes as usize > FRAME_BYTES_MAX {
        return Err(format!(
            "a frame of {} bytes; at most {FRAME_BYTES_MAX} are allowed",
            header.payload_bytes
        ));
    }
    Ok(Start::Frame(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        let header = FrameHeader {
            fingerprint: 0x0123_4567_89ab_cdef,
            sequence: 0xdead_beef,
            payload_bytes: u32::try_from(FRAME_BYTES_MAX).unwrap(),
        };
        let bytes = encode(Start::Frame(header));
        assert_eq!(bytes[..8], [0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01]);
        assert_eq!(decode(&bytes), Ok(Start::Frame(header)));
        let goodbye = Start::Goodbye { lanes: 0b101 };
        assert_eq!(decode(&encode(goodbye)), Ok(goodbye));
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for payload_bytes in [FRAME_BYTES_MAX as u32 + 1, u32::MAX - 1, u32::MAX] {
            let header = FrameHeader { fingerprint: 1, sequence: 2, payload_bytes };
            assert!(decode(&encode(Start::Frame(header))).is_err(), "{payload_bytes}");
        }
        let mut odd = encode(Start::Goodbye { lanes: 1 });
        odd[10] = 1;
        assert!(decode(&odd).is_err());
    }
}
