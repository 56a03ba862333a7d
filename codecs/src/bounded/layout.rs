//! How an encoded chunk is laid out: headers, payload, extended headers.

use super::wide::{HEAD_BYTES, WORDS};
use super::{BLOCK, Block, PLANES_MAX, PLANES_SHORT_MAX, Planes};
use crate::error::{DecodeError, EncodeError};

/// Blocks whose headers share a word.
pub(super) const GROUP: usize = 8;
/// The header of a block whose extended header says more.
pub(super) const EXTENDED: u32 = 15;
/// Bytes of a block as it was given.
pub(super) const RAW_BYTES: usize = 4 * BLOCK;
/// What a kernel reads and writes at once: 16 planes.
pub(super) const WINDOW: usize = 64;

/// Extended headers: 15 to 29 are planes.
const RAW: u8 = 0x40;
const WIDE: u8 = 0x80;

/// Bytes of the headers of `blocks` blocks.
pub(super) fn header_bytes(blocks: usize) -> usize {
    4 * blocks.div_ceil(GROUP)
}

/// The form of a block that has an extended header.
#[derive(Clone, Copy)]
pub(super) enum Extended {
    Planes(u32),
    Raw,
    Wide(usize),
}

impl Extended {
    fn parse(byte: u8) -> Option<Self> {
        match byte {
            RAW => Some(Self::Raw),
            WIDE.. if usize::from(byte - WIDE) <= WORDS => {
                Some(Self::Wide(usize::from(byte - WIDE)))
            }
            _ if (PLANES_SHORT_MAX + 1..=PLANES_MAX).contains(&u32::from(byte)) => {
                Some(Self::Planes(byte.into()))
            }
            _ => None,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Planes(planes) => planes as u8,
            Self::Raw => RAW,
            Self::Wide(words) => WIDE + words as u8,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Planes(planes) => 4 * planes as usize,
            Self::Raw => RAW_BYTES,
            Self::Wide(words) => HEAD_BYTES + RAW_BYTES * words,
        }
    }
}

/// Bytes that were checked: every block lies where its header says, and nothing is left over.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    headers: &'a [u8],
    payload: &'a [u8],
    extended: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Checks the layout of `bytes`, which shall hold `count` elements.
    pub(super) fn parse(bytes: &'a [u8], count: usize) -> Result<Self, DecodeError> {
        let blocks = count.div_ceil(BLOCK);
        let found = bytes.len();
        let truncated = |needed| Err(DecodeError::Truncated { needed, found });
        let Some((headers, rest)) = bytes.split_at_checked(header_bytes(blocks)) else {
            return truncated(header_bytes(blocks));
        };
        let (sum, escapes) = totals(headers);
        if let Some(offset) = stray(headers, blocks) {
            let why = "a header of a block beyond the last";
            return Err(DecodeError::Corrupt { offset, why });
        }
        let tail = escapes.next_multiple_of(4);
        let payload = 4 * (sum - EXTENDED as usize * escapes);
        let needed = headers.len() + payload + tail;
        if rest.len() < payload + tail {
            return truncated(needed);
        }
        let (payload, extended) = rest.split_at(rest.len() - tail);
        let chunk = Self { headers, payload, extended: &extended[..escapes] };
        let offset = headers.len() + payload.len();
        if let Some(i) = extended[escapes..].iter().position(|byte| *byte != 0) {
            let why = "the padding behind the extended headers is not zero";
            return Err(DecodeError::Corrupt { offset: offset + escapes + i, why });
        }
        let mut needed = needed;
        for (i, byte) in chunk.extended.iter().enumerate() {
            let why = "an extended header that means nothing";
            let form =
                Extended::parse(*byte).ok_or(DecodeError::Corrupt { offset: offset + i, why })?;
            needed += form.bytes();
        }
        match found.cmp(&needed) {
            std::cmp::Ordering::Less => truncated(needed),
            std::cmp::Ordering::Equal => Ok(chunk),
            std::cmp::Ordering::Greater => {
                let why = "bytes are left over behind the last block";
                Err(DecodeError::Corrupt { offset: needed, why })
            }
        }
    }

    /// The headers of each group of blocks, in a word.
    pub(super) fn groups(self) -> impl Iterator<Item = u32> + 'a {
        self.headers.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// Its blocks, to be taken one after the other.
    pub(super) fn blocks(self) -> Blocks<'a> {
        let Self { headers, payload, extended } = self;
        Blocks { payload, extended: extended.iter(), cursor: 0, offset: headers.len() }
    }
}

