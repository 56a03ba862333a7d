//! The bound and the bits.

use super::*;

/// The error of `result` against the exact sum in units of what is allowed: the bound of every
/// rank, and half a unit in the last place of the result where raw blocks took part.
fn excess(result: f32, exact: f64, bound: f64, raw: bool) -> f64 {
    let rounding = if raw { exact.abs() / 16_777_216.0 + 1e-45 } else { 0.0 };
    (f64::from(result) - exact).abs() / (bound + rounding)
}

#[test]
fn one_contribution_stays_within_the_bound() {
    let mut random = Random(1);
    for bound in [1e-6, 3.7e-5, 1e-4, 0.001, 0.3, 17.0] {
        let step = Step::new(bound).unwrap();
        let mut inputs = adversarial(1000, step.step());
        inputs.push(("gradient", random.gradient(20_000)));
        for (name, x) in inputs {
            let (bytes, encoded) = encoded(Level::best(), &x, step);
            let back = decoded(Level::best(), &bytes, x.len(), step, Finish::Sum);
            let mut error_max = 0.0_f64;
            for (x, back) in x.iter().zip(&back) {
                if x.is_finite() {
                    error_max = error_max.max((f64::from(*x) - f64::from(*back)).abs());
                } else {
                    assert_eq!(x.to_bits(), back.to_bits(), "{name} {bound}");
                }
            }
            assert!(error_max <= bound, "{name} {bound}: {error_max}");
            assert_eq!(error_max, f64::from(encoded.error_max), "{name} {bound}");
        }
    }
}

#[test]
fn extreme_bounds_work() {
    for bound in [f64::from(f32::MIN_POSITIVE), 1e-37, 1e30, 8.5e37] {
        let step = Step::new(bound).unwrap();
        for (name, x) in adversarial(200, step.step()) {
            let (bytes, encoded) = encoded(Level::best(), &x, step);
            let back = decoded(Level::best(), &bytes, x.len(), step, Finish::Sum);
            for (x, back) in x.iter().zip(&back).filter(|(x, _)| x.is_finite()) {
                let error = (f64::from(*x) - f64::from(*back)).abs();
                assert!(error <= bound, "{name} {bound}: {x} became {back}");
            }
            assert!(f64::from(encoded.error_max) <= bound, "{name}");
        }
    }
    for bound in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-39, 9e37] {
        assert!(Step::new(bound).is_err(), "{bound}");
    }
}

#[test]
fn the_step_is_the_largest_of_its_kind() {
    let mut random = Random(2);
    for _ in 0..2000 {
        let bound = f64::from(random.uniform().abs() + 1e-9)
            * f64::from(random.below(60) as f32 - 30.0).exp2();
        let step = Step::new(bound).unwrap();
        let part = |step: f32| f64::from(step) * (0.5 + 3.0 / 4096.0);
        let next = f32::from_bits(step.step().to_bits() + (1 << 13));
        assert_eq!(step.step().to_bits() % (1 << 13), 0);
        assert!(part(step.step()) <= bound && part(next) > bound, "{bound}");
        assert!(f64::from(step.limit) > 0.5 * f64::from(step.step()));
    }
}

/// Random contributions of `ranks` ranks, some of them from the adversarial list.
fn contributions(random: &mut Random, ranks: usize, count: usize, step: Step) -> Vec<Vec<f32>> {
    let tame = random.below(2) == 0;
    let contribution = |random: &mut Random| {
        let mut list = adversarial(count, step.step());
        if tame || random.below(3) > 0 {
            let scale = [1.0, 100.0, 1e-3][random.below(3)];
            random.gradient(count).into_iter().map(|x| x * scale).collect()
        } else {
            list.swap_remove(random.below(list.len())).1
        }
    };
    (0..ranks).map(|_| contribution(random)).collect()
}

/// Adds in the order of a random binary tree.
fn random_tree(random: &mut Random, mut chunks: Vec<Vec<u8>>, count: usize, step: Step) -> Vec<u8> {
    while chunks.len() > 1 {
        let a = chunks.swap_remove(random.below(chunks.len()));
        let at = random.below(chunks.len());
        let level = if random.below(2) == 0 { Level::Scalar } else { Level::best() };
        chunks[at] = added(level, &a, &chunks[at], count, step);
    }
    chunks.remove(0)
}

