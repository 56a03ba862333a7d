//! Encryption of a connection whose ends have proved themselves.
//!
//! The [Noise protocol](https://noiseprotocol.org/noise.html) `Noise_NNpsk0_25519_AESGCM_SHA256`: a
//! fresh Diffie-Hellman exchange, so that whoever learns the job's secret later cannot read what
//! was recorded, and a pre-shared key, so that nobody without the secret can sit in between. The
//! prologue is everything both ends said before, which ties the keys to the proofs and the hello.
//!
//! What follows is a byte stream cut into records: `length u16 | ciphertext | tag 16`, where the
//! length counts ciphertext and tag.

use std::fmt;

use snow::resolvers::{DefaultResolver, FallbackResolver, RingResolver};

use super::handshake::HandshakeError;
use super::proof::JobKey;

/// Most plain bytes in a record.
pub(crate) const RECORD_PLAIN_BYTES_MAX: usize = 32 * 1024;
/// What a record adds to its plain bytes: length and tag.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = RECORD_LENGTH_BYTES + TAG_BYTES;
/// Bytes of the length before a record.
pub(crate) const RECORD_LENGTH_BYTES: usize = 2;
const TAG_BYTES: usize = 16;
/// A message of the key exchange: a public key and a tag.
pub(super) const EXCHANGE_BYTES: usize = 48;
const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_SHA256";
/// Records under one key. 2^24 records of 2^11 AES blocks keep the advantage of an attacker below
/// 2^-57 (RFC 8446, section 5.5).
const RECORDS_PER_KEY: u64 = 1 << 24;

/// The two messages that lead to a [`Session`], as one end sees them.
pub(super) struct KeyExchange(Box<snow::HandshakeState>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Connector,
    Acceptor,
}

impl KeyExchange {
    pub(super) fn new(key: &JobKey, side: Side, said: &[u8]) -> Self {
        let pattern = PATTERN.parse().expect("a pattern that snow knows");
        let resolver = FallbackResolver::new(Box::new(RingResolver), Box::new(DefaultResolver));
        let builder = snow::Builder::with_resolver(pattern, Box::new(resolver))
            .psk(0, key.noise())
            .and_then(|builder| builder.prologue(said));
        let state = builder.and_then(|builder| match side {
            Side::Connector => builder.build_initiator(),
            Side::Acceptor => builder.build_responder(),
        });
        Self(Box::new(state.expect("everything the pattern needs has been set")))
    }

    pub(super) fn offer(&mut self) -> Result<[u8; EXCHANGE_BYTES], HandshakeError> {
        let mut message = [0; EXCHANGE_BYTES];
        let written = self.0.write_message(&[], &mut message);
        // Fails only when the system has no random numbers.
        let written = written.map_err(|error| std::io::Error::other(error.to_string()))?;
        assert_eq!(written, EXCHANGE_BYTES, "a key and a tag");
        Ok(message)
    }

    pub(super) fn take(&mut self, message: &[u8; EXCHANGE_BYTES]) -> Result<(), HandshakeError> {
        let mut nothing = [0; EXCHANGE_BYTES];
        self.0.read_message(message, &mut nothing).map_err(|_| HandshakeError::Stranger)?;
        Ok(())
    }

    pub(super) fn finish(self) -> Session {
        let state = self.0.into_transport_mode().expect("both messages have been exchanged");
        Session { state, records_per_key: RECORDS_PER_KEY }
    }
}

/// The keys of one connection. Records must be opened in the order in which they were sealed.
pub struct Session {
    state: snow::TransportState,
    records_per_key: u64,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(keys withheld)")
    }
}

/// A record that nobody with the keys has made, or out of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an encrypted record was altered on the way")]
pub(crate) struct Tampered;

