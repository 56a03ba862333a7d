//! A started operation, and computation meanwhile.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Instant;

use syncline::Result;
use syncline::communicator::Communicator;
use syncline::reduce::ReduceOp;

use super::turns::medians_us;

/// Elements of f32: 16 MiB.
const ELEMENTS: usize = 4 << 20;
/// Steps whose time is measured to know that of one.
const SAMPLE_STEPS: u64 = 20_000_000;
/// Rounds to learn how long the operation takes.
const FIRST_ROUNDS: u32 = 3;

pub(super) fn play(comm: &Communicator, rounds: u32) -> Result<Vec<String>> {
    let data = Cell::new(vec![0.0_f32; ELEMENTS]);
    let start = || comm.start_all_reduce(data.take(), ReduceOp::Sum);
    let mut alone = || {
        data.set(start()?.wait()?);
        Ok(())
    };
    let alone_us = medians_us(comm, FIRST_ROUNDS, &mut [&mut alone])?[0];
    let steps = (alone_us / step_us()) as u64;
    let mut computation = || {
        compute(steps);
        Ok(())
    };
    let mut both = || {
        let work = start()?;
        compute(steps);
        data.set(work.wait()?);
        Ok(())
    };
    let us = medians_us(comm, rounds, &mut [&mut alone, &mut computation, &mut both])?;
    let longer = us[0].max(us[1]);
    Ok(vec![format!(
        "all_reduce of 16 MiB {:.0} us, computation {:.0} us, both at once {:.0} us: {:+.1} % over \
         the longer",
        us[0],
        us[1],
        us[2],
        (us[2] / longer - 1.0) * 100.0
    )])
}

/// Arithmetic that waits for nothing but itself.
fn compute(steps: u64) {
    let mut x = 1_u64;
    for step in 0..steps {
        x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
    }
}

fn step_us() -> f64 {
    compute(SAMPLE_STEPS / 10);
    let start = Instant::now();
    compute(SAMPLE_STEPS);
    start.elapsed().as_secs_f64() * 1e6 / SAMPLE_STEPS as f64
}
