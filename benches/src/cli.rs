//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use syncline::communicator::TransportChoice;

use crate::codec::CodecArgs;
use crate::compare::CompareArgs;
use crate::lab::rate::Links;
use crate::operation::Operation;
use crate::size::parse_size;
use crate::trial::TrialArgs;

/// Measures and checks Syncline's collectives.
///
/// Without a subcommand: starts local ranks, measures all_reduce from 8 B to 64 MiB, checks every
/// element, then reduces real gradients that come with collbench and compares with float64.
#[derive(Debug, Parser)]
#[command(name = "collbench", version, max_term_width = 100, after_help = CLI_AFTER)]
pub(crate) struct Cli {
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Show the library's log on stderr: -v info, -vv debug, -vvv trace
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 1000)]
    pub(crate) verbose: u8,
}

const CLI_AFTER: &str = "\
Examples:
  collbench                                          a first look, under a minute
  collbench run all_reduce --ranks 4 -b 8 -e 64M -f 4
  collbench run all_gather --ranks 2 --transport tcp --dtype bf16 --json result.json
  collbench compare all_reduce --peers openmpi,mpich     against other libraries, in one run
  collbench lab --hosts 4 --ranks-per-host 2 --rate 1gbit -- run all_reduce -b 16M -e 16M
  collbench codec gradients.npy --codec bounded:rms=0.01 block8 lossless
  collbench explain all_reduce --ranks 8 --size 16M
  collbench doctor dumps/                            what a failed or hanging job waits for
  collbench launch --ranks 4 -- ./my-program --its-option
  collbench sim --seeds 0..1000

Exit status: 0 when every result was right, 1 when a rank failed or a result was wrong, 2 when the \
command line or an input file is wrong, 130 when interrupted.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure one collective over a range of sizes and check every result
    Run(RunArgs),
    /// Time other libraries and Syncline in one run, interleaved, and say how many times faster it is
    Compare(Box<CompareArgs>),
    /// Time one way of using the library against another: coalesced, bf16, overlap
    Trial(TrialArgs),
    /// Measure codecs on tensors: ratio, error, and speed on one core
    Codec(CodecArgs),
    /// Print which algorithm, transport and chunk size a call will use, and why
    Explain(ExplainArgs),
    /// Read the flight dumps of all ranks and say who waits for whom, and what went wrong
    Doctor(DoctorArgs),
    /// Print what this machine is made of and the planner's constants, as a tuning file
    Topo,
    /// Start any program once per rank and end all when one fails
    Launch(LaunchArgs),
    /// Run in network namespaces with shaped links: a small cluster on one machine
    Lab(LabArgs),
    /// Run simulated jobs in which things go wrong, and judge how the library takes it
    Sim(SimArgs),
    /// One rank of a run (internal)
    #[command(name = "__rank", hide = true)]
    Rank,
    /// One rank of a comparison (internal)
    #[command(name = "__contestant", hide = true)]
    Contestant,
    /// Starts a program that ends with its parent (internal)
    #[command(name = "__exec", hide = true)]
    Exec {
        /// Program and arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        program: Vec<OsString>,
    },
    /// Removes what a killed collbench left (internal)
    #[command(name = "__janitor", hide = true)]
    Janitor,
    /// One end of a TCP stream (internal)
    #[command(name = "__stream", hide = true)]
    Stream {
        /// Send to this address; without it listen and measure
        to: Option<std::net::SocketAddr>,
        /// How long to measure
        #[arg(long, default_value_t = 0.8)]
        seconds: f64,
        /// Listen here
        #[arg(long)]
        listen: Option<std::net::IpAddr>,
    },
}

/// Which wires to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TransportArg {
    /// Shared memory inside a host, TCP between hosts
    #[default]
    Auto,
    /// Shared memory only
    Shm,
    /// TCP only, also inside a host
    Tcp,
}