impl Session {
    /// Writes `plain` (1 to [`RECORD_PLAIN_BYTES_MAX`] bytes) as a record to the front of `out`,
    /// which has room for [`RECORD_OVERHEAD_BYTES`] more; returns the record's size.
    pub(crate) fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> usize {
        let limits = 1..=RECORD_PLAIN_BYTES_MAX;
        assert!(limits.contains(&plain.len()), "{} bytes in a record", plain.len());
        let written = self.state.write_message(plain, &mut out[RECORD_LENGTH_BYTES..]);
        let written = written.expect("sizes fit, and 2^64 records are out of reach");
        let length = u16::try_from(written).expect("at most RECORD_PLAIN_BYTES_MAX + TAG_BYTES");
        out[..RECORD_LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        if self.state.sending_nonce().is_multiple_of(self.records_per_key) {
            self.state.rekey_outgoing();
        }
        RECORD_LENGTH_BYTES + written
    }

    /// Bytes that follow the length at the head of a record.
    pub(crate) fn body_bytes(length: [u8; RECORD_LENGTH_BYTES]) -> Result<usize, Tampered> {
        let bytes = usize::from(u16::from_le_bytes(length));
        let limits = TAG_BYTES + 1..=TAG_BYTES + RECORD_PLAIN_BYTES_MAX;
        limits.contains(&bytes).then_some(bytes).ok_or(Tampered)
    }

    /// Writes the plain bytes of a record's `body` to the front of `out`, which is at least as
    /// long as the body; returns how many there are.
    pub(crate) fn open(&mut self, body: &[u8], out: &mut [u8]) -> Result<usize, Tampered> {
        debug_assert!(out.len() >= body.len(), "or snow allocates");
        let written = self.state.read_message(body, out).map_err(|_| Tampered)?;
        if self.state.receiving_nonce().is_multiple_of(self.records_per_key) {
            self.state.rekey_incoming();
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::super::proof::Secret;
    use super::*;

    fn exchange(keys: [&JobKey; 2], said: [&[u8]; 2]) -> Result<[Session; 2], HandshakeError> {
        let mut connector = KeyExchange::new(keys[0], Side::Connector, said[0]);
        let mut acceptor = KeyExchange::new(keys[1], Side::Acceptor, said[1]);
        acceptor.take(&connector.offer()?)?;
        connector.take(&acceptor.offer()?)?;
        Ok([connector.finish(), acceptor.finish()])
    }

    fn key(secret: u8) -> JobKey {
        JobKey::new(&Secret::from_bytes([secret; 16]))
    }

    fn sealed(session: &mut Session, plain: &[u8]) -> Vec<u8> {
        let mut record = vec![0; plain.len() + RECORD_OVERHEAD_BYTES];
        assert_eq!(session.seal(plain, &mut record), record.len());
        record
    }

    fn opened(session: &mut Session, record: &[u8]) -> Result<Vec<u8>, Tampered> {
        let (length, body) = record.split_first_chunk().unwrap();
        assert_eq!(Session::body_bytes(*length)?, body.len());
        let mut plain = vec![0; body.len()];
        let bytes = session.open(body, &mut plain)?;
        plain.truncate(bytes);
        Ok(plain)
    }

    #[test]
    fn records_arrive_in_both_directions_and_over_changes_of_key() {
        let [mut a, mut b] = exchange([&key(1), &key(1)], [b"said", b"said"]).unwrap();
        (a.records_per_key, b.records_per_key) = (3, 3);
        for round in 0..20_usize {
            let plain = vec![round as u8; 1 + round * 1700];
            assert_eq!(opened(&mut b, &sealed(&mut a, &plain)).unwrap(), plain);
            assert_eq!(opened(&mut a, &sealed(&mut b, &plain)).unwrap(), plain);
        }
        let record = sealed(&mut a, &[7; 100]);
        assert!(!record.windows(8).any(|window| window == [7; 8]), "that is the plain text");
    }

    #[test]
    fn another_secret_or_another_conversation_gives_no_keys() {
        assert!(exchange([&key(1), &key(2)], [b"said", b"said"]).is_err());
        assert!(exchange([&key(1), &key(1)], [b"said", b"heard"]).is_err());
    }

    #[test]
    fn altered_repeated_and_reordered_records_are_refused() {
        let fresh = || exchange([&key(1), &key(1)], [b"said", b"said"]).unwrap();
        let [mut a, _] = fresh();
        for at in 2..2 + 4 + TAG_BYTES {
            let [mut a, mut b] = fresh();
            let mut record = sealed(&mut a, b"text");
            record[at] ^= 1;
            assert_eq!(opened(&mut b, &record), Err(Tampered));
        }
        let [mut c, mut d] = fresh();
        let (first, second) = (sealed(&mut c, b"1"), sealed(&mut c, b"2"));
        assert_eq!(opened(&mut d, &second), Err(Tampered));
        assert_eq!(opened(&mut d, &first).unwrap(), b"1");
        assert_eq!(opened(&mut d, &first), Err(Tampered));
        // Not even its own words come back from the other end.
        let own = sealed(&mut a, b"text");
        assert_eq!(opened(&mut a, &own), Err(Tampered));
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for bytes in [0, 1, TAG_BYTES, TAG_BYTES + RECORD_PLAIN_BYTES_MAX + 1, 65_535] {
            let length = u16::try_from(bytes).unwrap().to_le_bytes();
            assert_eq!(Session::body_bytes(length), Err(Tampered), "{bytes}");
        }
        let most = TAG_BYTES + RECORD_PLAIN_BYTES_MAX;
        assert_eq!(Session::body_bytes(u16::try_from(most).unwrap().to_le_bytes()), Ok(most));
    }
}
