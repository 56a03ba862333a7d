//! A checked measurement: what every rank does, agreed before any of them starts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use syncline::collective::contract;
use syncline::reduce::{DType, ReduceOp};

use crate::cli::{RunArgs, TransportArg};
use crate::failure::{Failure, Outcome};
use crate::npy::{self, Matrix};
use crate::operation::Operation;
use crate::runner::Call;
use crate::session::request;
use crate::size::{human, sweep};

/// The sample gradients that come with collbench.
static BUNDLED: &[u8] = include_bytes!("../data/grads_cnn_step100_rows0-3.npy");

/// Largest message: twice that, per rank, must fit in memory.
const SIZE_MAX: u64 = 8 << 30;
/// Most sizes in one run.
const SIZES_MAX: usize = 4096;
/// Most ranks that one process starts.
pub(crate) const RANKS_MAX: u32 = 1024;

/// What the buffers hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Input {
    /// Generated values, of each of these sizes in bytes.
    Generated(Vec<u64>),
    /// The rows of a file.
    File(PathBuf),
    /// The rows of the gradients that come with collbench.
    Bundled,
}

/// A checked measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Only explain what would serve the calls.
    pub(crate) explain: bool,
    /// Bind ranks to cores.
    pub(crate) bind: bool,
    /// What is measured.
    pub(crate) operation: Operation,
    /// Element type, by name.
    pub(crate) dtype: String,
    /// Operator, by name, with its factor if it has one.
    pub(crate) op: String,
    /// The root of rooted operations.
    pub(crate) root: u32,
    /// Values and sizes.
    pub(crate) input: Input,
    /// The wires to use.
    pub(crate) transport: TransportArg,
    /// Use this algorithm, whatever the planner thinks.
    pub(crate) algorithm: Option<String>,
    /// Constants for the planner.
    pub(crate) tuning: Option<PathBuf>,
    /// Results must not depend on the algorithm.
    pub(crate) reproducible: bool,
    /// What goes over TCP is encrypted.
    pub(crate) encrypt: bool,
    /// One buffer for input and output.
    pub(crate) in_place: bool,
    /// Timed iterations per size; otherwise as many as fit in a fair share of the time.
    pub(crate) iters: Option<u32>,
    /// Iterations before those.
    pub(crate) warmup: Option<u32>,
    /// A call that makes no progress for this long fails.
    pub(crate) timeout_s: f64,
    /// Where flight dumps go.
    pub(crate) dump: Option<PathBuf>,
}

impl Plan {
    /// Checks the arguments of `run`. `ranks` is how many ranks there will be.
    pub(crate) fn check(args: &RunArgs, ranks: u32) -> Outcome<Self> {
        let dtype = parse_dtype(&args.dtype).map_err(Failure::Usage)?;
        let op = parse_op(&args.op).map_err(Failure::Usage)?;
        let operation = args.collective;
        check_ranks(ranks)?;
        if operation.reduces() && !op.supports(dtype) {
            return Err(unsupported(op, dtype));
        }
        if operation.rooted() && args.root >= ranks {
            return Err(Failure::usage(format!(
                "--root {} is not a rank: with {ranks} ranks the root is 0 to {}",
                args.root,
                ranks - 1
            )));
        }
        if args.in_place && !operation.can_be_in_place() {
            return Err(Failure::usage(format!(
                "{} has no in-place form; leave out --in-place",
                operation.name()
            )));
        }
        // What is left the library knows best.
        let root = if operation.rooted() { args.root } else { 0 };
        if let Some(request) = request(&Call { operation, dtype, op, root, count: 1 }) {
            contract(&request, 0, ranks).map_err(|e| Failure::usage(e.to_string()))?;
        }
        if operation == Operation::SendRecv && ranks < 2 {
            return Err(Failure::usage("sendrecv needs a neighbour; give --ranks 2 or more"));
        }
        let input = match &args.input {
            Some(path) => {
                check_input(operation, dtype, op)?;
                npy::read(path).map_err(Failure::Usage)?;
                Input::File(absolute(path))
            }
            None => Input::Generated(sizes(args)?),
        };
        Ok(Self {
            explain: false,
            bind: !args.no_bind,
            operation,
            dtype: dtype.name().to_owned(),
            op: args.op.clone(),
            root,
            input,
            transport: args.transport,
            algorithm: args.algorithm.clone(),
            tuning: args.tuning.as_deref().map(check_tuning).transpose()?,
            reproducible: args.reproducible,
            encrypt: args.encrypt,
            in_place: args.in_place,
            iters: positive("--iters", args.iters)?,
            warmup: args.warmup,
            timeout_s: check_timeout(args.timeout)?,
            dump: args.dump.as_deref().map(absolute),
        })
    }

