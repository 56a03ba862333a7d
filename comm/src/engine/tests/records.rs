//! The flight recorder at work: where a rank is in an operation, and whom it waits for.

use std::sync::Arc;
use std::time::Duration;

use super::super::{
    AlgorithmName, Buffers, Compile, Counted, Description, Engine, EngineCell, Entered,
    MonotonicClock, OpKey, OpMeta, OpReport, OpState, Operation, Patience, Placement, Program,
    Sizes, TaskId,
};
use super::{Pipes, Random, drive, engines, shared};
use crate::error::{Error, Rank};
use crate::memory::testing::{span, span_mut};
use crate::memory::{Span, SpanMut};
use crate::reduce::{DType, ReduceOp};
use crate::schedule::{ALGORITHMS, Collective, Shape};
use crate::transport::Lane;

const ROOMY: Pipes = Pipes { frame_bytes: 64, capacity_bytes: 1 << 20 };
const TINY: Pipes = Pipes { frame_bytes: 16, capacity_bytes: 16 };
const ELEMENTS: usize = 64;

fn described() -> Description {
    Description::new(Operation::Collective(Collective::AllReduce))
        .data(DType::F32, ELEMENTS as u64, Counted::Uniform)
        .op(ReduceOp::Sum)
        .algorithm(AlgorithmName::from_text("ring"), 1)
}

const fn collective(description: Description, sequence: u64) -> OpMeta {
    OpMeta { description, sequence, fingerprint: 5, lane: Lane::Bulk }
}

fn message(operation: Operation, peer: Rank, sequence: u64, bytes: usize) -> OpMeta {
    let description =
        Description::new(operation).data(DType::U8, bytes as u64, Counted::Uniform).rank(peer);
    OpMeta { description, sequence, fingerprint: 6, lane: Lane::PointToPoint }
}

/// One rank's all_reduce around a ring, in place.
struct Sum {
    memory: Vec<u8>,
}

impl Sum {
    fn new() -> Self {
        Self { memory: vec![0; ELEMENTS * 4] }
    }

    fn program(rank: Rank, ranks: Rank) -> Arc<Program> {
        let shape = Shape {
            collective: Collective::AllReduce,
            ranks,
            root: 0,
            in_place: true,
            reproducible: false,
        };
        let ring = ALGORITHMS.iter().find(|a| a.name() == "ring" && a.serves(&shape)).unwrap();
        let call = Compile {
            schedule: &ring.build(&shape, rank),
            sizes: &Sizes::vector(ELEMENTS),
            rank,
            ranks,
            dtype: DType::F32,
            op: Some(ReduceOp::Sum),
            placement: Placement::InPlace,
        };
        shared(Program::compile(&call).unwrap())
    }

    fn submit(&mut self, engine: &mut Engine, (rank, ranks): (Rank, Rank), n: u64) -> TaskId {
        let buffers = Buffers::in_place(span_mut(&mut self.memory));
        let program = Self::program(rank, ranks);
        engine.submit(&program, buffers, &collective(described(), n)).unwrap()
    }
}

fn send(engine: &mut Engine, peer: Rank, bytes: &[u8], sequence: u64) -> TaskId {
    let program = shared(Program::send(peer, bytes.len()));
    let meta = message(Operation::Send, peer, sequence, bytes.len());
    engine.submit(&program, Buffers::separate(span(bytes), SpanMut::EMPTY), &meta).unwrap()
}

fn recv(engine: &mut Engine, peer: Rank, bytes: &mut [u8], sequence: u64) -> TaskId {
    let program = shared(Program::recv(peer, bytes.len()));
    let meta = message(Operation::Recv, peer, sequence, bytes.len());
    engine.submit(&program, Buffers::separate(Span::EMPTY, span_mut(bytes)), &meta).unwrap()
}

fn settle(engines: &mut [Engine]) {
    for _ in 0..100 {
        for engine in &mut *engines {
            engine.poll();
        }
    }
}

