//! Ranks on threads that sleep until a peer wakes them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{futex, gettid};

use super::Fabric;
use super::flow::{Flow, Random, STALL_MAX, Take};
use crate::error::Rank;
use crate::transport::{Fault, FaultKind, Lane, Sleep, Transport};

/// As long as the wait loop's sleeps.
const NAP_MAX: Duration = Duration::from_millis(50);

/// Runs `act` until it says done; sleeps whenever it moved nothing. Panics when a sleep lasts
/// so long that somebody must have forgotten to end it.
fn sleep_until(
    end: &mut dyn Transport,
    how: Sleep,
    act: impl FnMut(&mut dyn Transport) -> Result<Step, Fault>,
) -> Result<(), Fault> {
    sleep_and_tell(end, how, act, (&AtomicBool::new(false), STALL_MAX))
}

/// [`sleep_until`], with `asleep` set around every sleep. Once a sleep was ended by somebody, the
/// next ones last for at most `nap_max`, and are then nobody's to end.
fn sleep_and_tell(
    end: &mut dyn Transport,
    how: Sleep,
    mut act: impl FnMut(&mut dyn Transport) -> Result<Step, Fault>,
    (asleep, nap_max): (&AtomicBool, Duration),
) -> Result<(), Fault> {
    let mut limit = STALL_MAX;
    loop {
        end.progress()?;
        match act(end)? {
            Step::Done => return Ok(()),
            Step::Moved => continue,
            Step::Idle => {}
        }
        end.arm(how);
        end.progress()?;
        match act(end)? {
            Step::Idle => {
                asleep.store(true, Ordering::SeqCst);
                let woken = sleep(end, how, limit);
                asleep.store(false, Ordering::SeqCst);
                assert!(woken || limit < STALL_MAX, "nobody ended the sleep ({how:?})");
                limit = nap_max;
            }
            Step::Moved => {}
            Step::Done => {
                end.disarm();
                return Ok(());
            }
        }
        end.disarm();
    }
}

/// What one round of polling came to.
enum Step {
    Idle,
    Moved,
    Done,
}

impl Step {
    fn of(moved: bool, done: bool) -> Self {
        match (done, moved) {
            (true, _) => Self::Done,
            (false, true) => Self::Moved,
            (false, false) => Self::Idle,
        }
    }
}

/// Whether somebody ended the sleep before its time.
fn sleep(end: &dyn Transport, how: Sleep, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).expect("a short time");
    let woken = match how {
        Sleep::Futex => {
            let (word, value) = end.futex().expect("this transport has a futex");
            futex::wait(word, futex::Flags::empty(), value, Some(&limit)).map(|()| 1)
        }
        Sleep::Poll => {
            let fds = end.poll_fds();
            let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            poll(&mut fds, Some(&limit))
        }
    };
    match woken {
        Ok(0) | Err(Errno::TIMEDOUT) => false,
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => true,
        Err(error) => panic!("the sleep failed: {error}"),
    }
}

fn two(factory: fn(Rank) -> Fabric) -> (Box<dyn Transport>, Box<dyn Transport>) {
    let mut ends = factory(2).ends.into_iter();
    (ends.next().expect("two ends"), ends.next().expect("two ends"))
}

fn pause(random: &mut Random) {
    match random.below(4) {
        0 => {}
        1 => thread::yield_now(),
        2 => (0..random.below(3000)).for_each(|_| std::hint::spin_loop()),
        _ => thread::sleep(Duration::from_micros(random.next() % 300)),
    }
}

/// Ping-pong with pauses of all lengths, so that the arrival meets every stage of falling asleep.
pub(crate) fn an_arrival_ends_a_sleep(factory: fn(Rank) -> Fabric, hows: &[Sleep]) {
    for &how in hows {
        let (a, b) = two(factory);
        let rounds = 400;
        thread::scope(|scope| {
            for (me, mut end) in [(0, a), (1, b)] {
                scope.spawn(move || {
                    let mut random = Random(u64::from(me));
                    let sizes = vec![8; rounds];
                    let mut out = Flow::new(Lane::Small, me, 1 - me, Take::View, &sizes);
                    let mut back = Flow::new(Lane::Small, 1 - me, me, Take::View, &sizes);
                    while !(out.all_sent() && back.done()) {
                        if me == 1 {
                            receive(&mut *end, how, &mut back);
                        }
                        pause(&mut random);
                        send(&mut *end, how, &mut out);
                        if me == 0 {
                            receive(&mut *end, how, &mut back);
                        }
                    }
                    // Whoever is done first stays until the other has everything.
                    goodbye(&mut *end, how, me);
                });
            }
        });
    }
}

