//! What every rank does: prepare, call, time, check, for every size.
//!
//! Ranks agree on iteration counts, and collect times and errors, through the library itself.

use std::time::{Duration, Instant};

use syncline::reduce::{DType, ReduceOp};

use crate::buffer::Buffer;
use crate::event::{Event, Row};
use crate::failure::{Failure, Outcome};
use crate::operation::Operation;
use crate::oracle::{Oracle, Part};
use crate::pattern::Tally;
use crate::plan::Plan;
use crate::runner::{Call, Runner};
use crate::stats::{Latency, slowest};

/// Time for all timed iterations of a run, over all sizes.
const RUN_TIME: Duration = Duration::from_secs(6);
/// Most and fewest iterations when the user does not say.
const ITERS_MAX: u128 = 20_000;
const ITERS_MIN: u128 = 5;
/// Calls that tell how long one takes.
const TRIALS: u32 = 3;

/// Measures every size of `plan`; rank 0 hands each result to `report`. The answer, the same on
/// every rank, is how many elements were wrong.
pub(crate) fn measure(
    runner: &dyn Runner,
    plan: &Plan,
    report: &mut dyn FnMut(Event) -> Outcome,
) -> Outcome<u64> {
    let bench = Bench::new(runner, plan).map_err(Failure::Run)?;
    let counts = plan.counts(runner.ranks()).map_err(Failure::Run)?;
    let is_reporter = runner.rank() == 0;
    if is_reporter {
        let (ranks, hosts) = (runner.ranks(), runner.hosts());
        let init_ms = runner.init_ms();
        report(Event::Joined { ranks, hosts, sizes: counts.len(), init_ms })?;
    }
    if plan.explain {
        return bench.explain(&counts, report);
    }
    let share = RUN_TIME / u32::try_from(counts.len()).unwrap_or(u32::MAX).max(1);
    let mut wrong = 0;
    for count in counts {
        let row = bench.one_size(count, share).map_err(Failure::Run)?;
        wrong += row.wrong;
        if is_reporter {
            report(Event::Row(row))?;
        }
    }
    // So that no rank leaves while another still reads from it.
    bench.barrier().map_err(Failure::Run)?;
    Ok(wrong)
}

struct Bench<'a> {
    runner: &'a dyn Runner,
    plan: &'a Plan,
    part: Part,
    oracle: Oracle,
}

impl<'a> Bench<'a> {
    fn new(runner: &'a dyn Runner, plan: &'a Plan) -> Result<Self, String> {
        let part = Part {
            operation: plan.operation,
            dtype: plan.dtype()?,
            op: plan.op()?,
            root: plan.root,
            rank: runner.rank(),
            ranks: runner.ranks(),
            in_place: plan.in_place,
        };
        let oracle = match plan.matrix()? {
            Some(matrix) => Oracle::rows(part, &matrix),
            None => Oracle::generated(part),
        };
        Ok(Self { runner, plan, part, oracle })
    }

    /// Reports, on rank 0, what would serve each size; makes no call but the barrier at the end.
    fn explain(&self, counts: &[usize], report: &mut dyn FnMut(Event) -> Outcome) -> Outcome<u64> {
        if self.part.rank == 0 {
            for &count in counts {
                let choice = self.runner.choice(&self.call_of(count)).map_err(Failure::Run)?;
                let text = choice.explanation;
                report(Event::Explained { bytes: self.bytes_of(count), text })?;
            }
        }
        self.barrier().map_err(Failure::Run)?;
        Ok(0)
    }

    const fn call_of(&self, count: usize) -> Call {
        let Part { operation, dtype, op, root, .. } = self.part;
        Call { operation, dtype, op, root, count }
    }

    fn bytes_of(&self, count: usize) -> u64 {
        self.part.operation.bytes(count, self.part.dtype.size(), self.part.ranks)
    }

