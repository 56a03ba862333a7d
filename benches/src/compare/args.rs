//! The arguments of `collbench compare`, and their check.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use syncline::reduce::DType;

use super::contest::Race;
use super::protocol::COLLECTIVES;
use super::values::DTYPES;
use crate::cli::TransportArg;
use crate::failure::{Failure, Outcome};
use crate::launch::own_processors;
use crate::operation::Operation;
use crate::plan::{check_ranks, check_timeout, parse_dtype};
use crate::report::Files;
use crate::size::{human, parse_size, sweep};

/// Largest message: every contestant holds it twice per rank.
const SIZE_MAX: u64 = 1 << 30;
/// Ranks when the user does not say.
const RANKS_DEFAULT: u32 = 2;
/// Length of a block when the user does not say.
const BLOCK_MS: f64 = 4.0;
/// The same where ranks share cores: the scheduler gives a core away for about 4 ms at a time.
const BLOCK_MS_CROWDED: f64 = 40.0;
/// Longest block.
const BLOCK_MS_MAX: f64 = 10_000.0;

/// Arguments of `compare`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER)]
pub(crate) struct CompareArgs {
    /// What to compare: all_reduce reduce_scatter all_gather broadcast all_to_all
    #[arg(value_enum, hide_possible_values = true, value_name = "COLLECTIVE")]
    pub(crate) collective: Operation,
    /// Who takes part besides Syncline: impi, openmpi, mpich, gloo; the yardsticks sockets and
    /// stream; or NAME=PROGRAM, another collbench (an older build, say) or any program that
    /// speaks the protocol of benches/peers
    #[arg(long, value_delimiter = ',', default_value = "impi,openmpi,mpich,gloo")]
    pub(crate) peers: Vec<PeerArg>,
    /// Where benches/peers/setup has put the peers [default: peers/ in cargo's target directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) peers_dir: Option<PathBuf>,
    /// Ranks of every contestant [default: 2; in a lab: all its ranks]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) ranks: Option<u32>,
    /// Which wires to use; auto leaves it to every library
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) transport: TransportArg,
    /// Sizes in bytes, instead of -b, -e and -f
    #[arg(long, value_parser = parse_size, value_delimiter = ',', value_name = "SIZE",
          conflicts_with_all = ["begin", "end", "factor"])]
    pub(crate) sizes: Vec<u64>,
    /// Smallest size in bytes; K, M and G are powers of two
    #[arg(short, long, value_parser = parse_size, default_value = "8", value_name = "SIZE")]
    pub(crate) begin: u64,
    /// Largest size in bytes, which is always compared
    #[arg(short, long, value_parser = parse_size, default_value = "64M", value_name = "SIZE")]
    pub(crate) end: u64,
    /// Each size is the one before times this
    #[arg(short, long, default_value_t = 4, value_name = "N")]
    pub(crate) factor: u64,
    /// Element type, of those that all libraries have: f32 f64 i32 i64
    #[arg(short, long, visible_alias = "type", default_value = "f32", value_name = "TYPE")]
    pub(crate) dtype: String,
    /// How often everybody takes a turn [default: 25, fewer for slow sizes, at least 7]
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<u32>,
    /// How long a turn takes, about; its iterations are as many as fit [default: 4, or 40 where there
    /// are more ranks than cores]
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    pub(crate) block_ms: Option<f64>,
    /// Syncline's algorithm, instead of the planner's choice
    #[arg(long, value_name = "NAME")]
    pub(crate) algorithm: Option<String>,
    /// Constants for Syncline's planner: a TOML file as `collbench topo` prints it
    #[arg(long, value_name = "FILE")]
    pub(crate) tuning: Option<PathBuf>,
    /// Leave it to the scheduler where ranks run. Otherwise those of every contestant are bound to
    /// the same cores, if there are enough; Gloo's, which have a second thread each, never are
    #[arg(long)]
    pub(crate) no_bind: bool,
    /// A contestant that does not start or answer within this many seconds is out
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) timeout: f64,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw times and ratios over size
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) svg: Option<PathBuf>,
}

const AFTER: &str = "\
All contestants are started once and stay. For every size they take turns, round after round; those \
that wait sleep. In its turn each rank makes some calls untimed, then times as many as fill about \
--block-ms, back to back, the sum as operator, in separate buffers of the same values. A turn counts as \
long as its slowest rank. broadcast, which does not synchronise all ranks, has a barrier before each \
call, and each call counts as long as its slowest rank. Shown are medians over the rounds; x is a \
peer's median over Syncline's: above 1, Syncline is faster. Every contestant's results are checked \
element by element, before the timed calls and after.

