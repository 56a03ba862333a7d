//! Syncline as a contestant: one rank that answers collbench's commands.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use syncline::reduce::{DType, ReduceOp};

use super::protocol::{Answer, CONTROL, Command, Timing, VERSION};
use super::values::Share;
use crate::buffer::Buffer;
use crate::failure::{Failure, Outcome};
use crate::operation::Operation;
use crate::plan::parse_dtype;
use crate::rank::{give_name, own_plan};
use crate::runner::{Call, Runner};
use crate::session::Session;

/// The whole life of a rank.
pub(crate) fn contest() -> Outcome {
    let (plan, job) = own_plan()?;
    give_name(job.rank);
    let control = std::env::var_os(CONTROL).ok_or_else(|| {
        Failure::usage("__contestant is for collbench itself; use `collbench compare`")
    })?;
    let session = Session::join(&plan, &job).map_err(Failure::Run)?;
    let stream = UnixStream::connect(&control)
        .map_err(|e| Failure::run(format!("cannot connect to collbench: {e}")))?;
    serve(&session, stream).map_err(Failure::Run)
}

/// Answers commands until there are no more.
fn serve(runner: &dyn Runner, stream: UnixStream) -> Result<(), String> {
    let reader = stream.try_clone().map_err(|e| e.to_string())?;
    let say = |answer: Answer| {
        (&stream).write_all(format!("{answer}\n").as_bytes()).map_err(|e| e.to_string())
    };
    say(Answer::Ready {
        protocol: VERSION,
        rank: runner.rank(),
        ranks: runner.ranks(),
        pid: std::process::id(),
        version: format!("Syncline {}", env!("CARGO_PKG_VERSION")),
    })?;
    let mut task = None;
    for line in BufReader::new(reader).lines() {
        let command: Command = line.map_err(|e| e.to_string())?.parse()?;
        let current = || "collbench times what it has not prepared".to_owned();
        match command {
            Command::Prepare { operation, dtype, count } => {
                let new = Task::prepare(runner, operation, parse_dtype(&dtype)?, count)?;
                say(Answer::Prepared { wrong: new.wrong() })?;
                task = Some(new);
            }
            Command::Time { timing, warmup, iterations } => {
                let task = task.as_mut().ok_or_else(current)?;
                say(Answer::Timed(match timing {
                    Timing::Block => task.time_block(runner, warmup, iterations)?,
                    Timing::Each => task.time_each(runner, warmup, iterations)?,
                }))?;
            }
            Command::Finish => {
                let task = task.take().ok_or_else(current)?;
                say(Answer::Finished { wrong: task.wrong() })?;
            }
            Command::Quit => break,
        }
    }
    barrier(runner)
}

fn barrier(runner: &dyn Runner) -> Result<(), String> {
    let (dtype, op) = (DType::I32, ReduceOp::Sum);
    let call = Call { operation: Operation::Barrier, dtype, op, root: 0, count: 0 };
    runner.run(&call, Some(&[]), &mut [])
}

/// One call and its buffers.
struct Task {
    share: Share,
    call: Call,
    input: Buffer,
    output: Buffer,
}

impl Task {
    /// Fills the buffers and makes one call.
    fn prepare(
        runner: &dyn Runner,
        operation: Operation,
        dtype: DType,
        count: usize,
    ) -> Result<Self, String> {
        let (rank, ranks) = (runner.rank(), runner.ranks());
        let share = Share { operation, dtype, count, rank, ranks };
        let mut task = Self {
            share,
            call: Call { operation, dtype, op: ReduceOp::Sum, root: 0, count },
            input: Buffer::new(share.input_bytes()),
            output: Buffer::new(share.output_bytes()),
        };
        share.fill(task.input.bytes_mut(), task.output.bytes_mut());
        task.run(runner)?;
        Ok(task)
    }

    fn run(&mut self, runner: &dyn Runner) -> Result<(), String> {
        let one_buffer = self.share.operation == Operation::Broadcast;
        let input = (!one_buffer).then_some(self.input.bytes());
        runner.run(&self.call, input, self.output.bytes_mut())
    }

    fn wrong(&self) -> u64 {
        self.share.wrong(self.output.bytes())
    }

    /// Iterations back to back: one time for all of them.
    fn time_block(
        &mut self,
        runner: &dyn Runner,
        warmup: u64,
        iterations: u64,
    ) -> Result<Vec<u64>, String> {
        barrier(runner)?;
        for _ in 0..warmup {
            self.run(runner)?;
        }
        let start = Instant::now();
        for _ in 0..iterations {
            self.run(runner)?;
        }
        Ok(vec![start.elapsed().as_nanos() as u64])
    }

    /// A barrier before each iteration: one time for each.
    fn time_each(
        &mut self,
        runner: &dyn Runner,
        warmup: u64,
        iterations: u64,
    ) -> Result<Vec<u64>, String> {
        let mut times = Vec::with_capacity(usize::try_from(iterations).unwrap_or(0));
        for iteration in 0..warmup + iterations {
            barrier(runner)?;
            let start = Instant::now();
            self.run(runner)?;
            let time = start.elapsed().as_nanos() as u64;
            if iteration >= warmup {
                times.push(time);
            }
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::Choice;

    /// A job of one rank, where every collective is a copy.
    struct Alone;

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
            std::collections::BTreeMap::new()
        }

        fn run(&self, _: &Call, input: Option<&[u8]>, output: &mut [u8]) -> Result<(), String> {
            if let Some(input) = input {
                output.copy_from_slice(input);
            }
            Ok(())
        }

        fn choice(&self, _: &Call) -> Result<Choice, String> {
            Err("not asked for".into())
        }
    }

    /// What a rank answers to `commands`, and how it ends.
    fn answers(commands: &str) -> (Vec<Answer>, Result<(), String>) {
        let (here, there) = UnixStream::pair().expect("a pair");
        (&here).write_all(commands.as_bytes()).expect("written");
        here.shutdown(std::net::Shutdown::Write).expect("open");
        let ended = serve(&Alone, there);
        let lines = BufReader::new(here).lines().map(|line| line.expect("text"));
        (lines.map(|line| line.parse().expect("an answer")).collect(), ended)
    }

    #[test]
    fn a_rank_prepares_times_and_checks() {
        let commands = "prepare all_reduce f64 9\ntime block 3 10\nfinish\n\
                        prepare broadcast i32 4\ntime each 2 5\nfinish\nquit\n";
        let (answers, ended) = answers(commands);
        assert_eq!(ended, Ok(()));
        assert!(matches!(&answers[0], Answer::Ready { protocol: VERSION, ranks: 1, .. }));
        assert_eq!(answers[1], Answer::Prepared { wrong: 0 });
        assert!(matches!(&answers[2], Answer::Timed(times) if times.len() == 1));
        assert_eq!(answers[3], Answer::Finished { wrong: 0 });
        assert!(matches!(&answers[5], Answer::Timed(times) if times.len() == 5));
        assert_eq!(answers.len(), 7);
    }

    #[test]
    fn timing_what_was_not_prepared_is_an_error() {
        for commands in ["time block 1 1\n", "finish\n", "dance\n"] {
            let (answers, ended) = answers(commands);
            assert_eq!(answers.len(), 1, "{commands}");
            assert!(ended.is_err(), "{commands}");
        }
    }
}
