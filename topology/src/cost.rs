//! What a schedule would cost: α per round, an overhead per message, β per byte, γ per combined
//! byte, per level of the topology, as the ranks of a host share its cores and its network
//! interface.
//!
//! * Rounds: each is a link's latency.
//! * Messages take their sender's and receiver's cores, and so do copying in and out of the link
//!   and combining: ranks that share cores take turns, so the work of all of them adds up.
//! * Where ranks share cores, a message in shared memory takes longer, as caches are cold, and each
//!   rank that must wait in a round takes a context switch. The scheduler does not know whose turn
//!   it is: of the ranks that have nothing to do in a round, half are taken to get a core in vain.
//! * A rank sends and receives at the link's rate or its share of the host's, whichever is less,
//!   and no faster than its core copies. Every further peer that it talks to at the same time
//!   (more messages than rounds) slows that down a little.
//! * A step follows the one that feeds it in chunks, so a rank that sends m messages in r rounds
//!   waits r - m rounds of one chunk more than its own messages take.
//! * A schedule in k segments runs its levels beside each other: the slowest level takes k turns,
//!   the others are paid once. A turn includes the latency of its rounds.
//!
//! After Hockney, "The communication challenge for MPP", 1994, and the overhead of Culler and
//! others, "LogP", 1993.

use crate::constants::{Constants, LinkClass};

/// What the active ranks of a host do at one level of the topology, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Together {
    /// Rounds in which a rank waits for messages.
    pub waits: u64,
    /// Blocks sent.
    pub sent_blocks: u64,
    /// How many of those are partial results.
    pub sent_acc_blocks: u64,
    /// Blocks received.
    pub received_blocks: u64,
    /// Messages, sent and received.
    pub messages: u64,
    /// Blocks combined.
    pub reduced_blocks: u64,
}

/// What a schedule does at one level of the topology, at its busiest rank. The counts mean what
/// the checker of schedules counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// What its messages travel over.
    pub link: LinkClass,
    /// How many ranks of one host are busy at this level at the same time, at most.
    pub active_per_host: u32,
    /// How many of them can run at the same time.
    pub cpus_per_host: u32,
    /// Messages on the longest chain of dependent messages.
    pub rounds: u64,
    /// Blocks sent.
    pub sent_blocks: u64,
    /// How many of those are partial results.
    pub sent_acc_blocks: u64,
    /// Blocks received.
    pub received_blocks: u64,
    /// Messages, sent and received.
    pub messages: u64,
    /// Blocks combined.
    pub reduced_blocks: u64,
    /// What all active ranks of a host do; otherwise each as much as the busiest. Counts where
    /// they share cores.
    pub together: Option<Together>,
}

/// One way to do a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Blocks that the call's data is cut into: the unit of the counts.
    pub blocks: u64,
    /// Pipeline segments, at least 1.
    pub segments: u32,
    /// Innermost first.
    pub levels: Vec<Level>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// The data that a candidate's `blocks` are parts of, in bytes: the vector, or all ranks'
    /// parts together, or one rank's input of an all_to_all.
    pub bytes: u64,
    /// Size of an element.
    pub element_bytes: u32,
    /// Size of an element of a partial result: wider than `element_bytes` for small floats.
    pub accumulator_bytes: u32,
    /// A step follows the one that feeds it at this distance.
    pub chunk_bytes: u64,
}

/// How long a candidate takes. The parts add up to more where levels overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    /// All in all, in nanoseconds.
    pub total_ns: u64,
    /// Waiting for messages to arrive, in nanoseconds.
    pub latency_ns: u64,
    /// Handling messages, in nanoseconds.
    pub overhead_ns: u64,
    /// Moving bytes, in nanoseconds.
    pub transfer_ns: u64,
    /// Combining, in nanoseconds.
    pub reduce_ns: u64,
}

/// How many times as long a message in shared memory takes a core that was another rank's before: the
/// rings' control words and the engine's state have left its caches. (0.25 to 0.33 µs with 8 ranks
/// on 2 cores.)
const COLD: f64 = 2.0;

/// Seconds that one level takes if all is done in one segment.
#[derive(Clone, Copy, Debug, Default)]
struct Seconds {
    latency: f64,
    overhead: f64,
    transfer: f64,
    reduce: f64,
}

