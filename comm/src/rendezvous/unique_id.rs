//! The text that lets a process join a job: where the root listens, and the job's secret.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::proof::Secret;
use super::wire::{Decoder, Encoder};
use crate::error::Error;

/// Version of the text, of the handshake and of the rendezvous messages.
pub const WIRE_VERSION: u16 = 1;

const PREFIX: &str = "syncline1-";
/// What 128 characters of text can hold after the prefix.
const PAYLOAD_BYTES_MAX: usize = (UniqueId::TEXT_BYTES_MAX - PREFIX.len()) * 3 / 4;
const CHECKSUM_BYTES: usize = 4;
const ADDRESS_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 16 - 2 - CHECKSUM_BYTES;

/// Names one job: the addresses its root listens on and a 128-bit random secret.
///
/// Its `Display` form is at most 128 bytes of letters, digits, `-` and `_`, so that it travels
/// through environment variables, files and launchers. Whoever knows it can join the job, so it
/// belongs nowhere public; `Debug` leaves the secret out.
///
/// The process that makes the id ([`UniqueId::listen`]) opens the listener and has to take part
/// in the job. One id serves one job.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UniqueId {
    secret: Secret,
    addresses: Vec<IpAddr>,
    port: u16,
}

impl UniqueId {
    /// Longest text form.
    pub const TEXT_BYTES_MAX: usize = 128;

    /// An id over as many of `addresses` as fit (three of each family always do).
    pub(crate) fn new(secret: Secret, addresses: &[IpAddr], port: u16) -> Self {
        let mut left = ADDRESS_BYTES_MAX;
        let mut kept = Vec::new();
        for &address in addresses {
            let bytes = if address.is_ipv4() { 5 } else { 17 };
            if bytes <= left {
                left -= bytes;
                kept.push(address);
            }
        }
        Self { secret, addresses: kept, port }
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The same job, met at another address: the near end of a tunnel or of a forwarded port.
    pub fn through(&self, address: SocketAddr) -> Self {
        Self { secret: self.secret.clone(), addresses: vec![address.ip()], port: address.port() }
    }

    /// Where the root listens, most promising first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.iter().map(|&ip| SocketAddr::new(ip, self.port)).collect()
    }

    /// The text that stands for any payload.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn seal(payload: &[u8]) -> String {
        text_of(payload.to_vec())
    }

    fn payload(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.raw(self.secret.bytes());
        encoder.u16(self.port);
        for &address in &self.addresses {
            encoder.ip(address);
        }
        encoder.finish()
    }
}

fn checksum(payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::hash(payload);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text_of(self.payload()))
    }
}

/// A payload as text, with its checksum.
fn text_of(mut payload: Vec<u8>) -> String {
    payload.extend_from_slice(&checksum(&payload));
    format!("{PREFIX}{}", base64(&payload))
}

impl fmt::Debug for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UniqueId({:?}, secret withheld)", self.addresses())
    }
}

impl FromStr for UniqueId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text.trim()).map_err(|reason| Error::InvalidArgument {
            operation: "UniqueId::from_str",
            reason: reason.to_owned(),
        })
    }
}