    /// Measures and checks one size.
    fn one_size(&self, count: usize, share: Duration) -> Result<Row, String> {
        let call = self.call_of(count);
        let mut input = Buffer::new(self.oracle.input_bytes(count));
        let mut output = Buffer::new(self.oracle.output_bytes(count));
        let mut tally = self.checked_call(&call, &mut input, &mut output)?;
        let (iters, warmup) = self.agree_on_iterations(&call, &input, &mut output, share)?;
        for _ in 0..warmup {
            self.timed_call(&call, &input, &mut output)?;
        }
        let mut times = Vec::with_capacity(iters as usize);
        for _ in 0..iters {
            times.push(self.timed_call(&call, &input, &mut output)?.as_nanos() as u64);
        }
        if !self.part.in_place {
            // What the timed calls left, undisturbed.
            merge(&mut tally, self.oracle.check(count, output.bytes()));
        }
        merge(&mut tally, self.checked_call(&call, &mut input, &mut output)?);
        let tally = self.collect_tally(tally)?;
        let latency = self.collect_times(&times)?;
        let choice = self.runner.choice(&call)?;
        let bytes = self.bytes_of(count);
        let algbw_gbps = bytes as f64 / (latency.p50_us * 1e3);
        Ok(Row {
            bytes,
            count,
            algorithm: choice.algorithm,
            transport: choice.transport,
            latency,
            iters,
            algbw_gbps,
            busbw_gbps: algbw_gbps * self.part.operation.bus_factor(self.part.ranks),
            wrong: tally.wrong,
            max_abs_error: Some(tally.max_abs_error).filter(|e| e.is_finite()),
        })
    }

    /// Fills the buffers, makes the call, and compares.
    fn checked_call(
        &self,
        call: &Call,
        input: &mut Buffer,
        output: &mut Buffer,
    ) -> Result<Tally, String> {
        self.oracle.prepare(call.count, input.bytes_mut(), output.bytes_mut());
        self.call(call, input, output)?;
        Ok(self.oracle.check(call.count, output.bytes()))
    }

    fn call(&self, call: &Call, input: &Buffer, output: &mut Buffer) -> Result<(), String> {
        let input = (!self.part.in_place).then_some(input.bytes());
        self.runner.run(call, input, output.bytes_mut())
    }

    fn timed_call(
        &self,
        call: &Call,
        input: &Buffer,
        output: &mut Buffer,
    ) -> Result<Duration, String> {
        if !call.operation.synchronises() {
            self.barrier()?;
        }
        let start = Instant::now();
        self.call(call, input, output)?;
        Ok(start.elapsed())
    }

    /// Timed and warm-up iterations, as rank 0 decides.
    fn agree_on_iterations(
        &self,
        call: &Call,
        input: &Buffer,
        output: &mut Buffer,
        share: Duration,
    ) -> Result<(u32, u32), String> {
        self.barrier()?;
        let start = Instant::now();
        for _ in 0..TRIALS {
            self.timed_call(call, input, output)?;
        }
        let each = start.elapsed() / TRIALS;
        let fit = share.as_nanos() / each.as_nanos().max(1);
        let fit = u32::try_from(fit.clamp(ITERS_MIN, ITERS_MAX)).unwrap_or(u32::MAX);
        let iters = self.plan.iters.unwrap_or(fit);
        let warmup = self.plan.warmup.unwrap_or(iters / 10);
        let mut agreed = [u64::from(iters), u64::from(warmup)];
        let broadcast = control(Operation::Broadcast, agreed.len());
        self.runner.run(&broadcast, None, bytemuck::bytes_of_mut(&mut agreed))?;
        let number = |n: u64| u32::try_from(n).map_err(|_| "rank 0 is confused".to_owned());
        Ok((number(agreed[0])?, number(agreed[1])?))
    }

    fn barrier(&self) -> Result<(), String> {
        self.runner.run(&control(Operation::Barrier, 0), Some(&[]), &mut [])
    }

    /// Sums up what all ranks found, on every rank.
    fn collect_tally(&self, mine: Tally) -> Result<Tally, String> {
        let ranks = self.part.ranks as usize;
        let own = [mine.wrong, mine.max_abs_error.to_bits()];
        let mut all = vec![0; own.len() * ranks];
        let call = control(Operation::AllGather, own.len());
        let output = bytemuck::cast_slice_mut(&mut all);
        self.runner.run(&call, Some(bytemuck::bytes_of(&own)), output)?;
        let mut total = Tally::default();
        for found in all.chunks_exact(own.len()) {
            let rank = Tally { wrong: found[0], max_abs_error: f64::from_bits(found[1]) };
            merge(&mut total, rank);
        }
        Ok(total)
    }

