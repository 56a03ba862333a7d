//! Why a communicator failed, in a form that travels.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Operation;
use super::codec::{self, MISSING_MAX, TEXT_BYTES_MAX, clip};
use crate::error::Rank;
use crate::rendezvous::wire::{Decoder, Encoder, Malformed};

/// Why a communicator failed. The same everywhere, up to failures that happen at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A member's process or host is gone, or it does not answer after its connection broke.
    Lost {
        /// Who.
        rank: Rank,
        /// How it was noticed, in words.
        how: String,
    },
    /// A connection between two members broke, and both still run.
    Disconnected {
        /// Who noticed.
        by: Rank,
        /// The other end.
        peer: Rank,
        /// How it was noticed, in words.
        how: String,
    },
    /// A member that is still needed left the communicator in good order.
    Left {
        /// Who.
        rank: Rank,
    },
    /// Members did not come before the deadline.
    Stalled {
        /// Who noticed.
        by: Rank,
        /// Where.
        operation: Operation,
        /// The operation in words, as `by` called it.
        description: String,
        /// Who holds it up, and what is known of them.
        missing: Vec<(Rank, Absence)>,
        /// How long nothing moved at `by`.
        after: Duration,
    },
    /// Two members called different things.
    Mismatch {
        /// Where.
        operation: Operation,
        /// One, and its call in words.
        one: (Rank, String),
        /// The other, and its call in words as far as it is known.
        other: (Rank, String),
    },
    /// A member sent what the wire format does not allow.
    Protocol {
        /// Who sent it.
        rank: Rank,
        /// What was wrong.
        reason: String,
    },
    /// A member gave up.
    Aborted {
        /// Who.
        by: Rank,
        /// In its own words.
        reason: String,
    },
    /// A member ended the communicator for everybody.
    Revoked {
        /// Who.
        by: Rank,
        /// In its own words.
        reason: String,
    },
}

/// What is known of a rank that holds an operation up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It answers nothing: stopped, cut off, or its host is down.
    Silent,
    /// It is alive and has not called the operation; `last` is what it called last, in words.
    NotEntered {
        /// Such as `all_reduce #41 (f32 x 1024, sum, ring)`.
        last: Option<String>,
    },
    /// It is alive and in the operation, and waits for nobody who holds it up.
    Slow,
    /// It is alive, and took its time to say so: it was stopped, or cut off, for a while.
    Tardy,
    /// It left the communicator.
    Left,
}

impl Cause {
    /// The ranks whose fault it is.
    pub fn ranks(&self) -> Vec<Rank> {
        match self {
            Self::Lost { rank, .. } | Self::Left { rank } | Self::Protocol { rank, .. } => {
                vec![*rank]
            }
            Self::Stalled { missing, .. } => missing.iter().map(|(rank, _)| *rank).collect(),
            Self::Mismatch { one, other, .. } => vec![one.0, other.0],
            Self::Disconnected { by, peer, .. } => vec![*by, *peer],
            Self::Aborted { by, .. } | Self::Revoked { by, .. } => vec![*by],
        }
    }

    /// Of the two calls of a mismatch, the one that a rank which called `mine` should be shown:
    /// the other one, or when both differ from its own, the first.
    pub fn differing(&self, me: Rank, mine: &str) -> Option<(Rank, &str)> {
        let Self::Mismatch { one, other, .. } = self else { return None };
        let shown = if one.0 == me || (other.0 != me && one.1 == mine) { other } else { one };
        Some((shown.0, &shown.1))
    }

    /// Ranks that an agreement does not wait for, because they may never come.
    pub(super) fn suspects(&self) -> BTreeSet<Rank> {
        match self {
            Self::Lost { rank, .. } | Self::Left { rank } | Self::Aborted { by: rank, .. } => {
                BTreeSet::from([*rank])
            }
            Self::Stalled { missing, .. } => missing
                .iter()
                .filter(|(_, absence)| !matches!(absence, Absence::Slow | Absence::Tardy))
                .map(|(rank, _)| *rank)
                .collect(),
            // Both ends of a broken connection run, and will come.
            Self::Disconnected { .. }
            | Self::Mismatch { .. }
            | Self::Protocol { .. }
            | Self::Revoked { .. } => BTreeSet::new(),
        }
    }