/// Predicts how long `candidate` takes. Equal inputs give equal outputs on every machine: only
/// basic arithmetic in a fixed order, rounded to whole nanoseconds.
pub fn predict(candidate: &Candidate, work: &Work, constants: &Constants) -> Prediction {
    let segments = f64::from(candidate.segments.max(1));
    let mut sum = Seconds::default();
    let (mut once, mut slowest) = (0.0, 0.0_f64);
    for level in &candidate.levels {
        let part = seconds(level, candidate.blocks, segments, work, constants);
        // What one segment takes here. The next one follows it on the same pipes in order, so
        // the waits of a level's rounds are paid by every segment.
        let turn = part.latency + part.overhead + (part.transfer + part.reduce) / segments;
        once += turn;
        slowest = slowest.max(turn);
        sum.latency += part.latency * segments;
        sum.overhead += part.overhead * segments;
        sum.transfer += part.transfer;
        sum.reduce += part.reduce;
    }
    Prediction {
        total_ns: nanoseconds(once + (segments - 1.0) * slowest),
        latency_ns: nanoseconds(sum.latency),
        overhead_ns: nanoseconds(sum.overhead),
        transfer_ns: nanoseconds(sum.transfer),
        reduce_ns: nanoseconds(sum.reduce),
    }
}

fn seconds(
    level: &Level,
    blocks: u64,
    segments: f64,
    work: &Work,
    constants: &Constants,
) -> Seconds {
    let link = constants.link(level.link);
    let cores = Cores::of(level);
    let rounds = level.rounds as f64;

    let block = work.bytes as f64 / blocks.max(1) as f64;
    let wider = f64::from(work.accumulator_bytes) / f64::from(work.element_bytes.max(1));
    let own = level.own();
    let (moved, together) = (
        Moved::of(&own, level.link, block, wider),
        level.together.map(|all| Moved::of(&all, level.link, block, wider)),
    );

    let messages = (level.messages as f64 / 2.0).max(1.0);
    let further_peers = (messages / rounds.max(1.0) - 1.0).max(0.0);
    let rate = link.bytes_per_s.min(link.host_bytes_per_s / cores.active)
        / (1.0 + link.congestion * further_peers);
    let most = moved.sent.max(moved.received);
    let copied = cores.busiest(moved.copied, together.map(|all| all.copied));
    let chunk = (most / messages / segments).min(work.chunk_bytes as f64);
    let fill = (rounds - messages).max(0.0) * chunk / rate;
    let of = |count: fn(&Together) -> u64| {
        cores.busiest(count(&own) as f64, level.together.map(|all| count(&all) as f64))
    };
    let reduced = of(|counts| counts.reduced_blocks);
    Seconds {
        latency: rounds * link.latency_s + cores.switches(level) * constants.switch_s + fill,
        overhead: of(|counts| counts.messages) * link.overhead_s * cores.coldness(level.link),
        transfer: (most / rate).max(copied / constants.copy_bytes_per_s),
        reduce: block * reduced * wider / constants.reduce_bytes_per_s,
    }
}

impl Level {
    /// What the busiest rank does.
    const fn own(&self) -> Together {
        Together {
            waits: self.rounds,
            sent_blocks: self.sent_blocks,
            sent_acc_blocks: self.sent_acc_blocks,
            received_blocks: self.received_blocks,
            messages: self.messages,
            reduced_blocks: self.reduced_blocks,
        }
    }
}

/// The cores of a host, and the ranks that want them.
struct Cores {
    active: f64,
    cpus: f64,
}

impl Cores {
    fn of(level: &Level) -> Self {
        Self {
            active: f64::from(level.active_per_host.max(1)),
            cpus: f64::from(level.cpus_per_host.max(1)),
        }
    }

    /// What the busiest core has to do, of which the busiest rank has `own` and all have
    /// `together`.
    fn busiest(&self, own: f64, together: Option<f64>) -> f64 {
        let turns = (self.active / self.cpus).max(1.0);
        match together {
            Some(all) if turns > 1.0 => own.max(all / self.cpus),
            _ => own * turns,
        }
    }

    /// How many times as long a message takes.
    fn coldness(&self, link: LinkClass) -> f64 {
        match link {
            LinkClass::SharedMemoryLocal | LinkClass::SharedMemory if self.active > self.cpus => {
                COLD
            }
            _ => 1.0,
        }
    }

    /// Context switches one after the other.
    fn switches(&self, level: &Level) -> f64 {
        if self.active <= self.cpus {
            return 0.0;
        }
        let all = level.rounds as f64 * self.active;
        let needed = level.together.map_or(all, |together| (together.waits as f64).min(all));
        f64::midpoint(needed, all) / self.cpus
    }
}

/// Bytes that move.
struct Moved {
    sent: f64,
    received: f64,
    /// Into links and out of them.
    copied: f64,
}

