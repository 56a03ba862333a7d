//! From a seed to a scenario.

use std::time::Duration;

use super::random::Random;
use super::scenario::{
    AlgorithmChoice, Call, Deviation, DeviationKind, Ending, Fault, FaultKind, MailConfig,
    Scenario, Stage, When,
};
use crate::collective::{Counts, Request};
use crate::error::Rank;
use crate::reduce::{DType, ReduceOp};
use crate::schedule::Collective;
use crate::schedule::hierarchy::Mode;
use crate::transport::sim::{LinkClass, Noticed, SimConfig};

const OPS: [ReduceOp; 9] = ReduceOp::all(0.5);
const COUNTS: [usize; 13] = [0, 1, 2, 3, 5, 8, 13, 31, 64, 100, 257, 1003, 4099];
/// Elements times ranks of one vector, so that the oracle stays cheap.
const ELEMENTS_MAX: usize = 20_000;
/// Long after everybody has given up.
pub(super) const NEVER: Duration = Duration::from_secs(3000);

/// The scenario of `seed`.
pub(super) fn scenario(seed: u64) -> Scenario {
    let mut random = Random::new(seed ^ 0x5ca1_ab1e);
    let random = &mut random;
    let ranks = ranks(random);
    let host_ranks = random.pick(&[1, 2, 2, 3, 4, 8]);
    let calls: Vec<Call> = (0..1 + random.below(5)).map(|_| call(random, ranks)).collect();
    let mut scenario = Scenario {
        seed,
        ranks,
        host_ranks,
        net: net(random, host_ranks),
        mail: mail(random),
        timeout: Duration::from_millis(1000 + random.below(4000)),
        reproducible: random.percent(20),
        in_flight: 1 + random.index(4),
        ending: if random.percent(50) { Ending::Agree } else { Ending::Leave },
        agrees_first: random.percent(40),
        deviations: Vec::new(),
        faults: Vec::new(),
        calls,
    };
    // Those whose calls ended well and the others must call the same.
    scenario.agrees_first |= scenario.ending == Ending::Agree;
    if random.percent(85) {
        break_something(random, &mut scenario);
    }
    add_reset(&mut scenario);
    scenario
}

/// Has a connection break, perhaps. Draws from a stream of its own, so that everything else in
/// the scenario is as without.
fn add_reset(scenario: &mut Scenario) {
    let mut random = Random::new(scenario.seed ^ 0x00b2_0ce9);
    if scenario.ranks < 2 || !random.percent(15) {
        return;
    }
    let when = match random.below(10) {
        0..8 => When::At(random.duration(Duration::from_millis(2))),
        _ => When::After(Stage::Shrunk, random.duration(Duration::from_millis(2))),
    };
    let noticed = random.pick(&[Noticed::ByBoth, Noticed::BySender, Noticed::ByReceiver]);
    let kind = FaultKind::Reset { number: random.next(), noticed };
    scenario.faults.push(Fault { when, kind });
}

fn ranks(random: &mut Random) -> Rank {
    let (from, to) = match random.below(100) {
        0..2 => (1, 1),
        2..62 => (2, 6),
        62..87 => (7, 16),
        87..96 => (17, 32),
        _ => (33, 64),
    };
    (from + random.below(to - from + 1)) as Rank
}

fn net(random: &mut Random, host_ranks: Rank) -> SimConfig {
    let inside = LinkClass {
        group_ranks: host_ranks,
        latency: Duration::from_nanos(300 + random.below(2000)),
        bandwidth: 20_000_000_000,
    };
    let between = LinkClass {
        group_ranks: Rank::MAX,
        latency: Duration::from_micros(2 + random.below(200)),
        bandwidth: random.pick(&[100_000_000, 1_000_000_000, 25_000_000_000]),
    };
    let tiny = random.percent(20);
    let frame_bytes_max = if tiny { 16 << random.below(4) } else { 4096 << random.below(5) };
    SimConfig {
        classes: vec![inside, between],
        jitter: Duration::from_nanos(1 << random.below(16)),
        pipe_bytes: frame_bytes_max * (1 + random.index(4)),
        pipe_frames: if tiny { 1 + random.index(2) } else { 64 },
        frame_bytes_max,
        detection: Duration::from_micros(10 << random.below(8)),
    }
}

