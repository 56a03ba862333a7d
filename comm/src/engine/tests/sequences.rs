//! Several operations, and operations that fail.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Buffers, Compile, Engine, Lengths, OpMeta, Placement, Program, Sizes, TaskId};
use super::{Pipes, Random, drive, engine, engines, fabric, meta, shared};
use crate::error::{Error, Rank, Result};
use crate::memory::testing::{span, span_mut};
use crate::memory::{Span, SpanMut};
use crate::reduce::{DType, ReduceOp};
use crate::schedule::{ALGORITHMS, Collective, Shape};
use crate::transport::Lane;

const ROOMY: Pipes = Pipes { frame_bytes: 64, capacity_bytes: 1 << 20 };
const TINY: Pipes = Pipes { frame_bytes: 16, capacity_bytes: 16 };

/// The program of `rank` for a sum of `elements` f32 by the algorithm called `name`.
fn sum(name: &str, rank: Rank, ranks: Rank, elements: usize) -> Arc<Program> {
    let algorithm = ALGORITHMS.iter().find(|a| a.name() == name).unwrap();
    let shape = Shape {
        collective: Collective::AllReduce,
        ranks,
        root: 0,
        in_place: false,
        reproducible: false,
    };
    let call = Compile {
        schedule: &algorithm.build(&shape, rank),
        sizes: &Sizes::vector(elements),
        rank,
        ranks,
        dtype: DType::F32,
        op: Some(ReduceOp::Sum),
        placement: Placement::Separate,
    };
    shared(Program::compile(&call).unwrap())
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

pub(super) fn send(engine: &mut Engine, peer: Rank, bytes: &[u8], meta: &OpMeta) -> TaskId {
    let program = shared(Program::send(peer, bytes.len()));
    engine.submit(&program, Buffers::separate(span(bytes), SpanMut::EMPTY), meta).unwrap()
}

pub(super) fn recv(engine: &mut Engine, peer: Rank, bytes: &mut [u8], meta: &OpMeta) -> TaskId {
    let program = shared(Program::recv(peer, bytes.len()));
    engine.submit(&program, Buffers::separate(Span::EMPTY, span_mut(bytes)), meta).unwrap()
}

/// Polls one engine until `id` has ended.
pub(super) fn finish(engine: &mut Engine, id: TaskId) -> Result<()> {
    for _ in 0..1000 {
        if let Some(result) = engine.take(id) {
            return result;
        }
        engine.poll();
    }
    panic!("not finished: {engine:?}");
}

#[test]
fn operations_in_flight_together_keep_their_data_apart() {
    for (seed, pipes) in [(1, ROOMY), (2, TINY), (3, TINY)] {
        let mut random = Random::new(seed);
        let mut engines = engines(3, pipes);
        let lengths = [5, 0, 33, 1, 8, 17];
        let mut buffers = Vec::new();
        for rank in 0..3_u8 {
            for (op, &len) in lengths.iter().enumerate() {
                let input = floats(&vec![f32::from(rank) + op as f32; len]);
                buffers.push((input, vec![0_u8; len * 4]));
            }
        }
        let mut ids = Vec::new();
        for (rank, engine) in (0..3).zip(&mut engines) {
            for (op, &len) in lengths.iter().enumerate() {
                let name = ["ring", "recursive_doubling", "one_shot"][op % 3];
                let lane = if op % 2 == 0 { Lane::Bulk } else { Lane::Small };
                let (input, output) = &mut buffers[rank as usize * lengths.len() + op];
                let buffers = Buffers::separate(span(input), span_mut(output));
                let program = sum(name, rank, 3, len);
                ids.push(engine.submit(&program, buffers, &meta(op as u64, lane)).unwrap());
            }
        }
        drive(&mut engines, &mut random, |all| all.iter().all(Engine::is_idle));
        for (index, (id, (_, output))) in ids.iter().zip(&buffers).enumerate() {
            let (rank, op) = (index / lengths.len(), index % lengths.len());
            engines[rank].take(*id).unwrap().unwrap();
            assert_eq!(*output, floats(&vec![3.0 + 3.0 * op as f32; lengths[op]]));
        }
    }
}

#[test]
fn a_small_operation_overtakes_a_stuck_one_on_another_lane() {
    let mut engines = engines(2, TINY);
    let big = vec![1_u8; 1000];
    let stuck = send(&mut engines[0], 1, &big, &meta(0, Lane::PointToPoint));
    let inputs = [floats(&[1.0]), floats(&[2.0])];
    let mut outputs = [vec![0; 4], vec![0; 4]];
    let mut ids = Vec::new();
    for rank in 0..2 {
        let buffers = Buffers::separate(span(&inputs[rank]), span_mut(&mut outputs[rank]));
        let program = sum("recursive_doubling", rank as Rank, 2, 1);
        ids.push(engines[rank].submit(&program, buffers, &meta(1, Lane::Small)).unwrap());
    }
    let mut random = Random::new(5);
    drive(&mut engines, &mut random, |all| all[1].is_idle());
    finish(&mut engines[0], ids[0]).unwrap();
    assert_eq!(outputs, [floats(&[3.0]), floats(&[3.0])]);
    assert!(engines[0].take(stuck).is_none());
    let mut arrived = vec![0; 1000];
    recv(&mut engines[1], 0, &mut arrived, &meta(0, Lane::PointToPoint));
    drive(&mut engines, &mut random, |all| all.iter().all(Engine::is_idle));
    assert_eq!(arrived, big);
}

#[test]
fn calls_that_differ_fail_on_both_sides_and_name_each_other() {
    let mut engines = engines(2, ROOMY);
    let inputs = [floats(&[1.0]), floats(&[2.0])];
    let mut outputs = [vec![0; 4], vec![0; 4]];
    for rank in 0..2 {
        let buffers = Buffers::separate(span(&inputs[rank]), span_mut(&mut outputs[rank]));
        let program = sum("recursive_doubling", rank as Rank, 2, 1);
        let meta = OpMeta { fingerprint: rank as u64, ..meta(9, Lane::Small) };
        let id = engines[rank].submit(&program, buffers, &meta).unwrap();
        assert_eq!(id, id);
    }
    drive(&mut engines, &mut Random::new(1), |all| all.iter().all(Engine::is_idle));
    for (rank, engine) in engines.iter().enumerate() {
        match engine.broken() {
            Some(Error::Mismatch { calls, call }) => {
                assert_eq!((calls[1].peer.rank as usize, call.sequence), (1 - rank, 9));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_longer_message_than_expected_is_refused() {
    let mut engines = engines(2, ROOMY);
    send(&mut engines[0], 1, &[1; 8], &meta(0, Lane::PointToPoint));
    let mut small = [0; 4];
    let id = recv(&mut engines[1], 0, &mut small, &meta(0, Lane::PointToPoint));
    engines[0].poll();
    let error = finish(&mut engines[1], id).unwrap_err();
    assert!(error.to_string().contains("a frame of 8 bytes"), "{error}");
    assert!(error.to_string().contains("rank 0 on host0"), "{error}");
}

#[test]
fn what_a_rank_sent_before_it_left_still_arrives() {
    let mut ends = fabric(2, ROOMY).into_iter();
    let mut left = engine(ends.next().unwrap(), 0, 2, 0);
    let mut stays = engine(ends.next().unwrap(), 1, 2, 0);
    let sent = [7_u8; 200];
    let id = send(&mut left, 1, &sent, &meta(0, Lane::PointToPoint));
    finish(&mut left, id).unwrap();
    drop(left);
    let mut arrived = [0_u8; 200];
    let id = recv(&mut stays, 0, &mut arrived, &meta(0, Lane::PointToPoint));
    finish(&mut stays, id).unwrap();
    assert_eq!(arrived, sent);
    assert!(stays.broken().is_none(), "leaving after the work is done is not a fault");

    let id = recv(&mut stays, 0, &mut arrived, &meta(1, Lane::PointToPoint));
    let error = finish(&mut stays, id).unwrap_err();
    assert!(matches!(&error, Error::PeerLost { peer, .. } if peer.rank == 0), "{error}");
    let program = shared(Program::recv(0, 1));
    let buffers = Buffers::in_place(span_mut(&mut arrived));
    let refused = stays.submit(&program, buffers, &meta(2, Lane::PointToPoint)).unwrap_err();
    assert!(matches!(&refused, Error::PeerLost { call, peer, .. }
        if (peer.rank, call.sequence) == (0, 2)));
}

#[test]
fn scratch_is_granted_in_order_and_never_beyond_the_budget() {
    let ends = (0..).zip(fabric(2, TINY));
    let need = sum("one_shot", 0, 2, 2000).scratch_bytes();
    let budget = |rank| if rank == 0 { need.next_power_of_two() } else { 1 << 24 };
    let mut engines: Vec<_> = ends.map(|(rank, end)| engine(end, rank, 2, budget(rank))).collect();
    let program = sum("two_shot", 0, 2, 1);
    assert!(program.steps() > 0);
    let inputs = [floats(&[1.0; 2000]), floats(&[2.0; 2000])];
    let mut outputs: Vec<_> = (0..8).map(|_| vec![0_u8; 8000]).collect();
    for (index, output) in outputs.iter_mut().enumerate() {
        let (rank, op) = (index % 2, (index / 2) as u64);
        let program = sum("one_shot", rank as Rank, 2, 2000);
        let buffers = Buffers::separate(span(&inputs[rank]), span_mut(output));
        engines[rank].submit(&program, buffers, &meta(op, Lane::Bulk)).unwrap();
    }
    drive(&mut engines, &mut Random::new(3), |all| all.iter().all(Engine::is_idle));
    assert!(outputs.iter().all(|output| *output == floats(&[3.0; 2000])));
}

#[test]
fn an_operation_that_can_never_fit_is_refused() {
    let end = fabric(4, ROOMY).remove(0);
    let mut engine = engine(end, 0, 4, 100);
    let input = floats(&[1.0; 2000]);
    let mut output = vec![0; 8000];
    let program = sum("one_shot", 0, 4, 2000);
    assert!(program.scratch_bytes() > 100);
    let buffers = Buffers::separate(span(&input), span_mut(&mut output));
    let error = engine.submit(&program, buffers, &meta(0, Lane::Bulk)).unwrap_err();
    assert!(error.to_string().contains("staging_bytes_max"), "{error}");
    let short = Buffers::separate(span(&input[4..]), span_mut(&mut output));
    let error = engine.submit(&program, short, &meta(0, Lane::Bulk)).unwrap_err();
    assert!(error.to_string().contains("must hold 8000"), "{error}");
    assert!(engine.broken().is_none() && engine.is_idle());
}

#[test]
fn a_rank_sends_to_itself() {
    let mut engine = engine(fabric(1, ROOMY).remove(0), 0, 1, 0);
    for bytes in [0, 1, 1000, 500_000] {
        let sent: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8).collect();
        let mut arrived = vec![0; bytes];
        let out = send(&mut engine, 0, &sent, &meta(1, Lane::PointToPoint));
        let into = recv(&mut engine, 0, &mut arrived, &meta(1, Lane::PointToPoint));
        finish(&mut engine, out).unwrap();
        finish(&mut engine, into).unwrap();
        assert_eq!(arrived, sent);
    }
}

#[test]
fn a_time_out_names_who_is_missing() {
    let mut ends = fabric(3, ROOMY);
    let mut engine = engine(ends.remove(0), 0, 3, 1 << 20);
    let mut one = [0; 4];
    let first = recv(&mut engine, 2, &mut one, &meta(0, Lane::PointToPoint));
    let mut two = [0; 4];
    let behind = recv(&mut engine, 2, &mut two, &meta(1, Lane::PointToPoint));
    engine.poll();
    assert_eq!(engine.kept_by(behind).unwrap().1, [2]);
    engine.time_out(behind, Duration::from_secs(3));
    let error = finish(&mut engine, behind).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("for 3s") && text.contains("rank 2 on host2"), "{text}");
    assert!(matches!(finish(&mut engine, first), Err(Error::Timeout { call, .. })
        if call.sequence == 0));
}

#[test]
fn displacements_place_the_blocks_of_the_caller() {
    let Some(algorithm) = ALGORITHMS.iter().find(|a| {
        let shape = gather_shape(2);
        a.serves(&shape)
    }) else {
        panic!("no all_gather");
    };
    let mut engines = engines(2, TINY);
    let inputs = [vec![1_u8, 2], vec![3_u8, 4, 5]];
    let mut outputs = [vec![9_u8; 8], vec![9_u8; 8]];
    for rank in 0..2 {
        let sizes = Sizes {
            lengths: Lengths::PerRank(vec![2, 3]),
            input_at: None,
            output_at: Some(vec![5, 1]),
        };
        let program = Program::compile(&Compile {
            schedule: &algorithm.build(&gather_shape(2), rank as Rank),
            sizes: &sizes,
            rank: rank as Rank,
            ranks: 2,
            dtype: DType::U8,
            op: None,
            placement: Placement::Separate,
        });
        let buffers = Buffers::separate(span(&inputs[rank]), span_mut(&mut outputs[rank]));
        let program = shared(program.unwrap());
        engines[rank].submit(&program, buffers, &meta(0, Lane::Bulk)).unwrap();
    }
    drive(&mut engines, &mut Random::new(4), |all| all.iter().all(Engine::is_idle));
    for output in outputs {
        assert_eq!(output, [9, 3, 4, 5, 9, 1, 2, 9]);
    }
}

fn gather_shape(ranks: Rank) -> Shape {
    let collective = Collective::AllGather;
    Shape { collective, ranks, root: 0, in_place: false, reproducible: false }
}
