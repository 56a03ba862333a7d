//! Taking elements apart and putting them together on any processor.

/// The element of `WIDTH` bytes at the front of a word.
#[inline(always)]
fn word<const WIDTH: usize>(bytes: &[u8; WIDTH]) -> u32 {
    let mut wide = [0; 4];
    wide[..WIDTH].copy_from_slice(bytes);
    u32::from_le_bytes(wide)
}

/// The element rotated left by one bit.
#[inline(always)]
fn rotated<const WIDTH: usize>(bytes: &[u8; WIDTH]) -> [u8; 4] {
    let word = word(bytes);
    (word << 1 & (u32::MAX >> (32 - 8 * WIDTH)) | word >> (8 * WIDTH - 1)).to_le_bytes()
}

/// Takes elements apart: symbols, and rests into `rests[*at..]`, in `sparse` form without those of
/// symbol 0. None if one of these is not zero, or `rests` is full.
pub(super) fn split<const WIDTH: usize>(
    sparse: bool,
    data: &[u8],
    symbols: &mut [u8],
    rests: &mut [u8],
    at: &mut usize,
) -> Option<()> {
    for (element, symbol) in data.as_chunks::<WIDTH>().0.iter().zip(symbols) {
        let bytes = rotated(element);
        let (rest, [first, ..]) = bytes[..WIDTH].split_at(WIDTH - 1) else { return None };
        *symbol = *first;
        if sparse && *symbol == 0 {
            if rest.iter().any(|byte| *byte != 0) {
                return None;
            }
            continue;
        }
        rests.get_mut(*at..*at + WIDTH - 1)?.copy_from_slice(rest);
        *at += WIDTH - 1;
    }
    Some(())
}

/// Puts elements together; whether there were enough rests.
pub(super) fn merge<const WIDTH: usize>(
    sparse: bool,
    symbols: &[u8],
    rests: &[u8],
    at: &mut usize,
    out: &mut [u8],
) -> bool {
    for (element, symbol) in out.as_chunks_mut::<WIDTH>().0.iter_mut().zip(symbols) {
        let mut bytes = [0; WIDTH];
        bytes[WIDTH - 1] = *symbol;
        if !(sparse && *symbol == 0) {
            let Some(rest) = rests.get(*at..*at + WIDTH - 1) else { return false };
            bytes[..WIDTH - 1].copy_from_slice(rest);
            *at += WIDTH - 1;
        }
        let word = word(&bytes);
        let word = word >> 1 | (word & 1) << (8 * WIDTH - 1);
        element.copy_from_slice(&word.to_le_bytes()[..WIDTH]);
    }
    true
}