#[test]
fn a_rank_that_has_not_entered_is_told_from_those_that_wait() {
    let mut engines = engines(3, ROOMY);
    let mut sums: Vec<Sum> = (0..3).map(|_| Sum::new()).collect();
    let mut ids: Vec<TaskId> = Vec::new();
    for rank in 0..2 {
        let sum = &mut sums[rank as usize];
        ids.push(sum.submit(&mut engines[rank as usize], (rank, 3), 0));
    }
    settle(&mut engines);
    let key = OpKey::Collective(0);
    // The ring: 0 hears from 2, which is missing; 1 hears from 0, which waits itself.
    let running = |waits_for| OpReport::Running {
        description: described(),
        fingerprint: 5,
        waits_for,
        behind: None,
    };
    assert_eq!(engines[0].report(key), running(vec![2]));
    assert_eq!(engines[1].report(key), running(vec![0]));
    assert_eq!(engines[2].report(key), OpReport::NotEntered { last: None });
    let held = engines[0].records().pop().unwrap().unfinished.unwrap();
    assert_eq!((held.awaits, held.refused_by), (vec![2], vec![]));
    assert!(held.transfer.sent_bytes > 0, "{:?}", held.transfer);
    assert!(held.transfer.received_bytes < held.transfer.to_receive_bytes);

    ids.push(sums[2].submit(&mut engines[2], (2, 3), 0));
    drive(&mut engines, &mut Random::new(1), |all| all.iter().all(Engine::is_idle));
    for (engine, id) in engines.iter_mut().zip(ids) {
        engine.take(id).unwrap().unwrap();
        assert_eq!(engine.report(key), OpReport::Done { description: Some(described()) });
        let last = Some(Entered { sequence: 0, description: Some(described()) });
        assert_eq!(engine.report(OpKey::Collective(1)), OpReport::NotEntered { last });
        let record = engine.records().pop().unwrap();
        assert_eq!((record.state, record.sequence, record.fingerprint), (OpState::Done, 0, 5));
        assert!(record.unfinished.is_none() && record.ended.is_some());
    }
}

#[test]
fn what_fell_out_of_the_records_is_done_and_what_is_stuck_stays() {
    let mut engines = engines(2, ROOMY);
    let mut never = [0_u8; 9];
    let stuck = recv(&mut engines[0], 1, &mut never, 0);
    let mut sums: Vec<Sum> = (0..2).map(|_| Sum::new()).collect();
    for sequence in 0..40 {
        for rank in 0..2 {
            let sum = &mut sums[rank as usize];
            sum.submit(&mut engines[rank as usize], (rank, 2), sequence);
        }
        drive(&mut engines, &mut Random::new(1), |all| all[1].is_idle());
    }
    settle(&mut engines);
    let engine = &mut engines[0];
    assert_eq!(engine.operations(), 41);
    assert_eq!(engine.report(OpKey::Collective(0)), OpReport::Done { description: None });
    assert_eq!(
        engine.report(OpKey::Collective(39)),
        OpReport::Done { description: Some(described()) }
    );
    let report = engine.report(OpKey::Recv { peer: 1, sequence: 0 });
    assert!(matches!(&report, OpReport::Running { waits_for, .. } if *waits_for == [1]));
    let oldest = &engine.records()[0];
    assert_eq!(
        (oldest.key(), oldest.state),
        (OpKey::Recv { peer: 1, sequence: 0 }, OpState::Running)
    );
    assert_eq!(engine.records().len(), 17, "a ring of 16, and the one that is stuck");
    engine.time_out(stuck, Duration::from_secs(1));
    let failed = &engine.records()[0];
    assert_eq!(failed.state, OpState::Failed);
    assert_eq!(failed.unfinished.as_ref().unwrap().awaits, [1]);
}

