//! Admitting new ranks.

use std::sync::PoisonError;

use super::{Communicator, Options, Rendezvous, UniqueId};
use crate::error::{Error, Rank, Result};
use crate::rendezvous::{INVITATION_BYTES_MAX, InvitationNonce};

/// An invitation made here, until it is used.
pub(super) struct Invitation {
    id: UniqueId,
    nonce: InvitationNonce,
}

/// What every rank brings to [`Communicator::grow`]: whether it has an invitation (1 byte), its
/// length (1 byte), and the invitation.
const OFFER_BYTES: usize = 2 + INVITATION_BYTES_MAX;

impl Communicator {
    /// Opens the door for new ranks: the id for them to join with, which the inviting rank then
    /// gives to [`grow`](Self::grow). The id holds a secret: pass it on with care.
    ///
    /// # Errors
    /// [`Error::System`] when no socket can be had.
    pub fn invite(&self) -> Result<UniqueId> {
        let inner = &self.inner;
        let Options { interface, ports, .. } = &inner.options;
        let key = inner.job.listener.key();
        let (id, nonce) = UniqueId::invite(key, interface.as_deref(), *ports)?;
        let mut invitations = inner.job.invitations.lock().unwrap_or_else(PoisonError::into_inner);
        invitations.push(Invitation { id: id.clone(), nonce });
        Ok(id)
    }

    /// A communicator of `ranks` ranks: the present ones keep their numbers, and the others are
    /// those that join with the invitation, by [`init`](Self::init) as ranks `self.ranks()` to
    /// `ranks - 1` of `ranks`, with the same options. A collective call of the present ranks, of
    /// which exactly one passes the `invitation` that it made with [`invite`](Self::invite).
    ///
    /// The epoch of the new communicator is one more than this one's, also for the new ranks.
    /// Only the addresses in the invitation travel over this communicator; its secret follows
    /// from that of the job.
    ///
    /// # Errors
    /// Those of a collective on this communicator, which works on afterwards, and of
    /// [`init`](Self::init), naming those that did not come; [`Error::InvalidArgument`] on every
    /// rank when not exactly one passes an invitation.
    pub fn grow(&self, invitation: Option<&UniqueId>, ranks: Rank) -> Result<Self> {
        let refuse = |reason: String| Error::InvalidArgument { operation: "grow", reason };
        if ranks < self.ranks() {
            let reason = format!("{ranks} ranks are fewer than there are; use `subset`");
            return Err(refuse(reason));
        }
        // A rank that has nothing to offer takes part all the same: the others learn of it.
        let offered = invitation.map(|id| self.offer(id)).transpose();
        let offer = offered.as_ref().ok().copied().flatten().unwrap_or([0; OFFER_BYTES]);
        let mut offers = vec![0; OFFER_BYTES * self.ranks() as usize];
        self.all_gather(&offer, &mut offers)?;
        offered?;
        let made: Vec<&[u8]> =
            offers.chunks_exact(OFFER_BYTES).filter(|offer| offer[0] == 1).collect();
        let [offer] = made[..] else {
            let reason = format!("{} ranks pass an invitation, and one must", made.len());
            return Err(refuse(reason));
        };
        let end = 2 + usize::from(offer[1]).min(INVITATION_BYTES_MAX);
        let id = UniqueId::from_invitation(self.inner.job.listener.key(), &offer[2..end])
            .ok_or_else(|| refuse("the invitation is malformed".to_owned()))?;
        let options = self.inner.options.clone();
        let epoch = self.epoch().saturating_add(1);
        Self::join(&Rendezvous::Id(id), self.rank(), ranks, options, epoch)
    }

    /// What the other ranks need to know of an invitation that this rank made.
    fn offer(&self, id: &UniqueId) -> Result<[u8; OFFER_BYTES]> {
        let mut invitations =
            self.inner.job.invitations.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = invitations.iter().position(|made| made.id == *id) else {
            let reason = "this rank did not make that invitation, or has used it; pass what its \
                          `invite` returned"
                .to_owned();
            return Err(Error::InvalidArgument { operation: "grow", reason });
        };
        let made = invitations.swap_remove(at);
        let bytes = made.id.to_invitation(&made.nonce);
        let mut offer = [0; OFFER_BYTES];
        offer[0] = 1;
        offer[1] = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
        offer[2..2 + bytes.len()].copy_from_slice(&bytes);
        Ok(offer)
    }
}