/// Sends one frame of `flow`; a transport that connects lazily refuses the first at first.
fn send(end: &mut dyn Transport, how: Sleep, flow: &mut Flow) {
    let target = flow.sent + 1;
    let act = |end: &mut dyn Transport| {
        let moved = flow.push(end)?;
        Ok(Step::of(moved, flow.sent == target))
    };
    sleep_until(end, how, act).expect("the peer is there");
}

/// Receives one frame of `flow`.
fn receive(end: &mut dyn Transport, how: Sleep, flow: &mut Flow) {
    let target = flow.received + 1;
    let act = |end: &mut dyn Transport| {
        let moved = flow.pull(end)?;
        Ok(Step::of(moved, flow.received == target))
    };
    sleep_until(end, how, act).expect("the peer is there");
}

/// One last frame each way, after which nothing of either is under way to the other.
fn goodbye(end: &mut dyn Transport, how: Sleep, me: Rank) {
    let mut out = Flow::new(Lane::PointToPoint, me, 1 - me, Take::View, &[1]);
    let mut back = Flow::new(Lane::PointToPoint, 1 - me, me, Take::View, &[1]);
    let act = |end: &mut dyn Transport| {
        let moved = out.push(end)? | back.pull(end)?;
        Ok(Step::of(moved, out.all_sent() && back.done()))
    };
    sleep_until(end, how, act).expect("the peer is there");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(20) {
        // The peer may be gone already, which is its right after the goodbye.
        if end.progress().is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A sender of far more than the pipe holds sleeps whenever it is refused; a slow receiver ends
/// those sleeps, and sleeps itself when it has caught up.
pub(crate) fn room_ends_a_sleep(factory: fn(Rank) -> Fabric, hows: &[Sleep]) {
    for &how in hows {
        let (mut a, mut b) = two(factory);
        let bytes = a.limits(1).frame_bytes_preferred.min(256 << 10);
        let sizes = vec![bytes; ((24 << 20) / bytes).min(1500)];
        let (to_send, to_receive) = (sizes.clone(), sizes);
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut out = Flow::new(Lane::Bulk, 0, 1, Take::View, &to_send);
                let act = |end: &mut dyn Transport| {
                    let moved = out.push(end)?;
                    Ok(Step::of(moved, out.all_sent()))
                };
                sleep_until(&mut *a, how, act).expect("the peer is there");
                goodbye(&mut *a, how, 0);
            });
            scope.spawn(move || {
                let mut random = Random(3);
                let mut back = Flow::new(Lane::Bulk, 0, 1, Take::Mixed, &to_receive);
                let act = |end: &mut dyn Transport| {
                    pause(&mut random);
                    let moved = back.pull(end)?;
                    Ok(Step::of(moved, back.done()))
                };
                sleep_until(&mut *b, how, act).expect("the peer is there");
                goodbye(&mut *b, how, 1);
            });
        });
    }
}

/// Whether a thread of this process sleeps in the kernel.
fn is_blocked(thread: Pid) -> bool {
    let path = format!("/proc/self/task/{}/stat", thread.as_raw_nonzero());
    let stat = std::fs::read_to_string(path).expect("the thread is there");
    // The state follows the name, which is in parentheses and may hold anything (proc(5)).
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
}

/// A rank that waits for one that leaves is woken and told; told within a few of the wait loop's
/// bounded sleeps, where what the other one sent may still be on its way.
pub(crate) fn a_departure_ends_a_sleep(factory: fn(Rank) -> Fabric, hows: &[Sleep]) {
    for &how in hows {
        let (mut a, b) = two(factory);
        let (asleep, (say, hear)) = (&AtomicBool::new(false), channel());
        thread::scope(|scope| {
            let waiter = scope.spawn(move || {
                say.send(gettid()).expect("the test waits for it");
                let act = |end: &mut dyn Transport| end.head(Lane::Small, 1).map(|_| Step::Idle);
                sleep_and_tell(&mut *a, how, act, (asleep, NAP_MAX))
            });
            // A peer that has left before is noticed by the wait loop's bounded sleeps, not by a
            // wake-up.
            let thread = hear.recv().expect("the thread says who it is");
            while !(asleep.load(Ordering::SeqCst) && is_blocked(thread)) {
                assert!(!waiter.is_finished(), "it does not wait");
                thread::sleep(Duration::from_millis(1));
            }
            drop(b);
            let fault = waiter.join().expect("no panic").expect_err("the peer left");
            assert_eq!(fault.peer, 1);
            assert!(matches!(fault.kind, FaultKind::Lost(_)), "{fault}");
        });
    }
}
