//! The promises: the bound, the same bits whatever the order, the same bits from every kernel,
//! and no trust in bytes.

mod files;
mod golden;
mod hostile;
mod properties;

use super::add::{AddError, add_with};
use super::decode::decode_with;
use super::encode::encode_with;
use super::*;
use crate::level::Level;

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Uniform in -1..1.
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// About normal, with a scale that changes from place to place, and rows of zeros: what
    /// gradients look like.
    fn gradient(&mut self, count: usize) -> Vec<f32> {
        let mut x = Vec::with_capacity(count);
        while x.len() < count {
            let scale = 1e-2 * (4.0 * self.uniform()).exp2() * f32::from(self.below(5) > 0);
            for _ in 0..self.below(300).min(count - x.len()) {
                let sum: f32 = (0..6).map(|_| self.uniform()).sum();
                x.push(scale * sum * (1.0 + self.uniform().powi(9).abs() * 8.0));
            }
        }
        x
    }
}

fn encoded(level: Level, x: &[f32], step: Step) -> (Vec<u8>, Encoded) {
    let mut bytes = vec![0xaa; worst_case_bytes(x.len(), 1)];
    let encoded = encode_with(level, x, step, &mut bytes).unwrap();
    bytes.truncate(encoded.bytes);
    (bytes, encoded)
}

fn added(level: Level, a: &[u8], b: &[u8], count: usize, step: Step) -> Vec<u8> {
    let mut bytes = vec![0xaa; worst_case_bytes(count, 2)];
    let length = add_with(level, [a, b], count, step, &mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

fn decoded(level: Level, bytes: &[u8], count: usize, step: Step, finish: Finish) -> Vec<f32> {
    let mut x = vec![0.0; count];
    decode_with(level, bytes, step, finish, &mut x).unwrap();
    x
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn average(ranks: usize) -> Finish {
    Finish::Average { ranks: u32::try_from(ranks).unwrap().try_into().unwrap() }
}

/// Inputs that broke codecs elsewhere, for a step of about `step`.
fn adversarial(count: usize, step: f32) -> Vec<(&'static str, Vec<f32>)> {
    let make = |f: &dyn Fn(usize) -> f32| (0..count).map(f).collect();
    let subnormal = f32::from_bits(1);
    vec![
        ("zeros", make(&|_| 0.0)),
        ("minus zeros", make(&|_| -0.0)),
        ("constant", make(&|_| 0.1)),
        ("one-hot", make(&|i| if i == count / 2 { 1.0 } else { 0.0 })),
        ("one huge", make(&|i| if i == count / 2 { 1e38 } else { 0.01 })),
        ("alternating", make(&|i| if i % 2 == 0 { 1.0 } else { -1.0 })),
        ("half steps", make(&|i| (i as f32 - count as f32 / 2.0 + 0.5) * step)),
        ("half of half", make(&|i| ((i % 64) as f32 - 31.5) * step)),
        ("just beyond halves", make(&|i| ((i % 999) as f32 + 0.5).next_up() * step)),
        ("many steps", make(&|i| (i * i) as f32 * 7.3 * step)),
        ("16383 steps", make(&|i| [16383.0, -16384.0, 8191.0, -8192.0, 8192.0][i % 5] * step)),
        ("last codes", make(&|i| (4_194_304.0 + (i % 3) as f32 - 1.0) * step)),
        ("subnormals", make(&|i| subnormal * i as f32)),
        ("1e38", make(&|i| if i % 2 == 0 { 1e38 } else { -1e38 })),
        ("largest", make(&|i| if i % 3 == 0 { f32::MAX } else { -f32::MAX })),
        ("NaN", make(&|i| if i % 40 == 7 { f32::NAN } else { 0.3 })),
        ("infinities", make(&|i| [f32::INFINITY, 1.0, f32::NEG_INFINITY][i % 3])),
        ("every size", make(&|i| f32::from_bits((i as u32).wrapping_mul(0x9e37_79b9)))),
    ]
}
