//! Every algorithm, collective, rank count, type, operator, size and placement against an
//! obvious oracle.

use super::super::{Buffers, Compile, Lengths, OpKey, Placement, Program, Sizes};
use super::{Pipes, Random, drive, engines, meta, shared};
use crate::error::Rank;
use crate::memory::testing::{span, span_mut};
use crate::reduce::{DType, ReduceOp};
use crate::schedule::hierarchy::{Hierarchical, Hierarchy, Level, Mode};
use crate::schedule::{ALGORITHMS, Algorithm, Collective, Schedule, Shape, pipelined};
use crate::transport::Lane;

const RANKS_MAX: Rank = 9;

fn encode(dtype: DType, values: &[f64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &v in values {
        match dtype {
            DType::U8 => bytes.push(v as u8),
            DType::I32 => bytes.extend((v as i32).to_ne_bytes()),
            DType::I64 => bytes.extend((v as i64).to_ne_bytes()),
            DType::F32 => bytes.extend((v as f32).to_ne_bytes()),
            DType::F64 => bytes.extend(v.to_ne_bytes()),
            DType::BF16 => bytes.extend(half::bf16::from_f64(v).to_ne_bytes()),
            other => panic!("{other:?}"),
        }
    }
    bytes
}

fn decode(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    let one = |b: &[u8]| match dtype {
        DType::U8 => f64::from(b[0]),
        DType::I32 => f64::from(i32::from_ne_bytes(b.try_into().unwrap())),
        DType::I64 => i64::from_ne_bytes(b.try_into().unwrap()) as f64,
        DType::F32 => f64::from(f32::from_ne_bytes(b.try_into().unwrap())),
        DType::F64 => f64::from_ne_bytes(b.try_into().unwrap()),
        DType::BF16 => half::bf16::from_ne_bytes(b.try_into().unwrap()).to_f64(),
        other => panic!("{other:?}"),
    };
    bytes.chunks(dtype.size()).map(one).collect()
}

/// Combines contributions in rank order, in `f64`; an average is over all ranks, also in a scan.
fn fold(op: ReduceOp, (dtype, ranks): (DType, Rank), contributions: &[f64]) -> f64 {
    let combine = |a: f64, b: f64| match op {
        ReduceOp::Prod => a * b,
        ReduceOp::Min => a.min(b),
        ReduceOp::Max => a.max(b),
        _ => a + b,
    };
    let result = contributions.iter().copied().reduce(combine).unwrap();
    match op {
        ReduceOp::Avg if dtype.is_float() => result / f64::from(ranks),
        ReduceOp::Avg => (result / f64::from(ranks)).trunc(),
        _ => result,
    }
}

/// This rank's factor in a pre-multiplied sum.
fn factor(rank: Rank) -> f64 {
    f64::from(rank % 3 + 1)
}

/// One collective call, on all ranks.
#[derive(Clone, Debug)]
struct Case {
    shape: Shape,
    dtype: DType,
    op: ReduceOp,
    /// Vector length, or what block lengths are drawn from.
    elements: usize,
    /// Blocks differ in length.
    uneven: bool,
    segments: u32,
    placement: Placement,
}

impl Case {
    fn length(&self, block: Rank) -> usize {
        if self.uneven { (self.elements + block as usize * 2) % 5 } else { self.elements }
    }

    /// Elements that rank `source` sends to rank `destination` in an all_to_all.
    fn pair(&self, source: Rank, destination: Rank) -> usize {
        if self.uneven {
            (self.elements + (source + destination) as usize) % 4
        } else {
            self.elements
        }
    }

    fn ranks(&self) -> std::ops::Range<Rank> {
        0..self.shape.ranks
    }

    fn is_combining(&self) -> bool {
        use Collective::{AllReduce, ExScan, Reduce, ReduceScatter, Scan};
        matches!(self.shape.collective, AllReduce | Reduce | ReduceScatter | Scan | ExScan)
    }

    fn sizes(&self, me: Rank) -> Sizes {
        use Collective::{AllGather, AllToAll, Gather, ReduceScatter, Scatter};
        let lengths = match (self.shape.collective, self.uneven) {
            (AllGather | Gather | ReduceScatter | Scatter | AllToAll, false) => {
                Lengths::Each(self.elements)
            }
            (AllGather | Gather | ReduceScatter | Scatter, true) => {
                Lengths::PerRank(self.ranks().map(|r| self.length(r)).collect())
            }
            (AllToAll, true) => Lengths::PerPair {
                send: self.ranks().map(|r| self.pair(me, r)).collect(),
                recv: self.ranks().map(|r| self.pair(r, me)).collect(),
            },
            _ => Lengths::Vector(self.elements),
        };
        Sizes::packed(lengths)
    }

    /// Elements of `rank`'s input if it has one.
    fn input_elements(&self, rank: Rank) -> usize {
        use Collective as C;
        let all = self.ranks().map(|r| self.length(r)).sum();
        let root = rank == self.shape.root;
        match self.shape.collective {
            C::AllReduce | C::Reduce | C::Scan | C::ExScan => self.elements,
            C::Broadcast => {
                if root {
                    self.elements
                } else {
                    0
                }
            }
            C::ReduceScatter => all,
            C::AllGather | C::Gather => self.length(rank),
            C::Scatter => {
                if root {
                    all
                } else {
                    0
                }
            }
            C::AllToAll => self.ranks().map(|r| self.pair(rank, r)).sum(),
            C::Barrier => 0,
        }
    }

    fn input(&self, rank: Rank) -> Vec<f64> {
        let spread = if self.op == ReduceOp::Prod { 2 } else { 5 };
        let value = |i: usize| ((rank as usize * 7 + i * 3 + i / 5) % spread + 1) as f64;
        (0..self.input_elements(rank)).map(value).collect()
    }

    /// Where block `rank` starts among all ranks' blocks.
    fn start(&self, rank: Rank) -> usize {
        (0..rank).map(|r| self.length(r)).sum()
    }

    /// Block `rank` of a vector of all blocks.
    fn block<'a>(&self, all: &'a [f64], rank: Rank) -> &'a [f64] {
        &all[self.start(rank)..][..self.length(rank)]
    }

    fn combined(&self, ranks: std::ops::Range<Rank>) -> Vec<f64> {
        let inputs: Vec<_> = ranks.map(|r| (r, self.input(r))).collect();
        let element = |i: usize| {
            let of = |(r, input): &(Rank, Vec<f64>)| match self.op {
                ReduceOp::PreMulSum(_) => input[i] * factor(*r),
                _ => input[i],
            };
            let divisor = self.shape.ranks;
            fold(self.op, (self.dtype, divisor), &inputs.iter().map(of).collect::<Vec<_>>())
        };
        (0..inputs[0].1.len()).map(element).collect()
    }

    /// What `rank` must get; `None` where its output is left alone.
    fn expected(&self, rank: Rank) -> Option<Vec<f64>> {
        use Collective as C;
        let root = self.shape.root;
        let everything = || self.ranks().flat_map(|r| self.input(r)).collect::<Vec<_>>();
        match self.shape.collective {
            C::AllReduce => Some(self.combined(self.ranks())),
            C::Reduce => (rank == root).then(|| self.combined(self.ranks())),
            C::ReduceScatter => Some(self.block(&self.combined(self.ranks()), rank).to_vec()),
            C::Scan => Some(self.combined(0..rank + 1)),
            C::ExScan => (rank > 0).then(|| self.combined(0..rank)),
            C::Broadcast => Some(self.input(root)),
            C::AllGather => Some(everything()),
            C::Gather => (rank == root).then(everything),
            C::Scatter => Some(self.block(&self.input(root), rank).to_vec()),
            C::AllToAll => Some(self.ranks().flat_map(|s| self.sent(s, rank)).collect()),
            C::Barrier => None,
        }
    }

    fn output_elements(&self, rank: Rank) -> usize {
        match self.shape.collective {
            Collective::ExScan => self.elements,
            _ => self.expected(rank).map_or(0, |values| values.len()),
        }
    }

    fn sent(&self, source: Rank, destination: Rank) -> Vec<f64> {
        let start = (0..destination).map(|d| self.pair(source, d)).sum::<usize>();
        self.input(source)[start..][..self.pair(source, destination)].to_vec()
    }

    /// In place: the one buffer before the call, and where in it the result will be.
    fn shared_buffer(&self, rank: Rank) -> (Vec<f64>, usize) {
        use Collective as C;
        let input = self.input(rank);
        let result = self.expected(rank).map_or(0, |values| values.len());
        let root = rank == self.shape.root;
        match self.shape.collective {
            C::AllGather | C::Gather if root || self.shape.collective == C::AllGather => {
                let mut buffer = vec![0.0; result];
                buffer[self.start(rank)..][..input.len()].copy_from_slice(&input);
                (buffer, 0)
            }
            C::ReduceScatter => (input, self.start(rank)),
            C::Scatter if root => (input, self.start(rank)),
            _ if input.is_empty() => (vec![0.0; result], 0),
            _ => (input, 0),
        }
    }

    fn schedule(&self, algorithm: &dyn Algorithm, rank: Rank) -> Schedule {
        let schedule = algorithm.build(&self.shape, rank);
        match self.segments {
            1 => schedule,
            segments => pipelined(&schedule, segments, 2),
        }
    }

    fn compile(&self, algorithm: &dyn Algorithm, rank: Rank) -> Program {
        let op = match self.op {
            ReduceOp::PreMulSum(_) => ReduceOp::PreMulSum(factor(rank)),
            op => op,
        };
        Program::compile(&Compile {
            schedule: &self.schedule(algorithm, rank),
            sizes: &self.sizes(rank),
            rank,
            ranks: self.shape.ranks,
            dtype: self.dtype,
            op: self.is_combining().then_some(op),
            placement: self.placement,
        })
        .unwrap()
    }

    /// Runs the call on every rank over random pipes, and checks every result.
    fn run(&self, algorithm: &dyn Algorithm, seed: u64) {
        let mut random = Random::new(seed);
        let tiny = random.below(2) == 0;
        // Small operations on wide pipes are walked straight through.
        let lane = if random.below(2) == 0 { Lane::Small } else { Lane::Bulk };
        let streaming_beyond = if random.below(2) == 0 { 0 } else { usize::MAX };
        let pipes = Pipes {
            frame_bytes: 1 + random.below(if lane == Lane::Small { 4096 } else { 64 }),
            capacity_bytes: if tiny { 8 + random.below(24) } else { 1 << 20 },
        };
        let mut engines = engines(self.shape.ranks, pipes);
        let in_place = self.placement == Placement::InPlace;
        let inputs: Vec<_> = self.ranks().map(|r| encode(self.dtype, &self.input(r))).collect();
        let mut outputs: Vec<_> = self
            .ranks()
            .map(|r| match in_place {
                true => encode(self.dtype, &self.shared_buffer(r).0),
                false => vec![0x5a; self.output_elements(r) * self.dtype.size()],
            })
            .collect();
        let mut ids = Vec::new();
        for (rank, engine) in self.ranks().zip(&mut engines) {
            let program = self.compile(algorithm, rank).streaming_beyond(streaming_beyond);
            let program = shared(program);
            let output = span_mut(&mut outputs[rank as usize]);
            let buffers = match in_place {
                true => Buffers::in_place(output),
                false => Buffers::separate(span(&inputs[rank as usize]), output),
            };
            ids.push(engine.submit(&program, buffers, &meta(3, lane)).unwrap());
        }
        // Whoever asks how an operation is makes it go on the general way.
        for _ in 0..random.below(4 * engines.len()) {
            let rank = random.below(engines.len());
            engines[rank].poll();
            if random.below(8) == 0 {
                engines[rank].report(OpKey::Collective(3));
            }
        }
        drive(&mut engines, &mut random, |all| all.iter().all(super::Engine::is_idle));
        for (rank, engine) in self.ranks().zip(&mut engines) {
            engine.take(ids[rank as usize]).unwrap().unwrap();
            self.check(algorithm, rank, &outputs[rank as usize]);
        }
    }

    fn check(&self, algorithm: &dyn Algorithm, rank: Rank, output: &[u8]) {
        let Some(expected) = self.expected(rank) else { return };
        let at = if self.placement == Placement::InPlace { self.shared_buffer(rank).1 } else { 0 };
        let got = decode(self.dtype, output);
        let got = &got[at..at + expected.len()];
        let tolerance = if self.op == ReduceOp::Avg && self.dtype.is_float() { 0.008 } else { 0.0 };
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance * b.abs();
        assert!(
            got.iter().zip(&expected).all(close),
            "{} at rank {rank}, {self:?}: got {got:?}, expected {expected:?}",
            algorithm.name()
        );
    }
}