#[test]
fn every_order_gives_the_same_bits_within_the_bound() {
    let mut random = Random(3);
    for ranks in 1..=16 {
        for _ in 0..6 {
            let count = random.below(700);
            let bound = [1e-5, 1e-3, 0.05][random.below(3)];
            let step = Step::new(bound).unwrap();
            let inputs = contributions(&mut random, ranks, count, step);
            let encodings: Vec<_> =
                inputs.iter().map(|x| encoded(Level::best(), x, step)).collect();
            let escapes = encodings.iter().any(|(_, encoded)| encoded.escaped_blocks > 0);
            let chunks: Vec<_> = encodings.into_iter().map(|(bytes, _)| bytes).collect();
            let sum = random_tree(&mut random, chunks.clone(), count, step);
            for finish in [Finish::Sum, average(ranks)] {
                let want = decoded(Level::best(), &sum, count, step, finish);
                check_bound(&inputs, &want, bound, finish, escapes);
                for _ in 0..3 {
                    let other = random_tree(&mut random, chunks.clone(), count, step);
                    let got = decoded(Level::Scalar, &other, count, step, finish);
                    assert_eq!(bits(&got), bits(&want), "{ranks} ranks, {finish:?}");
                }
            }
        }
    }
}

fn check_bound(inputs: &[Vec<f32>], results: &[f32], bound: f64, finish: Finish, raw: bool) {
    let ranks = inputs.len() as f64;
    let (divisor, allowed) = match finish {
        Finish::Sum => (1.0, bound * ranks),
        Finish::Average { .. } => (ranks, bound),
    };
    for (i, result) in results.iter().enumerate() {
        let column = || inputs.iter().map(|x| x[i]);
        if column().all(f32::is_finite) {
            // Exact enough: the largest cancel in pairs, or dwarf the bound.
            let mut terms: Vec<f64> = column().map(f64::from).collect();
            terms.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
            let magnitude: f64 = terms.iter().map(|x| x.abs()).sum();
            let exact = terms.iter().sum::<f64>() / divisor;
            if exact.abs() > f64::from(f32::MAX) || magnitude > 1e15 * allowed {
                continue;
            }
            let excess = excess(*result, exact, allowed, raw);
            assert!(excess <= 1.0 + 1e-6, "element {i}: {result} for {exact}: {excess}");
        } else {
            let sum: f32 = column().filter(|x| !x.is_finite()).sum();
            let (a, b) = (sum.is_nan(), result.is_nan());
            assert!(a && b || sum == *result, "element {i}: {result} for {sum}");
        }
    }
}

#[test]
fn chunks_do_not_matter() {
    let mut random = Random(4);
    let step = Step::new(1e-4).unwrap();
    let x = random.gradient(5000);
    let whole = decoded(Level::best(), &encoded(Level::best(), &x, step).0, 5000, step, average(3));
    for chunk in [32, 96, 1024] {
        let parts = x.chunks(chunk).flat_map(|x| {
            let bytes = encoded(Level::best(), x, step).0;
            decoded(Level::best(), &bytes, x.len(), step, average(3))
        });
        assert_eq!(bits(&parts.collect::<Vec<_>>()), bits(&whole));
    }
}

#[test]
fn every_level_gives_the_same_bytes() {
    let mut random = Random(5);
    for bound in [1e-6, 1e-4, 0.01] {
        let step = Step::new(bound).unwrap();
        let mut inputs: Vec<_> =
            adversarial(777, step.step()).into_iter().map(|(_, x)| x).collect();
        inputs.extend([random.gradient(777), random.gradient(777), random.gradient(777)]);
        let mut previous: Option<Vec<u8>> = None;
        for x in inputs {
            let (bytes, report) = encoded(Level::Scalar, &x, step);
            for level in Level::available() {
                let (other, other_report) = encoded(level, &x, step);
                assert!(bytes == other, "{level:?} {bound}");
                assert_eq!(report, other_report, "{level:?} {bound}");
                for ranks in [1, 2, 3, 4, 7] {
                    let got = decoded(level, &bytes, x.len(), step, average(ranks));
                    let want = decoded(Level::Scalar, &bytes, x.len(), step, average(ranks));
                    assert_eq!(bits(&got), bits(&want), "{level:?} {bound} {ranks}");
                }
                if let Some(previous) = &previous {
                    let got = added(level, &bytes, previous, x.len(), step);
                    let want = added(Level::Scalar, &bytes, previous, x.len(), step);
                    assert!(got == want, "{level:?} {bound}");
                }
            }
            previous = Some(bytes);
        }
    }
}

