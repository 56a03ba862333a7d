//! What collbench and the contestants' ranks say to each other: one line per command, one per
//! answer, over a Unix socket for each rank. `benches/peers/README.md` describes it for others.

use std::fmt;
use std::str::FromStr;

use crate::operation::Operation;

/// The version of this conversation; `ready` carries it.
pub(crate) const VERSION: u32 = 1;

/// The path of collbench's socket, for the contestant's ranks.
pub(crate) const CONTROL: &str = "COLLBENCH_CONTROL";

/// The collectives that are compared.
pub(crate) const COLLECTIVES: [Operation; 5] = [
    Operation::AllReduce,
    Operation::ReduceScatter,
    Operation::AllGather,
    Operation::Broadcast,
    Operation::AllToAll,
];

/// How iterations are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timing {
    /// Back to back, one time for all of them: for collectives that synchronise all ranks.
    Block,
    /// With a barrier before each, one time for each.
    Each,
}

impl Timing {
    /// How calls of `operation` are timed.
    pub(crate) const fn of(operation: Operation) -> Self {
        if operation.synchronises() { Self::Block } else { Self::Each }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Each => "each",
        }
    }
}

/// From collbench to every rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Allocate, fill, make one call, check its result.
    Prepare {
        /// What to call.
        operation: Operation,
        /// Element type, by name.
        dtype: String,
        /// Elements, as the call counts them.
        count: usize,
    },
    /// Make calls and time them.
    Time {
        /// How.
        timing: Timing,
        /// Calls before those.
        warmup: u64,
        /// Timed calls.
        iterations: u64,
    },
    /// Check what the last call left, and free the buffers.
    Finish,
    /// End.
    Quit,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare { operation, dtype, count } => {
                write!(f, "prepare {} {dtype} {count}", operation.name())
            }
            Self::Time { timing, warmup, iterations } => {
                write!(f, "time {} {warmup} {iterations}", timing.name())
            }
            Self::Finish => f.write_str("finish"),
            Self::Quit => f.write_str("quit"),
        }
    }
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let unknown = || format!("'{line}' is not a command");
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |word: &str| word.parse::<u64>().map_err(|_| unknown());
        match words[..] {
            ["prepare", operation, dtype, count] => Ok(Self::Prepare {
                operation: COLLECTIVES
                    .into_iter()
                    .find(|known| known.name() == operation)
                    .ok_or_else(unknown)?,
                dtype: dtype.to_owned(),
                count: count.parse().map_err(|_| unknown())?,
            }),
            ["time", timing, warmup, iterations] => Ok(Self::Time {
                timing: [Timing::Block, Timing::Each]
                    .into_iter()
                    .find(|known| known.name() == timing)
                    .ok_or_else(unknown)?,
                warmup: number(warmup)?,
                iterations: number(iterations)?,
            }),
            ["finish"] => Ok(Self::Finish),
            ["quit"] => Ok(Self::Quit),
            _ => Err(unknown()),
        }
    }
}

/// From a rank to collbench.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The rank has joined its job. The only thing a rank says unasked.
    Ready {
        /// The version of the conversation.
        protocol: u32,
        /// Its rank.
        rank: u32,
        /// All ranks.
        ranks: u32,
        /// Its process.
        pid: u32,
        /// The library, in its own words.
        version: String,
    },
    /// The first call is made; so many elements of its result are wrong.
    Prepared {
        /// Wrong elements.
        wrong: u64,
    },
    /// The library cannot make this call.
    Refused(String),
    /// One time for all iterations, or one for each, in nanoseconds.
    Timed(Vec<u64>),
    /// So many elements of the last call's result are wrong.
    Finished {
        /// Wrong elements.
        wrong: u64,
    },
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { protocol, rank, ranks, pid, version } => {
                write!(f, "ready {protocol} {rank} {ranks} {pid} {version}")
            }
            Self::Prepared { wrong } => write!(f, "prepared {wrong}"),
            Self::Refused(reason) => write!(f, "refused {reason}"),
            Self::Timed(times) => {
                f.write_str("timed")?;
                times.iter().try_for_each(|time| write!(f, " {time}"))
            }
            Self::Finished { wrong } => write!(f, "finished {wrong}"),
        }
    }
}

impl FromStr for Answer {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let shown: String = line.chars().take(100).collect();
        let unknown = || format!("a rank said '{shown}', which is not an answer");
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = |text: &str| text.parse::<u64>().map_err(|_| unknown());
        match word {
            "ready" => {
                let mut fields = rest.splitn(5, ' ');
                let mut next = || fields.next().ok_or_else(unknown);
                let mut small = || next()?.parse::<u32>().map_err(|_| unknown());
                let (protocol, rank, ranks, pid) = (small()?, small()?, small()?, small()?);
                Ok(Self::Ready { protocol, rank, ranks, pid, version: next()?.to_owned() })
            }
            "prepared" => Ok(Self::Prepared { wrong: number(rest)? }),
            "refused" if !rest.is_empty() => Ok(Self::Refused(rest.to_owned())),
            "timed" => {
                let times: Vec<u64> =
                    rest.split_ascii_whitespace().map(number).collect::<Result<_, _>>()?;
                if times.is_empty() { Err(unknown()) } else { Ok(Self::Timed(times)) }
            }
            "finished" => Ok(Self::Finished { wrong: number(rest)? }),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_the_socket() {
        let commands = [
            ("prepare all_reduce f32 1024", prepare(Operation::AllReduce, 1024)),
            ("prepare all_to_all f32 0", prepare(Operation::AllToAll, 0)),
            ("time block 2 10", Command::Time { timing: Timing::Block, warmup: 2, iterations: 10 }),
            ("time each 0 1", Command::Time { timing: Timing::Each, warmup: 0, iterations: 1 }),
            ("finish", Command::Finish),
            ("quit", Command::Quit),
        ];
        for (line, command) in commands {
            assert_eq!(command.to_string(), line);
            assert_eq!(line.parse(), Ok(command));
        }
    }

    fn prepare(operation: Operation, count: usize) -> Command {
        Command::Prepare { operation, dtype: "f32".into(), count }
    }

    #[test]
    fn answers_survive_the_socket() {
        let version = "Some MPI 1.2".to_owned();
        let answers = [
            (
                "ready 1 0 2 99 Some MPI 1.2",
                Answer::Ready { protocol: 1, rank: 0, ranks: 2, pid: 99, version },
            ),
            ("prepared 3", Answer::Prepared { wrong: 3 }),
            ("refused not that", Answer::Refused("not that".into())),
            ("timed 5 7", Answer::Timed(vec![5, 7])),
            ("finished 0", Answer::Finished { wrong: 0 }),
        ];
        for (line, answer) in answers {
            assert_eq!(answer.to_string(), line);
            assert_eq!(line.parse(), Ok(answer));
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for line in
            ["", "prepare", "prepare scan f32 1", "prepare all_reduce f32 x", "time all 1 1"]
        {
            assert!(line.parse::<Command>().expect_err(line).contains("not a command"));
        }
        for line in
            ["", "ready 1 2 3", "ready 1 a 2 3 x", "timed", "timed x", "prepared -1", "refused"]
        {
            assert!(line.parse::<Answer>().expect_err(line).contains("not an answer"));
        }
    }

    #[test]
    fn only_what_does_not_synchronise_gets_barriers() {
        for operation in COLLECTIVES {
            let each = operation == Operation::Broadcast;
            assert_eq!(Timing::of(operation) == Timing::Each, each, "{}", operation.name());
        }
    }
}