/// Type and operator of case `index`; all pairs come up.
fn flavour(index: usize) -> (DType, ReduceOp) {
    const DTYPES: [DType; 6] =
        [DType::F32, DType::BF16, DType::I32, DType::F64, DType::U8, DType::I64];
    const OPS: [ReduceOp; 6] = [
        ReduceOp::Sum,
        ReduceOp::Avg,
        ReduceOp::PreMulSum(1.0),
        ReduceOp::Max,
        ReduceOp::Prod,
        ReduceOp::Min,
    ];
    let (dtype, op) = (DTYPES[index % 6], OPS[index / 6 % 6]);
    match (dtype, op) {
        (DType::U8, ReduceOp::Prod) => (dtype, ReduceOp::Max),
        (dtype, op) if !op.supports(dtype) => (dtype, ReduceOp::Sum),
        pair => pair,
    }
}

/// Runs every algorithm that serves `collective`, on every rank count, and returns how many
/// calls that were.
fn run_collective(collective: Collective) -> usize {
    let mut count = 0;
    for algorithm in ALGORITHMS {
        for ranks in 1..=RANKS_MAX {
            let roots = if collective.is_rooted() { ranks } else { 1 };
            for root in [0, ranks / 2, ranks - 1].into_iter().filter(|&root| root < roots) {
                for (in_place, reproducible) in [(false, false), (true, false), (true, true)] {
                    let shape = Shape { collective, ranks, root, in_place, reproducible };
                    if algorithm.serves(&shape) {
                        count += run_shape(*algorithm, &shape, count);
                    }
                }
            }
        }
    }
    count
}

