//! A group of processes: their output line by line, their ends, and their end together.
//!
//! One thread waits for everything: pipes, exits (by pidfd) and stop requests. It must be the
//! thread that spawned them, and live as long, because the kernel ties children to threads.

use std::collections::VecDeque;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::signals::stop_requests;
use crate::failure::{Failure, Outcome};

/// How long processes get to end by themselves after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How long output is awaited from a pipe that some escaped descendant keeps open.
const DRAIN: Duration = Duration::from_millis(500);
/// Longest line that is passed on whole.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A rank wrote a line to stdout.
    Out(u32, String),
    /// A rank wrote a line to stderr.
    Err(u32, String),
    /// A rank ended; all it wrote was reported before.
    Exit(u32, ExitStatus),
    /// The user wants to stop.
    Stop,
    /// Something else that was watched can be read.
    Ready,
    /// The time given to `next` is over.
    Timeout,
}

enum Stream {
    Out(ChildStdout),
    Err(ChildStderr),
}

/// An output pipe and the line that is not complete yet.
struct Pipe {
    stream: Stream,
    partial: Vec<u8>,
}

struct Member {
    rank: u32,
    child: Child,
    pidfd: OwnedFd,
    pipes: Vec<Pipe>,
    exited: Option<(ExitStatus, Instant)>,
    reported: bool,
}

/// Processes that end together.
pub(crate) struct Group {
    members: Vec<Member>,
    stop: &'static UnixStream,
    notices: VecDeque<Notice>,
}

impl Group {
    /// Starts `commands`, with ranks in order. When one cannot start, none stays.
    pub(crate) fn spawn(commands: impl IntoIterator<Item = Command>) -> Outcome<Self> {
        let mut group =
            Self { members: Vec::new(), stop: stop_requests()?, notices: VecDeque::new() };
        for (rank, mut command) in (0u32..).zip(commands) {
            // A group of its own: Ctrl-C in the terminal reaches only collbench, which ends it.
            let mut child = command.process_group(0).spawn().map_err(|e| {
                let program = command.get_program().to_string_lossy().into_owned();
                Failure::run(format!("cannot start rank {rank} ({program}): {e}"))
            })?;
            let pipes = pipes_of(&mut child);
            let pidfd = pidfd_open(pid(&child), PidfdFlags::empty());
            let pidfd = pidfd.map_err(|e| {
                let _ = child.kill();
                let _ = child.wait();
                Failure::run(format!("cannot watch rank {rank}: {e}"))
            })?;
            group.members.push(Member { rank, child, pidfd, pipes, exited: None, reported: false });
        }
        Ok(group)
    }

    /// Waits for the next thing to happen; `None` when all processes have ended.
    pub(crate) fn next(&mut self, deadline: Option<Instant>) -> Outcome<Option<Notice>> {
        self.next_or(&[], deadline)
    }

    /// Like [`Self::next`], and also tells when one of `others` can be read.
    pub(crate) fn next_or(
        &mut self,
        others: &[BorrowedFd<'_>],
        deadline: Option<Instant>,
    ) -> Outcome<Option<Notice>> {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Ok(Some(notice));
            }
            self.report_exits();
            if !self.notices.is_empty() {
                continue;
            }
            if self.members.iter().all(|m| m.reported) {
                return Ok(None);
            }
            if deadline.is_some_and(|d| Instant::now() >= d) {
                return Ok(Some(Notice::Timeout));
            }
            self.wait(others, deadline)?;
        }
    }

    /// Ends all processes: SIGTERM, and SIGKILL for those that do not heed it.
    pub(crate) fn end(&mut self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + GRACE;
        while self.members.iter().any(|m| m.exited.is_none()) && Instant::now() < deadline {
            self.reap();
            std::thread::sleep(Duration::from_millis(2));
        }
        self.signal(Signal::KILL);
        for member in &mut self.members {
            if member.exited.is_none() {
                // SIGKILL cannot be refused, so this ends.
                let _ = member.child.wait();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        for member in self.members.iter().filter(|m| m.exited.is_none()) {
            // Not reaped yet, so the number is still its own. It may just have ended by itself.
            let _ = kill_process_group(pid(&member.child), signal);
        }
    }

    /// Notes which processes have ended, and ends what they left in their process group.
    fn reap(&mut self) {
        for member in self.members.iter_mut().filter(|m| m.exited.is_none()) {
            let mut fds = [PollFd::new(&member.pidfd, PollFlags::IN)];
            let ended = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
            if ended != Ok(1) {
                continue;
            }
            // Before `wait`: until then the number cannot belong to anybody else.
            let _ = kill_process_group(pid(&member.child), Signal::KILL);
            if let Ok(status) = member.child.wait() {
                member.exited = Some((status, Instant::now()));
            }
        }
    }

    fn report_exits(&mut self) {
        self.reap();
        for member in self.members.iter_mut().filter(|m| !m.reported) {
            let Some((status, at)) = member.exited else { continue };
            if member.pipes.is_empty() || at.elapsed() >= DRAIN {
                member.reported = true;
                member.pipes.clear();
                self.notices.push_back(Notice::Exit(member.rank, status));
            }
        }
    }

    /// Sleeps until something can be read or a process ends, and reads it.
    fn wait(&mut self, others: &[BorrowedFd<'_>], deadline: Option<Instant>) -> Outcome {
        let draining = self.members.iter().any(|m| m.exited.is_some() && !m.reported);
        let mut sources = vec![];
        let mut fds = vec![PollFd::new(self.stop, PollFlags::IN)];
        fds.extend(others.iter().map(|&fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        for (m, member) in self.members.iter().enumerate() {
            if member.exited.is_none() {
                fds.push(PollFd::new(&member.pidfd, PollFlags::IN));
                sources.push(None);
            }
            for (p, pipe) in member.pipes.iter().enumerate() {
                fds.push(PollFd::from_borrowed_fd(pipe.fd(), PollFlags::IN));
                sources.push(Some((m, p)));
            }
        }
        let timeout = match (deadline, draining) {
            (_, true) => Some(Duration::from_millis(10)),
            (Some(d), _) => Some(d.saturating_duration_since(Instant::now())),
            (None, _) => None,
        };
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Failure::run(format!("poll: {e}"))),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            self.notices.push_back(Notice::Stop);
            return Ok(());
        }
        if ready[1..=others.len()].contains(&true) {
            self.notices.push_back(Notice::Ready);
        }
        let readable = sources.iter().zip(&ready[1 + others.len()..]).filter(|(_, ready)| **ready);
        let readable: Vec<(usize, usize)> = readable.filter_map(|(source, _)| *source).collect();
        // From the last to the first: a pipe at its end is removed.
        for (m, p) in readable.into_iter().rev() {
            let member = &mut self.members[m];
            if !member.pipes[p].read(member.rank, &mut self.notices) {
                member.pipes.remove(p);
            }
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.members.iter().any(|m| m.exited.is_none()) {
            self.end();
        }
    }
}

impl Pipe {
    fn fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Out(stream) => stream.as_fd(),
            Stream::Err(stream) => stream.as_fd(),
        }
    }

    /// Reads what is there and reports complete lines; false at the end of the stream.
    fn read(&mut self, rank: u32, notices: &mut VecDeque<Notice>) -> bool {
        let mut buffer = [0; 16 * 1024];
        let result = match &mut self.stream {
            Stream::Out(stream) => stream.read(&mut buffer),
            Stream::Err(stream) => stream.read(&mut buffer),
        };
        let count = result.unwrap_or(0);
        self.partial.extend(&buffer[..count]);
        while let Some(end) = self.partial.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            notices.push_back(self.notice(rank, &line[..end]));
        }
        if !self.partial.is_empty() && (count == 0 || self.partial.len() > LINE_BYTES_MAX) {
            let line = std::mem::take(&mut self.partial);
            notices.push_back(self.notice(rank, &line));
        }
        count > 0
    }

    fn notice(&self, rank: u32, line: &[u8]) -> Notice {
        let text = String::from_utf8_lossy(line).into_owned();
        match self.stream {
            Stream::Out(_) => Notice::Out(rank, text),
            Stream::Err(_) => Notice::Err(rank, text),
        }
    }
}

