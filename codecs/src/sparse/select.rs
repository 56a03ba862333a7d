//! Which elements are kept.

/// The order of magnitudes, in which all NaN are equal and larger than infinity.
#[inline(always)]
fn rank(x: f32) -> u32 {
    (x.to_bits() & 0x7fff_ffff).min(0x7f80_0001)
}

/// Digits of a rank, from the most significant: shift, and number of values.
const DIGITS: [(u32, u32); 3] = [(20, 1 << 11), (10, 1 << 10), (0, 1 << 10)];

/// The indices of the `kept` elements of largest rank, of equal ones the first, ascending, into
/// `indices`, which has room for all; their number.
///
/// A radix selection: the digits of the smallest rank that is kept, one pass over the data each.
pub(super) fn largest(data: &[f32], kept: usize, indices: &mut [u32]) -> usize {
    if kept == 0 {
        return 0;
    }
    // Ranks whose digits so far are those of the one sought, and how many of these are kept.
    let (mut prefix, mut wanted) = (0, kept);
    for (shift, values) in DIGITS {
        let mut counts = [0_u32; 1 << 11];
        let mask = values - 1;
        for x in data {
            let rank = rank(*x);
            if rank >> shift & !mask == prefix << values.ilog2() {
                counts[(rank >> shift & mask) as usize] += 1;
            }
        }
        let mut digit = values - 1;
        while wanted > counts[digit as usize] as usize {
            wanted -= counts[digit as usize] as usize;
            digit -= 1;
        }
        prefix = prefix << values.ilog2() | digit;
    }
    let (least, mut equal) = (prefix, wanted);
    let mut count = 0;
    for (x, i) in data.iter().zip(0_u32..) {
        let rank = rank(*x);
        let ties = rank == least && equal > 0;
        if rank > least || ties {
            indices[count] = i;
            count += 1;
            equal -= usize::from(ties);
        }
    }
    count
}

/// The indices of the elements of at least this magnitude, and NaN, ascending, into `indices`,
/// which has room for all; their number.
pub(super) fn above(data: &[f32], threshold: f32, indices: &mut [u32]) -> usize {
    let mut count = 0;
    for (x, i) in data.iter().zip(0_u32..) {
        // There is room: at most `i` elements were taken. Written always, so that nothing depends
        // on a branch that is hard to predict.
        indices[count] = i;
        let small = x.abs() < threshold;
        count += usize::from(!small);
    }
    count
}