fn run_shape(algorithm: &dyn Algorithm, shape: &Shape, seed: usize) -> usize {
    use Collective::{AllGather, AllToAll, Gather, ReduceScatter, Scatter};
    let mut count = 0;
    let blocks =
        matches!(shape.collective, AllGather | AllToAll | Gather | ReduceScatter | Scatter);
    for elements in [0, 1, 13, 41] {
        for uneven in [false, blocks] {
            let (dtype, op) = flavour(seed + count * 5 + elements);
            let placement = match (shape.in_place, op) {
                (true, ReduceOp::PreMulSum(_)) if !blocks && elements == 13 => {
                    Placement::LoadIntoOutput
                }
                (true, _) => Placement::InPlace,
                (false, _) => Placement::Separate,
            };
            let mut case = Case {
                shape: shape.clone(),
                dtype,
                op,
                elements,
                // In place, an all_to_all swaps blocks of one length.
                uneven: uneven && !(shape.in_place && shape.collective == AllToAll),
                segments: if count % 3 == 2 { 3 } else { 1 },
                placement,
            };
            case.uneven &= !algorithm.needs_uniform_sizes();
            case.run(algorithm, (seed + count) as u64);
            count += 1;
        }
    }
    count
}

macro_rules! matrix {
    ($($name:ident: $collective:ident;)*) => {$(
        #[test]
        fn $name() {
            assert!(run_collective(Collective::$collective) > 100);
        }
    )*};
}

