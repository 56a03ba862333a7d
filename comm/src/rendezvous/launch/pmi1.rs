//! The words of PMI-1, the text protocol between a process and the Hydra process manager of
//! MPICH, Intel MPI and MVAPICH; Slurm's `--mpi=pmi2` understands it, too.
//!
//! Every message is a line of `key=value` pairs, the first of which is the command. What is here
//! does no input or output.

use std::fmt::Write as _;

/// Longest line; the protocol's own limit is 1024 for most.
pub(crate) const LINE_BYTES_MAX: usize = 8192;

/// What a process says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// First words on a connection to a port.
    Connect { id: &'a str },
    /// Opens the conversation.
    Init,
    /// Asks how long names and values may be.
    Maxes,
    /// Asks for the name of the job's key space.
    KeySpace,
    /// Puts a value into the key space.
    Put { space: &'a str, key: &'a str, value: &'a str },
    /// Waits for all processes.
    Barrier,
    /// Asks for a value.
    Get { space: &'a str, key: &'a str },
    /// Ends the conversation.
    Finalize,
}

impl Request<'_> {
    /// The line, with its end.
    pub(crate) fn line(&self) -> String {
        let mut line = String::new();
        let written = match self {
            Self::Connect { id } => write!(line, "cmd=initack pmiid={id}"),
            Self::Init => write!(line, "cmd=init pmi_version=1 pmi_subversion=1"),
            Self::Maxes => write!(line, "cmd=get_maxes"),
            Self::KeySpace => write!(line, "cmd=get_my_kvsname"),
            Self::Put { space, key, value } => {
                write!(line, "cmd=put kvsname={space} key={key} value={value}")
            }
            Self::Barrier => write!(line, "cmd=barrier_in"),
            Self::Get { space, key } => write!(line, "cmd=get kvsname={space} key={key}"),
            Self::Finalize => write!(line, "cmd=finalize"),
        };
        written.expect("a string takes everything");
        line.push('\n');
        line
    }

    /// The command of the answer.
    pub(crate) fn answer(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "initack",
            Self::Init => "response_to_init",
            Self::Maxes => "maxes",
            Self::KeySpace => "my_kvsname",
            Self::Put { .. } => "put_result",
            Self::Barrier => "barrier_out",
            Self::Get { .. } => "get_result",
            Self::Finalize => "finalize_ack",
        }
    }
}

/// A line of the process manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply<'a> {
    /// Its command.
    pub(crate) command: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Reply<'a> {
    /// Takes a line, without its end, apart.
    ///
    /// # Errors
    /// In words, when it is no line of this protocol.
    pub(crate) fn parse(line: &'a str) -> Result<Self, String> {
        if line.len() > LINE_BYTES_MAX {
            return Err("the process manager sent a line that is too long".to_owned());
        }
        let mut pairs = Vec::new();
        for word in line.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(pair) => pairs.push(pair),
                // Error texts have blanks in them; only the first word counts.
                None if pairs.last().is_some_and(|&(key, _)| key == "msg") => {}
                None => return Err(format!("the process manager sent {line:?}")),
            }
        }
        match pairs.first() {
            Some(&("cmd", command)) => Ok(Self { command, pairs }),
            _ => Err(format!("the process manager sent {line:?}")),
        }
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(name, _)| *name == key).map(|&(_, value)| value)
    }

    /// Whether it says that something went wrong: a return code that is not 0.
    pub(crate) fn failure(&self) -> Option<String> {
        let code = self.get("rc").filter(|&code| code != "0")?;
        let message = self.get("msg").unwrap_or("no reason given");
        Some(format!("{} with code {code} ({message})", self.command))
    }
}

/// `text` as a value: no blanks, no line ends, at most `bytes_max` bytes.
pub(crate) fn value(text: &str, bytes_max: usize) -> String {
    let clean = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    text.chars().map(clean).take(bytes_max).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replies_are_understood() {
        let reply = Reply::parse("cmd=get_result rc=0 msg=success value=a=b").unwrap();
        assert_eq!((reply.command, reply.get("value")), ("get_result", Some("a=b")));
        assert_eq!(reply.failure(), None);
        let missing = Reply::parse("cmd=get_result rc=-1 msg=key syncline not found").unwrap();
        assert_eq!(missing.failure().unwrap(), "get_result with code -1 (key)");
        for line in ["", "hello", "rc=0 cmd=x", "cmd"] {
            assert!(Reply::parse(line).is_err(), "{line}");
        }
        assert!(Reply::parse(&"x".repeat(9000)).is_err());
    }

    #[test]
    fn values_hold_no_blanks() {
        assert_eq!(value("no port\nleft: 1-2", 12), "no_port_left");
        let put = Request::Put { space: "kvs_1", key: "k", value: "v" };
        assert_eq!(put.line(), "cmd=put kvsname=kvs_1 key=k value=v\n");
    }

    proptest! {
        #[test]
        fn any_line_parses_or_fails(line in "\\PC{0,100}|cmd=[a-z =0-9]{0,60}") {
            if let Ok(reply) = Reply::parse(&line) {
                let _ = (reply.failure(), reply.get("value"));
            }
        }
    }
}
