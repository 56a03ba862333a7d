//! What members tell each other, and how it is encoded.

use std::time::Duration;

use super::codec::{self, TEXT_BYTES_MAX};
use super::{Agreed, Cause, CommId, Operation, Progress};
use crate::error::Rank;
use crate::rendezvous::wire::{Decoder, Encoder, Malformed};

/// Changes with every change of the encoding.
const VERSION: u8 = 1;

/// One message of the control protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// A member of the job is dead; passed on.
    Dead {
        /// Who.
        rank: Rank,
        /// How it was noticed, in words.
        how: String,
    },
    /// A member leaves the job in good order; passed on.
    Farewell {
        /// Who.
        rank: Rank,
    },
    /// The sender passes the receiver's farewell on.
    FarewellHeard,
    /// A communicator has failed; passed on.
    Failed {
        /// Which.
        comm: CommId,
        /// Why.
        cause: Cause,
    },
    /// How is the communicator with you, and where are you in `operation`?
    Ask {
        /// Which.
        comm: CommId,
        /// The asker's number for the question.
        query: u64,
        /// The operation, if the question is about one.
        operation: Option<Operation>,
    },
    /// The answer to [`Message::Ask`].
    Answer {
        /// The communicator.
        comm: CommId,
        /// Number of the question.
        query: u64,
        /// What is known.
        answer: Answer,
    },
    /// A part of an agreement.
    Agreement {
        /// The communicator.
        comm: CommId,
        /// Number of the agreement.
        number: u64,
        /// Which attempt: the coordinator's position in the communicator, plus the members'
        /// count for every time that all have had their turn.
        ballot: u64,
        /// What is said.
        part: Part,
    },
}

/// How the one asked stands to a communicator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All is well, as far as it knows.
    Well,
    /// It failed.
    Failed(Cause),
    /// It was left in good order.
    Left,
    /// Nothing is known of it.
    Unknown,
    /// All is well.
    At {
        /// Where the operation is.
        progress: Progress,
        /// It looks itself for those who hold an operation up.
        investigating: bool,
    },
}

/// What members say in an agreement; the module `agree` explains the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// To the ballot's coordinator: what this member brings; it has no part in lower ballots
    /// from now on.
    Contribute(Box<Contribution>),
    /// From the coordinator: it has entered and heard.
    Here,
    /// From the coordinator: contribute to this ballot.
    Call,
    /// From the coordinator: this is to be the decision.
    Propose {
        /// Proposals of one ballot, counted up.
        attempt: u32,
        /// What is to be decided.
        decision: Agreed,
    },
    /// To the coordinator: noted.
    Accept {
        /// Of the proposal.
        attempt: u32,
    },
    /// There is a higher ballot: the message's.
    Refuse,
    /// It is decided.
    Decide {
        /// What.
        decision: Agreed,
    },
    /// The sender has no part in this or any later agreement: it left the communicator, or
    /// gave up.
    Absent,
}

/// What a member brings to an agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contribution {
    /// Its flags.
    pub flags: u64,
    /// Members that it holds for dead or gone.
    pub failed: Vec<Rank>,
    /// Members that it would not wait for.
    pub suspects: Vec<Rank>,
    /// For how long it is ready to wait.
    pub patience: Duration,
    /// The last proposal it accepted, with its ballot and attempt.
    pub accepted: Option<(u64, u32, Agreed)>,
}

impl Message {
    /// Largest encoded message.
    pub const BYTES_MAX: usize = 64 * 1024;