impl Moved {
    fn of(counts: &Together, link: LinkClass, block: f64, wider: f64) -> Self {
        let partial = counts.sent_acc_blocks.min(counts.sent_blocks) as f64;
        let sent_blocks = counts.sent_blocks as f64;
        let sent = block * (sent_blocks - partial + partial * wider);
        // What arrives is partial results to the same part.
        let wider = (sent / (block * sent_blocks).max(1e-9)).max(1.0);
        let received = block * counts.received_blocks as f64 * wider;
        // What is combined on arrival is read out of shared memory, not copied first.
        let fused = match link {
            LinkClass::SharedMemoryLocal | LinkClass::SharedMemory => {
                let of_received =
                    counts.reduced_blocks as f64 / counts.received_blocks.max(1) as f64;
                received * of_received.min(1.0)
            }
            LinkClass::TcpLoopback | LinkClass::Tcp => 0.0,
        };
        Self { sent, received, copied: sent + received - fused }
    }
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

/// Candidates as the usual algorithms for all_reduce make them.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SHM: Level = Level {
        link: LinkClass::SharedMemory,
        active_per_host: 8,
        cpus_per_host: 8,
        rounds: 0,
        sent_blocks: 0,
        sent_acc_blocks: 0,
        received_blocks: 0,
        messages: 0,
        reduced_blocks: 0,
        together: None,
    };

    pub(crate) fn candidate(name: &str, blocks: u64, levels: &[Level]) -> Candidate {
        Candidate { name: name.to_owned(), blocks, segments: 1, levels: levels.to_vec() }
    }

    /// All_reduce of `p` ranks.
    pub(crate) fn ring(base: Level, p: u64) -> Candidate {
        let level = Level {
            rounds: 2 * (p - 1),
            sent_blocks: 2 * (p - 1),
            sent_acc_blocks: p - 2,
            received_blocks: 2 * (p - 1),
            messages: 4 * (p - 1),
            reduced_blocks: p - 1,
            ..base
        };
        candidate("ring", p, &[level])
    }

    /// All_reduce of 2^`rounds` ranks.
    pub(crate) fn doubling(base: Level, rounds: u64) -> Candidate {
        let level = Level {
            rounds,
            sent_blocks: rounds,
            sent_acc_blocks: rounds - 1,
            received_blocks: rounds,
            messages: 2 * rounds,
            reduced_blocks: rounds,
            ..base
        };
        candidate("recursive_doubling", 1, &[level])
    }

    /// Broadcast along `p` ranks.
    fn chain(base: Level, p: u64) -> Candidate {
        let level =
            Level { rounds: p - 1, sent_blocks: 1, received_blocks: 1, messages: 2, ..base };
        candidate("chain", 1, &[level])
    }

    pub(crate) const fn floats(bytes: u64) -> Work {
        Work { bytes, element_bytes: 4, accumulator_bytes: 4, chunk_bytes: 64 << 10 }
    }

    fn total(candidate: &Candidate, work: Work) -> u64 {
        predict(candidate, &work, &Constants::default()).total_ns
    }

    /// Round numbers: 1 µs latency, 100 ns per message, 1 GB/s, reduction at 2 GB/s.
    fn simple() -> Constants {
        let mut constants = Constants {
            copy_bytes_per_s: 1e12,
            reduce_bytes_per_s: 2e9,
            switch_s: 5e-6,
            ..Constants::default()
        };
        let link = &mut constants.links.shared_memory;
        (link.latency_s, link.overhead_s) = (1e-6, 100e-9);
        (link.bytes_per_s, link.host_bytes_per_s) = (1e9, 16e9);
        constants
    }

    #[test]
    fn adds_up_rounds_messages_bytes_and_reductions() {
        let found = predict(&doubling(SHM, 3), &floats(1000), &simple());
        let expected = Prediction {
            total_ns: 3000 + 600 + 3000 + 1500,
            latency_ns: 3000,
            overhead_ns: 600,
            transfer_ns: 3000,
            reduce_ns: 1500,
        };
        assert_eq!(found, expected);
        assert_eq!(predict(&candidate("none", 1, &[]), &floats(8), &simple()).total_ns, 0);
        assert_eq!(predict(&candidate("idle", 0, &[SHM]), &floats(8), &simple()).total_ns, 0);
    }

    #[test]
    fn partial_results_of_narrow_types_are_wider() {
        let narrow = Work { element_bytes: 2, ..floats(1000) };
        let found = predict(&doubling(SHM, 3), &narrow, &simple());
        assert_eq!((found.transfer_ns, found.reduce_ns), (1000 + 2 * 2000, 3000));
    }

    #[test]
    fn ranks_on_shared_cores_take_turns() {
        let crowded = Level { cpus_per_host: 2, ..SHM };
        let found = predict(&doubling(crowded, 3), &floats(1000), &simple());
        // Four ranks per core: four switches of 5 µs in each round.
        assert_eq!(found.latency_ns, 3 * (1000 + 4 * 5000));
        assert_eq!((found.overhead_ns, found.reduce_ns), (2 * 4 * 600, 4 * 1500));
    }

    /// One rank works for all, and seven wait for it.
    #[test]
    fn on_shared_cores_the_work_of_all_ranks_adds_up() {
        let level = Level { rounds: 2, messages: 14, reduced_blocks: 7, ..SHM };
        let all = Together { waits: 8, messages: 28, reduced_blocks: 7, ..Together::default() };
        let of = |cpus_per_host, together| {
            let level = Level { cpus_per_host, together, ..level };
            predict(&candidate("star", 1, &[level]), &floats(1000), &simple())
        };
        let crowded = of(2, Some(all));
        // The busiest rank's own work is as much as a core's share.
        assert_eq!((crowded.overhead_ns, crowded.reduce_ns), (2 * 14 * 100, 7 * 500));
        // 8 ranks must run, and of the 8 others in two rounds half do.
        assert_eq!(crowded.latency_ns, 2 * 1000 + (8 + 4) * 5000 / 2);
        let unknown = of(2, None);
        assert_eq!((unknown.overhead_ns, unknown.reduce_ns), (2 * 4 * 14 * 100, 4 * 7 * 500));
        assert_eq!(unknown.latency_ns, 2 * (1000 + 4 * 5000));
        // With a core for everybody it is only the busiest that counts.
        assert_eq!(of(8, Some(all)), of(8, None));
    }

    #[test]
    fn ranks_of_a_host_share_its_interface() {
        let tcp = |active_per_host| Level { link: LinkClass::Tcp, active_per_host, ..SHM };
        let of = |active| predict(&ring(tcp(active), 16), &floats(1 << 26), &Constants::default());
        let (alone, all) = (of(1).transfer_ns, of(8).transfer_ns);
        assert!(all > 7 * alone && all < 9 * alone, "{alone} {all}");
    }

    #[test]
    fn long_messages_prefer_optimal_volume_and_short_ones_few_rounds() {
        let (ring, doubling) = (ring(SHM, 8), doubling(SHM, 3));
        assert!(total(&ring, floats(8)) > total(&doubling, floats(8)));
        assert!(total(&ring, floats(1 << 24)) < total(&doubling, floats(1 << 24)));
    }

    #[test]
    fn talking_to_all_at_once_saves_rounds_and_costs_rate() {
        let tcp = Level { link: LinkClass::Tcp, active_per_host: 1, ..SHM };
        let (blocks, messages) = (31, 62);
        let gather = |name, rounds| {
            let (sent_blocks, received_blocks) = (blocks, blocks);
            let level = Level { rounds, sent_blocks, received_blocks, messages, ..tcp };
            candidate(name, 32, &[level])
        };
        let (direct, ring) = (gather("direct", 1), gather("ring", 31));
        assert!(total(&direct, floats(1 << 10)) < total(&ring, floats(1 << 10)));
        assert!(total(&direct, floats(1 << 26)) > total(&ring, floats(1 << 26)));
    }

    #[test]
    fn a_chain_pays_one_chunk_per_rank() {
        let bytes = 1 << 24;
        let found = predict(&chain(SHM, 101), &floats(bytes), &simple());
        // The first rank's message is its own, 99 more wait for a chunk each.
        let fill = 99 * (64 << 10);
        assert_eq!(found.total_ns, bytes + fill + 100 * 1000 + 2 * 100);
        let short = predict(&chain(SHM, 101), &floats(1000), &simple());
        assert_eq!(short.total_ns, 100 * 1000 + 100 * 1000 + 2 * 100);
    }

    #[test]
    fn segments_let_levels_overlap() {
        let level = doubling(SHM, 3).levels[0];
        let both = candidate("both", 1, &[level, level]);
        let four = Candidate { segments: 4, ..both.clone() };
        let work = floats(1 << 24);
        let one = predict(&doubling(SHM, 3), &work, &simple());
        let (apart, together) =
            (predict(&both, &work, &simple()), predict(&four, &work, &simple()));
        assert_eq!(apart.total_ns, 2 * one.total_ns);
        // Five turns of a quarter.
        let turn = 3000 + 600 + (one.transfer_ns + one.reduce_ns) / 4;
        assert_eq!(together.total_ns, 5 * turn);
    }
}
