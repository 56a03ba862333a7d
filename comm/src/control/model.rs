//! A communicator's fate under loom: one thread decides it while another one begins to wait, or
//! attaches the engine.
//!
//! ```text
//! RUSTFLAGS="--cfg syncline_loom" cargo test -p syncline --lib control::model
//! ```

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use rustix::event::{PollFd, PollFlags};

use super::core::Cause;
use super::fate::Fate;
use crate::engine::primitive;
use crate::engine::{Engine, EngineCell, EngineConfig, WakeOn};
use crate::error::Peer;

fn fate() -> Arc<Fate> {
    Fate::new(7, 0, peers().into(), [0, 1].into())
}

fn peers() -> Vec<Peer> {
    (0..2).map(|rank| Peer { rank, host: "host".to_owned() }).collect()
}

/// What the control thread does when it hears of the end.
fn condemn(fate: &Arc<Fate>) -> thread::JoinHandle<()> {
    let fate = Arc::clone(fate);
    thread::spawn(move || fate.condemn(&Cause::Revoked { by: 1, reason: "enough".to_owned() }))
}

/// Who sleeps until the communicator has failed is woken, with no bound to the sleep: whoever
/// makes a communicator has none but the deadline of all.
#[test]
fn a_verdict_wakes_who_waits_for_it() {
    loom::model(|| {
        let fate = fate();
        let control = condemn(&fate);
        let bell = fate.fd().expect("a descriptor");
        let bells = [PollFd::from_borrowed_fd(bell, PollFlags::IN)];
        primitive::sleep(WakeOn::Fds(bells.into_iter().collect()), Duration::ZERO);
        let error = fate.failure("init", 0).expect("that is why it rang");
        assert!(error.to_string().contains("enough"), "{error}");
        control.join().expect("no panic");
    });
}

/// An engine that is attached while the verdict comes is told it.
#[test]
fn a_verdict_reaches_the_engine_that_is_attached_meanwhile() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let fate = fate();
        let engine = Engine::new(EngineConfig {
            rank: 0,
            peers: peers().into(),
            transports: Vec::new(),
            routes: vec![0; 2],
            staging_bytes_max: 1 << 16,
            judge: None,
            flight_records: 64,
        });
        let cell = EngineCell::new(engine.expect("sound"));
        let control = condemn(&fate);
        fate.attach(&cell);
        control.join().expect("no panic");
        let error = cell.broken().expect("it was told");
        assert!(error.to_string().contains("enough"), "{error}");
    });
}
