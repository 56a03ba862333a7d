//! The kernels by AVX2, without a branch on how many planes a block has up to 8, or up to 14.
//!
//! Between 32 bytes, one per element, and 8 planes lies the transposition of four 8 x 8 bit
//! matrices. Planes are added as they are: eight lanes of one vector are the eight bits of 32
//! adders side by side, and carries run through them by parallel prefix (Kogge and Stone 1973).

use std::arch::x86_64::*;

use super::add::AddError;
use super::encode::Encoded;
use super::kernel::{Codes, Kernel, Short};
use super::layout::{Chunk, WINDOW};
use super::step::{Finish, Scale, Step};
use super::{BLOCK, PLANES_SHORT_MAX, add as adding, decode as decoding, encode as encoding};
use crate::error::{DecodeError, EncodeError};
use crate::level::Avx2;

/// See [`encoding::encode`].
pub(super) fn encode(
    avx2: Avx2,
    x: &[f32],
    step: Step,
    out: &mut [u8],
) -> Result<Encoded, EncodeError> {
    #[target_feature(enable = "avx2")]
    fn run(avx2: Avx2, x: &[f32], step: Step, out: &mut [u8]) -> Result<Encoded, EncodeError> {
        encoding::run(avx2, x, step, out)
    }
    // SAFETY: the token proves that the CPU has AVX2.
    unsafe { run(avx2, x, step, out) }
}

/// See [`decoding::decode`].
pub(super) fn decode(
    avx2: Avx2,
    chunk: Chunk<'_>,
    step: Step,
    finish: Finish,
    out: &mut [f32],
) -> Result<(), DecodeError> {
    #[target_feature(enable = "avx2")]
    fn run(
        avx2: Avx2,
        chunk: Chunk<'_>,
        step: Step,
        finish: Finish,
        out: &mut [f32],
    ) -> Result<(), DecodeError> {
        decoding::run(avx2, chunk, step, finish, out)
    }
    // SAFETY: the token proves that the CPU has AVX2.
    unsafe { run(avx2, chunk, step, finish, out) }
}