fn parse(text: &str) -> Result<UniqueId, &'static str> {
    if text.len() > UniqueId::TEXT_BYTES_MAX {
        return Err("longer than 128 bytes; pass exactly what `UniqueId` printed");
    }
    let Some(body) = text.strip_prefix(PREFIX) else {
        return Err(if text.starts_with("syncline") {
            "made by another version of Syncline; run the same version everywhere"
        } else {
            "does not start with `syncline1-`; pass exactly what `UniqueId` printed"
        });
    };
    let damaged = "damaged (checksum differs); pass exactly what `UniqueId` printed";
    let bytes = unbase64(body).ok_or(damaged)?;
    let (payload, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(damaged)?;
    if *sum != checksum(payload) {
        return Err(damaged);
    }
    let malformed = |_| "malformed; pass exactly what `UniqueId` printed";
    let mut decoder = Decoder::new(payload);
    let secret = Secret::from_bytes(decoder.array().map_err(malformed)?);
    let port = decoder.u16().map_err(malformed)?;
    let mut addresses = Vec::new();
    while !decoder.is_empty() {
        addresses.push(decoder.ip().map_err(malformed)?);
    }
    if addresses.is_empty() || port == 0 {
        return Err("names no address; pass exactly what `UniqueId` printed");
    }
    Ok(UniqueId { secret, addresses, port })
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 with the URL alphabet and no padding (RFC 4648, section 5).
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=chunk.len()].copy_from_slice(chunk);
        let word = u32::from_be_bytes(word);
        for digit in 0..=chunk.len() {
            let index = word >> (18 - 6 * digit) & 63;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        if chunk.len() == 1 {
            return None;
        }
        let mut word = 0_u32;
        for (digit, symbol) in chunk.iter().enumerate() {
            let index = ALPHABET.iter().position(|a| a == symbol)?;
            word |= u32::try_from(index).ok()? << (18 - 6 * digit);
        }
        bytes.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(addresses: &[&str]) -> UniqueId {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        UniqueId::new(Secret::from_bytes([0xa5; 16]), &addresses, 40_123)
    }

    #[test]
    fn text_round_trips_and_fits() {
        let v6 = ["2001:db8::1", "2001:db8::2", "2001:db8::3"];
        let v4 = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
        let id = id(&[&v6[..], &v4[..]].concat());
        assert_eq!(id.addresses().len(), 6, "three of each family fit");
        let text = id.to_string();
        assert!(text.len() <= UniqueId::TEXT_BYTES_MAX, "{} bytes", text.len());
        assert_eq!(text.parse::<UniqueId>().unwrap(), id);
        assert_eq!(format!(" {text}\n").parse::<UniqueId>().unwrap(), id);
    }

    #[test]
    fn a_tunnel_changes_the_address_and_not_the_job() {
        let direct = id(&["10.1.2.3", "fd00::1"]);
        let near: SocketAddr = "127.0.0.1:2222".parse().unwrap();
        let through = direct.through(near);
        assert_eq!(through.addresses(), [near]);
        assert!(through.secret() == direct.secret());
        assert_eq!(through.to_string().parse::<UniqueId>().unwrap(), through);
    }

    #[test]
    fn surplus_addresses_are_left_out() {
        let many: Vec<String> = (1..30).map(|n| format!("10.0.0.{n}")).collect();
        let id = id(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(id.addresses().len(), ADDRESS_BYTES_MAX / 5);
        assert!(id.to_string().len() <= UniqueId::TEXT_BYTES_MAX);
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let text = id(&["10.1.2.3"]).to_string();
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert!(other.parse::<UniqueId>().is_err(), "{other}");
        }
        assert!(text[..text.len() - 1].parse::<UniqueId>().is_err());
        assert!(format!("{text}A").parse::<UniqueId>().is_err());
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let reason = |text: &str| text.parse::<UniqueId>().unwrap_err().to_string();
        assert!(reason("hello").contains("does not start with"));
        assert!(reason("syncline9-AAAA").contains("another version"));
        assert!(reason("syncline1-AAAAAAAAAAAA").contains("damaged"));
        assert!(reason(&"x".repeat(200)).contains("longer than 128"));
    }

    #[test]
    fn the_secret_stays_out_of_debug() {
        let id = id(&["10.1.2.3"]);
        assert_eq!(format!("{id:?}"), "UniqueId([10.1.2.3:40123], secret withheld)");
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails_cleanly(text in "(syncline1-)?[A-Za-z0-9_-]{0,140}") {
            if let Ok(id) = text.parse::<UniqueId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn base64_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(unbase64(&base64(&bytes)), Some(bytes));
        }
    }
}