#[test]
fn messages_are_counted_by_peer_and_direction() {
    let mut engines = engines(3, TINY);
    let big = [7_u8; 100];
    let (mut one, mut two, mut three) = ([0; 100], [0; 100], [0; 100]);
    send(&mut engines[0], 1, &big, 0);
    send(&mut engines[0], 1, &big, 1);
    recv(&mut engines[1], 0, &mut one, 0);
    drive(&mut engines, &mut Random::new(1), |all| all[1].is_idle());
    settle(&mut engines);
    let to_1 = |sequence| OpKey::Send { peer: 1, sequence };
    assert!(matches!(engines[0].report(to_1(0)), OpReport::Done { description: Some(_) }));
    let second = engines[0].report(to_1(1));
    assert!(matches!(&second, OpReport::Running { waits_for, .. } if *waits_for == [1]));
    send(&mut engines[0], 1, &big, 2);
    let OpReport::Running { waits_for, behind, .. } = engines[0].report(to_1(2)) else { panic!() };
    assert_eq!((waits_for, behind), (vec![], Some((to_1(1), vec![1]))));
    let next = engines[0].report(to_1(3));
    assert!(matches!(next, OpReport::NotEntered { last: Some(Entered { sequence: 2, .. }) }));
    let none = |key| OpReport::NotEntered { last: None } == key;
    assert!(none(engines[0].report(OpKey::Send { peer: 2, sequence: 0 })));
    assert!(none(engines[0].report(OpKey::Recv { peer: 1, sequence: 0 })));
    assert!(none(engines[0].report(OpKey::Recv { peer: 99, sequence: 0 })), "not even a rank");
    let held = engines[0].records()[1].unfinished.take().unwrap();
    assert_eq!((held.awaits, held.refused_by), (vec![], vec![1]));

    recv(&mut engines[1], 0, &mut two, 1);
    recv(&mut engines[1], 0, &mut three, 2);
    drive(&mut engines, &mut Random::new(1), |all| all.iter().all(Engine::is_idle));
    assert_eq!([one, two, three], [big, big, big]);
}

#[test]
fn a_failed_operation_keeps_whom_it_waited_for() {
    let mut engines = engines(2, ROOMY);
    let mut sum = Sum::new();
    let id = sum.submit(&mut engines[0], (0, 2), 0);
    let mut late = [0_u8; 3];
    recv(&mut engines[0], 1, &mut late, 0);
    settle(&mut engines);
    engines[0].time_out(id, Duration::from_secs(3));
    assert!(matches!(engines[0].broken(), Some(Error::Timeout { .. })));
    let failed = OpReport::Failed { description: described() };
    assert_eq!(engines[0].report(OpKey::Collective(0)), failed);
    let records = engines[0].records();
    assert_eq!(records.len(), 2);
    for record in records {
        assert_eq!(record.state, OpState::Failed);
        assert_eq!(record.unfinished.unwrap().awaits, [1], "{}", record.description);
        assert!(record.ended >= Some(record.started));
    }
}

#[test]
fn another_thread_can_ask_while_a_call_waits() {
    let cells: Vec<Arc<EngineCell>> = engines(2, ROOMY).into_iter().map(EngineCell::new).collect();
    let within = Duration::from_secs(20);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let clock = MonotonicClock::new();
            let patience = Patience { stall_max: Some(within), ..Patience::endless(&clock) };
            let mut memory = vec![0_u8; ELEMENTS * 4];
            let buffers = Buffers::in_place(span_mut(&mut memory));
            let meta = collective(described(), 0);
            cells[0].run_blocking(&Sum::program(0, 2), buffers, &meta, &patience)
        });
        // Until it has entered; then it waits, and answers all the same.
        let report = loop {
            match cells[0].report(OpKey::Collective(0), within).unwrap() {
                OpReport::NotEntered { .. } => std::thread::yield_now(),
                report => break report,
            }
        };
        assert!(matches!(&report, OpReport::Running { waits_for, .. } if *waits_for == [1]));
        assert_eq!(cells[0].records(within).unwrap().len(), 1);
        cells[0].abort("enough");
        assert!(matches!(waiting.join().unwrap(), Err(Error::Aborted { .. })));
    });
    assert_eq!(cells[0].records(within).unwrap()[0].state, OpState::Failed);
}