/// See [`adding::add`].
pub(super) fn add(
    avx2: Avx2,
    operands: [Chunk<'_>; 2],
    count: usize,
    step: Step,
    sum: &mut [u8],
) -> Result<usize, AddError> {
    #[target_feature(enable = "avx2")]
    fn run(
        avx2: Avx2,
        operands: [Chunk<'_>; 2],
        count: usize,
        step: Step,
        sum: &mut [u8],
    ) -> Result<usize, AddError> {
        adding::run(avx2, operands, count, step, sum)
    }
    // SAFETY: the token proves that the CPU has AVX2.
    unsafe { run(avx2, operands, count, step, sum) }
}

impl Kernel for Avx2 {
    type Worst = __m256;

    #[inline(always)]
    fn no_error(self) -> __m256 {
        // SAFETY: the token proves that the CPU has AVX2.
        unsafe { zero_ps() }
    }

    #[inline(always)]
    fn largest(self, worst: __m256) -> f32 {
        // SAFETY: the token proves that the CPU has AVX2.
        let lanes = unsafe { lanes_of(worst) };
        lanes.into_iter().fold(0.0, f32::max)
    }

    #[inline(always)]
    fn quantise(self, x: &[f32; BLOCK], step: &Step, worst: &mut __m256, codes: &mut Codes) -> u32 {
        // SAFETY: the token proves that the CPU has AVX2.
        unsafe { quantise(x, step, worst, codes) }
    }

    #[inline(always)]
    fn pack(self, codes: &Codes, count: u32, planes: &mut [u8; WINDOW]) {
        // SAFETY: the token proves that the CPU has AVX2.
        unsafe { pack(codes, count, planes) }
    }

    #[inline(always)]
    fn dequantise(self, block: Short<'_>, scale: Scale, out: &mut [f32; BLOCK]) {
        // SAFETY: the token proves that the CPU has AVX2.
        unsafe { dequantise(block, scale, out) }
    }

    #[inline(always)]
    fn add(self, a: Short<'_>, b: Short<'_>, sum: &mut [u8; WINDOW]) -> u32 {
        // SAFETY: the token proves that the CPU has AVX2.
        unsafe { sum_of(a, b, sum) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn zero_ps() -> __m256 {
    _mm256_setzero_ps()
}

#[inline]
#[target_feature(enable = "avx2")]
fn lanes_of(v: __m256) -> [f32; 8] {
    let mut lanes = [0.0; 8];
    // SAFETY: an array of that many.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), v) };
    lanes
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes are readable there; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(bytes: &mut [u8; 32], v: __m256i) {
    // SAFETY: 32 bytes are writable there; the store needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), v) };
}

/// The two halves of a window.
#[inline(always)]
fn halves(window: &[u8; WINDOW]) -> (&[u8; 32], &[u8; 32]) {
    let (halves, _) = window.as_chunks::<32>();
    (&halves[0], &halves[1])
}

/// The two halves of a window.
#[inline(always)]
fn halves_mut(window: &mut [u8; WINDOW]) -> [&mut [u8; 32]; 2] {
    let (low, high) = window.split_at_mut(32);
    [low.first_chunk_mut().expect("half a window"), high.first_chunk_mut().expect("the rest")]
}

#[inline]
#[target_feature(enable = "avx2")]
fn quantise(x: &[f32; BLOCK], step: &Step, worst: &mut __m256, codes_out: &mut Codes) -> u32 {
    let inverse = _mm256_set1_ps(step.inverse);
    let unit = _mm256_set1_ps(step.step);
    let magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
    let mut codes = [_mm256_setzero_si256(); 4];
    let mut error = _mm256_setzero_ps();
    for (codes, x) in codes.iter_mut().zip(x.as_chunks::<8>().0) {
        // SAFETY: eight elements; the load needs no alignment.
        let x = unsafe { _mm256_loadu_ps(x.as_ptr()) };
        // What does not fit becomes i32::MIN, NaN too, and takes 16 bits below.
        *codes = _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse));
        let value = _mm256_mul_ps(_mm256_cvtepi32_ps(*codes), unit);
        error = _mm256_max_ps(error, _mm256_and_ps(_mm256_sub_ps(x, value), magnitude));
    }
    // 16 bits each, saturated. Quarters of blocks are out of order until `in_order`.
    let low = _mm256_packs_epi32(codes[0], codes[1]);
    let high = _mm256_packs_epi32(codes[2], codes[3]);
    let count = plane_count(low, high);
    let too_far = _mm256_cmp_ps::<_CMP_GT_OQ>(error, _mm256_set1_ps(step.limit));
    if count > PLANES_SHORT_MAX || _mm256_movemask_ps(too_far) != 0 {
        return u32::MAX;
    }
    *worst = _mm256_max_ps(*worst, error);
    let halves: &mut [[i16; 16]; 2] = bytemuck::cast_mut(codes_out);
    for (half, codes) in halves.iter_mut().zip([low, high]) {
        store(bytemuck::cast_mut(half), codes);
    }
    count
}

#[inline]
#[target_feature(enable = "avx2")]
fn pack(codes: &Codes, count: u32, planes: &mut [u8; WINDOW]) {
    let [low, high]: &[[u8; 32]; 2] = bytemuck::cast_ref(codes);
    let (low, high) = (load(low), load(high));
    let [first, second] = halves_mut(planes);
    if count <= 8 {
        store(first, planes_of(in_order(_mm256_packs_epi16(low, high))));
    } else {
        let byte = _mm256_set1_epi16(0xff);
        let lower = _mm256_packus_epi16(_mm256_and_si256(low, byte), _mm256_and_si256(high, byte));
        let upper = _mm256_packs_epi16(_mm256_srai_epi16::<8>(low), _mm256_srai_epi16::<8>(high));
        store(first, planes_of(in_order(lower)));
        store(second, planes_of(in_order(upper)));
    }
}

/// Planes that hold these codes; 16 if a code has that many bits or was saturated.
#[inline]
#[target_feature(enable = "avx2")]
fn plane_count(low: __m256i, high: __m256i) -> u32 {
    // As in the scalar kernel: -1 is 1, 1 is 2, -2 is 3.
    let folded =
        |codes| _mm256_xor_si256(_mm256_add_epi16(codes, codes), _mm256_srai_epi16::<15>(codes));
    let all = _mm256_or_si256(folded(low), folded(high));
    let all = _mm_or_si128(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
    // The smallest of the complements is the complement of the largest.
    let least = _mm_minpos_epu16(_mm_xor_si128(all, _mm_set1_epi32(-1)));
    let largest = !(_mm_cvtsi128_si32(least)) as u32 & 0xffff;
    32 - largest.leading_zeros()
}

/// Four quarters of both halves, as two packings leave them, in the order of elements.
#[inline]
#[target_feature(enable = "avx2")]
fn in_order(packed: __m256i) -> __m256i {
    _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// Transposes the 8 x 8 bits of each quarter: bit c of byte r becomes bit r of byte c.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed(v: __m256i) -> __m256i {
    let mask = |bits: u64| _mm256_set1_epi64x(bits.cast_signed());
    let v = swapped::<7>(v, mask(0x00aa_00aa_00aa_00aa));
    let v = swapped::<14>(v, mask(0x0000_cccc_0000_cccc));
    swapped::<28>(v, mask(0x0000_0000_f0f0_f0f0))
}

/// Exchanges the bits of `mask` with those `SHIFT` places above (Knuth's delta swap).
#[inline]
#[target_feature(enable = "avx2")]
fn swapped<const SHIFT: i32>(v: __m256i, mask: __m256i) -> __m256i {
    let shifted = _mm256_srli_epi64::<SHIFT>(v);
    let different = _mm256_and_si256(_mm256_xor_si256(v, shifted), mask);
    _mm256_xor_si256(_mm256_xor_si256(v, different), _mm256_slli_epi64::<SHIFT>(different))
}

/// Within each half: byte b of word w becomes byte w of word b.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes_exchanged(v: __m256i) -> __m256i {
    let order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(order))
}

/// Eight planes of 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn planes_of(bytes: __m256i) -> __m256i {
    // Byte p of quarter e is now plane p of the elements 8e to 8e + 7.
    let quarters = transposed(bytes);
    let order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    bytes_exchanged(_mm256_permutevar8x32_epi32(quarters, order))
}

/// 32 bytes of eight planes.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes_of(planes: __m256i) -> __m256i {
    transposed(in_order(bytes_exchanged(planes)))
}

/// For 0 to 8: lanes below that.
static BELOW: [[u32; 8]; 9] = {
    let mut table = [[0; 8]; 9];
    let mut count = 0;
    while count < 9 {
        let mut lane = 0;
        while lane < count {
            table[count][lane] = u32::MAX;
            lane += 1;
        }
        count += 1;
    }
    table
};

#[inline]
#[target_feature(enable = "avx2")]
fn below(count: u32) -> __m256i {
    let lanes = &BELOW[count.min(8) as usize];
    // SAFETY: eight words; the load needs no alignment.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

/// Bytes of `count` bits in two's complement, with the sign in all bits above; 0 bits are zeros.
#[inline]
#[target_feature(enable = "avx2")]
fn signed_bytes(planes: __m256i, count: u32) -> __m256i {
    let bytes = bytes_of(_mm256_and_si256(planes, below(count)));
    let sign = _mm256_set1_epi8((1_u32 << count >> 1) as i8);
    _mm256_sub_epi8(_mm256_xor_si256(bytes, sign), sign)
}

#[inline]
#[target_feature(enable = "avx2")]
fn dequantise((planes, count): Short<'_>, scale: Scale, out: &mut [f32; BLOCK]) {
    let (first, second) = halves(planes);
    let codes = if count <= 8 {
        let bytes = signed_bytes(load(first), count);
        let low = _mm256_castsi256_si128(bytes);
        let high = _mm256_extracti128_si256::<1>(bytes);
        [
            _mm256_cvtepi8_epi32(low),
            _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(low)),
            _mm256_cvtepi8_epi32(high),
            _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(high)),
        ]
    } else {
        let lower = bytes_of(load(first));
        let upper = signed_bytes(load(second), count - 8);
        // Elements 0 to 7 and 16 to 23, then the others.
        let even = _mm256_unpacklo_epi8(lower, upper);
        let odd = _mm256_unpackhi_epi8(lower, upper);
        [
            _mm256_cvtepi16_epi32(_mm256_castsi256_si128(even)),
            _mm256_cvtepi16_epi32(_mm256_castsi256_si128(odd)),
            _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(even)),
            _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(odd)),
        ]
    };
    for (out, codes) in out.as_chunks_mut::<8>().0.iter_mut().zip(codes) {
        let values = match scale {
            Scale::Single(scale) => _mm256_mul_ps(_mm256_cvtepi32_ps(codes), _mm256_set1_ps(scale)),
            Scale::Double { step, factor } => scaled(codes, step, factor),
        };
        // SAFETY: eight elements; the store needs no alignment.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), values) };
    }
}

