//! How often each byte comes.

/// Counts the bytes of `symbols`. Four tables, so that equal neighbours do not wait for each other.
pub(crate) fn histogram(symbols: &[u8]) -> [u32; 256] {
    let mut tables = [[0_u32; 256]; 4];
    let (words, rest) = symbols.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        for byte in 0..8 {
            tables[byte % 4][(word >> (8 * byte) & 0xff) as usize] += 1;
        }
    }
    for symbol in rest {
        tables[0][usize::from(*symbol)] += 1;
    }
    std::array::from_fn(|symbol| tables.iter().map(|table| table[symbol]).sum())
}
