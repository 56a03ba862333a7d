//! What all ranks of an operation must agree on, in 64 bits.

use crate::collective::{Counts, Request};
use crate::reduce::DType;

/// FNV-1a over 64-bit words (Fowler, Noll, Vo): not against malice, which the handshake keeps
/// out, but the same on every machine and of every version.
#[derive(Clone, Copy)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) const fn word(self, word: u64) -> Self {
        let mut hash = self.0;
        let bytes = word.to_le_bytes();
        let mut index = 0;
        while index < bytes.len() {
            hash = (hash ^ bytes[index] as u64).wrapping_mul(0x100_0000_01b3);
            index += 1;
        }
        Self(hash)
    }

    pub(super) fn text(self, text: &str) -> Self {
        text.bytes().fold(self.word(text.len() as u64), |hash, byte| hash.word(u64::from(byte)))
    }

    pub(super) const fn finish(self) -> u64 {
        self.0
    }
}

/// Fingerprint of a collective.
pub(crate) fn of_request(request: &Request, algorithm: &str, segments: u32) -> u64 {
    let Request { collective, dtype, op, root, counts } = request;
    let mut hash = Fingerprint::new()
        .text(collective.name())
        .word(*dtype as u64)
        .text(algorithm)
        .word(u64::from(segments));
    if collective.reduces() {
        hash = hash.word(u64::from(op.number()));
    }
    if collective.is_rooted() {
        hash = hash.word(u64::from(*root));
    }
    match counts {
        Counts::Uniform(count) => hash.word(*count as u64).finish(),
        Counts::PerRank(counts) => {
            counts.iter().fold(hash, |hash, &count| hash.word(count as u64)).finish()
        }
        // Every rank has its own.
        Counts::PerPair { .. } => hash.finish(),
    }
}

/// Fingerprint of a point-to-point message.
pub(crate) fn of_message(dtype: DType, count: usize) -> u64 {
    Fingerprint::new().text("message").word(dtype as u64).word(count as u64).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reduce::ReduceOp;
    use crate::schedule::Collective;

    #[test]
    fn every_difference_shows() {
        let base = Request::new(Collective::AllReduce, DType::F32, 100);
        let other = |request: &Request| of_request(request, "ring", 1);
        let reference = other(&base);
        assert_eq!(reference, other(&base.clone()));
        assert_ne!(reference, other(&Request::new(Collective::AllReduce, DType::F32, 101)));
        assert_ne!(reference, other(&Request::new(Collective::AllReduce, DType::I32, 100)));
        assert_ne!(reference, other(&Request::new(Collective::Scan, DType::F32, 100)));
        assert_ne!(reference, other(&base.clone().op(ReduceOp::Max)));
        assert_ne!(reference, of_request(&base, "circulant", 1));
        assert_ne!(reference, of_request(&base, "ring", 2));
        let rooted = Request::new(Collective::Broadcast, DType::F32, 100);
        assert_ne!(other(&rooted), other(&rooted.clone().root(1)));
    }

    #[test]
    fn what_ranks_may_differ_in_does_not_show() {
        let base = Request::new(Collective::AllReduce, DType::F32, 100);
        let one = base.clone().op(ReduceOp::PreMulSum(0.5));
        let two = base.op(ReduceOp::PreMulSum(2.0));
        assert_eq!(of_request(&one, "ring", 1), of_request(&two, "ring", 1));
    }
}