/// Codes times step times factor, in f64, and then as f32.
#[inline]
#[target_feature(enable = "avx2")]
fn scaled(codes: __m256i, step: f64, factor: f64) -> __m256 {
    let (step, factor) = (_mm256_set1_pd(step), _mm256_set1_pd(factor));
    let half = |codes| {
        let sums = _mm256_mul_pd(_mm256_cvtepi32_pd(codes), step);
        _mm256_cvtpd_ps(_mm256_mul_pd(sums, factor))
    };
    let low = half(_mm256_castsi256_si128(codes));
    let high = half(_mm256_extracti128_si256::<1>(codes));
    _mm256_set_m128(high, low)
}

/// The plane that holds the sign, in all lanes; zeros if there are no planes.
#[inline]
#[target_feature(enable = "avx2")]
fn sign_of((planes, count): Short<'_>) -> __m256i {
    let words = planes.as_chunks::<4>().0;
    let sign = u32::from_le_bytes(words[count.saturating_sub(1) as usize % words.len()]);
    let any = u32::from(count != 0).wrapping_neg();
    _mm256_set1_epi32((sign & any).cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_of(a: Short<'_>, b: Short<'_>, sum: &mut [u8; WINDOW]) -> u32 {
    let (a_sign, b_sign) = (sign_of(a), sign_of(b));
    let first = |planes: Short<'_>, sign| {
        _mm256_blendv_epi8(sign, load(halves(planes.0).0), below(planes.1))
    };
    let (low, carry) = added(first(a, a_sign), first(b, b_sign), _mm256_setzero_si256());
    let [first_out, second_out] = halves_mut(sum);
    store(first_out, low);
    if a.1.max(b.1) <= 7 {
        let sign = _mm256_permutevar8x32_epi32(low, _mm256_set1_epi32(7));
        return needed(differing(low, sign), sign);
    }
    let second = |planes: Short<'_>, sign| {
        let above = planes.1.saturating_sub(8);
        _mm256_blendv_epi8(sign, load(halves(planes.0).1), below(above))
    };
    let (high, _) = added(second(a, a_sign), second(b, b_sign), carry);
    store(second_out, high);
    let sign = _mm256_permutevar8x32_epi32(high, _mm256_set1_epi32(7));
    needed(differing(high, sign) << 8 | differing(low, sign), sign)
}

