//! What stands before the chunks of a frame, and how little of it is believed.

use super::{ElementType, Shape, chunk};
use crate::descriptor::Codec;
use crate::error::{DecodeError, corrupt, truncated};
use crate::lanes::get;

/// The first bytes of a frame, and the version of what follows.
const MAGIC: [u8; 4] = *b"SLCF";
const VERSION: u16 = 1;
/// Where the type, the codec's length, the number of elements, that of a chunk, the checksum and
/// the codec are.
pub(super) const TYPE_AT: usize = 6;
const CODEC_LENGTH_AT: usize = 7;
const ELEMENTS_AT: usize = 8;
const CHUNK_AT: usize = 16;
const SUM_AT: usize = 20;
const CODEC_AT: usize = 24;
/// Bytes of a chunk in the table: its size and its checksum.
pub(super) const ENTRY: usize = 8;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Info {
    /// The codec, its bound an absolute one.
    pub codec: Codec,
    /// Type and number of the elements.
    pub shape: Shape,
    /// The size of the whole frame.
    pub frame_bytes: usize,
}

/// What a frame holds; reads the header and the table of chunks, and checks their checksum.
///
/// # Errors
/// It is no frame of this version, or not all of it is there, or something is behind it.
pub fn info(bytes: &[u8]) -> Result<Info, DecodeError> {
    parse(bytes).map(|(header, _)| header.info(bytes.len()))
}

/// The most bytes before the chunks.
pub(super) const fn bytes_max(chunks: usize) -> usize {
    CODEC_AT + u8::MAX as usize + ENTRY * chunks
}

#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) codec: Codec,
    pub(super) shape: Shape,
    pub(super) chunk_elements: usize,
}

impl Header {
    pub(super) fn chunks(&self) -> usize {
        self.shape.elements.div_ceil(self.chunk_elements)
    }

    /// The elements of a chunk.
    pub(super) fn range(&self, chunk: usize) -> std::ops::Range<usize> {
        let start = chunk * self.chunk_elements;
        start..self.shape.elements.min(start.saturating_add(self.chunk_elements))
    }

    pub(super) fn table_at(&self, text: &str) -> usize {
        CODEC_AT + text.len()
    }

    pub(super) fn info(&self, frame_bytes: usize) -> Info {
        Info { codec: self.codec, shape: self.shape, frame_bytes }
    }

    pub(super) fn write_entry(
        &self,
        text: &str,
        chunk: usize,
        bytes: usize,
        sum: u32,
        out: &mut [u8],
    ) {
        let at = self.table_at(text) + ENTRY * chunk;
        out[at..at + 4].copy_from_slice(&(bytes as u32).to_le_bytes());
        out[at + 4..at + ENTRY].copy_from_slice(&sum.to_le_bytes());
    }

    /// Writes everything before the table, which is there.
    pub(super) fn write(&self, text: &str, out: &mut [u8]) {
        let end = self.table_at(text) + ENTRY * self.chunks();
        let out = &mut out[..end];
        out[..4].copy_from_slice(&MAGIC);
        out[4..TYPE_AT].copy_from_slice(&VERSION.to_le_bytes());
        out[TYPE_AT] = match self.shape.element_type {
            ElementType::F32 => 0,
            ElementType::F16 => 1,
            ElementType::Bf16 => 2,
        };
        out[CODEC_LENGTH_AT] = text.len() as u8;
        out[ELEMENTS_AT..CHUNK_AT].copy_from_slice(&(self.shape.elements as u64).to_le_bytes());
        out[CHUNK_AT..SUM_AT].copy_from_slice(&(self.chunk_elements as u32).to_le_bytes());
        out[CODEC_AT..CODEC_AT + text.len()].copy_from_slice(text.as_bytes());
        let sum = checksum(out);
        out[SUM_AT..CODEC_AT].copy_from_slice(&sum.to_le_bytes());
    }
}

/// A chunk in the table.
#[derive(Clone, Copy)]
pub(super) struct Entry([u8; ENTRY]);

impl Entry {
    fn word(self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    pub(super) fn bytes(self) -> usize {
        self.word(0) as usize
    }

    pub(super) fn sum(self) -> u32 {
        self.word(4)
    }
}

/// The table of a frame that was checked.
pub(super) struct Table<'a>(&'a [[u8; ENTRY]]);

