//! Peers that leave.

use std::time::Instant;

use super::Fabric;
use super::flow::{Driver, Flow, STALL_MAX, Take};
use crate::error::Rank;
use crate::transport::{Fault, FaultKind, Lane};

fn assert_lost(fault: &Fault, peer: Rank) {
    assert_eq!(fault.peer, peer);
    assert!(matches!(fault.kind, FaultKind::Lost(_)), "{fault}");
}

/// A rank that leaves is noticed, but what it sent before arrives first, and others go on.
pub(crate) fn what_was_sent_survives_the_sender(factory: fn(Rank) -> Fabric) {
    let mut driver = Driver::new(factory(3));
    let sizes = [8, 0, 700, 64, 2000, 1];
    let flow = |lane| Flow::new(lane, 0, 1, Take::View, &sizes);
    let mut flows: Vec<_> = Lane::ALL.into_iter().map(flow).collect();
    driver.fill(&mut flows);
    assert!(flows.iter().all(Flow::all_sent));
    driver.settle();
    driver.drop_end(0);
    let start = Instant::now();
    while !flows.iter().all(Flow::done) {
        driver.progress().iter().for_each(|fault| assert_lost(fault, 0));
        for flow in &mut flows {
            flow.pull(driver.end(1)).expect("what was sent comes before the fault");
        }
        assert!(start.elapsed() < STALL_MAX, "what was sent never arrived");
    }
    for lane in Lane::ALL {
        let fault = until_fault(&mut driver, |driver| driver.end(1).head(lane, 0).map(|_| ()));
        assert_lost(&fault, 0);
        assert_lost(&driver.end(1).head(lane, 0).expect_err("a fault stays"), 0);
    }
    let mut others = [
        Flow::new(Lane::Small, 1, 2, Take::View, &sizes),
        Flow::new(Lane::Bulk, 2, 1, Take::View, &sizes),
    ];
    let start = Instant::now();
    while !others.iter().all(Flow::done) {
        for flow in &mut others {
            flow.push(driver.end(flow.from)).expect("these two are there");
            flow.pull(driver.end(flow.to)).expect("these two are there");
        }
        driver.settle();
        assert!(start.elapsed() < STALL_MAX, "one rank's leaving stopped the others");
    }
}

/// Sending to a rank that has left fails, sooner or later.
pub(crate) fn sending_to_the_gone_fails(factory: fn(Rank) -> Fabric) {
    let mut driver = Driver::new(factory(2));
    let mut flow = Flow::new(Lane::Small, 0, 1, Take::View, &[100]);
    driver.run(std::slice::from_mut(&mut flow));
    driver.drop_end(1);
    let mut flow = Flow::new(Lane::Bulk, 0, 1, Take::View, &[2000; 20_000]);
    let fault = until_fault(&mut driver, |driver| flow.push(driver.end(0)).map(|_| ()));
    assert_lost(&fault, 1);
}

fn until_fault(
    driver: &mut Driver,
    mut act: impl FnMut(&mut Driver) -> Result<(), Fault>,
) -> Fault {
    let start = Instant::now();
    loop {
        if let Err(fault) = act(driver) {
            return fault;
        }
        driver.settle();
        assert!(start.elapsed() < STALL_MAX, "nobody noticed that the peer is gone");
    }
}