    /// The element type.
    pub(crate) fn dtype(&self) -> Result<DType, String> {
        parse_dtype(&self.dtype)
    }

    /// The operator.
    pub(crate) fn op(&self) -> Result<ReduceOp, String> {
        parse_op(&self.op)
    }

    /// How long a call may wait.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout_s)
    }

    /// The file's rows, when the input is one.
    pub(crate) fn matrix(&self) -> Result<Option<Matrix>, String> {
        match &self.input {
            Input::Generated(_) => Ok(None),
            Input::File(path) => npy::read(path).map(Some),
            Input::Bundled => npy::parse(BUNDLED).map(Some).map_err(|reason| {
                format!("the bundled gradients are damaged, rebuild collbench: {reason}")
            }),
        }
    }

    /// The sizes to measure as element counts, each once.
    pub(crate) fn counts(&self, ranks: u32) -> Result<Vec<usize>, String> {
        let element_bytes = self.dtype()?.size();
        let mut counts = match &self.input {
            _ if self.operation == Operation::Barrier => vec![0],
            Input::Generated(sizes) => {
                sizes.iter().map(|&s| self.operation.count(s, element_bytes, ranks)).collect()
            }
            Input::File(_) | Input::Bundled => {
                self.matrix()?.iter().map(|matrix| matrix.columns).collect()
            }
        };
        counts.dedup();
        Ok(counts)
    }
}

/// Checks a number of ranks.
pub(crate) fn check_ranks(ranks: u32) -> Outcome {
    if ranks == 0 || ranks > RANKS_MAX {
        return Err(Failure::usage(format!(
            "{ranks} ranks is not possible; give --ranks from 1 to {RANKS_MAX}"
        )));
    }
    Ok(())
}

fn check_input(operation: Operation, dtype: DType, op: ReduceOp) -> Outcome {
    if !matches!(operation, Operation::AllReduce | Operation::Reduce) {
        return Err(Failure::usage(format!(
            "--input reduces one row per rank and works with all_reduce and reduce, not {}",
            operation.name()
        )));
    }
    if dtype != DType::F32 || !op.supports(dtype) {
        return Err(Failure::usage(format!(
            "--input files hold float32; leave out --dtype {} or give --dtype f32",
            dtype.name()
        )));
    }
    Ok(())
}

fn sizes(args: &RunArgs) -> Outcome<Vec<u64>> {
    let (begin, end, factor) = (args.begin, args.end, args.factor);
    if begin == 0 {
        return Err(Failure::usage("-b 0: the smallest size must be at least one byte"));
    }
    if begin > end {
        return Err(Failure::usage(format!(
            "-b {begin} is larger than -e {end}; give the smallest size with -b and the largest \
             with -e"
        )));
    }
    if end > SIZE_MAX {
        return Err(Failure::usage(format!(
            "-e {} is more than collbench measures; the largest size is {}",
            human(end),
            human(SIZE_MAX)
        )));
    }
    if factor < 2 {
        return Err(Failure::usage(format!(
            "-f {factor}: each size is the one before times the factor, which must be at least 2"
        )));
    }
    let sizes = sweep(begin, end, factor);
    assert!(sizes.len() <= SIZES_MAX, "a factor of at least 2 leaves few sizes");
    Ok(sizes)
}

/// Refuses a file that is not a tuning file; the answer does not depend on the directory.
pub(crate) fn check_tuning(path: &Path) -> Outcome<PathBuf> {
    syncline_topology::Constants::default()
        .read(path)
        .map_err(|e| Failure::usage(e.to_string()))?;
    Ok(absolute(path))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn positive(name: &str, value: Option<u32>) -> Outcome<Option<u32>> {
    match value {
        Some(0) => Err(Failure::usage(format!("{name} 0 measures nothing; give at least 1"))),
        _ => Ok(value),
    }
}

/// Checks a number of seconds.
pub(crate) fn check_timeout(seconds: f64) -> Outcome<f64> {
    if seconds.is_finite() && (0.001..=86_400.0).contains(&seconds) {
        return Ok(seconds);
    }
    Err(Failure::usage(format!("--timeout {seconds}: give seconds from 0.001 to 86400")))
}

fn unsupported(op: ReduceOp, dtype: DType) -> Failure {
    let what =
        if dtype.is_float() { "an integer type (i8 u8 i32 u32 i64 u64)" } else { "a float type" };
    Failure::usage(format!(
        "{} is not defined on {}; choose {what} with --dtype, or another --op",
        op.name(),
        dtype.name()
    ))
}

/// Parses the name of an element type.
pub(crate) fn parse_dtype(name: &str) -> Result<DType, String> {
    DType::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = DType::ALL.iter().map(|d| d.name()).collect();
        format!("'{name}' is not an element type; choose one of {}", names.join(" "))
    })
}