/// The sum of all headers, and how many of them are [`EXTENDED`].
fn totals(headers: &[u8]) -> (usize, usize) {
    let (words, rest) = headers.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let (mut sum, mut escapes) = (0, 0);
    for word in words.iter().chain([&last]) {
        let word = u64::from_le_bytes(*word);
        let low = 0x0f0f_0f0f_0f0f_0f0f;
        // At most 8 times 30.
        let pairs = (word & low) + (word >> 4 & low);
        sum += (pairs.wrapping_mul(0x0101_0101_0101_0101) >> 56) as usize;
        let both = word & word >> 1;
        escapes += (both & both >> 2 & 0x1111_1111_1111_1111).count_ones() as usize;
    }
    (sum, escapes)
}

/// The offset of a header that belongs to no block.
fn stray(headers: &[u8], blocks: usize) -> Option<usize> {
    let (full, half) = (blocks / 2, blocks % 2);
    let whole = full + half;
    let odd = half == 1 && headers[full] >> 4 != 0;
    let beyond = || headers[whole..].iter().position(|byte| *byte != 0).map(|i| whole + i);
    if odd { Some(full) } else { beyond() }
}

/// The blocks of a [`Chunk`], from the front.
pub(super) struct Blocks<'a> {
    payload: &'a [u8],
    extended: std::slice::Iter<'a, u8>,
    cursor: usize,
    /// Of the payload, in the chunk.
    offset: usize,
}

impl<'a> Blocks<'a> {
    /// The next block's planes with whatever follows them. `planes` is its header, at most 14.
    /// `spare` is used where nothing follows.
    #[inline(always)]
    pub(super) fn short<'s>(&mut self, planes: u32, spare: &'s mut [u8; WINDOW]) -> &'s [u8; WINDOW]
    where
        'a: 's,
    {
        let start = self.cursor;
        self.cursor += 4 * planes as usize;
        match self.payload.get(start..).and_then(|rest| rest.first_chunk()) {
            Some(window) => window,
            None => {
                let rest = &self.payload[start..self.cursor];
                spare[..rest.len()].copy_from_slice(rest);
                spare
            }
        }
    }

    /// The bytes from the next block on, if a group of blocks with these headers can be taken from
    /// them with nothing else to look at: all have at most [`PLANES_SHORT_MAX`] planes, and a
    /// window fits behind each of them.
    #[inline(always)]
    pub(super) fn group(&self, headers: u32) -> Option<&'a [u8; GROUP * WINDOW]> {
        let both = headers & headers >> 1;
        if both & both >> 2 & 0x1111_1111 != 0 {
            return None;
        }
        self.payload[self.cursor..].first_chunk()
    }

    /// Goes on behind bytes that were taken otherwise.
    #[inline(always)]
    pub(super) fn skip(&mut self, bytes: usize) {
        self.cursor += bytes;
    }

    /// Where the next block stands, for [`Self::back_to`].
    #[inline(always)]
    pub(super) fn mark(&self) -> usize {
        self.cursor
    }

    /// Goes back over blocks of [`Self::short`].
    pub(super) fn back_to(&mut self, mark: usize) {
        self.cursor = mark;
    }

    /// The next block, whatever its form.
    pub(super) fn next(&mut self, header: u32) -> Block<'a> {
        let form = match header {
            EXTENDED => self.extended.next().and_then(|byte| Extended::parse(*byte)),
            planes => Some(Extended::Planes(planes)),
        };
        // The layout was checked: there is a form.
        let form = form.unwrap_or(Extended::Planes(0));
        let offset = self.offset + self.cursor;
        let bytes = &self.payload[self.cursor..][..form.bytes()];
        self.cursor += bytes.len();
        match form {
            Extended::Planes(_) => Block::Planes(Planes(bytes)),
            Extended::Raw => Block::Raw(bytes),
            Extended::Wide(_) => Block::Wide { bytes, offset },
        }
    }
}