impl TransportArg {
    /// The name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Shm => "shm",
            Self::Tcp => "tcp",
        }
    }

    /// The library's option.
    pub(crate) const fn choice(self) -> TransportChoice {
        match self {
            Self::Auto => TransportChoice::Auto,
            Self::Shm => TransportChoice::Shm,
            Self::Tcp => TransportChoice::Tcp,
        }
    }
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = RUN_AFTER)]
pub(crate) struct RunArgs {
    /// What to measure
    #[arg(value_enum, hide_possible_values = true, value_name = "COLLECTIVE", help = COLLECTIVES)]
    pub(crate) collective: Operation,
    /// Ranks to start on this machine [default: 2; under a launcher: all it started]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) ranks: Option<u32>,
    /// Which wires to use
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) transport: TransportArg,
    /// Smallest size in bytes; K, M and G are powers of two
    #[arg(short, long, value_parser = parse_size, default_value = "8", value_name = "SIZE")]
    pub(crate) begin: u64,
    /// Largest size in bytes
    #[arg(short, long, value_parser = parse_size, default_value = "64M", value_name = "SIZE")]
    pub(crate) end: u64,
    /// Each size is the one before times this
    #[arg(short, long, default_value_t = 4, value_name = "N")]
    pub(crate) factor: u64,
    /// Element type: i8 u8 i32 u32 i64 u64 f16 bf16 f32 f64 f8e4m3 f8e5m2
    #[arg(short, long, default_value = "f32", value_name = "TYPE")]
    pub(crate) dtype: String,
    /// Operator: sum prod min max avg and or xor premul_sum:FACTOR
    #[arg(short, long, default_value = "sum")]
    pub(crate) op: String,
    /// Root of broadcast, reduce, gather and scatter
    #[arg(short, long, default_value_t = 0, value_name = "RANK")]
    pub(crate) root: u32,
    /// Timed iterations per size [default: as many as fit in a fair share of about 6 s]
    #[arg(long, value_name = "N")]
    pub(crate) iters: Option<u32>,
    /// Untimed iterations before those [default: a tenth of them]
    #[arg(long, value_name = "N")]
    pub(crate) warmup: Option<u32>,
    /// Reduce the rows of a .npy file (float32): rank r contributes row r, modulo the rows;
    /// compared with float64. Takes the place of -b, -e and -f
    #[arg(long, value_name = "FILE.npy")]
    pub(crate) input: Option<PathBuf>,
    /// Use this algorithm wherever it serves the collective, instead of the planner's choice
    #[arg(long, value_name = "NAME")]
    pub(crate) algorithm: Option<String>,
    /// Constants for the planner: a TOML file as `collbench topo` prints it
    #[arg(long, value_name = "FILE")]
    pub(crate) tuning: Option<PathBuf>,
    /// Results that depend only on the inputs by rank, to the last bit
    #[arg(long)]
    pub(crate) reproducible: bool,
    /// Encrypt what goes over TCP
    #[arg(long)]
    pub(crate) encrypt: bool,
    /// One buffer for input and output
    #[arg(long, conflicts_with = "out_of_place")]
    pub(crate) in_place: bool,
    /// Separate buffers for input and output (the default)
    #[arg(long)]
    pub(crate) out_of_place: bool,
    /// Leave it to the scheduler where ranks run. Otherwise those that collbench starts are bound
    /// to a core each, if there are enough, and the hosts of a lab share out the cores
    #[arg(long)]
    pub(crate) no_bind: bool,
    /// A call that makes no progress for this many seconds fails
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) timeout: f64,
    /// Write every rank's flight dump there at the end, or when a call fails, for `doctor`
    #[arg(long, value_name = "DIR")]
    pub(crate) dump: Option<PathBuf>,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw latency and bus bandwidth over size
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
}

const COLLECTIVES: &str = "What to measure: all_reduce reduce_scatter all_gather broadcast reduce \
                           gather scatter all_to_all scan exscan barrier sendrecv";

const RUN_AFTER: &str = "\
Sizes are counted as nccl-tests counts them: the vector of all_reduce, broadcast, reduce, scan and \
sendrecv; the larger of a rank's two buffers where ranks hold parts. Times are those of the slowest rank \
of each iteration. algbw is size over median time in 1e9 bytes/s; busbw multiplies it by 2(p-1)/p for \
all_reduce, (p-1)/p where ranks hold parts, and 1 otherwise. Operations that do not synchronise all \
ranks are timed with a barrier before each iteration.