fn pipes_of(child: &mut Child) -> Vec<Pipe> {
    let out = child.stdout.take().map(Stream::Out);
    let err = child.stderr.take().map(Stream::Err);
    out.into_iter().chain(err).map(|stream| Pipe { stream, partial: Vec::new() }).collect()
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// How a process ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was ended by {}", signal_name(signal)),
        (None, None) => format!("ended oddly ({status})"),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL (out of memory?)",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn all(mut group: Group) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(notice) = group.next(None).expect("poll") {
            seen.push(match notice {
                Notice::Out(rank, line) => format!("{rank} out {line}"),
                Notice::Err(rank, line) => format!("{rank} err {line}"),
                Notice::Exit(rank, status) => format!("{rank} {}", describe(status)),
                Notice::Stop | Notice::Timeout | Notice::Ready => panic!("not asked for"),
            });
        }
        seen
    }

    #[test]
    fn lines_and_exits_are_reported_in_order() {
        let group = Group::spawn([shell("echo a; echo b >&2; printf c; exit 3")]).expect("sh");
        let seen = all(group);
        assert_eq!(seen.last().map(String::as_str), Some("0 exited with status 3"));
        for line in ["0 out a", "0 err b", "0 out c"] {
            assert!(seen.iter().any(|s| s == line), "{line} in {seen:?}");
        }
    }

    #[test]
    fn a_signal_is_named() {
        let seen = all(Group::spawn([shell("kill -SEGV $$")]).expect("sh"));
        assert_eq!(seen, ["0 was ended by SIGSEGV"]);
    }

    #[test]
    fn what_a_process_leaves_in_its_group_ends_with_it() {
        let group = Group::spawn([shell("sleep 1000 & echo $!")]).expect("sh");
        let seen = all(group);
        let pid = seen[0].strip_prefix("0 out ").expect("pid");
        let stat = format!("/proc/{pid}/stat");
        let runs = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        // Its pipes are closed before the last of it is gone.
        let deadline = Instant::now() + Duration::from_secs(10);
        while runs() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!runs(), "{seen:?}");
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn dropping_a_group_ends_even_the_stubborn() {
        let script = "trap '' TERM; echo $$; while :; do sleep 1; done";
        let mut group = Group::spawn([shell(script)]).expect("sh");
        let Some(Notice::Out(0, pid)) = group.next(None).expect("poll") else { panic!("pid") };
        drop(group);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn waiting_may_be_limited() {
        let mut group = Group::spawn([shell("sleep 1000")]).expect("sh");
        let notice = group.next(Some(Instant::now() + Duration::from_millis(10))).expect("poll");
        assert!(matches!(notice, Some(Notice::Timeout)));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Group::spawn([Command::new("/nonexistent/program")]).err().expect("missing");
        assert!(error.to_string().contains("rank 0 (/nonexistent/program)"), "{error}");
    }
}