fn mail(random: &mut Random) -> MailConfig {
    MailConfig {
        duplicated: random.pick(&[0, 0, 5, 50]),
        delayed: random.pick(&[0, 10, 50]),
        delay_max: Duration::from_micros(random.pick(&[50, 1000, 20_000])),
        keepalive: Duration::from_millis(1000 + random.below(4000)),
    }
}

fn dtype(random: &mut Random) -> DType {
    if random.percent(50) {
        random.pick(&[DType::F32, DType::BF16])
    } else {
        random.pick(&DType::ALL)
    }
}

fn call(random: &mut Random, ranks: Rank) -> Call {
    let dtype = dtype(random);
    let largest = ELEMENTS_MAX / (ranks * ranks) as usize;
    let fitting = COUNTS.iter().filter(|&&count| count <= largest.max(8)).count();
    let count = COUNTS[random.index(fitting)];
    match random.below(100) {
        0..8 => Call::Exchange { shift: random.below(u64::from(ranks)) as Rank, dtype, count },
        8..14 if ranks > 1 => {
            let from = random.below(u64::from(ranks)) as Rank;
            let to = (from + 1 + random.below(u64::from(ranks) - 1) as Rank) % ranks;
            Call::Message { from, to, dtype, count }
        }
        _ => {
            let collective = random.pick(&Collective::ALL);
            collective_call(random, collective, dtype, count, ranks)
        }
    }
}

fn collective_call(
    random: &mut Random,
    collective: Collective,
    dtype: DType,
    count: usize,
    ranks: Rank,
) -> Call {
    let scan = matches!(collective, Collective::Scan | Collective::ExScan);
    let defined = |op: &ReduceOp| op.supports(dtype) && !(scan && *op == ReduceOp::Avg);
    let ops: Vec<ReduceOp> = OPS.into_iter().filter(defined).collect();
    let mut request = Request::new(collective, dtype, count);
    if collective.reduces() {
        request = request.op(random.pick(&ops));
    }
    if collective.is_rooted() {
        request = request.root(random.below(u64::from(ranks)) as Rank);
    }
    let has_blocks = matches!(
        collective,
        Collective::AllGather
            | Collective::Gather
            | Collective::ReduceScatter
            | Collective::Scatter
    );
    if has_blocks && random.percent(30) {
        let counts = (0..ranks).map(|_| random.index(count + 2)).collect();
        request.counts = Counts::PerRank(counts);
    }
    let number = random.below(24);
    let algorithm = match random.below(10) {
        0..2 => AlgorithmChoice::Composed(Mode::Leader, number % 6),
        2..4 => AlgorithmChoice::Composed(Mode::SplitRail, number % 6),
        _ => AlgorithmChoice::Flat(number),
    };
    Call::Collective {
        request,
        is_per_pair: collective == Collective::AllToAll && random.percent(40),
        algorithm,
        segments: random.pick(&[1, 1, 1, 2, 3]),
        in_place: random.pick(&[0, u64::MAX, random.clone().next()]),
    }
}

fn break_something(random: &mut Random, scenario: &mut Scenario) {
    let several = if random.percent(35) { 1 + random.below(3) } else { 0 };
    for _ in 0..=several {
        if random.percent(30) && scenario.deviations.len() < 2 {
            let deviation = deviation(random, scenario);
            scenario.deviations.push(deviation);
        } else {
            let fault = fault(random, scenario);
            scenario.faults.push(fault);
        }
    }
}

fn deviation(random: &mut Random, scenario: &Scenario) -> Deviation {
    let call = random.index(scenario.calls.len());
    let mut rank = random.below(u64::from(scenario.ranks)) as Rank;
    let kind = match random.below(100) {
        0..40 => {
            if let Call::Message { from, to, .. } = scenario.calls[call] {
                rank = random.pick(&[from, to]);
            }
            DeviationKind::Calls(other_call(random, &scenario.calls[call], scenario.ranks))
        }
        40..55 => DeviationKind::Late(NEVER),
        55..70 => DeviationKind::Late(random.duration(scenario.timeout * 2)),
        70..85 => DeviationKind::Revokes,
        _ => DeviationKind::Aborts,
    };
    Deviation { rank, call, kind }
}

