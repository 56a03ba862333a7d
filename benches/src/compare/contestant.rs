//! One contestant: its processes, and the sockets to its ranks.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::protocol::{Answer, Command, VERSION};
use super::waiting::Waiting;
use crate::failure::{Failure, Outcome};
use crate::launch::{Group, Notice, describe};

/// Time to end after `quit`.
const END: Duration = Duration::from_secs(3);
/// Time for a process to tell why it ends.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Lines of a contestant's output that are kept, to tell why it failed.
const TAIL_LINES: usize = 8;
/// Longest answer: a time for each of the most iterations.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How to start a contestant.
pub(crate) struct Start {
    /// Where its ranks find collbench.
    pub(crate) control: PathBuf,
    /// The processes to start: one launcher, or every rank.
    pub(crate) commands: Vec<std::process::Command>,
}

/// The socket to one rank.
struct Link {
    stream: UnixStream,
    partial: Vec<u8>,
}

/// A contestant whose ranks have all joined.
pub(crate) struct Contestant {
    version: String,
    links: Vec<Link>,
    waiting: Waiting,
    host: Host,
}

/// The processes of a contestant.
struct Host {
    group: Group,
    tail: VecDeque<String>,
    /// How the last process that ended did so.
    ended: Option<String>,
}

impl Contestant {
    /// Starts the processes and waits for all `ranks`. The error says what the processes said.
    pub(crate) fn start(start: Start, ranks: u32, patience: Duration) -> Outcome<Self> {
        let listener = UnixListener::bind(&start.control)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|e| {
                Failure::run(format!("cannot listen on {}: {e}", start.control.display()))
            })?;
        let group = Group::spawn(start.commands)?;
        let mut host = Host { group, tail: VecDeque::new(), ended: None };
        let (links, ready) = gather(&mut host, &listener, ranks, Instant::now() + patience)?;
        let version = ready.first().map_or_else(String::new, |r| r.version.clone());
        let waiting = Waiting::new(ready.iter().map(|r| r.pid).collect());
        Ok(Self { version, links, waiting, host })
    }

    /// The library, in its own words.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Share of one core that all its ranks together used while it was not their turn.
    pub(crate) fn waiting_cores(&self) -> f64 {
        self.waiting.cores()
    }

    /// Gives every rank a command and waits for all answers, in rank order.
    pub(crate) fn ask(&mut self, command: &Command, patience: Duration) -> Outcome<Vec<Answer>> {
        self.waiting.end();
        let line = format!("{command}\n");
        for link in &mut self.links {
            // A rank that is gone is found out below, with what it said.
            let _ = (&link.stream).write_all(line.as_bytes());
        }
        let answers = self.host.answers(&mut self.links, Instant::now() + patience, command);
        self.waiting.begin();
        answers
    }

    /// Lets the ranks end by themselves, and then ends them.
    pub(crate) fn quit(mut self) {
        for link in &mut self.links {
            let _ = (&link.stream).write_all(format!("{}\n", Command::Quit).as_bytes());
        }
        let deadline = Instant::now() + END;
        // Whatever it says now, the times are taken.
        while let Ok(Some(notice)) = self.host.group.next(Some(deadline)) {
            if matches!(notice, Notice::Timeout | Notice::Stop) {
                break;
            }
        }
        self.host.group.end();
    }
}

/// What a rank says when it has joined.
struct Ready {
    rank: u32,
    pid: u32,
    version: String,
}

/// Accepts all ranks; the answer is in rank order.
fn gather(
    host: &mut Host,
    listener: &UnixListener,
    ranks: u32,
    deadline: Instant,
) -> Outcome<(Vec<Link>, Vec<Ready>)> {
    let mut joined: Vec<(Ready, Link)> = Vec::new();
    let mut strangers: Vec<Link> = Vec::new();
    while joined.len() < ranks as usize {
        match listener.accept() {
            Ok((stream, _)) => strangers.push(Link::new(stream)?),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(Failure::run(format!("cannot accept a rank: {e}"))),
        }
        let mut waiting = Vec::new();
        for mut link in strangers.drain(..) {
            match link.read_answer()? {
                Some(answer) => joined.push((check_ready(answer, ranks)?, link)),
                None => waiting.push(link),
            }
        }
        strangers = waiting;
        if joined.len() < ranks as usize {
            let mut fds: Vec<_> = strangers.iter().map(|link| link.stream.as_fd()).collect();
            fds.push(listener.as_fd());
            let waits_for = format!("only {} of {ranks} ranks came", joined.len());
            host.wait(&fds, deadline, &waits_for)?;
        }
    }
    joined.sort_by_key(|(ready, _)| ready.rank);
    if joined.iter().zip(0..).any(|((ready, _), rank)| ready.rank != rank) {
        return Err(Failure::run("two processes claim to be the same rank"));
    }
    Ok(joined.into_iter().map(|(ready, link)| (link, ready)).unzip())
}

