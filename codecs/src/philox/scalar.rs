//! The cipher, one counter at a time.

/// Multipliers of the rounds.
pub(super) const M: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// What the key grows by from round to round (golden ratio, sqrt(3) - 1).
pub(super) const W: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
pub(super) const ROUNDS: u32 = 10;

/// Philox4x32 with 10 rounds.
#[inline]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..ROUNDS {
        let (p0, p1) = (u64::from(M[0]) * u64::from(c[0]), u64::from(M[1]) * u64::from(c[2]));
        let high = |wide: u64| (wide >> 32) as u32;
        c = [high(p1) ^ c[1] ^ k[0], p1 as u32, high(p0) ^ c[3] ^ k[1], p0 as u32];
        k = [k[0].wrapping_add(W[0]), k[1].wrapping_add(W[1])];
    }
    c
}
