//! Noticing that a local peer's process is gone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::stat;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use super::mapped::MappedRank;

/// Which process this is, as peers can check it.
pub(super) struct Identity {
    pub(super) pid: u32,
    started: u64,
    namespace: u64,
}

impl Identity {
    /// Of the calling process.
    pub(super) fn of_this_process() -> Self {
        Self::of(this_pid())
    }

    /// Of a process in this process's namespace.
    pub(super) fn of(pid: u32) -> Self {
        // Without /proc both are 0 everywhere, and a process id has to be believed.
        let namespace = stat("/proc/self/ns/pid").map_or(0, |stat| stat.st_ino);
        Self { pid, started: start_of(pid).unwrap_or(0), namespace }
    }

    /// Takes `block` for this process. Whether it was free.
    pub(super) fn claim(&self, block: &MappedRank) -> bool {
        let claimed =
            block.pid().compare_exchange(0, self.pid, Ordering::Relaxed, Ordering::Relaxed);
        if claimed.is_err() {
            return false;
        }
        block.started().store(self.started, Ordering::Relaxed);
        block.namespace().store(self.namespace, Ordering::Relaxed);
        // Peers look at all this only when they see that.
        block.attached().store(1, Ordering::Release);
        true
    }
}

/// The number of the calling process.
pub(super) fn this_pid() -> u32 {
    getpid().as_raw_nonzero().get().unsigned_abs()
}

/// When a process started, in ticks since boot: field 22 of its `stat`.
fn start_of(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, a name in parentheses, may hold anything, spaces and parentheses too.
    text.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// The watch over one peer.
#[derive(Debug)]
pub(super) enum Watch {
    /// It has not attached yet.
    NotYet,
    /// Readable once the process has exited.
    On(OwnedFd),
    /// It cannot be watched from here: it lives in another process id namespace, or the system
    /// does not let us. Its other connections tell.
    Blind,
    /// It is gone; there is nothing more to see.
    Over,
}

impl Watch {
    /// Begins to watch the process of `block` if it has attached. `Some` if it is gone already.
    pub(super) fn begin(&mut self, block: &MappedRank, me: &Identity) -> Option<String> {
        if !matches!(self, Self::NotYet) {
            return None;
        }
        if block.attached().load(Ordering::Acquire) == 0 {
            return None;
        }
        let raw = block.pid().load(Ordering::Relaxed);
        let pid = i32::try_from(raw).ok().filter(|&raw| raw > 0).and_then(Pid::from_raw);
        let (Some(pid), true) = (pid, block.namespace().load(Ordering::Relaxed) == me.namespace)
        else {
            *self = Self::Blind;
            return None;
        };
        let opened = pidfd_open(pid, PidfdFlags::NONBLOCK);
        // Looked up after the descriptor was made: if it matches, that is the process.
        let started = block.started().load(Ordering::Relaxed);
        let reused = started != 0 && start_of(raw).is_some_and(|start| start != started);
        *self = match opened {
            Ok(fd) if !reused => Self::On(fd),
            Ok(_) | Err(Errno::SRCH) => Self::Over,
            Err(_) => Self::Blind,
        };
        matches!(self, Self::Over).then(|| gone(raw))
    }

    /// What to poll for readability.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        if let Self::On(fd) = self { Some(fd.as_fd()) } else { None }
    }

    /// Looks at it, without waiting. `Some` if the process is gone.
    pub(super) fn look(&mut self, block: &MappedRank) -> Option<String> {
        let mut fds = [PollFd::from_borrowed_fd(self.fd()?, PollFlags::IN)];
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut fds, Some(&none)).ok()? == 0 {
            return None;
        }
        *self = Self::Over;
        Some(gone(block.pid().load(Ordering::Relaxed)))
    }
}

fn gone(pid: u32) -> String {
    format!("its process {pid} exited")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory of a block.
    #[repr(align(64))]
    struct Memory([u64; 16]);

    fn block(memory: &mut Memory) -> MappedRank {
        // SAFETY: it has the size and alignment of a block, and outlives it in each test.
        unsafe { MappedRank::new(memory.0.as_mut_ptr().cast()) }
    }

    #[test]
    fn a_child_is_seen_to_exit() {
        let mut memory = Memory([0; 16]);
        let block = block(&mut memory);
        let me = Identity::of_this_process();
        let mut watch = Watch::NotYet;
        assert_eq!(watch.begin(&block, &me), None);
        assert!(matches!(watch, Watch::NotYet));

        let mut child = std::process::Command::new("sleep").arg("100").spawn().expect("sleep");
        let other = Identity::of(child.id());
        assert!(other.started > 0 && other.claim(&block) && !me.claim(&block));
        assert_eq!(watch.begin(&block, &me), None);
        assert!(watch.fd().is_some() && watch.look(&block).is_none());

        child.kill().expect("it is ours");
        let mut fds = [PollFd::from_borrowed_fd(watch.fd().expect("on"), PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 20, tv_nsec: 0 })).expect("a descriptor");
        assert!(watch.look(&block).expect("it exited").contains(&child.id().to_string()));
        assert!(watch.fd().is_none() && watch.look(&block).is_none());
        child.wait().expect("it is ours");
    }

    #[test]
    fn another_process_under_the_same_number_is_not_the_peer() {
        let mut memory = Memory([0; 16]);
        let block = block(&mut memory);
        let me = Identity::of_this_process();
        let Identity { pid, started, namespace } = me;
        assert!(started > 0 && namespace > 0);
        assert!(Identity { pid, started: started - 1, namespace }.claim(&block));
        assert!(Watch::NotYet.begin(&block, &me).is_some());
        block.namespace().store(namespace + 1, Ordering::Relaxed);
        let mut watch = Watch::NotYet;
        assert_eq!(watch.begin(&block, &me), None);
        assert!(matches!(watch, Watch::Blind));
    }
}