/// Planes and fixed point hold the same numbers, and so must give the same results: a block that
/// had an infinity added and is otherwise the same shows both.
#[test]
fn the_form_of_a_block_does_not_show() {
    let mut random = Random(6);
    let step = Step::new(1e-4).unwrap();
    for _ in 0..200 {
        let x: Vec<f32> = random.gradient(32);
        let y: Vec<f32> = random.gradient(32);
        let mut escaping = vec![0.0; 32];
        escaping[31] = f32::INFINITY;
        let chunk = |x: &[f32]| encoded(Level::best(), x, step).0;
        let planes = added(Level::best(), &chunk(&x), &chunk(&y), 32, step);
        let wide = added(Level::best(), &planes, &chunk(&escaping), 32, step);
        for finish in [Finish::Sum, average(2), average(3), average(5)] {
            let from_planes = decoded(Level::best(), &planes, 32, step, finish);
            let from_wide = decoded(Level::best(), &wide, 32, step, finish);
            assert_eq!(bits(&from_planes[..31]), bits(&from_wide[..31]));
            assert_eq!(from_wide[31], f32::INFINITY);
        }
    }
}

#[test]
fn sums_grow_beyond_the_planes_and_come_back() {
    let step = Step::new(1e-3).unwrap();
    let chunk = |x: f32| encoded(Level::best(), &[x; 40], step).0;
    let (mut sum, part) = (chunk(0.0), chunk(4_000_000.0 * step.step()));
    for _ in 0..200 {
        sum = added(Level::best(), &sum, &part, 40, step);
    }
    let want = (200.0 * 4_000_000.0 * f64::from(step.step())) as f32;
    assert_eq!(decoded(Level::best(), &sum, 40, step, Finish::Sum), [want; 40]);
    let minus = chunk(-4_000_000.0 * step.step());
    for _ in 0..200 {
        sum = added(Level::best(), &sum, &minus, 40, step);
    }
    assert_eq!(decoded(Level::best(), &sum, 40, step, Finish::Sum), [0.0; 40]);
}

/// Exact sums of raw values are rounded once, to nearest even, and overflow as IEEE 754 says.
#[test]
fn raw_sums_are_rounded_once() {
    let step = Step::new(f64::from(f32::MIN_POSITIVE)).unwrap();
    let one = |x: f32| encoded(Level::best(), &[x; 1], step).0;
    let sum = |terms: &[f32]| {
        let zero = one(0.0);
        let add = |sum: Vec<u8>, x: &f32| added(Level::best(), &sum, &one(*x), 1, step);
        decoded(Level::best(), &terms.iter().fold(zero, add), 1, step, Finish::Sum)[0]
    };
    let tiny = f32::MIN_POSITIVE * 1e10;
    assert_eq!(sum(&[1.0, 2f32.powi(-24)]), 1.0);
    assert_eq!(sum(&[1.0, 2f32.powi(-24), tiny]), 1.0_f32.next_up());
    assert_eq!(sum(&[1.0, 2f32.powi(-24), -tiny]), 1.0);
    assert_eq!(sum(&[1.0_f32.next_up(), 2f32.powi(-24)]), 1.0_f32.next_up().next_up());
    assert_eq!(sum(&[-1.0, -(2f32.powi(-24)), -tiny]), -1.0_f32.next_up());
    assert_eq!(sum(&[1e38, 1e10, -1e38]), 1e10);
    assert_eq!(sum(&[f32::MAX, f32::MAX]), f32::INFINITY);
    assert_eq!(sum(&[f32::MAX, f32::MAX, -f32::MAX]), f32::MAX);
    assert_eq!(sum(&[-f32::MAX, -(2f32.powi(103))]), f32::NEG_INFINITY);
    assert_eq!(sum(&[-f32::MAX, -(2f32.powi(102))]), -f32::MAX);
    assert_eq!(sum(&[f32::INFINITY, 1e38]), f32::INFINITY);
    assert!(sum(&[f32::INFINITY, f32::NEG_INFINITY]).is_nan());
    assert!(sum(&[f32::NAN, 1.0]).is_nan());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_thread_that_flushes_subnormals_gets_the_same() {
    let step = Step::new(f64::from(f32::MIN_POSITIVE)).unwrap();
    let x: Vec<f32> = (0..320).map(|i| f32::from_bits(i * 99_991)).collect();
    let run = || {
        let (bytes, encoded) = encoded(Level::best(), &x, step);
        (bits(&decoded(Level::best(), &bytes, 320, step, average(3))), bytes, encoded)
    };
    assert_eq!(crate::float::environment::flush_to_zero(run), run());
}