    /// Within the limits of the encoding, so that every rank holds the same.
    pub(super) fn clipped(mut self) -> Self {
        match &mut self {
            Self::Lost { how: text, .. }
            | Self::Disconnected { how: text, .. }
            | Self::Protocol { reason: text, .. }
            | Self::Aborted { reason: text, .. }
            | Self::Revoked { reason: text, .. } => clip(text, TEXT_BYTES_MAX),
            Self::Left { .. } => {}
            Self::Stalled { description, missing, after, .. } => {
                clip(description, TEXT_BYTES_MAX);
                missing.truncate(MISSING_MAX);
                for (_, absence) in missing {
                    if let Absence::NotEntered { last: Some(last) } = absence {
                        clip(last, codec::LAST_BYTES_MAX);
                    }
                }
                *after = codec::whole(*after);
            }
            Self::Mismatch { one, other, .. } => {
                clip(&mut one.1, TEXT_BYTES_MAX);
                clip(&mut other.1, TEXT_BYTES_MAX);
            }
        }
        self
    }

    pub(super) fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::Lost { rank, how } => codec::tagged_text(encoder, 0, *rank, how),
            Self::Left { rank } => codec::tagged_text(encoder, 1, *rank, ""),
            Self::Protocol { rank, reason } => codec::tagged_text(encoder, 2, *rank, reason),
            Self::Aborted { by, reason } => codec::tagged_text(encoder, 3, *by, reason),
            Self::Revoked { by, reason } => codec::tagged_text(encoder, 4, *by, reason),
            Self::Stalled { by, operation, description, missing, after } => {
                codec::tagged_text(encoder, 5, *by, description);
                codec::operation(encoder, operation);
                codec::duration(encoder, *after);
                let missing = &missing[..missing.len().min(MISSING_MAX)];
                encoder.u16(u16::try_from(missing.len()).expect("few"));
                for (rank, absence) in missing {
                    encoder.u32(*rank);
                    absence.encode(encoder);
                }
            }
            Self::Mismatch { operation, one, other } => {
                codec::tagged_text(encoder, 6, one.0, &one.1);
                codec::operation(encoder, operation);
                encoder.u32(other.0);
                codec::text(encoder, &other.1, TEXT_BYTES_MAX);
            }
            Self::Disconnected { by, peer, how } => {
                codec::tagged_text(encoder, 7, *by, how);
                encoder.u32(*peer);
            }
        }
    }

    pub(super) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let (tag, rank, text) = (decoder.u8()?, decoder.u32()?, decoder.text(TEXT_BYTES_MAX)?);
        Ok(match tag {
            0 => Self::Lost { rank, how: text },
            1 => Self::Left { rank },
            2 => Self::Protocol { rank, reason: text },
            3 => Self::Aborted { by: rank, reason: text },
            4 => Self::Revoked { by: rank, reason: text },
            5 => {
                let operation = codec::read_operation(decoder)?;
                let after = codec::read_duration(decoder)?;
                let count = usize::from(decoder.u16()?);
                if count > MISSING_MAX {
                    return Err(Malformed);
                }
                let missing = (0..count)
                    .map(|_| Ok((decoder.u32()?, Absence::decode(decoder)?)))
                    .collect::<Result<_, _>>()?;
                Self::Stalled { by: rank, operation, description: text, missing, after }
            }
            6 => {
                let operation = codec::read_operation(decoder)?;
                let other = (decoder.u32()?, decoder.text(TEXT_BYTES_MAX)?);
                Self::Mismatch { operation, one: (rank, text), other }
            }
            7 => Self::Disconnected { by: rank, peer: decoder.u32()?, how: text },
            _ => return Err(Malformed),
        })
    }
}

impl Absence {
    fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::Silent => encoder.u8(0),
            Self::NotEntered { last } => {
                encoder.u8(1);
                codec::option(encoder, last.as_deref(), |encoder, last| {
                    codec::text(encoder, last, codec::LAST_BYTES_MAX);
                });
            }
            Self::Slow => encoder.u8(2),
            Self::Left => encoder.u8(3),
            Self::Tardy => encoder.u8(4),
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(match decoder.u8()? {
            0 => Self::Silent,
            1 => Self::NotEntered {
                last: codec::read_option(decoder, |d| d.text(codec::LAST_BYTES_MAX))?,
            },
            2 => Self::Slow,
            3 => Self::Left,
            4 => Self::Tardy,
            _ => return Err(Malformed),
        })
    }
}
