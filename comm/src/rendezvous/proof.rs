//! Proof that both ends of a connection belong to the job, without sending the secret.
//!
//! Mutual challenge and response with a keyed hash (the scheme of ISO/IEC 9798-4, mechanism 4:
//! three passes, a fresh nonce from each side, the roles kept apart). It keeps strangers out; it
//! does not encrypt, and it does not protect against someone who can alter packets on the way.

use std::fmt;

use super::handshake::{HELLO_BYTES, Nonce};
use super::unique_id::WIRE_VERSION;

/// The secret of a job: 128 random bits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Secret([u8; 16]);

impl Secret {
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// What a proof is: a keyed BLAKE3 hash. Comparing two takes constant time.
pub(crate) type Proof = blake3::Hash;

/// What a member proves itself with and encrypts with, derived from the job's secret.
#[derive(Clone)]
pub struct JobKey {
    proof: [u8; 32],
    noise: [u8; 32],
}

impl fmt::Debug for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobKey(withheld)")
    }
}

impl JobKey {
    pub(crate) fn new(secret: &Secret) -> Self {
        Self {
            proof: blake3::derive_key("syncline 2026-11 connection proof", secret.bytes()),
            noise: blake3::derive_key("syncline 2026-11 noise pre-shared key", secret.bytes()),
        }
    }

    /// The pre-shared key of encrypted connections.
    pub(super) fn noise(&self) -> &[u8; 32] {
        &self.noise
    }

    /// A hash that starts with whose proof it is and in which version of the protocol: their
    /// lengths differ, so no proof of one kind can be one of the other.
    fn hasher(&self, whose: &[u8]) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(&self.proof);
        hasher.update(whose).update(&WIRE_VERSION.to_le_bytes());
        hasher
    }

    /// The secret of a job that this one invites others to.
    pub(crate) fn invitation(&self, nonce: &[u8; 16]) -> Secret {
        let mut hasher = blake3::Hasher::new_keyed(&self.proof);
        let hash = hasher.update(b"syncline 2026-11 invitation").update(nonce).finalize();
        Secret(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }

    /// Tells the job from others, and helps nobody to join it.
    pub(crate) fn name(&self) -> [u8; 8] {
        let hash = blake3::derive_key("syncline 2026-11 job name", &self.proof);
        let mut name = [0; 8];
        name.copy_from_slice(&hash[..8]);
        name
    }

    /// What the accepting side sends: it saw the connector's nonce and knows the secret.
    pub(crate) fn acceptor_proof(&self, connector: &Nonce, acceptor: &Nonce) -> Proof {
        self.hasher(b"acceptor").update(connector).update(acceptor).finalize()
    }

    /// What the connecting side sends; it also vouches for what the connection is for.
    pub(crate) fn connector_proof(
        &self,
        connector: &Nonce,
        acceptor: &Nonce,
        hello: &[u8; HELLO_BYTES],
    ) -> Proof {
        self.hasher(b"connector").update(connector).update(acceptor).update(hello).finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_depend_on_everything() {
        let key = JobKey::new(&Secret::from_bytes([1; 16]));
        let other = JobKey::new(&Secret::from_bytes([2; 16]));
        let (a, b, hello) = ([1; 16], [2; 16], [0; HELLO_BYTES]);
        let proof = key.connector_proof(&a, &b, &hello);
        assert_eq!(proof, key.connector_proof(&a, &b, &hello));
        assert_ne!(proof, other.connector_proof(&a, &b, &hello));
        assert_ne!(proof, key.connector_proof(&b, &a, &hello));
        assert_ne!(proof, key.connector_proof(&a, &b, &[1; HELLO_BYTES]));
        assert_ne!(key.acceptor_proof(&a, &b), other.acceptor_proof(&a, &b));
        assert_ne!(key.acceptor_proof(&a, &b), key.acceptor_proof(&b, &a));
    }
}