Two yardsticks show how far away the limits are. They compute nothing, and do not count as peers: \
sockets moves through plain TCP sockets, both directions at once, the bytes that each rank must move; \
stream reads each rank's input once and writes its result once, around the caches. There x is the \
share of the yardstick's speed that Syncline reaches.

Install and build the peers with benches/peers/setup. A peer that is absent, cannot use the wires asked \
for or fails is named with the reason and left out.";

/// Who takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerArg {
    /// Intel MPI.
    Impi,
    /// Open MPI.
    OpenMpi,
    /// MPICH.
    Mpich,
    /// Gloo.
    Gloo,
    /// Plain TCP sockets: what the wire can do.
    Sockets,
    /// Input read once, output written once: what the memory can do.
    Stream,
    /// A program that is started once per rank.
    Program {
        /// What the user calls it.
        name: String,
        /// The program.
        path: PathBuf,
    },
}

impl PeerArg {
    /// The name in tables and files.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Impi => "impi",
            Self::OpenMpi => "openmpi",
            Self::Mpich => "mpich",
            Self::Gloo => "gloo",
            Self::Sockets => "sockets",
            Self::Stream => "stream",
            Self::Program { name, .. } => name,
        }
    }

    /// Whether it shows a limit and is no library.
    pub(crate) const fn is_yardstick(&self) -> bool {
        matches!(self, Self::Sockets | Self::Stream)
    }
}

impl FromStr for PeerArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((name, path)) = text.split_once('=') {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if name.is_empty() || name.len() > 16 || !name.chars().all(is_plain) {
                return Err(format!("'{name}' must be a short name of letters, digits, - and _"));
            }
            return Ok(Self::Program { name: name.to_owned(), path: path.into() });
        }
        [Self::Impi, Self::OpenMpi, Self::Mpich, Self::Gloo, Self::Sockets, Self::Stream]
            .into_iter()
            .find(|peer| peer.name() == text)
            .ok_or_else(|| {
                format!(
                    "'{text}' is not a peer; choose of impi, openmpi, mpich, gloo, sockets, \
                     stream, NAME=PROGRAM"
                )
            })
    }
}

/// What was asked for, checked.
pub(crate) struct Comparison {
    /// What is raced.
    pub(crate) race: Race,
    /// Elements, as the call counts them, of every size.
    pub(crate) counts: Vec<usize>,
}

impl CompareArgs {
    /// Where the results go.
    pub(crate) fn files(&self) -> Files {
        Files { json: self.json.clone(), plot: self.svg.clone() }
    }

    /// The ranks on this machine.
    pub(crate) fn own_ranks(&self) -> u32 {
        self.ranks.unwrap_or(RANKS_DEFAULT)
    }

    /// Checks everything that can be wrong before anything is started.
    pub(crate) fn check(&self, ranks: u32) -> Outcome<Comparison> {
        check_ranks(ranks)?;
        self.check_collective()?;
        self.check_peers()?;
        let dtype = self.check_dtype()?;
        let sizes = self.check_sizes()?;
        if self.rounds == Some(0) {
            return Err(Failure::usage("--rounds 0 measures nothing; give at least 1"));
        }
        let block_ms = self.check_block_ms(ranks, own_processors().len())?;
        let operation = self.collective;
        let race = Race {
            operation,
            dtype: dtype.name().to_owned(),
            element_bytes: dtype.size(),
            ranks,
            block: Duration::from_secs_f64(block_ms / 1e3),
            rounds: self.rounds,
            patience: Duration::from_secs_f64(check_timeout(self.timeout)?),
        };
        let mut counts: Vec<usize> =
            sizes.iter().map(|&size| operation.count(size, dtype.size(), ranks)).collect();
        counts.dedup();
        Ok(Comparison { race, counts })
    }

    /// How long a turn takes, with so many ranks on so many processors.
    fn check_block_ms(&self, ranks: u32, processors: usize) -> Outcome<f64> {
        let block_ms = self.block_ms.unwrap_or(match ranks as usize > processors {
            true => BLOCK_MS_CROWDED,
            false => BLOCK_MS,
        });
        if block_ms > 0.0 && block_ms <= BLOCK_MS_MAX {
            return Ok(block_ms);
        }
        Err(Failure::usage(format!(
            "--block-ms {block_ms}: give milliseconds above 0, at most {BLOCK_MS_MAX}"
        )))
    }

    fn check_collective(&self) -> Outcome {
        if COLLECTIVES.contains(&self.collective) {
            return Ok(());
        }
        let names = COLLECTIVES.map(Operation::name).join(", ");
        Err(Failure::usage(format!(
            "{} is not compared with others; choose one of {names}, or `collbench run`",
            self.collective.name()
        )))
    }

