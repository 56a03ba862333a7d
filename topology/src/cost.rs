//! What a schedule would cost: α per round, an overhead per message, β per byte, γ per combined
//! byte, per level of the topology, as the ranks of a host share its cores and its network
//! interface.
//!
//! * Rounds: each is a link's latency, plus a context switch per rank on a core that ranks share.
//! * Messages take their sender's and receiver's cores, and so do copying in and out of the link
//!   and combining: ranks that share cores take turns.
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
    let active = f64::from(level.active_per_host.max(1));
    // How many ranks take turns on a core.
    let turns = (active / f64::from(level.cpus_per_host.max(1))).max(1.0);
    let switches = if turns > 1.0 { turns * constants.switch_s } else { 0.0 };
    let rounds = level.rounds as f64;

    let block = work.bytes as f64 / blocks.max(1) as f64;
    let wider = f64::from(work.accumulator_bytes) / f64::from(work.element_bytes.max(1));
    let partial = level.sent_acc_blocks.min(level.sent_blocks) as f64;
    let sent_blocks = level.sent_blocks as f64;
    let sent = block * (sent_blocks - partial + partial * wider);
    // What arrives is partial results to the same part.
    let received =
        block * level.received_blocks as f64 * (sent / (block * sent_blocks).max(1e-9)).max(1.0);

    let messages = (level.messages as f64 / 2.0).max(1.0);
    let further_peers = (messages / rounds.max(1.0) - 1.0).max(0.0);
    let rate = link.bytes_per_s.min(link.host_bytes_per_s / active)
        / (1.0 + link.congestion * further_peers);
    let most = sent.max(received);
    // What is combined on arrival is read out of shared memory, not copied first.
    let fused = match level.link {
        LinkClass::SharedMemoryLocal | LinkClass::SharedMemory => {
            received * (level.reduced_blocks as f64 / level.received_blocks.max(1) as f64).min(1.0)
        }
        LinkClass::TcpLoopback | LinkClass::Tcp => 0.0,
    };
    let copying = (sent + received - fused) / constants.copy_bytes_per_s * turns;
    let own = (most / rate).max(copying);
    let chunk = (most / messages / segments).min(work.chunk_bytes as f64);
    let fill = (rounds - messages).max(0.0) * chunk / rate;
    Seconds {
        latency: rounds * (link.latency_s + switches) + fill,
        overhead: level.messages as f64 * link.overhead_s * turns,
        transfer: own,
        reduce: block * level.reduced_blocks as f64 * wider / constants.reduce_bytes_per_s * turns,
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
        assert_eq!((found.overhead_ns, found.reduce_ns), (4 * 600, 4 * 1500));
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