Every size is checked element by element, before and after the timed iterations; #wrong counts over all \
ranks.

Under a launcher (collbench launch, torchrun, srun, mpirun of Open MPI, mpiexec of MPICH, Intel MPI or \
PALS) run joins that job instead of starting ranks of its own: start one collbench per rank.";

/// Arguments of `explain`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The collective
    #[arg(value_enum, hide_possible_values = true, value_name = "COLLECTIVE", help = COLLECTIVES)]
    pub(crate) collective: Operation,
    /// Ranks of the communicator
    #[arg(short = 'n', long, default_value_t = 2, value_name = "N")]
    pub(crate) ranks: u32,
    /// Hosts the ranks are spread over, evenly; several are network namespaces and need root, as
    /// in `lab`
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) hosts: u32,
    /// Speed of each host's link, with several hosts
    #[arg(long, default_value = "1gbit")]
    pub(crate) rate: Links,
    /// Size in bytes, counted as `run` counts it
    #[arg(short, long, value_parser = parse_size, default_value = "1M")]
    pub(crate) size: u64,
    /// Element type
    #[arg(short, long, default_value = "f32", value_name = "TYPE")]
    pub(crate) dtype: String,
    /// Operator
    #[arg(short, long, default_value = "sum")]
    pub(crate) op: String,
    /// Root of rooted collectives
    #[arg(short, long, default_value_t = 0, value_name = "RANK")]
    pub(crate) root: u32,
    /// Only algorithms whose results depend on the inputs by rank alone
    #[arg(long)]
    pub(crate) reproducible: bool,
    /// Which wires to use
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) transport: TransportArg,
    /// Use this algorithm wherever it serves the collective, instead of the planner's choice
    #[arg(long, value_name = "NAME")]
    pub(crate) algorithm: Option<String>,
    /// Constants for the planner: a TOML file as `collbench topo` prints it
    #[arg(long, value_name = "FILE")]
    pub(crate) tuning: Option<PathBuf>,
}

/// Arguments of `doctor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = DOCTOR_AFTER)]
pub(crate) struct DoctorArgs {
    /// Dumps of one job, or folders that hold them (syncline-*.json)
    #[arg(required = true, value_name = "DUMP")]
    pub(crate) dumps: Vec<PathBuf>,
    /// Show the collective with this number on every rank
    #[arg(long, value_name = "N")]
    pub(crate) operation: Option<u64>,
    /// Print the diagnosis as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const DOCTOR_AFTER: &str = "\
A rank writes a dump when its communicator fails and the option dump_dir is set, or when the program \
asks for one; `collbench run --dump DIR` does both. Give the dumps of all ranks: a rank without one \
is taken for dead when others wait for it.

Exit status: 0 when nothing is wrong, 1 when a problem was found, 2 when a dump cannot be read or the \
dumps are not of one job.";

/// Arguments of `launch`.
#[derive(Clone, Debug, Args)]
#[command(after_help = LAUNCH_AFTER)]
pub(crate) struct LaunchArgs {
    /// How many times to start the program
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) ranks: u32,
    /// The program and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "PROGRAM [ARGS]")]
    pub(crate) program: Vec<OsString>,
}

const LAUNCH_AFTER: &str = "\
Each process finds its place in SYNCLINE_RANK, SYNCLINE_WORLD_SIZE and SYNCLINE_RENDEZVOUS (a path all \
share), and, as torchrun names them, RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE. Output lines are \
prefixed with the rank. When one process fails the others are ended, and its status is returned.";

/// Arguments of `lab`.
#[derive(Clone, Debug, Args)]
#[command(after_help = LAB_AFTER)]
pub(crate) struct LabArgs {
    /// Hosts to make
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) hosts: u32,
    /// Ranks on each host
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) ranks_per_host: u32,
    /// Speed of each host's link, in and out, as tc writes it: 100mbit 1gbit 10gbit; none for no limit
    #[arg(long, default_value = "1gbit")]
    pub(crate) rate: Links,
    /// Added latency; only `none` is possible
    #[arg(long, default_value = "none")]
    pub(crate) delay: Delay,
    /// First measure what a plain TCP stream reaches between two of the hosts, and compare
    #[arg(long)]
    pub(crate) measure_link: bool,
    /// Remove labs whose owner is gone, and do nothing else
    #[arg(long, conflicts_with = "command")]
    pub(crate) clean: bool,
    /// What to do in the lab, after `--`: `run ...`, `compare ...` or `launch -- program`
    #[arg(last = true, value_name = "run ...")]
    pub(crate) command: Vec<OsString>,
}