    fn check_peers(&self) -> Outcome {
        let names: Vec<&str> = self.peers.iter().map(PeerArg::name).collect();
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) || *name == super::summary::SYNCLINE {
                return Err(Failure::usage(format!("--peers names {name} twice")));
            }
        }
        Ok(())
    }

    fn check_dtype(&self) -> Outcome<DType> {
        let dtype = parse_dtype(&self.dtype).map_err(Failure::Usage)?;
        if DTYPES.contains(&dtype) {
            return Ok(dtype);
        }
        Err(Failure::usage(format!(
            "{} is a type that not all libraries have; choose one of f32 f64 i32 i64",
            dtype.name()
        )))
    }

    fn check_sizes(&self) -> Outcome<Vec<u64>> {
        let sizes = if self.sizes.is_empty() {
            if self.factor < 2 {
                return Err(Failure::usage(format!("-f {}: give at least 2", self.factor)));
            }
            let mut sizes = sweep(self.begin, self.end, self.factor);
            // The largest is what bandwidth is judged by.
            if sizes.last().is_some_and(|&last| last < self.end) {
                sizes.push(self.end);
            }
            sizes
        } else {
            self.sizes.clone()
        };
        match sizes.iter().find(|&&size| size == 0 || size > SIZE_MAX) {
            _ if sizes.is_empty() => Err(Failure::usage(format!(
                "-b {} is larger than -e {}; give the smallest size with -b",
                self.begin, self.end
            ))),
            Some(size) => Err(Failure::usage(format!(
                "a size of {size} bytes is not compared; give 1 B to {}",
                human(SIZE_MAX)
            ))),
            None => Ok(sizes),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &str) -> CompareArgs {
        let words = ["collbench", "compare"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).expect(line).command {
            Some(Command::Compare(args)) => *args,
            _ => panic!("not a comparison"),
        }
    }

    #[test]
    fn everybody_takes_part_by_default() {
        let args = args("all_reduce");
        let names: Vec<&str> = args.peers.iter().map(PeerArg::name).collect();
        assert_eq!(names, ["impi", "openmpi", "mpich", "gloo"]);
        let comparison = args.check(2).expect("valid");
        assert_eq!(comparison.counts.len(), 13, "8 B to 32 MiB by fours, and 64 MiB");
        assert_eq!(comparison.race.dtype, "f32");
    }

    #[test]
    fn sizes_may_be_listed_and_programs_named() {
        let args = args("all_gather --sizes 8,1K,1K --type f64 --peers gloo,old=./a/collbench");
        let comparison = args.check(4).expect("valid");
        assert_eq!(comparison.counts, [1, 32], "each once");
        let path = "./a/collbench".into();
        assert_eq!(args.peers[1], PeerArg::Program { name: "old".into(), path });
    }

    #[test]
    fn turns_are_longer_where_ranks_share_cores() {
        let unsaid = args("all_reduce");
        assert_eq!(unsaid.check_block_ms(8, 2).expect("valid"), 40.0);
        assert_eq!(unsaid.check_block_ms(2, 2).expect("valid"), 4.0);
        assert_eq!(args("all_reduce --block-ms 7").check_block_ms(8, 2).expect("valid"), 7.0);
    }

    #[test]
    fn wrong_combinations_say_what_to_do() {
        for (line, expected) in [
            ("scan", "choose one of all_reduce"),
            ("all_reduce --type bf16", "f32 f64 i32 i64"),
            ("all_reduce --type f31", "choose one of"),
            ("all_reduce --peers gloo,gloo", "twice"),
            ("all_reduce --peers syncline=x", "twice"),
            ("all_reduce -b 64 -e 8", "larger than -e"),
            ("all_reduce -f 1", "at least 2"),
            ("all_reduce --sizes 0", "1 B to"),
            ("all_reduce --sizes 2G", "1 B to"),
            ("all_reduce --rounds 0", "at least 1"),
            ("all_reduce --block-ms 0", "above 0"),
            ("all_reduce --block-ms NaN", "above 0"),
            ("all_reduce --timeout -1", "seconds"),
            ("all_reduce --ranks 0", "from 1 to"),
        ] {
            let args = args(line);
            let failure = args.check(args.own_ranks()).err().expect(line);
            assert_eq!(failure.status(), 2, "{line}");
            assert!(failure.to_string().contains(expected), "{line}: {failure}");
        }
    }

    #[test]
    fn a_peer_is_known_or_a_program_with_a_plain_name() {
        for text in ["nccl", "", "=x", "a b=x", "seventeen-letters=x", "ü=x"] {
            assert!(text.parse::<PeerArg>().is_err(), "{text}");
        }
    }
}