/// Which lanes are not the sign.
#[inline]
#[target_feature(enable = "avx2")]
fn differing(planes: __m256i, sign: __m256i) -> u32 {
    let same = _mm256_castsi256_ps(_mm256_cmpeq_epi32(planes, sign));
    !_mm256_movemask_ps(same) as u32 & 0xff
}

/// How many planes hold the sum whose lanes `differing` are not its sign.
#[inline]
#[target_feature(enable = "avx2")]
fn needed(differing: u32, sign: __m256i) -> u32 {
    let any = differing | _mm_cvtsi128_si32(_mm256_castsi256_si128(sign)).cast_unsigned();
    32 - differing.leading_zeros() + u32::from(any != 0)
}

/// The lanes one up; zeros come in.
#[inline]
#[target_feature(enable = "avx2")]
fn one_up(v: __m256i) -> __m256i {
    _mm256_alignr_epi8::<12>(v, _mm256_permute2x128_si256::<0x08>(v, v))
}

/// The lanes two up; zeros come in.
#[inline]
#[target_feature(enable = "avx2")]
fn two_up(v: __m256i) -> __m256i {
    _mm256_alignr_epi8::<8>(v, _mm256_permute2x128_si256::<0x08>(v, v))
}

/// Adds eight planes and a carry in lane 0; the sum, and the carry out in lane 0.
#[inline]
#[target_feature(enable = "avx2")]
fn added(a: __m256i, b: __m256i, carry: __m256i) -> (__m256i, __m256i) {
    let (and, or, xor) = (_mm256_and_si256, _mm256_or_si256, _mm256_xor_si256);
    let different = xor(a, b);
    // Lanes that make a carry, and lanes that pass one on, over 1, 2, 4 and 8 lanes.
    let makes = or(and(a, b), and(different, carry));
    let makes2 = or(makes, and(different, one_up(makes)));
    let passes2 = and(different, one_up(different));
    let makes4 = or(makes2, and(passes2, two_up(makes2)));
    let passes4 = and(passes2, two_up(passes2));
    let four_up = |v| _mm256_permute2x128_si256::<0x08>(v, v);
    let makes8 = or(makes4, and(passes4, four_up(makes4)));
    let sum = xor(different, or(one_up(makes8), carry));
    let top = _mm256_permutevar8x32_epi32(makes8, _mm256_set1_epi32(7));
    (sum, and(top, below(1)))
}