    /// As bytes, at most [`Self::BYTES_MAX`]. Texts that are too long are cut, as are lists.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.u8(VERSION);
        match self {
            Self::Dead { rank, how } => codec::tagged_text(&mut encoder, 0, *rank, how),
            Self::Farewell { rank } => {
                encoder.u8(1);
                encoder.u32(*rank);
            }
            Self::FarewellHeard => encoder.u8(6),
            Self::Failed { comm, cause } => {
                encoder.u8(2);
                encoder.u64(*comm);
                cause.encode(&mut encoder);
            }
            Self::Ask { comm, query, operation } => {
                encoder.u8(3);
                encoder.u64(*comm);
                encoder.u64(*query);
                codec::option(&mut encoder, operation.as_ref(), codec::operation);
            }
            Self::Answer { comm, query, answer } => {
                encoder.u8(4);
                encoder.u64(*comm);
                encoder.u64(*query);
                answer.encode(&mut encoder);
            }
            Self::Agreement { comm, number, ballot, part } => {
                encoder.u8(5);
                encoder.u64(*comm);
                encoder.u64(*number);
                encoder.u64(*ballot);
                part.encode(&mut encoder);
            }
        }
        encoder.finish()
    }

    /// From bytes that arrived; `None` when malformed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Self::read(bytes).ok()
    }

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(Malformed);
        }
        let decoder = &mut Decoder::new(bytes);
        if decoder.u8()? != VERSION {
            return Err(Malformed);
        }
        let message = match decoder.u8()? {
            0 => Self::Dead { rank: decoder.u32()?, how: decoder.text(TEXT_BYTES_MAX)? },
            1 => Self::Farewell { rank: decoder.u32()? },
            2 => Self::Failed { comm: decoder.u64()?, cause: Cause::decode(decoder)? },
            3 => Self::Ask {
                comm: decoder.u64()?,
                query: decoder.u64()?,
                operation: codec::read_option(decoder, codec::read_operation)?,
            },
            4 => Self::Answer {
                comm: decoder.u64()?,
                query: decoder.u64()?,
                answer: Answer::decode(decoder)?,
            },
            5 => Self::Agreement {
                comm: decoder.u64()?,
                number: decoder.u64()?,
                ballot: decoder.u64()?,
                part: Part::decode(decoder)?,
            },
            6 => Self::FarewellHeard,
            _ => return Err(Malformed),
        };
        if decoder.is_empty() { Ok(message) } else { Err(Malformed) }
    }
}

impl Answer {
    fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::Well => encoder.u8(0),
            Self::Failed(cause) => {
                encoder.u8(1);
                cause.encode(encoder);
            }
            Self::Left => encoder.u8(2),
            Self::Unknown => encoder.u8(3),
            Self::At { progress, investigating } => {
                encoder.u8(4);
                encoder.u8(u8::from(*investigating));
                codec::progress(encoder, progress);
            }
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(match decoder.u8()? {
            0 => Self::Well,
            1 => Self::Failed(Cause::decode(decoder)?),
            2 => Self::Left,
            3 => Self::Unknown,
            4 => Self::At {
                investigating: decoder.u8()? != 0,
                progress: codec::read_progress(decoder)?,
            },
            _ => return Err(Malformed),
        })
    }
}

impl Part {
    fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::Contribute(contribution) => {
                encoder.u8(0);
                contribution.encode(encoder);
            }
            Self::Here => encoder.u8(1),
            Self::Call => encoder.u8(2),
            Self::Propose { attempt, decision } => {
                encoder.u8(3);
                encoder.u32(*attempt);
                decide(encoder, decision);
            }
            Self::Accept { attempt } => {
                encoder.u8(4);
                encoder.u32(*attempt);
            }
            Self::Refuse => encoder.u8(5),
            Self::Decide { decision } => {
                encoder.u8(6);
                decide(encoder, decision);
            }
            Self::Absent => encoder.u8(7),
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(match decoder.u8()? {
            0 => Self::Contribute(Box::new(Contribution::decode(decoder)?)),
            1 => Self::Here,
            2 => Self::Call,
            3 => Self::Propose { attempt: decoder.u32()?, decision: read_decision(decoder)? },
            4 => Self::Accept { attempt: decoder.u32()? },
            5 => Self::Refuse,
            6 => Self::Decide { decision: read_decision(decoder)? },
            7 => Self::Absent,
            _ => return Err(Malformed),
        })
    }
}

impl Contribution {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.u64(self.flags);
        codec::ranks(encoder, &self.failed);
        codec::ranks(encoder, &self.suspects);
        codec::duration(encoder, self.patience);
        codec::option(encoder, self.accepted.as_ref(), |encoder, (ballot, attempt, decision)| {
            encoder.u64(*ballot);
            encoder.u32(*attempt);
            decide(encoder, decision);
        });
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            flags: decoder.u64()?,
            failed: codec::read_ranks(decoder)?,
            suspects: codec::read_ranks(decoder)?,
            patience: codec::read_duration(decoder)?,
            accepted: codec::read_option(decoder, |d| Ok((d.u64()?, d.u32()?, read_decision(d)?)))?,
        })
    }
}

fn decide(encoder: &mut Encoder, decision: &Agreed) {
    encoder.u64(decision.flags);
    codec::ranks(encoder, &decision.failed);
}

fn read_decision(decoder: &mut Decoder<'_>) -> Result<Agreed, Malformed> {
    Ok(Agreed { flags: decoder.u64()?, failed: codec::read_ranks(decoder)? })
}