/// A call that differs from `call` in something that all ranks must agree on.
fn other_call(random: &mut Random, call: &Call, ranks: Rank) -> Call {
    let mut other = call.clone();
    match &mut other {
        Call::Exchange { dtype, .. } | Call::Message { dtype, .. } => {
            *dtype = if *dtype == DType::F32 { DType::I32 } else { DType::F32 };
        }
        Call::Collective { request, is_per_pair, .. } => {
            let kinds = random.below(5);
            let plain = request.collective != Collective::Barrier;
            match (kinds, &mut request.counts) {
                (0, _) if request.collective.reduces() => {
                    let is_min = request.op == ReduceOp::Min;
                    request.op = if is_min { ReduceOp::Max } else { ReduceOp::Min };
                }
                (1, _) if request.collective.is_rooted() && ranks > 1 => {
                    request.root = (request.root + 1) % ranks;
                }
                (2, Counts::Uniform(count)) if !*is_per_pair && plain => *count += 1,
                (3, _) if plain && !matches!(request.op, ReduceOp::PreMulSum(_)) => {
                    let is_i32 = request.dtype == DType::I32;
                    request.dtype = if is_i32 { DType::U32 } else { DType::I32 };
                }
                _ => {
                    let was = request.collective;
                    let choice = [Collective::AllReduce, Collective::Broadcast, Collective::Scan];
                    let others: Vec<_> = choice.into_iter().filter(|c| *c != was).collect();
                    let collective = random.pick(&others);
                    *request = Request::new(collective, DType::F32, 7);
                    *is_per_pair = false;
                }
            }
        }
    }
    other
}

fn fault(random: &mut Random, scenario: &Scenario) -> Fault {
    let ranks = scenario.ranks;
    let rank = random.below(u64::from(ranks)) as Rank;
    let later = random.duration(Duration::from_millis(300));
    let when = match random.below(100) {
        0..60 => When::At(random.duration(Duration::from_millis(4))),
        60..65 => When::At(random.duration(scenario.timeout * 2)),
        65..77 => When::After(Stage::Failure, later),
        77..92 => When::After(Stage::Agreement, later),
        _ => When::After(Stage::Shrunk, later),
    };
    let lasts = random.percent(50).then(|| random.duration(scenario.timeout * 3));
    let kind = match random.below(100) {
        0..50 => {
            let host = random.percent(20);
            let at_once = scenario.net.detection;
            FaultKind::Crash { rank, noticed: if host { scenario.mail.keepalive } else { at_once } }
        }
        50..72 => FaultKind::Stop { rank, lasts },
        72..87 => {
            let share = random.pick(&[50, 20, 10]);
            let mut side: Vec<bool> = (0..ranks).map(|_| random.percent(share)).collect();
            side[rank as usize] = true;
            FaultKind::Part { side, lasts }
        }
        _ => {
            let other = (rank + 1 + random.below(u64::from(ranks.max(2)) - 1) as Rank) % ranks;
            let longer = random.duration(Duration::from_millis(60));
            FaultKind::Slow { a: rank, b: other, longer }
        }
    };
    Fault { when, kind }
}

/// The first call in a communicator of survivors.
pub(super) fn check_call(seed: u64, generation: usize) -> Call {
    let mut random = Random::new(seed ^ (generation as u64) << 40 ^ 0xa11);
    Call::Collective {
        request: Request::new(Collective::AllReduce, DType::I32, 13),
        is_per_pair: false,
        algorithm: AlgorithmChoice::Flat(random.below(24)),
        segments: 1,
        in_place: random.next(),
    }
}

/// `call`, made for more ranks, on `ranks` of them.
pub(super) fn fit(call: &Call, ranks: Rank) -> Call {
    let mut call = call.clone();
    if let Call::Collective { request, .. } = &mut call {
        request.root %= ranks;
        if let Counts::PerRank(counts) = &mut request.counts {
            counts.truncate(ranks as usize);
        }
    }
    call
}