/// A chunk being written. Extended headers are collected at the far end of the output, in
/// reverse, until it is known where they belong.
pub(super) struct Writer<'a> {
    out: &'a mut [u8],
    cursor: usize,
    escapes: usize,
    /// For the error: what would always be enough.
    needed: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        out: &'a mut [u8],
        blocks: usize,
        needed: usize,
    ) -> Result<Self, EncodeError> {
        let writer = Self { cursor: header_bytes(blocks), out, escapes: 0, needed };
        if writer.cursor <= writer.out.len() { Ok(writer) } else { Err(writer.too_small()) }
    }

    #[cold]
    fn too_small(&self) -> EncodeError {
        EncodeError::OutputTooSmall { needed: self.needed, found: self.out.len() }
    }

    /// Lets `write` put a block's planes into a window of the payload. What it returns is the
    /// number of planes and stays in the output if it is at most [`PLANES_SHORT_MAX`]; otherwise
    /// nothing was written.
    #[inline(always)]
    pub(super) fn short(
        &mut self,
        write: impl FnOnce(&mut [u8; WINDOW]) -> u32,
    ) -> Result<u32, EncodeError> {
        let end = self.out.len() - self.escapes;
        if end - self.cursor >= WINDOW
            && let Some(window) = self.out[self.cursor..].first_chunk_mut()
        {
            let planes = write(window);
            if planes <= PLANES_SHORT_MAX {
                self.cursor += 4 * planes as usize;
            }
            return Ok(planes);
        }
        let mut spare = [0; WINDOW];
        let planes = write(&mut spare);
        if planes <= PLANES_SHORT_MAX {
            let bytes = 4 * planes as usize;
            let Some(room) = self.out[self.cursor..end].get_mut(..bytes) else {
                return Err(self.too_small());
            };
            room.copy_from_slice(&spare[..bytes]);
            self.cursor += bytes;
        }
        Ok(planes)
    }

    /// Writes a whole group of blocks: `write` puts block i into a window. Each has as many planes
    /// as its header says, at most [`PLANES_SHORT_MAX`]. Whether there was room; if not, nothing
    /// was written.
    #[inline(always)]
    pub(super) fn whole_group(
        &mut self,
        index: usize,
        headers: u32,
        mut write: impl FnMut(usize, u32, &mut [u8; WINDOW]),
    ) -> bool {
        let end = self.out.len() - self.escapes;
        let windows = self.out[self.cursor..end].first_chunk_mut::<{ GROUP * WINDOW }>();
        let Some(windows) = windows else { return false };
        let mut used = 0;
        for i in 0..GROUP {
            let planes = headers >> (4 * i) & 15;
            // All planes before this block take less than a window each.
            let Some(window) = windows[used..].first_chunk_mut() else { break };
            write(i, planes, window);
            used += 4 * planes as usize;
        }
        self.cursor += used;
        self.group(index, headers);
        true
    }

    /// Room for a block with an extended header.
    pub(super) fn extended(&mut self, form: Extended) -> Result<&mut [u8], EncodeError> {
        let room = self.out.len() - self.escapes - self.cursor;
        if room <= form.bytes() {
            return Err(self.too_small());
        }
        self.escapes += 1;
        let at = self.out.len() - self.escapes;
        self.out[at] = form.byte();
        let start = self.cursor;
        self.cursor += form.bytes();
        Ok(&mut self.out[start..self.cursor])
    }

    /// States the headers of the group with this index.
    #[inline(always)]
    pub(super) fn group(&mut self, index: usize, headers: u32) {
        self.out[4 * index..][..4].copy_from_slice(&headers.to_le_bytes());
    }

    /// Ends the chunk; its length.
    pub(super) fn finish(self) -> Result<usize, EncodeError> {
        let tail = self.escapes.next_multiple_of(4);
        let all = self.out.len();
        if all - self.cursor < tail {
            return Err(self.too_small());
        }
        self.out[all - self.escapes..].reverse();
        self.out.copy_within(all - self.escapes.., self.cursor);
        self.out[self.cursor + self.escapes..self.cursor + tail].fill(0);
        Ok(self.cursor + tail)
    }
}