matrix! {
    all_reduce: AllReduce;
    reduce_scatter: ReduceScatter;
    reduce: Reduce;
    scan: Scan;
    exscan: ExScan;
    all_gather: AllGather;
    broadcast: Broadcast;
    gather: Gather;
    scatter: Scatter;
    all_to_all: AllToAll;
    barrier: Barrier;
}

/// Hierarchies of two and three levels, uneven and not in rank order, in both modes.
#[test]
fn hierarchical() {
    let hosts = Hierarchy::by_key(&[1, 0, 0, 1, 2, 0, 2]).unwrap();
    let racks =
        vec![vec![vec![0, 1, 2], vec![4, 3], vec![5, 6], vec![8, 7]], vec![vec![0, 2], vec![1, 3]]];
    let racks = Hierarchy::new(9, racks).unwrap();
    let mut count = 0;
    for (hierarchy, first) in [(&hosts, 0), (&hosts, 7), (&racks, 3), (&racks, 11)] {
        for mode in [Mode::Leader, Mode::SplitRail] {
            let (before, after) = ALGORITHMS.split_at(first);
            let level = Level::new([after, before].concat());
            let levels = vec![level; hierarchy.depth()];
            let algorithm = Hierarchical::new(mode, hierarchy, levels).unwrap();
            for collective in Collective::ALL {
                for in_place in [false, true] {
                    let ranks = hierarchy.ranks();
                    let root = if collective.is_rooted() { ranks - 2 } else { 0 };
                    let reproducible = false;
                    let shape = Shape { collective, ranks, root, in_place, reproducible };
                    if algorithm.serves(&shape) {
                        count += run_shape(&algorithm, &shape, count);
                    }
                }
            }
        }
    }
    assert!(count > 300, "only {count} calls");
}
