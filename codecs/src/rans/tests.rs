//! Both versions of the coder against each other, and what damaged streams do.

use super::*;
use crate::testing::Random;

/// Bytes of which the small ones are frequent; about `bits` bits of entropy each.
fn bytes(count: usize, bits: u32, seed: u64) -> Vec<u8> {
    let mut state = Random(seed);
    let mut byte = || {
        let run = state.next().leading_zeros().min(7) * bits;
        (run as u8).wrapping_add(state.next() as u8 & ((1 << bits) - 1) as u8)
    };
    (0..count).map(|_| byte()).collect()
}

const COUNTS: [usize; 14] =
    [2, 3, 31, 32, 33, 255, 256, 1000, 4095, 4096, 4097, 5000, 8191, 40_000];

#[test]
fn every_level_writes_the_same_and_reads_it_back() {
    let mut coder = Coder::default();
    for count in COUNTS {
        for bits in [0, 1, 3, 7] {
            let symbols = bytes(count, bits, count as u64);
            let counts = histogram(&symbols);
            let Some(model) = Model::of(&counts) else { continue };
            let mut encodings = Level::available().map(|level| {
                let stream = coder.encode(level, &symbols, &model).to_vec();
                assert!(stream.len() <= encoded_max(count));
                for level in Level::available() {
                    let mut decoded = vec![0; count];
                    coder.decode(level, &stream, &model, &mut decoded).unwrap();
                    assert_eq!(decoded, symbols, "{level:?}, {count} at {bits}");
                }
                stream
            });
            let first = encodings.next().unwrap();
            encodings.for_each(|other| assert_eq!(other, first, "{count} at {bits}"));
            let cost = model.cost_bits(&counts) / 8.0;
            let overhead = first.len() as f64 - cost;
            assert!(
                overhead < 4.0 * lanes(count) as f64 + 0.01 * cost + 2.0,
                "{count}: {overhead}"
            );
        }
    }
}

#[test]
fn quotients_are_right_for_every_frequency() {
    // The state just before and just after a multiple of the frequency, at the top of the range,
    // is where the quotient by f32 division is nearest to being wrong.
    for frequency in 1..SCALE {
        let mut counts = [0; 256];
        counts[7] = frequency;
        counts[9] = SCALE - frequency;
        let model = Model::of(&counts).unwrap();
        assert_eq!(model.range(7).1, frequency);
        let mut coder = Coder::default();
        let mut state = Random(u64::from(frequency));
        let symbols: Vec<u8> = (0..4096).map(|_| if state.below(2) == 0 { 7 } else { 9 }).collect();
        let mut encodings =
            Level::available().map(|level| coder.encode(level, &symbols, &model).to_vec());
        let first = encodings.next().unwrap();
        encodings.for_each(|other| assert_eq!(other, first, "{frequency}"));
    }
}

#[test]
fn models_survive_and_add_up() {
    let mut state = Random(3);
    for round in 0..200 {
        let mut counts = [0_u32; 256];
        for _ in 0..=(round % 256) {
            let shift = state.next() % 30;
            counts[(state.next() % 256) as usize] = (state.next() as u32) >> shift >> 2;
        }
        let Some(model) = Model::of(&counts) else { continue };
        let mut sum = 0;
        for symbol in 0..=u8::MAX {
            let (start, frequency) = model.range(symbol);
            assert_eq!(start, sum);
            assert_eq!(frequency > 0, counts[usize::from(symbol)] > 0);
            sum += frequency;
        }
        assert_eq!(sum, SCALE);
        let (mut out, mut at) = (vec![0; 800], 0);
        assert!(model.write(&mut out, &mut at));
        let mut end = 0;
        assert_eq!(Model::read(&out[..at], &mut end).unwrap(), model);
        assert_eq!(end, at);
        for cut in 0..at {
            assert!(Model::read(&out[..cut], &mut 0).is_err());
        }
    }
}

#[test]
fn damaged_streams_are_refused_or_decode_to_something() {
    let mut coder = Coder::default();
    let mut state = Random(5);
    for count in [300, 5000] {
        let symbols = bytes(count, 2, 1);
        let model = Model::of(&histogram(&symbols)).unwrap();
        let stream = coder.encode(Level::best(), &symbols, &model).to_vec();
        let mut decoded = vec![0; count];
        for cut in [0, 1, 3, 4 * lanes(count), stream.len() - 1, stream.len() - 2] {
            assert!(coder.decode(Level::best(), &stream[..cut], &model, &mut decoded).is_err());
        }
        let longer = [stream.as_slice(), &[0, 0]].concat();
        assert!(coder.decode(Level::best(), &longer, &model, &mut decoded).is_err());
        for _ in 0..500 {
            let mut damaged = stream.clone();
            let at = state.next() as usize % damaged.len();
            damaged[at] ^= 1 << (state.next() % 8);
            let outcomes = Level::available().map(|level| {
                let outcome = coder.decode(level, &damaged, &model, &mut decoded).is_ok();
                (outcome, outcome.then(|| decoded.clone()))
            });
            let outcomes: Vec<_> = outcomes.collect();
            assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
        }
    }
}
