//! What members tell each other.

use super::{Cause, CommId};

/// One message of the control protocol.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Message {
    /// A communicator has failed.
    Failed {
        /// Which.
        comm: CommId,
        /// Why.
        cause: Cause,
    },
}

impl Message {
    /// Largest encoded message.
    pub const BYTES_MAX: usize = 64 * 1024;

    /// As bytes, at most [`Self::BYTES_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    /// From bytes that arrived; `None` when malformed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        todo!("{bytes:?}")
    }
}