fn check_ready(answer: Answer, expected: u32) -> Outcome<Ready> {
    match answer {
        Answer::Ready { protocol, .. } if protocol != VERSION => Err(Failure::run(format!(
            "it speaks version {protocol} of the protocol, not {VERSION}: build it again"
        ))),
        Answer::Ready { ranks, .. } if ranks != expected => Err(Failure::run(format!(
            "its ranks found a job of {ranks} ranks instead of {expected}"
        ))),
        Answer::Ready { rank, pid, version, .. } => Ok(Ready { rank, pid, version }),
        other => Err(Failure::run(format!("a rank began with '{other}'"))),
    }
}

impl Host {
    /// One answer from every link.
    fn answers(
        &mut self,
        links: &mut [Link],
        deadline: Instant,
        command: &Command,
    ) -> Outcome<Vec<Answer>> {
        let mut answers: Vec<Option<Answer>> = vec![None; links.len()];
        loop {
            for (link, answer) in links.iter_mut().zip(&mut answers).filter(|(_, a)| a.is_none()) {
                *answer = match link.read_answer() {
                    Ok(answer) => answer,
                    Err(failure) => return Err(self.with_last_words(failure)),
                };
            }
            let pending = links.iter().zip(&answers).filter(|(_, answer)| answer.is_none());
            let fds: Vec<_> = pending.map(|(link, _)| link.stream.as_fd()).collect();
            if fds.is_empty() {
                return Ok(answers.into_iter().flatten().collect());
            }
            let missing =
                format!("{} of {} ranks did not answer '{command}'", fds.len(), links.len());
            self.wait(&fds, deadline, &missing)?;
        }
    }

    /// Waits until one of `fds` can be read; keeps what processes say, and fails when one ends.
    fn wait(
        &mut self,
        fds: &[std::os::fd::BorrowedFd<'_>],
        deadline: Instant,
        waits_for: &str,
    ) -> Outcome {
        loop {
            match self.group.next_or(fds, Some(deadline))? {
                Some(Notice::Ready) => return Ok(()),
                Some(Notice::Out(_, line) | Notice::Err(_, line)) => self.keep(line),
                Some(Notice::Stop) => return Err(Failure::Interrupted),
                Some(Notice::Exit(_, status)) => {
                    let ended = describe(status);
                    if !status.success() {
                        return Err(self.failure(&ended));
                    }
                    self.ended = Some(ended);
                }
                Some(Notice::Timeout) => {
                    return Err(self.failure(&format!("{waits_for} in time")));
                }
                None => {
                    let how = self.ended.clone().unwrap_or_default();
                    return Err(self.failure(&format!("all its processes ended ({how})")));
                }
            }
        }
    }

    fn keep(&mut self, line: String) {
        // Launchers like to draw lines.
        if !line.contains(char::is_alphanumeric) {
            return;
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// A rank closed its socket: waits a moment for its process to end and tell why.
    fn with_last_words(&mut self, failure: Failure) -> Failure {
        let deadline = Instant::now() + LAST_WORDS;
        loop {
            match self.group.next(Some(deadline)) {
                Ok(Some(Notice::Out(_, line) | Notice::Err(_, line))) => self.keep(line),
                Ok(Some(Notice::Stop)) => return Failure::Interrupted,
                Ok(Some(Notice::Exit(_, status))) => {
                    return self.failure(&format!("{failure}, a process {}", describe(status)));
                }
                Ok(Some(Notice::Ready | Notice::Timeout) | None) | Err(_) => {
                    return self.failure(&failure.to_string());
                }
            }
        }
    }

    fn failure(&self, what: &str) -> Failure {
        let said: Vec<&str> = self.tail.iter().map(|line| line.trim()).collect();
        let said = said.join(" | ");
        Failure::run(if said.is_empty() { what.to_owned() } else { format!("{what}: {said}") })
    }
}

impl Link {
    fn new(stream: UnixStream) -> Outcome<Self> {
        stream
            .set_nonblocking(true)
            .map_err(|e| Failure::run(format!("cannot read from a rank: {e}")))?;
        Ok(Self { stream, partial: Vec::new() })
    }

    /// The next answer, if it is there.
    fn read_answer(&mut self) -> Outcome<Option<Answer>> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line[..end]).into_owned();
                return line.parse().map(Some).map_err(Failure::Run);
            }
            if self.partial.len() > ANSWER_BYTES_MAX {
                return Err(Failure::run("a rank does not end its answer"));
            }
            match (&self.stream).read(&mut buffer) {
                Ok(0) => return Err(Failure::run("a rank closed its socket")),
                Ok(count) => self.partial.extend(&buffer[..count]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Failure::run(format!("a rank cannot be read: {e}"))),
            }
        }
    }
}