const LAB_AFTER: &str = "\
Needs root and iproute2 (ip, tc). Every host is a network namespace with one link to a bridge that has a \
namespace of its own; nothing outside these is touched. They are removed at the end, also after Ctrl-C \
or a crash; `collbench lab --clean` removes what a power-off may have left.";

/// Arguments of `sim`.
#[derive(Clone, Debug, Args)]
#[command(after_help = SIM_AFTER)]
pub(crate) struct SimArgs {
    /// The seeds to run, the last one not included
    #[arg(long, default_value = "0..1000", value_name = "A..B")]
    pub(crate) seeds: SeedRange,
    /// Run this seed only
    #[arg(long, conflicts_with = "seeds", value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Show everything that happens in it
    #[arg(long, requires = "seed")]
    pub(crate) trace: bool,
    /// Seeds to run at the same time
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) threads: usize,
}

const SIM_AFTER: &str = "\
Every seed decides a job of 1 to 64 ranks, what they call, and what breaks when: ranks crash, stop, \
come late, call something else, abort; links are slow, go silent, and come back. The engine and the \
control protocol are the real ones, the network and the clock are simulated. Nobody may hang, every \
result must be right, every error must name a rank that gave cause, and survivors must agree. The same \
seed gives the same run.";

/// Seeds from the first to before the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeedRange {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl std::str::FromStr for SeedRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u64>().ok();
        let ends = text.split_once("..").and_then(|(a, b)| number(a).zip(number(b)));
        match ends {
            Some((from, to)) if from < to => Ok(Self { from, to }),
            _ => Err("give two numbers, such as 0..1000, the first below the second".to_owned()),
        }
    }
}

/// Added latency of a lab's links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delay;

impl std::str::FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self);
        }
        Err("added latency would need the kernel's netem queue, which collbench does not use; \
             give --delay none"
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn nccl_tests_habits() {
        let line = "collbench run all_reduce -n 4 -b 8 -e 64M -f 4 -d bf16 -o max -v";
        let cli = Cli::try_parse_from(line.split(' ')).expect("valid");
        assert_eq!(cli.verbose, 1);
        let Some(Command::Run(args)) = cli.command else { panic!("run") };
        assert_eq!((args.ranks, args.begin, args.end, args.factor), (Some(4), 8, 64 << 20, 4));
        assert_eq!((args.dtype.as_str(), args.op.as_str()), ("bf16", "max"));
    }

    #[test]
    fn a_program_keeps_its_own_options() {
        let line = "collbench launch -n 3 -- prog --ranks 9 -x";
        let Some(Command::Launch(args)) =
            Cli::try_parse_from(line.split(' ')).expect("valid").command
        else {
            panic!("launch")
        };
        assert_eq!(args.ranks, 3);
        assert_eq!(args.program, ["prog", "--ranks", "9", "-x"]);
    }

    #[test]
    fn a_lab_takes_a_command_of_its_own() {
        let line =
            "collbench lab --hosts 4 --ranks-per-host 2 --rate 1gbit -- run all_reduce -b 1M";
        let Some(Command::Lab(args)) = Cli::try_parse_from(line.split(' ')).expect("valid").command
        else {
            panic!("lab")
        };
        assert_eq!((args.hosts, args.ranks_per_host, args.command.len()), (4, 2, 4));
    }

    #[test]
    fn delays_are_refused_with_the_reason() {
        let line = "collbench lab --delay 1ms -- run barrier";
        let error = Cli::try_parse_from(line.split(' ')).expect_err("no netem").to_string();
        assert!(error.contains("netem"), "{error}");
    }
}