impl Table<'_> {
    pub(super) fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        self.0.iter().map(|bytes| Entry(*bytes))
    }
}

/// CRC-32 of everything before the chunks but itself.
fn checksum(head: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[..SUM_AT]);
    hasher.update(&head[CODEC_AT..]);
    hasher.finalize()
}

/// Header and table of a frame, checked: everything announced is there, and nothing else.
pub(super) fn parse(bytes: &[u8]) -> Result<(Header, Table<'_>), DecodeError> {
    let short = |needed| move || truncated(needed, bytes.len());
    if get(bytes, 0).ok_or_else(short(CODEC_AT))? != MAGIC {
        return Err(corrupt(0, "this is no frame of Syncline"));
    }
    let found = get(bytes, 4).map(u16::from_le_bytes).ok_or_else(short(CODEC_AT))?;
    if found != VERSION {
        let (found, supported) = (found.into(), VERSION.into());
        return Err(DecodeError::UnsupportedVersion { found, supported });
    }
    let fixed: [u8; CODEC_AT] = get(bytes, 0).ok_or_else(short(CODEC_AT))?;
    let elements = u64::from_le_bytes(get(&fixed, ELEMENTS_AT).unwrap_or_default());
    let word = |at| u32::from_le_bytes(get(&fixed, at).unwrap_or_default());
    let chunk_elements = word(CHUNK_AT);
    let table_at = CODEC_AT + usize::from(fixed[CODEC_LENGTH_AT]);
    if chunk_elements == 0 {
        return Err(corrupt(CHUNK_AT, "chunks of no elements"));
    }
    // Everything announced is compared with what is there before it is used.
    let chunks = elements.div_ceil(u64::from(chunk_elements));
    let room = (bytes.len().saturating_sub(table_at) / ENTRY) as u64;
    if chunks > room {
        let needed = table_at.saturating_add((chunks as usize).saturating_mul(ENTRY));
        return Err(truncated(needed, bytes.len()));
    }
    let chunks_at = table_at + ENTRY * chunks as usize;
    let head = bytes.get(..chunks_at).ok_or_else(short(chunks_at))?;
    if word(SUM_AT) != checksum(head) {
        return Err(corrupt(SUM_AT, "the checksum of the header does not fit"));
    }
    let header = meaning(head, table_at, elements, chunk_elements as usize)?;
    let table = Table(head[table_at..].as_chunks().0);
    let end = chunks_at as u64 + table.iter().map(|entry| entry.bytes() as u64).sum::<u64>();
    match end.cmp(&(bytes.len() as u64)) {
        std::cmp::Ordering::Equal => Ok((header, table)),
        std::cmp::Ordering::Greater => Err(truncated(end as usize, bytes.len())),
        std::cmp::Ordering::Less => Err(corrupt(end as usize, "there are bytes after the frame")),
    }
}

/// What an undamaged header says. A checksum is no proof of good intentions.
fn meaning(
    head: &[u8],
    table_at: usize,
    elements: u64,
    chunk_elements: usize,
) -> Result<Header, DecodeError> {
    let element_type = match head[TYPE_AT] {
        0 => ElementType::F32,
        1 => ElementType::F16,
        2 => ElementType::Bf16,
        _ => return Err(corrupt(TYPE_AT, "an element type of no known number")),
    };
    let max = isize::MAX as u64 / element_type.bytes() as u64;
    if elements > max {
        return Err(DecodeError::TooLarge { needed: elements, max, unit: "elements" });
    }
    let shape = Shape { element_type, elements: elements as usize };
    let text = std::str::from_utf8(&head[CODEC_AT..table_at]).ok();
    let codec: Option<Codec> = text.and_then(|text| text.parse().ok());
    match codec {
        Some(codec) if text.is_some_and(|text| text == codec.to_string()) => {
            let elements = chunk::elements(codec, shape.elements);
            if chunk::check(codec, shape).is_err() || !chunk::is_absolute(codec) {
                return Err(corrupt(CODEC_AT, "the codec is not for frames of such a tensor"));
            }
            if chunk_elements != elements {
                return Err(corrupt(CHUNK_AT, "chunks of another size than the codec has"));
            }
            Ok(Header { codec, shape, chunk_elements })
        }
        _ => Err(corrupt(CODEC_AT, "the codec is none that is known here")),
    }
}