/// Parses the name of an operator; `premul_sum:0.5` carries its factor.
pub(crate) fn parse_op(name: &str) -> Result<ReduceOp, String> {
    Ok(match name {
        "sum" => ReduceOp::Sum,
        "prod" => ReduceOp::Prod,
        "min" => ReduceOp::Min,
        "max" => ReduceOp::Max,
        "avg" => ReduceOp::Avg,
        "and" => ReduceOp::BitAnd,
        "or" => ReduceOp::BitOr,
        "xor" => ReduceOp::BitXor,
        _ => {
            let factor = name.strip_prefix("premul_sum:").and_then(|f| f.parse::<f64>().ok());
            return factor.filter(|f| f.is_finite()).map(ReduceOp::PreMulSum).ok_or_else(|| {
                format!(
                    "'{name}' is not an operator; choose one of sum prod min max avg and or xor \
                     premul_sum:FACTOR"
                )
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn plan(line: &str) -> Outcome<Plan> {
        let words = ["collbench", "run"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).expect(line).command {
            Some(Command::Run(args)) => Plan::check(&args, args.ranks.unwrap_or(2)),
            _ => panic!("not a run"),
        }
    }

    #[test]
    fn the_default_sweep() {
        let plan = plan("all_reduce").expect("valid");
        assert_eq!(plan.counts(2).expect("counts").len(), 12, "8 B to 32 MiB by fours");
        assert!(!plan.in_place);
    }

    #[test]
    fn wrong_combinations_say_what_to_do() {
        let cases = [
            ("all_reduce --dtype f31", "choose one of i8"),
            ("all_reduce --op mean", "choose one of sum"),
            ("all_reduce --op premul_sum:x", "premul_sum:FACTOR"),
            ("all_reduce --op xor", "integer type"),
            ("all_reduce --op premul_sum:2 --dtype i32", "float type"),
            ("all_reduce --ranks 0", "from 1 to"),
            ("all_reduce --ranks 5000", "from 1 to"),
            ("all_reduce -b 0", "at least one byte"),
            ("all_reduce -b 64 -e 8", "larger than -e"),
            ("all_reduce -e 1000G", "largest size"),
            ("all_reduce -f 1", "at least 2"),
            ("broadcast --ranks 4 --root 4", "0 to 3"),
            ("sendrecv --in-place", "no in-place form"),
            ("sendrecv --ranks 1", "a neighbour"),
            ("all_reduce --iters 0", "at least 1"),
            ("scan --op avg", "use sum and divide"),
            ("all_reduce --timeout -1", "seconds"),
            ("all_reduce --timeout NaN", "seconds"),
            ("all_gather --input x.npy", "all_reduce and reduce"),
            ("all_reduce --dtype f64 --input x.npy", "float32"),
            ("all_reduce --input /nonexistent.npy", "cannot read"),
            ("all_reduce --tuning /nonexistent.toml", "/nonexistent.toml"),
        ];
        for (line, expected) in cases {
            let failure = plan(line).expect_err(line);
            assert_eq!(failure.status(), 2, "{line}");
            let message = failure.to_string();
            assert!(message.contains(expected), "{line}: {message}");
            assert!(!message.contains('\n'), "{line}: one line");
        }
    }

    #[test]
    fn an_operator_matters_only_where_values_are_combined() {
        assert!(plan("broadcast --op xor --dtype f32").is_ok());
        assert!(plan("all_reduce --op xor --dtype u8").is_ok());
    }

    #[test]
    fn sizes_that_come_to_the_same_count_are_measured_once() {
        let plan = plan("all_gather --ranks 16 -b 8 -e 256 -f 2").expect("valid");
        assert_eq!(plan.counts(16).expect("counts"), [1, 2, 4]);
    }

    #[test]
    fn a_plan_survives_its_way_to_the_ranks() {
        let plan = plan("all_reduce --op premul_sum:0.5 --timeout 2.5 --iters 3").expect("valid");
        let json = serde_json::to_string(&plan).expect("plain");
        assert_eq!(serde_json::from_str::<Plan>(&json).expect("same"), plan);
    }

    #[test]
    fn the_bundled_gradients_are_four_rows() {
        let plan = Plan { input: Input::Bundled, ..plan("all_reduce").expect("valid") };
        let matrix = plan.matrix().expect("valid").expect("rows");
        assert_eq!((matrix.rows, matrix.columns), (4, 107_018));
        assert_eq!(plan.counts(2), Ok(vec![107_018]));
    }
}
