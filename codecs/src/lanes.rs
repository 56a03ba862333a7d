//! Tables that move the chosen lanes of a vector together and apart again, and short loads.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::__m256i;

/// For every set of lanes, which lanes they are in ascending order, in the lowest places.
pub(crate) static PACK_LOW: [[u8; 8]; 256] = pack(false);
/// The same, in the highest places.
pub(crate) static PACK_HIGH: [[u8; 8]; 256] = pack(true);
/// For every set of lanes and every lane of it, how many of the set come before it.
pub(crate) static SPREAD: [[u8; 8]; 256] = spread();

const fn pack(high: bool) -> [[u8; 8]; 256] {
    let mut table = [[0; 8]; 256];
    let mut set = 0;
    while set < 256_usize {
        let mut at = if high { 8 - set.count_ones() as usize } else { 0 };
        let mut lane = 0;
        while lane < 8 {
            if set >> lane & 1 == 1 {
                table[set][at] = lane as u8;
                at += 1;
            }
            lane += 1;
        }
        set += 1;
    }
    table
}

const fn spread() -> [[u8; 8]; 256] {
    let mut table = [[0; 8]; 256];
    let mut set = 0;
    while set < 256_usize {
        let (mut before, mut lane) = (0, 0);
        while lane < 8 {
            if set >> lane & 1 == 1 {
                table[set][lane] = before;
                before += 1;
            }
            lane += 1;
        }
        set += 1;
    }
    table
}

/// The set of lanes in a table as eight 32-bit indexes.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn lanes_of(table: &[[u8; 8]; 256], set: usize) -> __m256i {
    use std::arch::x86_64::{_mm_cvtsi64_si128, _mm256_cvtepu8_epi32};
    _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(table[set & 0xff])))
}

/// The `N` bytes of `from` at `at`.
#[inline(always)]
pub(crate) fn get<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..)?.first_chunk::<N>().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_and_spreading_are_inverse() {
        for set in 0..256_usize {
            let count = set.count_ones() as usize;
            for lane in (0..8).filter(|lane| set >> lane & 1 == 1) {
                let place = usize::from(SPREAD[set][lane]);
                assert_eq!(usize::from(PACK_LOW[set][place]), lane);
                assert_eq!(usize::from(PACK_HIGH[set][8 - count + place]), lane);
            }
        }
    }
}
