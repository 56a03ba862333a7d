//! Against the published vectors, and every level against the scalar cipher.

use super::*;

/// `kat_vectors` of Random123 1.14, the lines for philox4x32 with 10 rounds.
#[test]
fn known_answers() {
    for (counter, key, want) in [
        ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ] {
        assert_eq!(philox4x32_10(counter, key), want);
    }
}

#[test]
fn an_element_has_its_word_whatever_the_chunks() {
    let philox = Philox { seed: 0x1234_5678_9abc_def0, stream: 3 };
    for level in Level::available() {
        for first in [0, 1, 2, 3, 5, 127, u64::from(u32::MAX) * 4 - 50, u64::MAX / 2 - 33] {
            for count in [0, 1, 3, 4, 31, 32, 33, 64, 100, 257] {
                let mut words = vec![0; count];
                philox.fill_with(level, first, &mut words);
                for (word, index) in words.iter().zip(first..) {
                    assert_eq!(*word, philox.at(index), "{level:?} {first}+{count}: {index}");
                }
            }
        }
    }
}

#[test]
fn seeds_and_streams_differ() {
    let word = |seed, stream| Philox { seed, stream }.at(0);
    assert_ne!(word(0, 0), word(1, 0));
    assert_ne!(word(0, 0), word(0, 1));
    assert_ne!(word(0, 0), word(1 << 32, 0));
}