    /// The latencies of the slowest rank; on other ranks than 0, of this one.
    fn collect_times(&self, mine: &[u64]) -> Result<Latency, String> {
        let is_root = self.part.rank == 0;
        let mut all = vec![0; if is_root { mine.len() * self.part.ranks as usize } else { 0 }];
        let call = control(Operation::Gather, mine.len());
        let output = bytemuck::cast_slice_mut(&mut all);
        self.runner.run(&call, Some(bytemuck::cast_slice(mine)), output)?;
        Ok(Latency::of(if is_root { slowest(&all, mine.len()) } else { mine.to_vec() }))
    }
}

fn merge(total: &mut Tally, found: Tally) {
    total.wrong += found.wrong;
    total.max_abs_error = total.max_abs_error.max(found.max_abs_error);
}

/// A call by which the ranks agree, not one that is measured.
const fn control(operation: Operation, count: usize) -> Call {
    Call { operation, dtype: DType::U64, op: ReduceOp::Sum, root: 0, count }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::cli::TransportArg;
    use crate::plan::Input;
    use crate::runner::Choice;

    /// A job of one rank, where every collective is a copy.
    struct Alone {
        calls: Cell<u32>,
        /// The measured call that goes wrong.
        damage_at: Option<u32>,
    }

    impl Runner for Alone {
        fn rank(&self) -> u32 {
            0
        }

        fn ranks(&self) -> u32 {
            1
        }

        fn hosts(&self) -> u32 {
            1
        }

        fn init_ms(&self) -> std::collections::BTreeMap<String, f64> {
            [("total".to_owned(), 2.0)].into()
        }

        fn run(&self, call: &Call, input: Option<&[u8]>, output: &mut [u8]) -> Result<(), String> {
            if let Some(input) = input {
                output.copy_from_slice(input);
            }
            if call.operation == Operation::AllReduce {
                self.calls.set(self.calls.get() + 1);
                if self.damage_at == Some(self.calls.get()) {
                    output[7] ^= 1;
                }
            }
            Ok(())
        }

        fn choice(&self, _: &Call) -> Result<Choice, String> {
            Ok(Choice {
                algorithm: "copy".into(),
                transport: "self".into(),
                explanation: String::new(),
            })
        }
    }

    fn run(in_place: bool, damage_at: Option<u32>) -> (u64, Vec<Event>, u32) {
        let plan = Plan {
            explain: false,
            bind: true,
            operation: Operation::AllReduce,
            dtype: "f32".into(),
            op: "sum".into(),
            root: 0,
            input: Input::Generated(vec![8, 4096]),
            transport: TransportArg::Auto,
            algorithm: None,
            tuning: None,
            reproducible: false,
            encrypt: false,
            in_place,
            iters: Some(10),
            warmup: Some(2),
            timeout_s: 1.0,
            dump: None,
        };
        let alone = Alone { calls: Cell::new(0), damage_at };
        let mut events = Vec::new();
        let wrong = measure(&alone, &plan, &mut |event| {
            events.push(event);
            Ok(())
        });
        (wrong.expect("no failure"), events, alone.calls.get())
    }

    #[test]
    fn every_size_is_warmed_up_timed_and_checked() {
        for in_place in [false, true] {
            let (wrong, events, calls) = run(in_place, None);
            assert_eq!(wrong, 0);
            assert_eq!(calls, 2 * (1 + TRIALS + 2 + 10 + 1));
            let init_ms = [("total".to_owned(), 2.0)].into();
            assert_eq!(events[0], Event::Joined { ranks: 1, hosts: 1, sizes: 2, init_ms });
            let Event::Row(row) = &events[2] else { panic!("a row") };
            assert_eq!((row.bytes, row.count, row.iters), (4096, 1024, 10));
            assert_eq!((row.wrong, row.max_abs_error), (0, Some(0.0)));
            assert_eq!((row.algorithm.as_str(), row.busbw_gbps), ("copy", 0.0));
            assert!(row.latency.min_us <= row.latency.p50_us);
        }
    }

    #[test]
    fn damage_in_a_checked_call_or_the_last_timed_one_is_counted() {
        let last_timed = 1 + TRIALS + 2 + 10;
        for at in [1, last_timed, last_timed + 1] {
            let (wrong, events, _) = run(false, Some(at));
            assert_eq!(wrong, 1, "call {at}");
            let Event::Row(row) = &events[1] else { panic!("a row") };
            assert_eq!(row.wrong, 1);
        }
    }
}
