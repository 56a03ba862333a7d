//! Ids whose secret follows from that of a running job: its members need only be told the rest.

use std::io;
use std::net::IpAddr;

use super::listener::Listener;
use super::ports::Ports;
use super::proof::JobKey;
use super::unique_id::UniqueId;
use super::wire::{Decoder, Encoder, Malformed};
use super::{interface, registry};
use crate::error::{Error, Result};

/// Makes the secret of an invitation one of its own.
pub(crate) type InvitationNonce = [u8; 16];
/// Largest encoded invitation.
pub(crate) const INVITATION_BYTES_MAX: usize = UniqueId::TEXT_BYTES_MAX;

impl UniqueId {
    /// Opens the listener of a new job's root in this process, whose secret the members of the
    /// job with `key` can work out from the nonce.
    ///
    /// # Errors
    /// As [`UniqueId::listen`].
    pub(crate) fn invite(
        key: &JobKey,
        interface: Option<&str>,
        ports: Ports,
    ) -> Result<(Self, InvitationNonce)> {
        let open = || -> io::Result<_> {
            let mut nonce = InvitationNonce::default();
            getrandom::fill(&mut nonce).map_err(io::Error::other)?;
            let secret = key.invitation(&nonce);
            let addresses = interface::offered(interface)?;
            let listener = Listener::open(JobKey::new(&secret), &addresses, ports)?;
            let port = listener.addresses()[0].port();
            Ok((Self::new(secret, &addresses, port), nonce, listener))
        };
        let (id, nonce, listener) = open().map_err(|error| Error::System {
            what: "opening the listener for new ranks".to_owned(),
            source_text: error.to_string(),
            hint: "check the limit of descriptors (ulimit -n) and the options' ports".to_owned(),
        })?;
        registry::keep(id.clone(), listener);
        Ok((id, nonce))
    }

    /// All of it but the secret, for members of the job that invites.
    pub(crate) fn to_invitation(&self, nonce: &InvitationNonce) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.raw(nonce);
        let addresses = self.addresses();
        encoder.u16(addresses.first().map_or(0, std::net::SocketAddr::port));
        addresses.iter().for_each(|address| encoder.ip(address.ip()));
        encoder.finish()
    }

    /// What [`to_invitation`](Self::to_invitation) gave, at a member of the job with `key`.
    pub(crate) fn from_invitation(key: &JobKey, bytes: &[u8]) -> Option<Self> {
        let read = || -> Result<_, Malformed> {
            let mut decoder = Decoder::new(bytes);
            let (nonce, port) = (decoder.array()?, decoder.u16()?);
            let mut addresses: Vec<IpAddr> = Vec::new();
            while !decoder.is_empty() {
                addresses.push(decoder.ip()?);
            }
            Ok(Self::new(key.invitation(&nonce), &addresses, port))
        };
        read().ok().filter(|id| !id.addresses().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::super::proof::Secret;
    use super::*;

    #[test]
    fn members_work_out_the_secret_and_others_do_not() {
        let key = JobKey::new(&Secret::from_bytes([3; 16]));
        let (id, nonce) = UniqueId::invite(&key, Some("127.0.0.1"), Ports::ANY).unwrap();
        let bytes = id.to_invitation(&nonce);
        assert!(bytes.len() <= INVITATION_BYTES_MAX);
        assert_eq!(UniqueId::from_invitation(&key, &bytes).as_ref(), Some(&id));
        let other = JobKey::new(&Secret::from_bytes([4; 16]));
        assert_ne!(UniqueId::from_invitation(&other, &bytes).as_ref(), Some(&id));
        let secret = id.secret().bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        for cut in 0..bytes.len() {
            assert_ne!(UniqueId::from_invitation(&key, &bytes[..cut]).as_ref(), Some(&id));
        }
        drop(registry::claim(&id));
    }
}
