//! The parts that messages are made of, and their limits.

use std::time::Duration;

use super::{Operation, Progress, Unfinished};
use crate::error::Rank;
use crate::rendezvous::wire::{Decoder, Encoder, Malformed};

/// Longest text: descriptions, reasons.
pub(super) const TEXT_BYTES_MAX: usize = 512;

/// Longest description in a list of ranks that are missing.
pub(super) const LAST_BYTES_MAX: usize = 160;

/// Most ranks that the cause of a stall lists.
pub(super) const MISSING_MAX: usize = 128;

/// Ranks are below this in every set that travels.
pub(super) const RANKS_MAX: usize = crate::rendezvous::RANKS_MAX as usize;

/// Cuts `text` to `bytes_max` at the end of a character.
pub(super) fn clip(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}

pub(super) fn text(encoder: &mut Encoder, text: &str, bytes_max: usize) {
    encoder.bytes(&text.as_bytes()[..text.floor_char_boundary(bytes_max)]);
}

pub(super) fn tagged_text(encoder: &mut Encoder, tag: u8, rank: Rank, words: &str) {
    encoder.u8(tag);
    encoder.u32(rank);
    text(encoder, words, TEXT_BYTES_MAX);
}

pub(super) fn option<T>(
    encoder: &mut Encoder,
    value: Option<T>,
    write: impl FnOnce(&mut Encoder, T),
) {
    encoder.u8(u8::from(value.is_some()));
    if let Some(value) = value {
        write(encoder, value);
    }
}

pub(super) fn read_option<T>(
    decoder: &mut Decoder<'_>,
    read: impl FnOnce(&mut Decoder<'_>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    match decoder.u8()? {
        0 => Ok(None),
        1 => read(decoder).map(Some),
        _ => Err(Malformed),
    }
}

/// A duration as the encoding keeps it: whole nanoseconds that fit 64 bits.
pub(super) fn whole(duration: Duration) -> Duration {
    Duration::from_nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

pub(super) fn duration(encoder: &mut Encoder, duration: Duration) {
    encoder.u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

pub(super) fn read_duration(decoder: &mut Decoder<'_>) -> Result<Duration, Malformed> {
    decoder.u64().map(Duration::from_nanos)
}

pub(super) fn operation(encoder: &mut Encoder, operation: &Operation) {
    match operation {
        Operation::Collective(number) => {
            encoder.u8(0);
            encoder.u64(*number);
        }
        Operation::Message { from, to, number } => {
            encoder.u8(1);
            encoder.u32(*from);
            encoder.u32(*to);
            encoder.u64(*number);
        }
    }
}

pub(super) fn read_operation(decoder: &mut Decoder<'_>) -> Result<Operation, Malformed> {
    Ok(match decoder.u8()? {
        0 => Operation::Collective(decoder.u64()?),
        1 => {
            Operation::Message { from: decoder.u32()?, to: decoder.u32()?, number: decoder.u64()? }
        }
        _ => return Err(Malformed),
    })
}

/// A set of ranks, as bits; ranks from [`RANKS_MAX`] on are left out.
pub(super) fn ranks(encoder: &mut Encoder, ranks: &[Rank]) {
    let mut bits = Vec::new();
    for rank in ranks.iter().map(|rank| *rank as usize).filter(|rank| *rank < RANKS_MAX) {
        if bits.len() <= rank / 8 {
            bits.resize(rank / 8 + 1, 0u8);
        }
        bits[rank / 8] |= 1 << (rank % 8);
    }
    encoder.bytes(&bits);
}

/// A set of ranks, ascending.
pub(super) fn read_ranks(decoder: &mut Decoder<'_>) -> Result<Vec<Rank>, Malformed> {
    let bits = decoder.bytes(RANKS_MAX / 8)?;
    let set = |(index, byte): (usize, &u8)| {
        let byte = *byte;
        (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| (index * 8 + bit) as Rank)
    };
    Ok(bits.iter().enumerate().flat_map(set).collect())
}

fn write_unfinished(encoder: &mut Encoder, unfinished: &Unfinished) {
    operation(encoder, &unfinished.operation);
    ranks(encoder, &unfinished.waits_for);
}

fn read_unfinished(decoder: &mut Decoder<'_>) -> Result<Unfinished, Malformed> {
    let operation = read_operation(decoder)?;
    Ok(Unfinished { operation, waits_for: read_ranks(decoder)? })
}

pub(super) fn progress(encoder: &mut Encoder, progress: &Progress) {
    match progress {
        Progress::NotEntered { last, unfinished } => {
            encoder.u8(0);
            option(encoder, last.as_deref(), |encoder, last| text(encoder, last, TEXT_BYTES_MAX));
            option(encoder, unfinished.as_ref(), write_unfinished);
        }
        Progress::Running { description, waits_for, behind } => {
            encoder.u8(1);
            text(encoder, description, TEXT_BYTES_MAX);
            ranks(encoder, waits_for);
            option(encoder, behind.as_ref(), write_unfinished);
        }
        Progress::Done { description } => {
            encoder.u8(2);
            text(encoder, description, TEXT_BYTES_MAX);
        }
        Progress::Unknown => encoder.u8(3),
    }
}

pub(super) fn read_progress(decoder: &mut Decoder<'_>) -> Result<Progress, Malformed> {
    Ok(match decoder.u8()? {
        0 => Progress::NotEntered {
            last: read_option(decoder, |d| d.text(TEXT_BYTES_MAX))?,
            unfinished: read_option(decoder, read_unfinished)?,
        },
        1 => Progress::Running {
            description: decoder.text(TEXT_BYTES_MAX)?,
            waits_for: read_ranks(decoder)?,
            behind: read_option(decoder, read_unfinished)?,
        },
        2 => Progress::Done { description: decoder.text(TEXT_BYTES_MAX)? },
        3 => Progress::Unknown,
        _ => return Err(Malformed),
    })
}
